"""Tokens that are good, and all the ways in which they are not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.iam.jwt import (
    InvalidToken,
    check_claims,
    check_signature,
    parse_key,
    parse_token,
    scopes_of,
)
from tokens import Signer, encode

SIGNER = Signer("one")
OTHER = Signer("one")
NOW = 1_000.0
CLAIMS: dict[str, Any] = {"iss": "https://i", "aud": "me", "exp": 1_001, "nbf": 999, "iat": 999}


def check(token: str, signer: Signer = SIGNER) -> None:
    parsed = parse_token(token)
    check_claims(parsed, "https://i", {"me", "you"}, NOW)
    check_signature(parsed, parse_key(signer.public()))


@pytest.mark.parametrize(
    "changed", [{}, {"aud": ["x", "you"]}, {"aud": None, "client_id": "me"}, {"nbf": None}]
)
def test_a_good_token(changed: dict[str, Any]) -> None:
    claims = {name: value for name, value in {**CLAIMS, **changed}.items() if value is not None}
    check(SIGNER.token(claims))


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://i/"},
        {"iss": None},
        {"aud": "x"},
        {"aud": None},
        {"aud": ["x"], "client_id": "me"},
        {"aud": [None, {"me": 1}]},
        {"exp": 1_000},
        {"exp": None},
        {"exp": "2000"},
        {"exp": True},
        {"nbf": 1_001},
        {"iat": 1_001},
    ],
)
def test_claims_that_do_not_hold(changed: dict[str, Any]) -> None:
    claims = {name: value for name, value in {**CLAIMS, **changed}.items() if value is not None}
    with pytest.raises(InvalidToken):
        check(SIGNER.token(claims))


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES256", "PS256", "rs256", "RS512", None])
def test_a_token_does_not_choose_how_it_is_checked(algorithm: str | None) -> None:
    with pytest.raises(InvalidToken):
        check(SIGNER.token(CLAIMS, alg=algorithm))


def test_the_signature_of_another_key_is_false() -> None:
    with pytest.raises(InvalidToken, match="false"):
        check(OTHER.token(CLAIMS))


def test_a_signature_with_the_public_key_as_a_secret_is_false() -> None:
    parts = [encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": "one"}, CLAIMS)]
    secret = json.dumps(SIGNER.public()).encode()
    signature = hmac.digest(secret, ".".join(parts).encode(), hashlib.sha256)
    with pytest.raises(InvalidToken):
        check(".".join((*parts, encode(signature))))


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_bit_of_a_token_can_be_changed(at: int, bit: int) -> None:
    token = bytearray(SIGNER.token(CLAIMS).encode())
    place = at % len(token)
    token[place] ^= 1 << bit
    changed = token.decode("latin-1")
    original = SIGNER.token(CLAIMS)
    # The last character of a part may have bits that mean nothing.
    if _same(changed, original):
        return
    with pytest.raises(InvalidToken):
        check(changed)


def _same(one: str, other: str) -> bool:
    def decoded(text: str) -> list[bytes]:
        return [base64.urlsafe_b64decode(part + "==") for part in text.split(".")]

    try:
        is_same = decoded(one) == decoded(other)
    except ValueError:
        return False
    return is_same and one.rpartition(".")[0] == other.rpartition(".")[0]


@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*"))
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(InvalidToken):
        check(text)


@pytest.mark.parametrize(
    "changed", [{"kty": "EC"}, {"n": "AQAB"}, {"n": None}, {"e": "!"}, {"e": ""}, {"n": "a="}]
)
def test_what_is_no_key(changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        parse_key({**SIGNER.public(), **changed})


def test_a_short_key_is_refused() -> None:
    with pytest.raises(InvalidToken, match="short"):
        parse_key(Signer("weak", 1_024).public())


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "a b"}, {"a", "b"}),
        ({"scp": ["a", "b", 1]}, {"a", "b"}),
        ({"scope": "a", "scp": "b"}, {"a"}),
        ({"scope": 7}, set()),
        ({}, set()),
    ],
)
def test_scopes(claims: dict[str, Any], scopes: set[str]) -> None:
    assert scopes_of(parse_token(SIGNER.token(claims))) == scopes
