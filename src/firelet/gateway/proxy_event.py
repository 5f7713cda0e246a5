"""Payload format 1.0: the event and the result of Lambda proxy integrations.

What it is: both directions of one format, without I/O. What it is not: routing, or the choice of
the request context, which belongs to whoever serves the API. Called by ``gateway.rest_api_call``
and by HTTP APIs that ask for payload 1.0.

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/
set-up-lambda-proxy-integrations.html (both formats, the merging of headers) and
api-gateway-known-issues.html (headers that are remapped).
The server keeps no header's spelling: names are written here as most clients send them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson

from firelet.wire.http1 import header_values

# Members of a result. A REST API refuses any other. Source: known answers of the real service.
_RESULT_MEMBERS = frozenset(
    ("statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded")
)

# Between us and the client, or between the client and us: no function sees or sets them.
_HOP_BY_HOP = frozenset(("connection", "keep-alive", "te", "trailer", "transfer-encoding"))
_NOT_PASSED_ON = _HOP_BY_HOP | {"content-length", "expect"}

# Headers of a result that are the gateway's to set: the function's value goes by another name.
_REMAPPED = frozenset(
    (
        "authorization",
        "connection",
        "content-length",
        "content-md5",
        "date",
        "expect",
        "host",
        "server",
        "user-agent",
        "www-authenticate",
    )
)
_DROPPED = frozenset(("keep-alive", "te", "trailer", "transfer-encoding", "upgrade"))
_XFF = "x-forwarded-for"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_LINE_BREAK = re.compile("[\r\n\0]+")

Header = tuple[str, str]


class MalformedResult(Exception):
    """The function's result is not one of this format. The sentence is for the platform's log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyRequest:
    """A request as an API sees it. ``query`` is undecoded; ``context`` is the requestContext.

    ``version`` is None for a REST API, whose events have no such member. ``is_binary`` says that
    the body goes as base64, whatever it is.
    """

    method: str
    resource: str
    path: str
    headers: Sequence[Header]
    query: bytes = b""
    path_parameters: Mapping[str, str] | None = None
    stage_variables: Mapping[str, str] | None = None
    context: Mapping[str, Any]
    body: bytes = b""
    is_binary: bool = False
    version: str | None = None


@dataclass(frozen=True, slots=True)
class ProxyResult:
    """What a function answers. ``body`` is decoded unless ``is_base64``, which says that it is
    still base64 text: whether a client gets bytes or text is the API's to decide."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    is_base64: bool = False

    def decoded(self) -> bytes:
        """The bytes behind the base64. MalformedResult when it is none."""
        if not self.is_base64:
            return self.body
        try:
            return base64.b64decode(self.body, validate=True)
        except binascii.Error:
            raise MalformedResult("isBase64Encoded is true and the body is no base64") from None


def format_event(request: ProxyRequest) -> bytes:
    """The event, as JSON."""
    multi_headers = group(request.headers)
    multi_query = group(parse_query(request.query))
    body, is_base64 = format_body(request.body, request.is_binary)
    event: dict[str, Any] = {} if request.version is None else {"version": request.version}
    event |= {
        "resource": request.resource,
        "path": request.path,
        "httpMethod": request.method,
        "headers": last_of(multi_headers),
        "multiValueHeaders": multi_headers or None,
        "queryStringParameters": last_of(multi_query),
        "multiValueQueryStringParameters": multi_query or None,
        "requestContext": request.context,
        "pathParameters": request.path_parameters or None,
        "stageVariables": request.stage_variables or None,
        "body": body,
        "isBase64Encoded": is_base64,
    }
    return orjson.dumps(event)


def parse_result(payload: bytes, *, is_strict: bool = True) -> ProxyResult:
    """A function's result. MalformedResult. ``is_strict`` refuses members that the format lacks,
    and numbers as values of headers, as REST APIs do."""
    try:
        result = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise MalformedResult(f"the result is not JSON: {error}") from None
    if not isinstance(result, dict):
        raise MalformedResult("the result is not an object")
    if is_strict and not result.keys() <= _RESULT_MEMBERS:
        unknown = ", ".join(sorted(result.keys() - _RESULT_MEMBERS))
        raise MalformedResult(f"the result has members that the format lacks: {unknown}")
    is_base64 = result.get("isBase64Encoded") or False
    if not isinstance(is_base64, bool):
        raise MalformedResult("isBase64Encoded is no boolean")
    return ProxyResult(
        parse_status(result.get("statusCode")),
        parse_headers(result.get("headers"), result.get("multiValueHeaders"), is_strict=is_strict),
        _parse_body(result.get("body")),
        is_base64,
    )


def list_headers(
    headers: Mapping[bytes, bytes], peer: str, port: str, scheme: str, trace_id: str
) -> list[Header]:
    """Headers of a request as a function sees them: spelled as usual, without those that belong to
    the connection, and with those that the gateway adds. By name."""
    listed = {
        name.decode("latin-1"): [decode_value(one) for one in header_values(value)]
        for name, value in headers.items()
        if name.decode("latin-1") not in _NOT_PASSED_ON
    }
    before = {_XFF: ", ".join(listed.get(_XFF, ()))}
    added = forwarded(before, peer, port, scheme, trace_id)
    listed |= {name: [value] for name, value in added.items()}
    return [(spell(name), value) for name in sorted(listed) for value in listed[name]]


def forwarded(
    headers: Mapping[str, str], peer: str, port: str, scheme: str, trace_id: str
) -> dict[str, str]:
    """What a gateway says of the connection that it ended; names are in lower case."""
    before = headers.get(_XFF)
    return {
        "x-amzn-trace-id": trace_id,
        _XFF: f"{before}, {peer}" if before else peer,
        "x-forwarded-port": port,
        "x-forwarded-proto": scheme,
    }


def decode_value(value: bytes) -> str:
    """A header's value, which may be UTF-8 and must be text."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def spell(name: str) -> str:
    """``x-amzn-trace-id`` as ``X-Amzn-Trace-Id``."""
    return "-".join(part.capitalize() for part in name.split("-"))


def parse_query(query: bytes) -> list[Header]:
    """Names and values, decoded, in their order; bytes that are no UTF-8 are replaced."""
    return parse_qsl(query.decode("utf-8", "replace"), keep_blank_values=True)


def group(pairs: Sequence[Header]) -> dict[str, list[str]]:
    """All values of each name, in their order."""
    grouped: dict[str, list[str]] = {}
    for name, value in pairs:
        grouped.setdefault(name, []).append(value)
    return grouped


def last_of(grouped: Mapping[str, Sequence[str]]) -> dict[str, str] | None:
    """The last value of each name; None instead of nothing, as these events have it."""
    return {name: values[-1] for name, values in grouped.items()} or None


def format_body(body: bytes, is_binary: bool) -> tuple[str | None, bool]:
    """The members ``body`` and ``isBase64Encoded``. Text that is no UTF-8 is replaced."""
    if not body:
        return None, False
    if is_binary:
        return base64.b64encode(body).decode(), True
    return body.decode("utf-8", "replace"), False


def parse_status(given: object) -> int:
    """The status of a result: a number, or text that is one; 200 when it is left out."""
    if given is None:
        return 200
    if isinstance(given, bool) or not isinstance(given, int | str | float):
        raise MalformedResult("statusCode is no number")
    try:
        status = int(given)
    except (ValueError, OverflowError):
        raise MalformedResult("statusCode is no number") from None
    if not 200 <= status <= 599:
        raise MalformedResult(f"statusCode {status} is no status of a final answer")
    return status


def parse_headers(
    single: object, multiple: object, *, is_strict: bool = False
) -> list[tuple[bytes, bytes]]:
    """``headers`` and ``multiValueHeaders``: a name that is in both has the values of the latter.
    MalformedResult."""
    values: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for name, value in _members(single, "headers"):
        values[name.lower()] = [_parse_value(value, "headers", is_strict)]
        names[name.lower()] = name
    for name, given in _members(multiple, "multiValueHeaders"):
        listed = given if isinstance(given, list) else [given]
        values[name.lower()] = [_parse_value(one, "multiValueHeaders", is_strict) for one in listed]
        names[name.lower()] = name
    return [
        (_rename(key, names[key]), encode_value(value))
        for key, listed in values.items()
        if key not in _DROPPED
        for value in listed
    ]


def encode_value(text: str) -> bytes:
    """A header's value on one line."""
    return _LINE_BREAK.sub(" ", text).encode("utf-8", "replace").strip()


def _members(given: object, member: str) -> list[tuple[str, object]]:
    if given is None:
        return []
    if not isinstance(given, dict):
        raise MalformedResult(f"{member} is no object")
    for name in given:
        if _TOKEN.fullmatch(name) is None:
            raise MalformedResult(f"{member} has a name that is none of a header")
    return list(given.items())


def _parse_value(value: object, member: str, is_strict: bool) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | float() if not is_strict:
            return str(value)
    raise MalformedResult(f"{member} has a value that is no text")


def _rename(key: str, name: str) -> bytes:
    return f"x-amzn-Remapped-{name}".encode() if key in _REMAPPED else name.encode()


def _parse_body(given: object) -> bytes:
    if given is None:
        return b""
    if not isinstance(given, str):
        raise MalformedResult("body is no text")
    return given.encode("utf-8", "replace")
