"""JWT authorizers of HTTP APIs: a token in a request, and what it says.

Source: docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html. How
claims that are no text look in events is as users have seen it: lists are ``[a b]``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from firelet.gateway.api_routes import JwtSettings
from firelet.gateway.jwt_keys import JwtKeys
from firelet.iam.jwt import check_claims, check_signature, parse_token, scopes_of

_BEARER = "bearer "


class InsufficientScope(Exception):
    """The token is good and does not allow this."""


class JwtAuthorizer:
    """``clock`` gives epoch seconds."""

    def __init__(self, keys: JwtKeys, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._clock = clock

    async def check(
        self, text: str, settings: JwtSettings, scopes: frozenset[str]
    ) -> Mapping[str, Any]:
        """The member ``jwt`` of ``requestContext.authorizer``. InvalidToken; InsufficientScope
        when ``scopes`` are asked for and the token has none of them."""
        if text[: len(_BEARER)].lower() == _BEARER:
            text = text[len(_BEARER) :]
        token = parse_token(text.strip())
        # Before the key is looked up: only our issuer is ever asked.
        check_claims(token, settings.issuer, settings.audience, self._clock())
        check_signature(token, await self._keys.find(settings.issuer, token.key_id))
        if scopes and not scopes & scopes_of(token):
            raise InsufficientScope
        return {
            "claims": {name: _format(value) for name, value in token.claims.items()},
            "scopes": sorted(scopes) or None,
        }


def _format(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{' '.join(map(_format, value))}]"
    return str(value)
