"""Cross-origin resource sharing for function URLs and HTTP APIs: preflights and headers. Pure.

``settings`` have the members of AWS's shapes (``AllowOrigins`` …), which both services share.
Source: https://fetch.spec.whatwg.org/#http-cors-protocol,
docs.aws.amazon.com/lambda/latest/api/API_Cors.html and
docs.aws.amazon.com/apigateway/latest/developerguide/http-api-cors.html.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from firelet.wire.http1 import Request, Response

_PREFIX = b"access-control-"
_ANY = "*"


def is_preflight(request: Request) -> bool:
    """Whether a browser asks before it sends a request of its own."""
    headers = request.headers
    return (
        request.method == b"OPTIONS"
        and b"origin" in headers
        and b"access-control-request-method" in headers
    )


def preflight(settings: Mapping[str, Any], request: Request, status: int) -> Response:
    """The answer to a preflight: without permission when origin or method is not allowed."""
    origin = _allowed_origin(settings, request)
    headers = []
    method = request.headers[b"access-control-request-method"].decode("latin-1").upper()
    methods = settings.get("AllowMethods") or []
    if origin is not None and (_ANY in methods or method in map(str.upper, methods)):
        headers = _headers(settings, origin)
        headers.append(_join(b"allow-methods", methods))
        if settings.get("AllowHeaders"):
            headers.append(_join(b"allow-headers", settings["AllowHeaders"]))
        if settings.get("MaxAge") is not None:
            headers.append((_PREFIX + b"max-age", b"%d" % settings["MaxAge"]))
    return Response(status, b"", headers)


def share(settings: Mapping[str, Any], request: Request, response: Response) -> Response:
    """The same response with the headers of ``settings`` in place of those of the function."""
    kept = [
        (name, value) for name, value in response.headers if not name.lower().startswith(_PREFIX)
    ]
    origin = _allowed_origin(settings, request)
    response.headers = kept if origin is None else kept + _headers(settings, origin)
    return response


def _allowed_origin(settings: Mapping[str, Any], request: Request) -> bytes | None:
    """What goes into Access-Control-Allow-Origin."""
    origin = request.headers.get(b"origin")
    if origin is None:
        return None
    text = origin.decode("latin-1")
    allowed: Sequence[str] = settings.get("AllowOrigins") or []
    # Browsers refuse the star together with credentials.
    if _ANY in allowed:
        return origin if settings.get("AllowCredentials") else b"*"
    return origin if any(_matches(pattern, text) for pattern in allowed) else None


def _matches(pattern: str, origin: str) -> bool:
    # Origins hold no brackets but those of IPv6, which patterns then hold literally.
    return pattern == origin or (_ANY in pattern and fnmatchcase(origin, pattern))


def _headers(settings: Mapping[str, Any], origin: bytes) -> list[tuple[bytes, bytes]]:
    headers = [(_PREFIX + b"allow-origin", origin)]
    if origin != b"*":
        headers.append((b"vary", b"Origin"))
    if settings.get("AllowCredentials"):
        headers.append((_PREFIX + b"allow-credentials", b"true"))
    if settings.get("ExposeHeaders"):
        headers.append(_join(b"expose-headers", settings["ExposeHeaders"]))
    return headers


def _join(name: bytes, values: Sequence[str]) -> tuple[bytes, bytes]:
    return _PREFIX + name, ",".join(values).encode("latin-1", "replace")
