"""Connections that change from HTTP/1.1 to another protocol, which this module does not know.

An application that agrees to a client's offer (``Request.upgrade``) answers with an
``UpgradedResponse``: after its head, all bytes in both directions are ``stream``'s. What it is not:
a way for bytes of the new protocol to pass as requests, or the other way round; a client that sends
anything before it has the answer is refused.
Source: RFC 9110, section 7.8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from firelet.wire.http1_message import Response


class UpgradedStream(Protocol):
    """What speaks the other protocol on one connection. It may not fail."""

    def on_open(self, transport: asyncio.Transport) -> None:
        """The head has been written. ``transport`` is its to write to and to close."""

    def on_data(self, data: bytes) -> None: ...

    def on_lost(self) -> None:
        """Nothing more can be read or written. Called once, also if it was never opened."""

    def on_drain(self) -> None:
        """The server is going away: what is to be said must be said now."""


@dataclass(slots=True)
class UpgradedResponse(Response):
    """The answer 101; ``headers`` have ``Connection`` and ``Upgrade``."""

    stream: UpgradedStream | None = None


class UpgradedConnection(asyncio.Protocol):
    """One such connection, from the server's side. ``on_release`` is called once it is gone."""

    is_busy = False  # nothing that a closing server must wait for
    is_spare = False  # what ends quiet connections is the other protocol's
    worth = (True, 0.0)

    def __init__(
        self,
        stream: UpgradedStream,
        transport: asyncio.Transport,
        on_release: Callable[[UpgradedConnection], None],
    ) -> None:
        self._stream = stream
        self._transport = transport
        self._on_release = on_release

    def start(self) -> None:
        """The head has been written."""
        self._transport.set_protocol(self)
        self._stream.on_open(self._transport)

    # The transport's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._stream.on_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_release(self)
        self._stream.on_lost()

    # The server's calls.

    def drain(self) -> None:
        """Says good-bye and closes."""
        self._stream.on_drain()
        self._transport.close()

    def abort(self) -> None:
        """Closes without another byte."""
        self._transport.abort()

    def on_sweep(self, elapsed_s: float) -> bool:
        """What ends quiet connections is the other protocol's."""
        return False
