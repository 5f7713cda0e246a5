"""Which route of a WebSocket API a message takes."""

from __future__ import annotations

import pytest

from firelet.gateway.api_routes import RouteTable
from firelet.gateway.websocket_routes import select
from firelet.model.http_api import ROUTE, ApiPart

KEYS = ("$connect", "$disconnect", "$default", "greet")
TABLE = RouteTable({ROUTE: {key: ApiPart(part_id=key, settings={"RouteKey": key}) for key in KEYS}})


@pytest.mark.parametrize(
    ("expression", "message", "key"),
    [
        ("$request.body.action", '{"action": "greet"}', "greet"),
        ("${request.body.action}", '{"action": "greet"}', "greet"),
        ("$request.body.a.b", '{"a": {"b": "greet"}}', "greet"),
        ("$request.body.a.b", '{"a": "greet"}', "$default"),
        ("$request.body.action", '{"action": ["greet"]}', "$default"),
        ("$request.body.action", '{"action": "$disconnect"}', "$default"),
        ("$request.body.action", b'{"action": "greet"}', "$default"),
        ("$request.body.action", "{", "$default"),
        ("$request.header.x", '{"action": "greet"}', "$default"),
    ],
)
def test_selection(expression: str, message: str | bytes, key: str) -> None:
    route = select(TABLE, expression, message)
    assert route is not None
    assert route.key == key


def test_without_a_default_there_is_none() -> None:
    assert select(RouteTable({}), "$request.body.action", "x") is None
