"""Events and results of functions behind a load balancer."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from firelet.gateway.load_balancer_event import Forwarding, format_event, parse_result
from firelet.gateway.proxy_event import MalformedResult
from firelet.wire.http1 import Request
from firelet.wire.http1_message import RepeatedHeader

FORWARDING = Forwarding(group_arn="tg", scheme="https", port="443", trace_id="Root=1-2-3")


def make_event(
    body: bytes = b"", query: str = "", forwarding: Forwarding = FORWARDING, **headers: bytes
) -> dict[str, Any]:
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    request = Request(b"GET", b"/", named, body, "72.21.198.66")
    event: dict[str, Any] = json.loads(format_event(request, "/", query, forwarding))
    return event


def test_an_event_has_the_members_of_the_documented_one() -> None:
    assert make_event(b"request_body", "a=1", host=b"lb", content_type=b"text/plain") == {
        "requestContext": {"elb": {"targetGroupArn": "tg"}},
        "httpMethod": "GET",
        "path": "/",
        "queryStringParameters": {"a": "1"},
        "headers": {
            "content-type": "text/plain",
            "host": "lb",
            "x-amzn-trace-id": "Root=1-2-3",
            "x-forwarded-for": "72.21.198.66",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "isBase64Encoded": False,
        "body": "request_body",
    }


@given(st.binary(), st.text(), st.binary(), st.booleans())
def test_any_request_becomes_an_event(
    body: bytes, query: str, content_type: bytes, is_multi_value: bool
) -> None:
    forwarding = Forwarding(
        group_arn="tg", scheme="http", port="80", trace_id="t", is_multi_value=is_multi_value
    )
    event = make_event(body, query, forwarding, content_type=content_type)

    given = event["body"]
    assert (base64.b64decode(given) if event["isBase64Encoded"] else given.encode()) == body


def test_what_is_said_of_clients_before_can_be_kept_or_removed() -> None:
    def sent(mode: str) -> str | None:
        forwarding = Forwarding(
            group_arn="tg", scheme="http", port="80", trace_id="t", xff_mode=mode
        )
        found = make_event(forwarding=forwarding, x_forwarded_for=b"10.0.0.1")
        value: str | None = found["headers"].get("x-forwarded-for")
        return value

    assert sent("append") == "10.0.0.1, 72.21.198.66"
    assert sent("preserve") == "10.0.0.1"
    assert sent("remove") is None


def test_a_repeated_header_is_a_list_or_its_last_value() -> None:
    repeated = RepeatedHeader.of(b"1", b"2", b", ")
    multiple = Forwarding(
        group_arn="tg", scheme="http", port="80", trace_id="t", is_multi_value=True
    )

    assert make_event(x_own=repeated)["headers"]["x-own"] == "2"
    assert make_event(forwarding=multiple, x_own=repeated)["multiValueHeaders"]["x-own"] == [
        "1",
        "2",
    ]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_any_result_is_an_answer_or_malformed(value: Any) -> None:
    for result in (value, *({"statusCode": 200, name: value} for name in ("body", "headers"))):
        with contextlib.suppress(MalformedResult):
            assert parse_result(json.dumps(result).encode()).status == 200
