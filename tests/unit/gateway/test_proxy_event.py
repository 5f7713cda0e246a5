"""Payload format 1.0, member by member."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.gateway import proxy_event
from firelet.gateway.proxy_event import MalformedResult, ProxyRequest, format_event, parse_result
from firelet.wire.http1_message import RepeatedHeader


def make_event(**changes: Any) -> dict[str, Any]:
    members: dict[str, Any] = {
        "method": "POST",
        "resource": "/{proxy+}",
        "path": "/path/to/resource",
        "headers": [("Accept", "*/*"), ("Cookie", "a=1"), ("Cookie", "b=2")],
        "query": b"foo=bar&foo=b%20z&empty=",
        "path_parameters": {"proxy": "path/to/resource"},
        "stage_variables": {"baz": "qux"},
        "context": {"stage": "prod"},
        "body": b'{"test":"body"}',
    }
    event: dict[str, Any] = json.loads(format_event(ProxyRequest(**members | changes)))
    return event


def test_an_event_has_the_members_of_the_documented_one() -> None:
    assert make_event() == {
        "resource": "/{proxy+}",
        "path": "/path/to/resource",
        "httpMethod": "POST",
        "headers": {"Accept": "*/*", "Cookie": "b=2"},
        "multiValueHeaders": {"Accept": ["*/*"], "Cookie": ["a=1", "b=2"]},
        "queryStringParameters": {"foo": "b z", "empty": ""},
        "multiValueQueryStringParameters": {"foo": ["bar", "b z"], "empty": [""]},
        "requestContext": {"stage": "prod"},
        "pathParameters": {"proxy": "path/to/resource"},
        "stageVariables": {"baz": "qux"},
        "body": '{"test":"body"}',
        "isBase64Encoded": False,
    }


def test_what_is_absent_is_null_and_not_empty() -> None:
    event = make_event(headers=[], query=b"", path_parameters={}, stage_variables={}, body=b"")

    for name in (
        "headers",
        "multiValueHeaders",
        "queryStringParameters",
        "multiValueQueryStringParameters",
        "pathParameters",
        "stageVariables",
        "body",
    ):
        assert event[name] is None
    assert event["isBase64Encoded"] is False


def test_the_version_comes_first_where_there_is_one() -> None:
    assert next(iter(make_event(version="1.0").items())) == ("version", "1.0")


def test_a_binary_body_is_base64() -> None:
    event = make_event(body=b"\xff\x00", is_binary=True)

    assert (event["body"], event["isBase64Encoded"]) == ("/wA=", True)
    assert make_event(body=b"a\xff")["body"] == "a\N{REPLACEMENT CHARACTER}"


@given(st.binary(), st.binary(), st.booleans())
def test_any_query_and_body_become_json(query: bytes, body: bytes, is_binary: bool) -> None:
    event = make_event(query=query, body=body, is_binary=is_binary)

    if body and is_binary:
        assert base64.b64decode(event["body"]) == body


def test_headers_are_spelled_as_usual_and_those_of_the_connection_are_left_out() -> None:
    headers = proxy_event.list_headers(
        {
            b"user-agent": b"curl",
            b"connection": b"close",
            b"content-length": b"3",
            b"x-forwarded-for": RepeatedHeader.of(b"10.0.0.1", b"10.0.0.2", b", "),
            b"x-own": RepeatedHeader.of(b"1", b"2, 3", b", "),
        },
        "127.0.0.1",
        "4566",
        "http",
        "Root=1-2-3",
    )

    assert headers == [
        ("User-Agent", "curl"),
        ("X-Amzn-Trace-Id", "Root=1-2-3"),
        ("X-Forwarded-For", "10.0.0.1, 10.0.0.2, 127.0.0.1"),
        ("X-Forwarded-Port", "4566"),
        ("X-Forwarded-Proto", "http"),
        ("X-Own", "1"),
        ("X-Own", "2, 3"),
    ]


def test_a_result_becomes_status_headers_and_body() -> None:
    result = parse_result(
        b'{"statusCode":"201","headers":{"A":"1","B":"x"},'
        b'"multiValueHeaders":{"b":["y","z"]},"body":"hi"}'
    )

    assert result.status == 201
    assert list(result.headers) == [(b"A", b"1"), (b"b", b"y"), (b"b", b"z")]
    assert result.decoded() == b"hi"


def test_a_result_may_leave_out_every_member() -> None:
    result = parse_result(b"{}")

    assert (result.status, list(result.headers), result.body) == (200, [], b"")


def test_headers_that_are_the_gateways_are_renamed_or_dropped() -> None:
    result = parse_result(
        b'{"headers":{"Date":"d","Content-Length":"9","Transfer-Encoding":"chunked"}}'
    )

    assert list(result.headers) == [
        (b"x-amzn-Remapped-Date", b"d"),
        (b"x-amzn-Remapped-Content-Length", b"9"),
    ]


def test_a_header_of_a_result_stays_on_its_line() -> None:
    result = parse_result(b'{"headers":{"A":"1\\r\\nB: 2"}}')

    assert list(result.headers) == [(b"A", b"1 B: 2")]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b'"text"',
        b"[]",
        b'{"statusCode":"abc"}',
        b'{"statusCode":true}',
        b'{"statusCode":99}',
        b'{"statusCode":101}',
        b'{"statusCode":1e400}',
        b'{"statusCode":{}}',
        b'{"body":{}}',
        b'{"body":1}',
        b'{"headers":[]}',
        b'{"headers":{"a":{}}}',
        b'{"headers":{"a":null}}',
        b'{"headers":{"a":1}}',
        b'{"headers":{"a b":"1"}}',
        b'{"headers":{"":"1"}}',
        b'{"isBase64Encoded":"true"}',
        b'{"errorMessage":"it failed"}',
    ],
)
def test_what_is_no_result_is_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedResult):
        parse_result(payload)


def test_a_lenient_reader_takes_further_members_and_numbers() -> None:
    result = parse_result(b'{"cookies":[],"headers":{"a":1}}', is_strict=False)

    assert list(result.headers) == [(b"a", b"1")]


def test_base64_that_is_none_is_malformed_once_it_is_decoded() -> None:
    assert parse_result(b'{"body":"aGk=","isBase64Encoded":true}').decoded() == b"hi"
    with pytest.raises(MalformedResult):
        parse_result(b'{"body":"!","isBase64Encoded":true}').decoded()


@given(st.recursive(st.none() | st.booleans() | st.integers(-9, 999) | st.text(), st.lists))
def test_any_member_of_a_result_is_taken_or_malformed(value: Any) -> None:
    for name in ("statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"):
        with contextlib.suppress(MalformedResult):
            status = parse_result(json.dumps({name: value}).encode()).status
            assert 200 <= status <= 599
