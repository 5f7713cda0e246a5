"""Cross-origin requests: who is allowed, and what the answers say."""

from __future__ import annotations

from typing import Any

import pytest

from firelet.gateway import cors
from firelet.wire.http1 import Request, Response

ORIGIN = b"https://a.example"


def preflight(settings: dict[str, Any], **headers: bytes) -> dict[bytes, bytes]:
    asked = {b"origin": ORIGIN, b"access-control-request-method": b"PUT"}
    asked |= {name.replace("_", "-").encode(): value for name, value in headers.items()}
    request = Request(b"OPTIONS", b"/", asked, b"", "")
    assert cors.is_preflight(request)
    return dict(cors.preflight({"AllowMethods": ["*"], **settings}, request, 204).headers)


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (["*"], b"*"),
        (["https://a.example"], ORIGIN),
        (["https://*"], ORIGIN),
        (["https://*.example"], ORIGIN),
        (["http://*"], None),
        (["https://a.example.org"], None),
        (["https://a"], None),
        ([], None),
    ],
)
def test_allowed_origins(allowed: list[str], expected: bytes | None) -> None:
    assert preflight({"AllowOrigins": allowed}).get(b"access-control-allow-origin") == expected


def test_the_star_is_not_sent_together_with_credentials() -> None:
    answer = preflight({"AllowOrigins": ["*"], "AllowCredentials": True})
    assert answer[b"access-control-allow-origin"] == ORIGIN
    assert answer[b"access-control-allow-credentials"] == b"true"
    assert answer[b"vary"] == b"Origin"


@pytest.mark.parametrize("method", [b"PUT", b"put"])
def test_methods_are_compared_without_case(method: bytes) -> None:
    settings = {"AllowOrigins": ["*"], "AllowMethods": ["Put"]}
    assert preflight(settings, access_control_request_method=method)


def test_a_method_that_is_not_allowed_gets_no_headers() -> None:
    assert preflight({"AllowOrigins": ["*"], "AllowMethods": ["GET"]}) == {}


def test_an_age_of_nothing_is_sent() -> None:
    assert preflight({"AllowOrigins": ["*"], "MaxAge": 0})[b"access-control-max-age"] == b"0"


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        (b"GET", {b"origin": ORIGIN, b"access-control-request-method": b"PUT"}),
        (b"OPTIONS", {b"origin": ORIGIN}),
        (b"OPTIONS", {b"access-control-request-method": b"PUT"}),
    ],
)
def test_what_is_no_preflight(method: bytes, headers: dict[bytes, bytes]) -> None:
    assert not cors.is_preflight(Request(method, b"/", headers, b"", ""))


def test_headers_of_the_function_are_replaced_even_if_nothing_is_allowed() -> None:
    response = Response(200, b"", ((b"Access-Control-Allow-Origin", b"x"), (b"a", b"b")))
    request = Request(b"GET", b"/", {b"origin": b"https://other"}, b"", "")
    shared = cors.share({"AllowOrigins": ["https://a.example"]}, request, response)
    assert shared.headers == [(b"a", b"b")]
