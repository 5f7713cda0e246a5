"""Payload format 2.0: the event of function URLs and HTTP APIs, and their results.

What it is: both directions of one format, without I/O. What it is not: routing, or who may call.
What the formats share (values of headers, names of those that a function may not set) is in
``proxy_event``. Called by ``function_url`` and ``http_api_call``.

Source: docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html,
docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html.
Members without a value are left out, as in recorded events. Cookies are in ``cookies`` only.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from firelet.gateway.proxy_event import (
    MalformedResult,
    decode_value,
    encode_value,
    forwarded,
    group,
    parse_headers,
    parse_query,
    parse_status,
)
from firelet.model.streaming import HTTP_PRELUDE_END, OCTET_STREAM
from firelet.wire.http1 import Request, Response

# Headers of one connection, which end here; the body is passed on without its framing.
_DROPPED = frozenset(
    (
        b"connection",
        b"cookie",
        b"expect",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/javascript")
_TEXT_SUFFIXES = ("+json", "+xml")
_JSON_TYPE = (b"content-type", b"application/json")
_OCTETS = (b"content-type", OCTET_STREAM.encode())
_DEFAULT_STAGE = "$default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a gateway knows of a request beyond the request itself.

    ``account`` is ``anonymous`` when nobody has signed. ``path`` is the raw path as the event shows
    it. ``authorizer`` is the member of that name.
    """

    api_id: str
    account: str
    domain: str
    path: str
    query: bytes
    request_id: str
    trace_id: str
    epoch_s: float
    route_key: str = "$default"
    stage: str = _DEFAULT_STAGE
    authorizer: Mapping[str, Any] | None = None
    path_parameters: Mapping[str, str] = field(default_factory=dict)
    stage_variables: Mapping[str, str] = field(default_factory=dict)
    is_signed: bool = False


def format_event(request: Request, origin: Origin) -> bytes:
    """The event, as JSON."""
    headers = _format_headers(request, origin)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": origin.route_key,
        "rawPath": origin.path,
        "rawQueryString": origin.query.decode("latin-1"),
    }
    cookies = request.headers.get(b"cookie")
    if cookies is not None:
        event["cookies"] = [part for part in decode_value(cookies).split("; ") if part]
    event["headers"] = headers
    if origin.query:
        values = group(parse_query(origin.query))
        if values:
            event["queryStringParameters"] = {name: ",".join(all_) for name, all_ in values.items()}
    event["requestContext"] = _format_context(request, origin, headers)
    if origin.path_parameters:
        event["pathParameters"] = origin.path_parameters
    if origin.stage_variables:
        event["stageVariables"] = origin.stage_variables
    is_base64 = False
    if request.body:
        event["body"], is_base64 = _format_body(request.body, headers.get("content-type", ""))
    event["isBase64Encoded"] = is_base64
    return orjson.dumps(event)


def parse_result(payload: bytes) -> Response:
    """The answer that a result asks for; one without ``statusCode`` is a body by itself.

    MalformedResult. That a body which is no text goes out as JSON is firelet's own.
    """
    try:
        result = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        head, end, body = payload.partition(HTTP_PRELUDE_END)
        if end:  # A function that streams, called by somebody who does not.
            response = parse_prelude(head)
            response.body = body
            return response
        raise MalformedResult(f"the result is not JSON: {error}") from None
    if isinstance(result, str):
        return Response(200, _encode(result), (_JSON_TYPE,))
    if not isinstance(result, dict) or "statusCode" not in result:
        return Response(200, orjson.dumps(result), (_JSON_TYPE,))
    body = _parse_body(result.get("body"), result.get("isBase64Encoded"))
    return _answer(result, body, _JSON_TYPE)


def parse_prelude(text: bytes) -> Response:
    """The head that the prelude of a stream asks for: JSON without its end. MalformedResult."""
    try:
        prelude = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedResult(f"the prelude of the stream is not JSON: {error}") from None
    if not isinstance(prelude, dict):
        raise MalformedResult("the prelude of the stream is no object")
    return _answer(prelude, b"", _OCTETS)


def _answer(result: Mapping[str, Any], body: bytes, default_type: tuple[bytes, bytes]) -> Response:
    """Status, headers and cookies of a result, or of the prelude of a stream. MalformedResult."""
    headers = parse_headers(result.get("headers"), None)
    if not any(name.lower() == b"content-type" for name, _ in headers):
        headers.append(default_type)
    cookies = result.get("cookies")
    if cookies is not None:
        if not isinstance(cookies, list) or not all(isinstance(one, str) for one in cookies):
            raise MalformedResult("cookies is no list of text")
        headers += [(b"set-cookie", encode_value(cookie)) for cookie in cookies]
    return Response(parse_status(result.get("statusCode")), body, headers)


def format_time(epoch_s: float) -> str:
    """``23/Nov/2026:07:00:00 +0000``."""
    return f"{datetime.fromtimestamp(epoch_s, UTC):%d/%b/%Y:%H:%M:%S +0000}"


def find_port(host: str, scheme: str) -> str:
    """The port that a client named, or that its scheme implies."""
    _, colon, port = host.rpartition(":")
    if colon and port.isdigit():
        return port
    return "443" if scheme == "https" else "80"


def find_scheme(headers: Mapping[bytes, bytes]) -> str:
    """A proxy in front of the platform may say that its client came by TLS."""
    return "https" if headers.get(b"x-forwarded-proto") == b"https" else "http"


def is_text(content_type: str) -> bool:
    """Whether a body of that type is text in an event; forms are not, nor what has no type."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith(_TEXT_TYPES) or kind.endswith(_TEXT_SUFFIXES)


def _format_headers(request: Request, origin: Origin) -> dict[str, str]:
    headers = {
        name.decode("latin-1"): decode_value(value)
        for name, value in request.headers.items()
        if name not in _DROPPED
    }
    if origin.is_signed:  # The signature is between client and gateway.
        headers.pop("authorization", None)
    if request.body:
        headers["content-length"] = str(len(request.body))
    scheme = find_scheme(request.headers)
    port = find_port(headers.get("host", ""), scheme)
    headers |= forwarded(headers, request.peer, port, scheme, origin.trace_id)
    return headers


def _format_context(request: Request, origin: Origin, headers: Mapping[str, str]) -> dict[str, Any]:
    context: dict[str, Any] = {"accountId": origin.account, "apiId": origin.api_id}
    if origin.authorizer is not None:
        context["authorizer"] = origin.authorizer
    context["domainName"] = origin.domain
    context["domainPrefix"] = origin.domain.partition(".")[0]
    context["http"] = {
        "method": request.method.decode("latin-1"),
        "path": origin.path,
        "protocol": "HTTP/1.1",
        "sourceIp": request.peer,
        "userAgent": headers.get("user-agent", ""),
    }
    context["requestId"] = origin.request_id
    context["routeKey"] = origin.route_key
    context["stage"] = origin.stage
    context["time"] = format_time(origin.epoch_s)
    context["timeEpoch"] = int(origin.epoch_s * 1000)
    return context


def _format_body(body: bytes, content_type: str) -> tuple[str, bool]:
    if is_text(content_type):
        try:
            return body.decode(), False
        except UnicodeDecodeError:  # Called text and is none.
            return base64.b64encode(body).decode(), True
    return base64.b64encode(body).decode(), True


def _parse_body(body: object, is_base64: object) -> bytes:
    if body is None:
        return b""
    if not isinstance(body, str):
        return orjson.dumps(body)
    if not is_base64:
        return _encode(body)
    try:
        return base64.b64decode(body, validate=True)
    except ValueError as error:  # binascii.Error, or text that is not even ASCII.
        raise MalformedResult(
            f"isBase64Encoded is set and the body is no base64: {error}"
        ) from None


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "replace")
