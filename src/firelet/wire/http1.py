"""An HTTP/1.1 server: listeners, and a close that drains. For the frontend and every Runtime API.

It knows nothing of Lambda and routes nothing. Applications import all they need from here.
"""

from __future__ import annotations

import asyncio
import socket

from firelet.wire.http1_connection import Connection
from firelet.wire.http1_live import Connections
from firelet.wire.http1_message import (
    App,
    BodyLimit,
    HttpLimits,
    OnReject,
    Rejection,
    RejectionReason,
    Request,
    Response,
    header_values,
    plain_rejection,
)
from firelet.wire.http1_stream import Flow, IncomingBody, OpenBody, OutgoingBody, StreamedResponse
from firelet.wire.http1_upgrade import UpgradedResponse, UpgradedStream

__all__ = [
    "App",
    "BodyLimit",
    "Flow",
    "HttpLimits",
    "HttpServer",
    "IncomingBody",
    "OnReject",
    "OpenBody",
    "OutgoingBody",
    "Rejection",
    "RejectionReason",
    "Request",
    "Response",
    "StreamedResponse",
    "UpgradedResponse",
    "UpgradedStream",
    "header_values",
    "plain_rejection",
]

_BACKLOG = 1024
_FLUSH_S = 1.0  # for answers already written to reach their clients when the server closes
_DEFAULT_LIMITS = HttpLimits()


class HttpServer:
    """Serves ``app`` on any number of listeners.

    ``app`` returns a Response at once (no task), a Future (no task; a ``PromptFuture`` is answered
    in the turn of the loop in which it gets its result), or a coroutine (one task); all but the
    first are cancelled when the client goes away. ``on_reject`` words the answers
    that the server gives by itself. ``body_limit`` maps method, target and headers to the number
    of body bytes allowed; without it ``limits.body_bytes`` holds for all. ``open_body`` is asked
    who takes the body of a request as it comes; without it all are collected. A
    ``StreamedResponse`` is sent as it comes; an ``UpgradedResponse`` hands the connection over.
    """

    def __init__(
        self,
        app: App,
        *,
        limits: HttpLimits = _DEFAULT_LIMITS,
        on_reject: OnReject | None = None,
        body_limit: BodyLimit | None = None,
        open_body: OpenBody | None = None,
    ) -> None:
        self._connections = Connections(
            app, limits, on_reject or plain_rejection, body_limit, open_body
        )
        self._listeners: list[asyncio.Server] = []

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Listens on a TCP address (port 0: any free one) and returns the address bound."""
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(
            self._accept, host, port, backlog=_BACKLOG, reuse_address=True
        )
        self._listeners.append(listener)
        address = listener.sockets[0].getsockname()
        return address[0], address[1]

    async def listen_socket(self, sock: socket.socket) -> None:
        """Serves a stream socket that is bound and listening already, and owns it from here on.

        The socket may belong to another network namespace: nothing is looked up or bound here.
        """
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        create = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
        listener = await create(self._accept, sock=sock, backlog=_BACKLOG)
        self._listeners.append(listener)

    def _accept(self) -> Connection:
        return Connection(self._connections)

    async def close(self, drain_s: float = 0.0) -> None:
        """Stops listening and closes idle connections; busy ones get ``drain_s``, then are aborted.

        Returns when every connection is gone and every handler has ended.
        """
        for listener in self._listeners:
            listener.close()
        await self._connections.close(drain_s, _FLUSH_S)
        for listener in self._listeners:
            await listener.wait_closed()
        self._listeners.clear()
