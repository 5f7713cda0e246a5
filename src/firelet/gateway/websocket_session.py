"""One WebSocket connection of an API from ``$connect`` to ``$disconnect``.

What it is: messages to routes to functions, and what goes back. Messages of one connection run side
by side, as on AWS; one that sends faster than they end is not read from for a while.
Source: docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api.html; the
messages that tell a client of a failure are those of the service.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson

from firelet.gateway.api_authorizers import ApiAuthorizers, Authorized, Question
from firelet.gateway.api_routes import Route, RouteTable
from firelet.gateway.function_calls import make_request_id, make_trace_id
from firelet.gateway.integration_calls import (
    IntegrationCalls,
    IntegrationFailed,
    IntegrationRequest,
)
from firelet.gateway.proxy_event import MalformedResult
from firelet.gateway.stage_throttles import StageThrottles
from firelet.gateway.websocket_event import (
    CONNECT,
    DISCONNECT,
    MESSAGE,
    Occasion,
    Peer,
    format_connect,
    format_disconnect,
    format_message,
)
from firelet.gateway.websocket_frames import WebSocketStream
from firelet.gateway.websocket_routes import (
    CONNECT_ROUTE,
    DEFAULT_EXPRESSION,
    DISCONNECT_ROUTE,
    select,
)
from firelet.model.http_api import HttpApi, Stage

log = logging.getLogger(__name__)

# Messages of one connection at work, before no more are read (firelet).
AT_ONCE_MAX = 16


class Background(Protocol):
    """Runs what nobody waits for."""

    def run(self, work: Coroutine[Any, Any, None]) -> None: ...


@dataclass(frozen=True, slots=True)
class Served:
    """What a connection's stage is now."""

    api: HttpApi
    stage: Stage
    table: RouteTable


class WebSocketSession:
    """Listens to a ``WebSocketStream``. ``current`` gives what is served now, or None once the
    stage is gone. ``on_gone`` is called when it is closed. ``clock`` gives
    epoch seconds."""

    def __init__(
        self,
        peer: Peer,
        stream: WebSocketStream,
        current: Callable[[], Served | None],
        calls: IntegrationCalls,
        authorizers: ApiAuthorizers,
        throttles: StageThrottles,
        background: Background,
        clock: Callable[[], float],
        on_gone: Callable[[], None],
    ) -> None:
        self.peer = peer
        self._stream = stream
        self._current = current
        self._calls = calls
        self._authorizers = authorizers
        self._throttles = throttles
        self._authorized: Authorized | None = None
        self._background = background
        self._clock = clock
        self._on_gone = on_gone
        self._at_work = 0
        self._waiting: deque[str | bytes] = deque()
        self._is_connected = False

    async def connect(self) -> dict[str, Any]:
        """The result of ``$connect``; empty when there is no such route. IntegrationFailed,
        MalformedResult."""
        found = self._find(CONNECT_ROUTE)
        result: dict[str, Any] = {}
        if found is not None:
            api, route = found
            occasion = self._occasion(CONNECT_ROUTE, CONNECT)
            self._authorized = await self._authorizers.authorize(self._ask(api, route, occasion))
            if self._authorized is not None:
                occasion = replace(occasion, authorizer=self._authorized.flat)
            event = format_connect(self.peer, occasion)
            result = _parse_object(await self._call(api, route, occasion, event))
        self._is_connected = True
        return result

    def refuse(self) -> None:
        """``$connect`` has not agreed: there is nothing to disconnect."""
        self._is_connected = False

    def on_message(self, message: str | bytes) -> None:
        if self._at_work >= AT_ONCE_MAX:
            # What came with the same bytes waits; nothing more is read until it is done.
            self._waiting.append(message)
            self._stream.pause_reading()
            return
        self._at_work += 1
        self._background.run(self._handle(message))

    def on_closed(self, code: int, reason: str) -> None:
        self._waiting.clear()
        self._on_gone()
        if self._is_connected:
            self._background.run(self._disconnect(code, reason))

    async def _handle(self, message: str | bytes) -> None:
        request_id = make_request_id()
        try:
            answer = await self._answer(message, request_id)
            if answer is not None:
                self._stream.send(answer)
        except (IntegrationFailed, MalformedResult) as error:
            log.warning("websocket message not handled request=%s: %s", request_id, error)
            self._stream.send(self._format_failure("Internal server error", request_id))
        finally:
            if self._waiting:
                self._background.run(self._handle(self._waiting.popleft()))
            else:
                self._at_work -= 1
                self._stream.resume_reading()

    async def _answer(self, message: str | bytes, request_id: str) -> str | None:
        current = self._current()
        if current is None:
            return self._format_failure("Forbidden", request_id)
        api = current.api
        expression = api.settings.get("RouteSelectionExpression", DEFAULT_EXPRESSION)
        route = select(current.table, expression, message)
        if route is None:
            return self._format_failure("Forbidden", request_id)
        if not self._throttles.admits(api, current.stage, route.key):
            return self._format_failure("Too Many Requests", request_id)
        occasion = self._occasion(route.key, MESSAGE, request_id)
        event = format_message(self.peer, occasion, message)
        payload = await self._call(api, route, occasion, event)
        return _read_body(payload) if route.has_response else None

    async def _disconnect(self, code: int, reason: str) -> None:
        found = self._find(DISCONNECT_ROUTE)
        if found is None:
            return
        api, route = found
        occasion = self._occasion(DISCONNECT_ROUTE, DISCONNECT)
        event = format_disconnect(self.peer, occasion, code, reason)
        try:
            await self._call(api, route, occasion, event)
        except IntegrationFailed as error:
            log.warning(
                "websocket disconnect not handled request=%s: %s", occasion.request_id, error
            )

    async def _call(self, api: HttpApi, route: Route, occasion: Occasion, event: bytes) -> bytes:
        integration = route.integration
        if integration is None:
            raise IntegrationFailed(500, "Internal server error", "the route has no integration")
        if integration.is_mock:
            return b"{}"
        request = IntegrationRequest(
            api=api,
            stage=self.peer.stage,
            resource=route.key,
            request_id=occasion.request_id,
            trace_id=occasion.trace_id,
        )
        arn = integration.function_arn(self.peer.stage_variables)
        return await self._calls.call(request, integration, arn, event)

    def _ask(self, api: HttpApi, route: Route, occasion: Occasion) -> Question:
        return Question(
            api=api,
            stage=self.peer.stage,
            resource=route.key,
            route=route,
            request=self.peer.request,
            event=lambda _: format_connect(self.peer, occasion),
            variables=self.peer.stage_variables,
            request_id=occasion.request_id,
            trace_id=occasion.trace_id,
        )

    def _find(self, key: str) -> tuple[HttpApi, Route] | None:
        current = self._current()
        if current is None:
            return None
        route = current.table.by_key.get(key)
        return None if route is None else (current.api, route)

    def _occasion(self, route_key: str, event_type: str, request_id: str | None = None) -> Occasion:
        trace = self.peer.request.headers.get(b"x-amzn-trace-id")
        return Occasion(
            route_key=route_key,
            event_type=event_type,
            request_id=request_id or make_request_id(),
            epoch_s=self._clock(),
            trace_id=make_trace_id(trace if event_type == CONNECT else None),
            authorizer=None if self._authorized is None else self._authorized.flat,
        )

    def _format_failure(self, message: str, request_id: str) -> str:
        shape = {
            "message": message,
            "connectionId": self.peer.connection_id,
            "requestId": request_id,
        }
        return orjson.dumps(shape).decode()


def _parse_object(payload: bytes) -> dict[str, Any]:
    try:
        result = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise MalformedResult(f"the result is not JSON: {error}") from None
    if not isinstance(result, dict):
        raise MalformedResult("the result is not an object")
    return result


def _read_body(payload: bytes) -> str | None:
    """What a route response sends: the body of the result, if it has one."""
    body = _parse_object(payload).get("body")
    if body is None or isinstance(body, str):
        return body
    raise MalformedResult("body is no text")
