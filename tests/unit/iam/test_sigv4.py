"""Who signed a request, and for what."""

from __future__ import annotations

from urllib.parse import urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.iam.accounts import DEFAULT_ACCOUNT, Accounts, account_of_access_key
from firelet.iam.credentials import format_access_key
from firelet.iam.sigv4 import parse_signature

CREDENTIALS = botocore.credentials.Credentials("AKID", "secret", "the+token/=")


def signed(auth: botocore.auth.BaseSigner) -> tuple[dict[bytes, bytes], bytes]:
    request = botocore.awsrequest.AWSRequest("GET", "http://localhost/x?a=b", {})
    auth.add_auth(request)
    prepared = request.prepare()
    headers = {
        name.lower().encode(): value if isinstance(value, bytes) else value.encode()
        for name, value in prepared.headers.items()
    }
    return headers, urlsplit(prepared.url).query.encode()


def test_a_signed_header_says_key_region_service_and_token() -> None:
    signature = parse_signature(
        *signed(botocore.auth.SigV4Auth(CREDENTIALS, "lambda", "eu-west-1"))
    )
    assert signature is not None
    assert (signature.access_key, signature.region, signature.service) == (
        "AKID",
        "eu-west-1",
        "lambda",
    )
    assert signature.session_token == "the+token/="
    assert "host" in signature.signed_headers
    assert len(signature.signature) == 64
    assert not signature.is_presigned


def test_a_presigned_query_says_the_same() -> None:
    signature = parse_signature(
        *signed(botocore.auth.SigV4QueryAuth(CREDENTIALS, "s3", "us-east-1", expires=60))
    )
    assert signature is not None
    assert (signature.access_key, signature.region, signature.service) == (
        "AKID",
        "us-east-1",
        "s3",
    )
    assert signature.session_token == "the+token/="
    assert signature.is_presigned


@pytest.mark.parametrize(
    ("region_set", "region"), [(b"us-east-1", "us-east-1"), (b"*", None), (b"a,b", None)]
)
def test_the_asymmetric_variant_has_its_region_in_a_header(
    region_set: bytes, region: str | None
) -> None:
    headers = {
        b"authorization": b"AWS4-ECDSA-P256-SHA256 Credential=AKID/20261124/lambda/aws4_request,"
        b" SignedHeaders=host, Signature=00",
        b"x-amz-region-set": region_set,
    }
    signature = parse_signature(headers, b"")
    assert signature is not None
    assert (signature.region, signature.service) == (region, "lambda")


@pytest.mark.parametrize(
    "authorization",
    [
        b"",
        b"Bearer abc",
        b"AWS4-HMAC-SHA256",
        b"AWS4-HMAC-SHA256 Credential=AKID",
        b"AWS4-HMAC-SHA256 Credential=AKID/20261124/us-east-1/lambda/other, Signature=00",
        b"AWS4-HMAC-SHA256 Credential=/20261124/us-east-1/lambda/aws4_request",
    ],
)
def test_what_is_not_a_signature_is_none(authorization: bytes) -> None:
    assert parse_signature({b"authorization": authorization}, b"") is None


def test_an_unsigned_request_has_no_signature() -> None:
    assert parse_signature({}, b"a=b") is None


@given(authorization=st.binary(), query=st.binary())
def test_no_bytes_upset_the_parser(authorization: bytes, query: bytes) -> None:
    parse_signature({b"authorization": b"AWS4-HMAC-SHA256 " + authorization}, b"")
    parse_signature({}, b"X-Amz-Credential=" + query)


@pytest.mark.parametrize(
    ("access_key", "account"),
    [
        ("123456789012", "123456789012"),
        ("test", DEFAULT_ACCOUNT),
        ("AKIAIOSFODNN7EXAMPLE", DEFAULT_ACCOUNT),  # of before keys carried accounts
        ("ASIAQNZGKIQY56JQ7WML", "029608264753"),  # a published pair
        ("ASIA1", DEFAULT_ACCOUNT),
        ("ASIA" + "7" * 16, DEFAULT_ACCOUNT),  # more than twelve digits
        ("ASIAqnzgkiqy56jq7wml", DEFAULT_ACCOUNT),
    ],
)
def test_a_key_tells_its_account_when_it_carries_one(access_key: str, account: str) -> None:
    assert account_of_access_key(access_key) == account


@given(st.integers(0, 999_999_999_999))
def test_keys_issued_here_tell_their_account(number: int) -> None:
    account = f"{number:012d}"
    assert account_of_access_key(format_access_key(account)) == account


def test_the_issuer_of_a_key_is_asked_first() -> None:
    accounts = Accounts(default="222222222222", find_issued={"k": "333333333333"}.get)
    assert accounts.find("k") == "333333333333"
    assert accounts.find("other") == "222222222222"
    assert accounts.find("111111111111") == "111111111111"
    assert accounts.find(None) == "222222222222"
