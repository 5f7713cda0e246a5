"""The public keys of token issuers: found by OpenID Connect discovery, remembered for a while.

Keys are kept for two hours, as API Gateway keeps them. A token with a key that is not among them
makes us look again, but seldom: anybody can name a key.
Source: docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html,
openid.net/specs/openid-connect-discovery-1_0.html. AWS takes https only; http is for issuers of
the same machine, as in development.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import orjson
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from firelet.iam.jwt import InvalidToken, parse_key

Fetch = Callable[[str], bytes]

KEPT_S = 7_200.0
LOOK_AGAIN_S = 10.0  # firelet
ISSUERS_MAX = 256  # firelet: more of them at once are looked up again
_TIMEOUT_S = 1.5  # AWS: 1,500 ms
_DOCUMENT_MAX_BYTES = 1_048_576
_DISCOVERY = "/.well-known/openid-configuration"


@dataclass(slots=True)
class _Issuer:
    looked_at: float = float("-inf")
    keys: Mapping[str | None, RSAPublicKey] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class JwtKeys:
    """``fetch`` blocks and returns a document's bytes, or raises OSError. ``clock`` is
    monotonic."""

    def __init__(
        self, fetch: Fetch | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch or fetch_document
        self._clock = clock
        self._issuers: dict[str, _Issuer] = {}

    async def find(self, issuer: str, key_id: str | None) -> RSAPublicKey:
        """InvalidToken when the issuer has no such key, or cannot be asked."""
        known = self._issuers.get(issuer)
        if known is None:
            if len(self._issuers) >= ISSUERS_MAX:
                self._issuers.clear()
            known = self._issuers[issuer] = _Issuer()
        async with known.lock:
            age_s = self._clock() - known.looked_at
            if age_s > KEPT_S or (key_id not in known.keys and age_s > LOOK_AGAIN_S):
                # A failure counts too: nobody may make us ask for each of their requests.
                known.looked_at = self._clock()
                known.keys = await asyncio.to_thread(self._look_up, issuer)
        key = known.keys.get(key_id)
        if key is None:
            raise InvalidToken("the issuer has no such key")
        return key

    def _look_up(self, issuer: str) -> dict[str | None, RSAPublicKey]:
        try:
            found = orjson.loads(self._fetch(issuer.rstrip("/") + _DISCOVERY))
            listed = orjson.loads(self._fetch(found["jwks_uri"]))["keys"]
            return dict(_read(key) for key in listed if _is_for_signatures(key))
        except (AttributeError, KeyError, OSError, TypeError, ValueError, HTTPException) as error:
            raise InvalidToken(f"the keys of {issuer} cannot be had: {error!r}") from None


def fetch_document(url: str) -> bytes:
    """Blocking. OSError, also for an address that nobody should be asked at."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise OSError(f"{url} is no address of the web")
    request = Request(url, headers={"Accept": "application/json"})  # noqa: S310 (checked above)
    with urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
        document: bytes = response.read(_DOCUMENT_MAX_BYTES + 1)
    if len(document) > _DOCUMENT_MAX_BYTES:
        raise OSError(f"what {url} answers is too long")
    return document


def _is_for_signatures(key: Mapping[str, Any]) -> bool:
    return key.get("kty") == "RSA" and key.get("use", "sig") == "sig"


def _read(key: Mapping[str, Any]) -> tuple[str | None, RSAPublicKey]:
    return key.get("kid"), parse_key(key)
