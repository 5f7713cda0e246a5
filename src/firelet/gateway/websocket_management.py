"""The API apigatewaymanagementapi: post to, look at and end open WebSocket connections.

Served by ``websocket`` below ``/@connections/`` of a stage, and at the platform's own address for
clients that know no other: ids are unique. Callers sign for ``execute-api`` and belong to the API's
account.
Source: docs.aws.amazon.com/apigateway/latest/developerguide/
apigateway-how-to-call-websocket-api-connections.html
and the service model. The sentences are firelet's own, but for that of who has not signed.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from urllib.parse import unquote

import orjson

from firelet.gateway.answers import JSON_TYPE
from firelet.gateway.api_stages import Entry
from firelet.gateway.signed_callers import EXECUTE_API, SignedCallers
from firelet.gateway.websocket_frames import WebSocketLimits
from firelet.gateway.websocket_hub import OpenSocket, WebSocketHub
from firelet.model.errors import CallerError
from firelet.model.http_api import HttpApi
from firelet.wire.http1 import Request, Response

PATH = "/@connections/"
_NORMAL_CLOSURE = 1000


class ConnectionManagement:
    """See ``serve``."""

    def __init__(self, hub: WebSocketHub, callers: SignedCallers, limits: WebSocketLimits) -> None:
        self._hub = hub
        self._callers = callers
        self._limits = limits

    def serve(self, api: HttpApi, entry: Entry, request: Request) -> Response:
        """The answer to one call at the address of a stage."""
        connection_id = unquote(entry.path.removeprefix(PATH))
        socket = self._hub.find(api.api_id, entry.stage.name, connection_id)
        return self._answer(socket, (api.account, api.region), request)

    def page(self, request: Request) -> Response:
        """The answer to one call at the platform's address."""
        connection_id = unquote(request.path.decode("latin-1").removeprefix(PATH))
        socket = self._hub.find_anywhere(connection_id)
        return self._answer(socket, None if socket is None else socket.peer.owner, request)

    def _answer(
        self, socket: OpenSocket | None, owner: tuple[str, str] | None, request: Request
    ) -> Response:
        """``owner`` is the account and region to sign for; None when nothing is known."""
        try:
            if owner is not None:
                self._authorize(*owner, request)
            if socket is None or not socket.stream.is_open:
                raise CallerError("The connection is gone.", code="GoneException", status=410)
            return self._act(socket, request)
        except CallerError as error:
            headers = (JSON_TYPE, (b"x-amzn-ErrorType", error.code.encode()))
            return Response(error.status, orjson.dumps({"message": error.message}), headers)

    def _authorize(self, account: str, region: str, request: Request) -> None:
        caller = self._callers.identify(request, EXECUTE_API, region)
        if caller is None:
            raise CallerError("Missing Authentication Token", code="ForbiddenException", status=403)
        if caller.account != account:
            raise CallerError("Forbidden", code="ForbiddenException", status=403)

    def _act(self, socket: OpenSocket, request: Request) -> Response:
        match request.method:
            case b"POST":
                return self._post(socket, request.body)
            case b"GET":
                return Response(200, orjson.dumps(_describe(socket)), (JSON_TYPE,))
            case b"DELETE":
                socket.stream.close(_NORMAL_CLOSURE)
                return Response(204)
        raise CallerError("Method Not Allowed", code="ForbiddenException", status=405)

    def _post(self, socket: OpenSocket, data: bytes) -> Response:
        if len(data) > self._limits.message_bytes:
            raise CallerError(
                f"The message is larger than {self._limits.message_bytes} bytes.",
                code="PayloadTooLargeException",
                status=413,
            )
        if socket.stream.is_clogged:
            raise CallerError(
                "The client does not read what it is sent.",
                code="LimitExceededException",
                status=429,
            )
        try:
            socket.stream.send(data.decode())
        except UnicodeDecodeError:
            socket.stream.send(data)
        return Response(200)


def _describe(socket: OpenSocket) -> dict[str, object]:
    peer = socket.peer
    active_s = time.time() - socket.stream.quiet_s
    return {
        "connectedAt": _format_moment(peer.connected),
        "identity": {"sourceIp": peer.request.peer, "userAgent": peer.agent},
        "lastActiveAt": _format_moment(active_s),
    }


def _format_moment(epoch_s: float) -> str:
    moment = datetime.fromtimestamp(epoch_s, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
