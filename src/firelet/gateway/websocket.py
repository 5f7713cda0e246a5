"""WebSocket APIs: upgrades, and the management of open connections, at an API's address.

What it is: a site of ``hosts``. A request to a stage opens a connection if the route ``$connect``
agrees; ``/stage/@connections/<id>`` is the API apigatewaymanagementapi. What it is not: messages
(``websocket_session``) or frames (``websocket_frames``).
Source: docs.aws.amazon.com/apigateway/latest/developerguide/
apigateway-websocket-api-route-keys-connect-disconnect.html.
What a client is told whose upgrade is refused is firelet's own, but for the status.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from firelet.control.http_apis import HttpApis
from firelet.gateway.answers import message_response
from firelet.gateway.api_authorizers import ApiAuthorizers
from firelet.gateway.api_stages import Entry, RouteTables, find_stage
from firelet.gateway.hosts import Answering, Visit
from firelet.gateway.integration_calls import IntegrationCalls, IntegrationFailed
from firelet.gateway.proxy_event import MalformedResult, encode_value, parse_status
from firelet.gateway.serving import Answer, Serving
from firelet.gateway.stage_throttles import StageThrottles
from firelet.gateway.websocket_event import Peer
from firelet.gateway.websocket_frames import (
    VERSION,
    WebSocketLimits,
    WebSocketStream,
    accept_key,
)
from firelet.gateway.websocket_hub import OpenSocket, WebSocketHub, new_connection_id
from firelet.gateway.websocket_management import PATH, ConnectionManagement
from firelet.gateway.websocket_routes import CONNECT_ROUTE
from firelet.gateway.websocket_session import Served, WebSocketSession
from firelet.model.http_api import WEBSOCKET, HttpApi
from firelet.wire.http1 import Response, UpgradedResponse

log = logging.getLogger(__name__)

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_PROTOCOL = "sec-websocket-protocol"


class WebSocketSite:
    """``visit`` is given to ``HostRoutes``. ``clock`` gives epoch seconds."""

    def __init__(
        self,
        apis: HttpApis,
        calls: IntegrationCalls,
        authorizers: ApiAuthorizers,
        throttles: StageThrottles,
        serving: Serving,
        management: ConnectionManagement,
        hub: WebSocketHub,
        limits: WebSocketLimits,
        clock: Callable[[], float],
    ) -> None:
        self._apis = apis
        self._calls = calls
        self._authorizers = authorizers
        self._throttles = throttles
        self._serving = serving
        self._management = management
        self._hub = hub
        self._limits = limits
        self._clock = clock
        self._tables = RouteTables()

    def visit(self, visit: Visit) -> Answering | None:
        """The answer to one request; None when the id is no WebSocket API's."""
        api = self._apis.find(visit.site_id)
        if api is None or api.protocol != WEBSOCKET:
            return None
        if visit.is_body_too_large:
            return message_response(413, "Request Entity Too Large")
        entry = find_stage(api, visit.target.partition(b"?")[0].decode("latin-1"))
        if entry is None or visit.region not in (None, api.region):
            return message_response(403, "Forbidden")
        if entry.path.startswith(PATH):
            return self._management.serve(api, entry, visit.request)
        if entry.path != "/" or api.settings.get("DisableExecuteApiEndpoint"):
            return message_response(403, "Forbidden")
        key = accept_key(visit.request)
        if key is None:
            return message_response(426, "Upgrade Required", ((b"Upgrade", b"websocket"),))
        if visit.request.headers.get(b"sec-websocket-version") != VERSION:
            wanted = ((b"Sec-WebSocket-Version", VERSION),)
            return message_response(426, "Upgrade Required", wanted)
        if not self._throttles.admits(api, entry.stage, CONNECT_ROUTE):
            return message_response(429, "Too Many Requests")
        return self._serving.start_open(lambda answer: self._open(api, entry, visit, key, answer))

    async def _open(
        self, api: HttpApi, entry: Entry, visit: Visit, key: bytes, answer: Answer
    ) -> None:
        peer = Peer(
            connection_id=new_connection_id(),
            owner=(api.account, api.region),
            api_id=api.api_id,
            stage=entry.stage.name,
            domain=visit.domain or f"{api.api_id}.execute-api.{api.region}.localhost",
            connected=self._clock(),
            request=visit.request,
            stage_variables=entry.variables,
        )
        stream = WebSocketStream(self._limits)
        session = WebSocketSession(
            peer,
            stream,
            lambda: self._find(peer),
            self._calls,
            self._authorizers,
            self._throttles,
            self._serving,
            self._clock,
            lambda: self._hub.remove(peer.connection_id),
        )
        stream.listen(session)
        self._hub.add(OpenSocket(peer, stream))
        try:
            response = await self._connect(session, stream, key)
        except BaseException:
            stream.on_lost()
            raise
        if not isinstance(response, UpgradedResponse) or answer.done():
            stream.on_lost()
        if not answer.done():
            answer.set_result(response)

    async def _connect(
        self, session: WebSocketSession, stream: WebSocketStream, key: bytes
    ) -> Response:
        try:
            result = await session.connect()
            status = parse_status(result.get("statusCode"))
            headers = _read_protocol(result)
        except IntegrationFailed as error:
            log.warning("websocket connect failed: %s", error)
            return message_response(502 if error.status == 500 else error.status, error.message)
        except MalformedResult as error:
            log.warning("websocket connect failed: %s", error)
            return message_response(502, "Internal server error")
        if not 200 <= status < 300:
            session.refuse()
            return message_response(status, _PHRASES.get(status, "Forbidden"))
        return UpgradedResponse(
            101,
            b"",
            (
                (b"Upgrade", b"websocket"),
                (b"Connection", b"Upgrade"),
                (b"Sec-WebSocket-Accept", key),
                *headers,
            ),
            stream,
        )

    def _find(self, peer: Peer) -> Served | None:
        api = self._apis.find(peer.api_id)
        stage = None if api is None else api.stages.get(peer.stage)
        if api is None or stage is None:
            return None
        return Served(api, stage, self._tables.of(api, stage))


def _read_protocol(result: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    """The subprotocol that the function has chosen."""
    headers = result.get("headers")
    if not isinstance(headers, dict):
        return []
    return [
        (b"Sec-WebSocket-Protocol", encode_value(value))
        for name, value in headers.items()
        if name.lower() == _PROTOCOL and isinstance(value, str)
    ]
