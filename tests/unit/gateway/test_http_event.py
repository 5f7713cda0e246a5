"""Payload format 2.0, without a platform: properties of events and results."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.gateway.http_event import Origin, format_event, is_text, parse_result
from firelet.gateway.proxy_event import MalformedResult
from firelet.wire.http1 import Request, Response
from firelet.wire.http1_head import Heads

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
RESULTS = st.fixed_dictionaries(
    {"statusCode": JSON | st.integers(100, 700)},
    optional={
        "headers": JSON | st.dictionaries(st.text(), st.text() | st.integers(-9, 9), max_size=3),
        "cookies": JSON | st.lists(st.text(), max_size=3),
        "body": JSON,
        "isBase64Encoded": st.booleans(),
    },
)


def origin(path: str = "/", query: bytes = b"") -> Origin:
    return Origin(
        api_id="abc",
        account="anonymous",
        domain="abc.lambda-url.us-east-1.localhost",
        path=path,
        query=query,
        request_id="id",
        trace_id="Root=1",
        epoch_s=1_795_417_200.5,
    )


def event_of(request: Request, **options: Any) -> Any:
    return orjson.loads(format_event(request, origin(**options)))


def test_a_bare_request_has_the_members_of_a_recorded_event() -> None:
    event = event_of(Request(b"GET", b"/", {b"host": b"a"}, b"", "192.0.2.1"))
    assert event == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/",
        "rawQueryString": "",
        "headers": {
            "host": "a",
            "x-amzn-trace-id": "Root=1",
            "x-forwarded-for": "192.0.2.1",
            "x-forwarded-port": "80",
            "x-forwarded-proto": "http",
        },
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abc",
            "domainName": "abc.lambda-url.us-east-1.localhost",
            "domainPrefix": "abc",
            "http": {
                "method": "GET",
                "path": "/",
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "",
            },
            "requestId": "id",
            "routeKey": "$default",
            "stage": "$default",
            "time": "23/Nov/2026:07:00:00 +0000",
            "timeEpoch": 1_795_417_200_500,
        },
        "isBase64Encoded": False,
    }


def test_a_proxy_in_front_is_passed_on() -> None:
    headers = {
        b"host": b"a:444",
        b"x-forwarded-for": b"198.51.100.1",
        b"x-forwarded-proto": b"https",
        b"connection": b"close",
    }
    seen = event_of(Request(b"GET", b"/", headers, b"", "192.0.2.1"))["headers"]
    assert seen["x-forwarded-for"] == "198.51.100.1, 192.0.2.1"
    assert (seen["x-forwarded-proto"], seen["x-forwarded-port"]) == ("https", "444")
    assert "connection" not in seen


@given(
    body=st.binary(), content_type=st.sampled_from(["text/plain", "application/json", "a/b", ""])
)
def test_every_body_can_be_read_back(body: bytes, content_type: str) -> None:
    headers = {b"content-type": content_type.encode()}
    event = event_of(Request(b"POST", b"/", headers, body, ""))
    if not body:
        assert "body" not in event
    elif event["isBase64Encoded"]:
        assert base64.b64decode(event["body"]) == body
    else:
        assert is_text(content_type)
        assert event["body"].encode() == body


@given(
    query=st.binary(max_size=40),
    headers=st.dictionaries(st.binary(min_size=1, max_size=8), st.binary(max_size=20), max_size=4),
)
def test_every_request_becomes_an_event(query: bytes, headers: dict[bytes, bytes]) -> None:
    lowered = {name.lower(): value for name, value in headers.items()}
    event = event_of(Request(b"GET", b"/", lowered, b"", ""), query=query)
    assert event["rawQueryString"] == query.decode("latin-1")


@given(result=RESULTS | JSON)
def test_every_result_is_an_answer_that_can_be_sent_or_malformed(result: Any) -> None:
    try:
        response = parse_result(orjson.dumps(result))
    except MalformedResult:
        return
    assert isinstance(response, Response)
    assert 200 <= response.status <= 599
    head = Heads(on_dated=lambda: None).format(response, b"")
    assert head.count(b"\r\n\r\n") == 1


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"\0" * 8, b"[]" + b"\0" * 8])
def test_what_is_no_result(payload: bytes) -> None:
    with pytest.raises(MalformedResult):
        parse_result(payload)
