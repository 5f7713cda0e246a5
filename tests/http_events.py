"""HTTP requests as events of payload format 2.0, for functions that are invoked without a URL."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit


def http_event(
    method: str,
    url: str,
    body: str | None = None,
    headers: dict[str, str] | None = None,
    cookies: list[str] | None = None,
) -> dict[str, Any]:
    """What a function URL makes of a request."""
    parts = urlsplit(url)
    given = {"host": "shop.example", "x-forwarded-port": "443", "x-forwarded-proto": "https"}
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": parts.path,
        "rawQueryString": parts.query,
        "headers": {**given, **(headers or {})},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abc",
            "domainName": "shop.example",
            "domainPrefix": "shop",
            "http": {
                "method": method,
                "path": parts.path,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "tests",
            },
            "requestId": "1",
            "routeKey": "$default",
            "stage": "$default",
            "time": "25/Nov/2026:10:00:00 +0000",
            "timeEpoch": 1795600800000,
        },
        "isBase64Encoded": False,
    }
    if parts.query:
        event["queryStringParameters"] = dict(parse_qsl(parts.query))
    if cookies:
        event["cookies"] = cookies
    if body is not None:
        event["body"] = body
    return event
