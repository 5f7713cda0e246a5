"""The event and the result of functions behind an Application Load Balancer, without I/O.

Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html:
query parameters stay undecoded, names of headers are in lower case, and with the multi-value option
of the target group the lists take the place of the single values. That a result without a content
type is ``application/octet-stream`` is as users have seen it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from firelet.gateway.proxy_event import (
    MalformedResult,
    decode_value,
    forwarded,
    group,
    last_of,
    parse_headers,
    parse_status,
)
from firelet.wire.http1 import Request, Response, header_values

RESULT_MAX_BYTES = 1_048_576  # quotas of functions as targets

# Headers of the client's connection, which ends here.
_DROPPED = frozenset(
    (b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"expect")
)
_TEXT_TYPES = ("text/", "application/json", "application/javascript", "application/xml")
_DEFAULT_TYPE = (b"Content-Type", b"application/octet-stream")
_HEALTH_AGENT = "ELB-HealthChecker/2.0"
_XFF = "x-forwarded-for"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """What the load balancer adds. ``xff_mode`` is ``append``, ``preserve`` or ``remove``."""

    group_arn: str
    scheme: str
    port: str
    trace_id: str
    xff_mode: str = "append"
    is_multi_value: bool = False


def format_event(request: Request, path: str, query: str, forwarding: Forwarding) -> bytes:
    """The event, as JSON. ``path`` and ``query`` are undecoded."""
    listed = _list_headers(request, forwarding)
    headers = {name: values[-1] for name, values in listed.items()}
    content_type = headers.get("content-type", "")
    is_text = "content-encoding" not in headers and (not request.body or _is_text(content_type))
    try:
        body = request.body.decode() if is_text else base64.b64encode(request.body).decode()
    except UnicodeDecodeError:  # Called text and is none.
        body, is_text = base64.b64encode(request.body).decode(), False
    event: dict[str, Any] = {
        "requestContext": {"elb": {"targetGroupArn": forwarding.group_arn}},
        "httpMethod": request.method.decode("latin-1"),
        "path": path,
    }
    parameters = group([(n, v) for n, _, v in (p.partition("=") for p in query.split("&") if p)])
    if forwarding.is_multi_value:
        event["multiValueQueryStringParameters"] = parameters
        event["multiValueHeaders"] = listed
    else:
        event["queryStringParameters"] = last_of(parameters) or {}
        event["headers"] = headers
    return orjson.dumps({**event, "body": body, "isBase64Encoded": not is_text})


def format_health_event(group_arn: str, path: str, *, is_multi_value: bool) -> bytes:
    """The event of a health check."""
    event: dict[str, Any] = {
        "requestContext": {"elb": {"targetGroupArn": group_arn}},
        "httpMethod": "GET",
        "path": path,
    }
    if is_multi_value:
        event["multiValueQueryStringParameters"] = {}
        event["multiValueHeaders"] = {"user-agent": [_HEALTH_AGENT]}
    else:
        event["queryStringParameters"] = {}
        event["headers"] = {"user-agent": _HEALTH_AGENT}
    return orjson.dumps({**event, "body": "", "isBase64Encoded": False})


def parse_result(payload: bytes, *, is_multi_value: bool = False) -> Response:
    """The answer that a result asks for. MalformedResult. ``statusDescription`` is read and not
    sent: HTTP has no use for it any more (RFC 9112, section 4)."""
    if len(payload) > RESULT_MAX_BYTES:
        raise MalformedResult(f"the result is larger than {RESULT_MAX_BYTES} bytes")
    try:
        result = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise MalformedResult(f"the result is not JSON: {error}") from None
    if not isinstance(result, dict) or result.get("statusCode") is None:
        raise MalformedResult("the result has no statusCode")
    if not isinstance(result.get("statusDescription", ""), str):
        raise MalformedResult("statusDescription is no text")
    single = None if is_multi_value else result.get("headers")
    multiple = result.get("multiValueHeaders") if is_multi_value else None
    headers = parse_headers(single, multiple, is_strict=True)
    if not any(name.lower() == b"content-type" for name, _ in headers):
        headers.append(_DEFAULT_TYPE)
    return Response(parse_status(result["statusCode"]), _parse_body(result), headers)


def _parse_body(result: Mapping[str, Any]) -> bytes:
    body = result.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise MalformedResult("body is no text")
    if not result.get("isBase64Encoded"):
        return body.encode("utf-8", "replace")
    try:
        return base64.b64decode(body.encode(), validate=True)
    except binascii.Error:
        raise MalformedResult("isBase64Encoded is true and the body is no base64") from None


def _list_headers(request: Request, forwarding: Forwarding) -> dict[str, list[str]]:
    """All values of each, by name."""
    listed = {
        name.decode("latin-1"): [decode_value(one) for one in header_values(value)]
        for name, value in request.headers.items()
        if name not in _DROPPED
    }
    before = {_XFF: ", ".join(listed.get(_XFF, ()))}
    added = forwarded(before, request.peer, forwarding.port, forwarding.scheme, forwarding.trace_id)
    if forwarding.xff_mode != "append":
        del added[_XFF]
    if forwarding.xff_mode == "remove":
        listed.pop(_XFF, None)
    listed |= {name: [value] for name, value in added.items()}
    return dict(sorted(listed.items()))


def _is_text(content_type: str) -> bool:
    return content_type.strip().lower().startswith(_TEXT_TYPES)
