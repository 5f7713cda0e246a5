"""What a load balancer answers by itself: pages of HTML, fixed responses, redirects. Pure.

Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/
load-balancer-troubleshooting.html (statuses and their causes); pages as clients see them.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from firelet.control.load_balancer_records import Listener, Shape
from firelet.gateway.load_balancer_rules import Facts, redirect_target
from firelet.gateway.proxy_event import encode_value
from firelet.model.load_balancer import RESPONSE_HEADERS, SERVER_ENABLED
from firelet.wire.http1 import Response

_SERVER = (b"Server", b"awselb/2.0")
_PHRASES = {
    301: "Moved Permanently",
    302: "Found",
    400: "Bad Request",
    413: "Request Entity Too Large",
    502: "Bad Gateway",
    503: "Service Temporarily Unavailable",
    504: "Gateway Time-out",
}


def page(status: int, headers: Sequence[tuple[bytes, bytes]] = ()) -> Response:
    """The page of a status."""
    title = escape(f"{status} {_PHRASES[status]}")
    body = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
    )
    return Response(status, body.encode(), ((b"Content-Type", b"text/html"), _SERVER, *headers))


def fixed_response(config: Shape) -> Response:
    """The answer of a fixed-response action."""
    content_type = config.get("ContentType") or "text/plain"
    return Response(
        int(config["StatusCode"]),
        config.get("MessageBody", "").encode(),
        ((b"Content-Type", f"{content_type}; charset=utf-8".encode()), _SERVER),
    )


def redirect(config: Shape, facts: Facts) -> Response:
    """The answer of a redirect action."""
    location = encode_value(redirect_target(config, facts))
    return page(301 if config["StatusCode"] == "HTTP_301" else 302, ((b"Location", location),))


def finish(listener: Listener, response: Response) -> Response:
    """The answer with the headers that the listener sets, or without that of the server."""
    attributes = listener.attributes
    if not attributes:
        return response
    headers = list(response.headers)
    if attributes.get(SERVER_ENABLED) == "false":
        headers = [item for item in headers if item != _SERVER]
    for attribute, name in RESPONSE_HEADERS.items():
        value = attributes.get(attribute)
        if value:
            headers = [item for item in headers if item[0].lower() != name.lower().encode()]
            headers.append((name.encode(), encode_value(value)))
    response.headers = headers
    return response
