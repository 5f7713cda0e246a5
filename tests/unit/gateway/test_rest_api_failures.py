"""What a REST API answers by itself, and how an API may word it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.gateway.rest_api_failures import Refusal, answer, evaluate
from firelet.model.gateway_responses import STATUSES
from firelet.model.mapping_template import Variables

SEEN = Variables(
    params={"header": {"X-Own": "mine"}, "querystring": {"q": "1"}, "path": {"id": "7"}},
    context={"stage": "prod", "identity": {"sourceIp": "127.0.0.1"}},
    stage_variables={"colour": "red"},
)


@pytest.mark.parametrize("kind", sorted(STATUSES))
def test_every_type_has_a_status_and_a_message(kind: str) -> None:
    response = answer(Refusal(kind, 'a "quoted" message'), {}, {}, Variables())

    assert response.status == int(STATUSES[kind] or 500)
    assert json.loads(response.body) == {"message": 'a "quoted" message'}
    assert (b"Content-Type", b"application/json") in response.headers


def test_a_type_without_settings_follows_its_default() -> None:
    settings: dict[str, Any] = {
        "DEFAULT_4XX": {"statusCode": "418", "responseTemplates": {"text/plain": "four"}},
        "DEFAULT_5XX": {"responseTemplates": {"text/plain": "five"}},
        "THROTTLED": {"responseTemplates": {}, "statusCode": "420"},
    }

    def shown(kind: str, status: int | None = None) -> tuple[int, bytes]:
        response = answer(Refusal(kind, "m", status), settings, {}, Variables())
        return response.status, response.body

    assert shown("INVALID_API_KEY") == (418, b"four")
    assert shown("INTEGRATION_TIMEOUT") == (504, b"five")
    assert shown("DEFAULT_5XX", 502) == (502, b"five")
    assert shown("THROTTLED") == (420, b'{"message":"m"}')


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'text'", "text"),
        ("''", ""),
        ("context.stage", "prod"),
        ("context.identity.sourceIp", "127.0.0.1"),
        ("context.identity.nothing.below", ""),
        ("stageVariables.colour", "red"),
        ("method.request.header.x-own", "mine"),
        ("method.request.querystring.q", "1"),
        ("method.request.path.id", "7"),
        ("method.request.path.none", ""),
        ("nonsense", ""),
        ("", ""),
    ],
)
def test_a_mapping_expression_has_a_value(expression: str, value: str) -> None:
    assert evaluate(expression, SEEN) == value


@given(st.text(), st.text())
def test_headers_of_an_answer_stay_on_their_lines(name: str, value: str) -> None:
    settings = {
        "UNAUTHORIZED": {"responseParameters": {f"gatewayresponse.header.{name}": f"'{value}'"}}
    }
    response = answer(Refusal("UNAUTHORIZED", "m"), settings, {}, Variables())

    for part in (*response.headers[-1], *response.headers[0]):
        assert b"\n" not in part
        assert b"\r" not in part
