"""Signatures by botocore, and what is done to them on the way."""

from __future__ import annotations

import time
from dataclasses import replace
from urllib.parse import urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from firelet.iam.sigv4 import parse_signature
from firelet.iam.sigv4_check import is_genuine

CREDENTIALS = botocore.credentials.Credentials("AKID", "secret", "the+token/=")
URLS = (
    "http://localhost:4566/",
    "http://localhost/a%20b/c%2Fd?z=1&a=2&a=1&empty=&star=%2A~",
    "http://x.localhost/%C3%BC/a+b?q=%C3%BC%20x",
)


def sign(
    url: str, *, signer: type[botocore.auth.BaseSigner] = botocore.auth.SigV4Auth, body: bytes = b""
) -> tuple[bytes, dict[bytes, bytes]]:
    """Target and headers of a signed POST."""
    request = botocore.awsrequest.AWSRequest("POST", url, {"X-Odd": " a   b "}, body)
    signer(CREDENTIALS, "lambda", "us-east-1").add_auth(request)
    parts = urlsplit(request.prepare().url)
    headers = {
        name.lower().encode(): str(value).encode() for name, value in request.headers.items()
    }
    headers[b"host"] = parts.netloc.encode()
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return target.encode(), headers


def check(
    target: bytes,
    headers: dict[bytes, bytes],
    *,
    secret: str = "secret",
    method: bytes = b"POST",
    body: bytes = b"",
    later_s: float = 0.0,
) -> bool:
    signature = parse_signature(headers, target.partition(b"?")[2])
    assert signature is not None
    now = time.time() + later_s
    return is_genuine(
        signature, secret, method=method, target=target, headers=headers, body=body, now=now
    )


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("body", [b"", b"payload"])
def test_what_botocore_signs_is_genuine(url: str, body: bytes) -> None:
    assert check(*sign(url, body=body), body=body)


@pytest.mark.parametrize("url", URLS)
def test_a_presigned_url_is_genuine_until_it_expires(url: str) -> None:
    target, headers = sign(url, signer=botocore.auth.SigV4QueryAuth)
    assert check(target, headers)
    assert not check(target, headers, later_s=3_700)


def test_any_change_makes_it_false() -> None:
    target, headers = sign(URLS[1], body=b"payload")
    assert check(target, headers, body=b"payload")
    assert not check(target, headers, body=b"payloaD")
    assert not check(target, headers, body=b"payload", method=b"PUT")
    assert not check(target, headers, body=b"payload", secret="other")
    assert not check(target + b"&b=1", headers, body=b"payload")
    assert not check(target.replace(b"%2F", b"/"), headers, body=b"payload")
    assert not check(target, {**headers, b"host": b"other"}, body=b"payload")


@pytest.mark.parametrize("later_s", [-301.0, 301.0])
def test_a_signature_of_another_time_is_stale(later_s: float) -> None:
    target, headers = sign(URLS[0])
    assert not check(target, headers, later_s=later_s)


def test_a_signature_that_leaves_out_the_host_is_none() -> None:
    target, headers = sign(URLS[0])
    signature = parse_signature(headers, b"")
    assert signature is not None
    bare = replace(signature, signed_headers=("x-amz-date",))
    assert not is_genuine(
        bare, "secret", method=b"POST", target=target, headers=headers, body=b"", now=time.time()
    )
