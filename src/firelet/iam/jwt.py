"""JSON Web Tokens: is this one genuine, for us, and valid now? Pure.

What it is: RSA signatures and registered claims, as the JWT authorizers of HTTP APIs check them.
What it is not: where the keys come from (``gateway.jwt_keys``). Called by
``gateway.jwt_authorizer``.
Source: RFC 7515, 7517, 7519; the page on JWT authorizers at
docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

# API Gateway takes RSA only; what a token says of its algorithm never chooses more than the digest.
_DIGESTS: Mapping[str, hashes.HashAlgorithm] = {
    "RS256": hashes.SHA256(),
    "RS384": hashes.SHA384(),
    "RS512": hashes.SHA512(),
}
_KEY_MIN_BITS = 2_048
_TOKEN_MAX_BYTES = 16_384  # firelet: more than any header that carries one should have


class InvalidToken(Exception):
    """The sentence is for the log."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it states itself: nothing of it is checked yet."""

    key_id: str | None
    algorithm: str
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes


def parse_token(text: str) -> Token:
    """The compact form. InvalidToken."""
    parts = text.split(".")
    if len(parts) != 3 or len(text) > _TOKEN_MAX_BYTES:
        raise InvalidToken("it is no token in three parts")
    try:
        header, claims = (orjson.loads(_decode(part)) for part in parts[:2])
        signature = _decode(parts[2])
        signed = f"{parts[0]}.{parts[1]}".encode("ascii")
    except (binascii.Error, ValueError):
        raise InvalidToken("its parts are no base64 or no JSON") from None
    if not isinstance(header, dict) or not isinstance(claims, dict) or "crit" in header:
        raise InvalidToken("its header or its claims are none")
    key_id, algorithm = header.get("kid"), header.get("alg")
    if not isinstance(algorithm, str) or not isinstance(key_id, str | None):
        raise InvalidToken("its header is none")
    return Token(key_id, algorithm, claims, signed, signature)


def parse_key(key: Mapping[str, Any]) -> RSAPublicKey:
    """A JSON Web Key. InvalidToken for one that is no RSA key, or a weak one."""
    try:
        if key["kty"] != "RSA":
            raise InvalidToken("the key is no RSA key")
        exponent, modulus = (int.from_bytes(_decode(key[name]), "big") for name in ("e", "n"))
        if modulus.bit_length() < _KEY_MIN_BITS:
            raise InvalidToken("the key is too short")
        return RSAPublicNumbers(exponent, modulus).public_key()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidToken(f"the key is none: {error!r}") from None


def check_signature(token: Token, key: RSAPublicKey) -> None:
    """InvalidToken unless the holder of the private key has signed it."""
    digest = _DIGESTS.get(token.algorithm)
    if digest is None:
        raise InvalidToken(f"its algorithm is {token.algorithm}")
    try:
        key.verify(token.signature, token.signed, PKCS1v15(), digest)
    except InvalidSignature:
        raise InvalidToken("its signature is false") from None


def check_claims(token: Token, issuer: str, audience: Collection[str], now: float) -> None:
    """InvalidToken unless it is from that issuer, for one of that audience, and valid at ``now``.
    ``client_id`` stands in for ``aud`` where that is absent."""
    claims = token.claims
    if claims.get("iss") != issuer:
        raise InvalidToken("it is of another issuer")
    stated = claims.get("aud", claims.get("client_id"))
    named = stated if isinstance(stated, list) else [stated]
    if not any(isinstance(one, str) and one in audience for one in named):
        raise InvalidToken("it is for another audience")
    expires = _moment(claims, "exp")
    if expires is None or expires <= now:
        raise InvalidToken("it has expired")
    for name in ("nbf", "iat"):
        moment = _moment(claims, name)
        if moment is not None and moment > now:
            raise InvalidToken(f"{name} is in the future")


def scopes_of(token: Token) -> frozenset[str]:
    """What it allows, from ``scope`` or ``scp``."""
    stated = token.claims.get("scope", token.claims.get("scp"))
    if isinstance(stated, str):
        return frozenset(stated.split())
    if isinstance(stated, list):
        return frozenset(one for one in stated if isinstance(one, str))
    return frozenset()


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidToken(f"{name} is no time")
    return float(value)


def _decode(text: str) -> bytes:
    if "=" in text:
        raise ValueError("padding has no place here (RFC 7515, section 2)")
    data = text.encode("ascii")
    return base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)
