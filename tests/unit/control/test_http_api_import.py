"""Definitions of HTTP APIs, the ones that lie among them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firelet.control.http_api_import import define, parse_definition
from firelet.gateway.api_routes import RouteTable
from firelet.model.errors import CallerError, NotYetImplemented
from firelet.model.http_api import HttpApi

DOCUMENT: dict[str, Any] = {
    "openapi": "3.0.1",
    "info": {"title": "t", "version": "1", "description": "d"},
    "tags": [{"name": "team", "x-amazon-apigateway-tag-value": "red"}],
    "x-amazon-apigateway-cors": {"allowOrigins": ["*"], "maxAge": 5},
    "paths": {
        "/pets/{id}": {
            "get": {
                "operationId": "pet",
                "security": [{"guard": ["scope"]}],
                "x-amazon-apigateway-integration": {
                    "type": "aws_proxy",
                    "httpMethod": "POST",
                    "uri": "arn:aws:lambda:us-east-1:111122223333:function:f",
                    "payloadFormatVersion": "2.0",
                    "timeoutInMillis": 1000,
                },
            }
        }
    },
    "components": {
        "securitySchemes": {
            "guard": {
                "type": "oauth2",
                "x-amazon-apigateway-authorizer": {
                    "type": "jwt",
                    "identitySource": "$request.header.Authorization",
                    "jwtConfiguration": {"issuer": "https://a.example", "audience": ["b"]},
                },
            }
        }
    },
}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.text(max_size=12)
    | st.sampled_from(["$ref", "#/", "{proxy+}", "arn:aws:lambda:", "arn:x", "http://[", "*"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = document.items() if isinstance(document, dict) else ()
    if isinstance(document, list):
        items = enumerate(document)  # type: ignore[assignment]
    for key, value in items:
        found += places(value, (*path, key))
    return found


def with_value(path: tuple[Any, ...], value: Any) -> str:
    document = copy.deepcopy(DOCUMENT)
    at = document
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return json.dumps(document)


def make_api() -> HttpApi:
    return HttpApi(
        api_id="abc",
        account="111122223333",
        region="us-east-1",
        protocol="HTTP",
        settings={"Name": "t"},
        created=0.0,
    )


@settings(max_examples=400)
@given(path=st.sampled_from(places(DOCUMENT)), value=VALUES)
def test_a_definition_is_refused_or_can_be_served(path: tuple[Any, ...], value: Any) -> None:
    text, before = with_value(path, value), make_api()
    try:
        api = define(before, parse_definition(text))
    except (CallerError, NotYetImplemented):
        return
    RouteTable(api.parts).take("GET", "/pets/7")


@given(text=st.text(max_size=60) | VALUES.map(repr))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises((CallerError, NotYetImplemented)):
        define(make_api(), parse_definition(text))


@pytest.mark.parametrize("depth", [500, 1_000, 100_000])
def test_definitions_of_any_depth_are_refused_or_taken(depth: int) -> None:
    nested = "[" * depth + "]" * depth
    for text in (nested, f'{{"openapi": "3.0", "paths": {nested}}}'):
        with pytest.raises(CallerError):
            parse_definition(text)
