"""Events of WebSocket APIs: of connecting, of messages, of disconnecting. Pure.

Source: docs.aws.amazon.com/apigateway/latest/developerguide/
apigateway-websocket-api-mapping-template-reference.html and events as users quote them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from firelet.gateway import proxy_event
from firelet.gateway.http_event import find_port, find_scheme, format_time
from firelet.wire.http1 import Request

CONNECT, MESSAGE, DISCONNECT = "CONNECT", "MESSAGE", "DISCONNECT"
# Between the client's socket and ours.
_DROPPED = frozenset((b"upgrade", b"connection"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One connection, as events show it. ``connected`` is epoch seconds. ``request`` is the one
    with which it began, ``owner`` the account and region of the API."""

    connection_id: str
    owner: tuple[str, str]
    api_id: str
    stage: str
    domain: str
    connected: float
    request: Request
    stage_variables: Mapping[str, str]

    @property
    def agent(self) -> str:
        """The client's User-Agent."""
        return proxy_event.decode_value(self.request.headers.get(b"user-agent", b""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """One event of one connection."""

    route_key: str
    event_type: str
    request_id: str
    epoch_s: float
    trace_id: str
    authorizer: Mapping[str, Any] | None = None


def format_connect(peer: Peer, occasion: Occasion) -> bytes:
    """The event of ``$connect``: the only one with the headers and the query of the request."""
    request = peer.request
    scheme = find_scheme(request.headers)
    port = find_port(request.headers.get(b"host", b"").decode("latin-1"), scheme)
    kept = {name: value for name, value in request.headers.items() if name not in _DROPPED}
    headers = proxy_event.list_headers(kept, request.peer, port, scheme, occasion.trace_id)
    event = _format_headers(headers)
    query = proxy_event.group(proxy_event.parse_query(request.query))
    if query:
        event["queryStringParameters"] = proxy_event.last_of(query)
        event["multiValueQueryStringParameters"] = query
    return _format(event, peer, _format_context(peer, occasion))


def format_message(peer: Peer, occasion: Occasion, message: str | bytes) -> bytes:
    """The event of a message; one of bytes comes as base64."""
    context = _format_context(peer, occasion)
    context["messageId"] = new_message_id(occasion.request_id)
    is_base64 = isinstance(message, bytes)
    body = base64.b64encode(message).decode() if isinstance(message, bytes) else message
    return _format({}, peer, context, body, is_base64=is_base64)


def format_disconnect(peer: Peer, occasion: Occasion, code: int, reason: str) -> bytes:
    """The event of ``$disconnect``."""
    host = peer.request.headers.get(b"host", b"").decode("latin-1")
    context = _format_context(peer, occasion)
    context["disconnectStatusCode"] = code
    context["disconnectReason"] = reason
    headers = [("Host", host), ("x-api-key", ""), ("X-Forwarded-For", ""), ("x-restapi", "")]
    return _format(_format_headers(headers), peer, context)


def new_message_id(request_id: str) -> str:
    """16 characters that look like a connection id, made from the request's."""
    return base64.urlsafe_b64encode(bytes.fromhex(request_id.replace("-", ""))[:11]).decode()


def _format_headers(headers: list[tuple[str, str]]) -> dict[str, Any]:
    grouped = proxy_event.group(headers)
    return {"headers": proxy_event.last_of(grouped), "multiValueHeaders": grouped}


def _format_context(peer: Peer, occasion: Occasion) -> dict[str, Any]:
    context: dict[str, Any] = {
        "routeKey": occasion.route_key,
        "eventType": occasion.event_type,
        "extendedRequestId": occasion.request_id,
        "requestTime": format_time(occasion.epoch_s),
        "messageDirection": "IN",
        "stage": peer.stage,
        "connectedAt": int(peer.connected * 1000),
        "requestTimeEpoch": int(occasion.epoch_s * 1000),
        "identity": {"userAgent": peer.agent, "sourceIp": peer.request.peer},
        "requestId": occasion.request_id,
        "domainName": peer.domain,
        "connectionId": peer.connection_id,
        "apiId": peer.api_id,
    }
    if occasion.authorizer is not None:
        context["authorizer"] = occasion.authorizer
    return context


def _format(
    event: dict[str, Any],
    peer: Peer,
    context: Mapping[str, Any],
    body: str | None = None,
    *,
    is_base64: bool = False,
) -> bytes:
    event["requestContext"] = context
    if peer.stage_variables:
        event["stageVariables"] = peer.stage_variables
    if body is not None:
        event["body"] = body
    event["isBase64Encoded"] = is_base64
    return orjson.dumps(event)
