"""Which route of a WebSocket API a message takes. Pure.

A selection expression names one member of the message, ``$request.body.action`` or with braces
``${request.body.action}``; the value is the route's key. What is no JSON, lacks the member, or has
a value that no route has goes to ``$default``.
Source: docs.aws.amazon.com/apigateway/latest/developerguide/websocket-api-develop-routes.html
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from firelet.gateway.api_routes import Route, RouteTable
from firelet.model.http_api import DEFAULT_ROUTE

CONNECT_ROUTE, DISCONNECT_ROUTE = "$connect", "$disconnect"
DEFAULT_EXPRESSION = "$request.body.action"
_EXPRESSION = re.compile(r"\$\{?request\.body\.([A-Za-z0-9_.-]+)\}?")
_NOT_SELECTED = frozenset((CONNECT_ROUTE, DISCONNECT_ROUTE))


def select(table: RouteTable, expression: str, message: str | bytes) -> Route | None:
    """None when not even ``$default`` is there."""
    key = _evaluate(expression, message)
    if key is not None and key not in _NOT_SELECTED:
        route = table.by_key.get(key)
        if route is not None:
            return route
    return table.by_key.get(DEFAULT_ROUTE)


def _evaluate(expression: str, message: str | bytes) -> str | None:
    found = _EXPRESSION.fullmatch(expression)
    if found is None or isinstance(message, bytes):
        return None
    try:
        value: Any = orjson.loads(message)
    except orjson.JSONDecodeError:
        return None
    for name in found[1].split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None
