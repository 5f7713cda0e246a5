"""Which route of an HTTP API a request takes. Pure: compiled once for each deployment.

The most specific path wins, segment by segment: literal, then variable, then greedy variable; of
routes with the same path that of the method before ANY; ``$default`` when nothing fits. Paths are
compared as they were sent, and the values of variables are decoded.
Source: docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from firelet.control.http_api_rules import find_function, find_target_id
from firelet.model.http_api import (
    AUTHORIZER,
    DEFAULT_ROUTE,
    INTEGRATION,
    ROUTE,
    ROUTE_RESPONSE,
    ApiPart,
)
from firelet.model.integration_uri import fill_stage_variables

ANY = "ANY"
_LITERAL, _VARIABLE, _GREEDY = range(3)
HTTP_TIMEOUT_S = 30.0  # quotas; the most that can be configured, and the default
WEBSOCKET_TIMEOUT_S = 29.0
_AUTHORIZER_TIMEOUT_S = 10.0  # quotas of HTTP APIs
_TIMEOUT_SCALE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """A function behind a route. ``uri`` may hold stage variables. ``has_role``: it is called with
    a role's rights, and not with those of the function's policy."""

    integration_id: str
    uri: str
    is_mock: bool
    payload_version: str
    timeout_s: float
    has_role: bool

    def function_arn(self, variables: Mapping[str, str]) -> str | None:
        """Whom it calls; None when the URI names no function."""
        return find_function(fill_stage_variables(self.uri, variables))


@dataclass(frozen=True, slots=True)
class JwtSettings:
    """Whose tokens are taken, and for whom they must be."""

    issuer: str
    audience: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorizer:
    """Who says whether somebody may call: a function, or tokens if there is ``jwt``. ``sources``
    are what identifies a caller: all must be there. ``is_simple``: the function's result is yes or
    no, else a policy."""

    authorizer_id: str
    function: Integration
    payload_version: str
    is_simple: bool
    sources: tuple[str, ...]
    ttl_s: float
    jwt: JwtSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route with what is behind it. ``method`` is ANY or a method, and empty for ``$default``
    and for routes of WebSocket APIs, whose results go back to the client if ``has_response``."""

    route_id: str
    key: str
    method: str
    path: str
    pattern: re.Pattern[str]
    names: tuple[str, ...]
    rank: tuple[int, ...]
    integration: Integration | None
    has_response: bool = False
    authorization: str = "NONE"
    authorizer: Authorizer | None = None
    scopes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Taken:
    """A route and the values of its variables."""

    route: Route
    path_parameters: Mapping[str, str]


class RouteTable:
    """The routes of one deployment. ``timeout_s`` is that of integrations which have none."""

    def __init__(
        self,
        parts: Mapping[str, Mapping[str, ApiPart]],
        timeout_s: float = HTTP_TIMEOUT_S,
    ) -> None:
        integrations = {
            part_id: _read_integration(part, timeout_s)
            for part_id, part in parts.get(INTEGRATION, {}).items()
        }
        authorizers = {
            part_id: _read_authorizer(part) for part_id, part in parts.get(AUTHORIZER, {}).items()
        }
        answered = {
            part.settings["RouteId"]
            for part in parts.get(ROUTE_RESPONSE, {}).values()
            if part.settings["RouteResponseKey"] == DEFAULT_ROUTE
        }
        routes = [
            _read_route(part, integrations, authorizers, has_response=part.part_id in answered)
            for part in parts.get(ROUTE, {}).values()
        ]
        self.by_key = {route.key: route for route in routes}
        self._default = self.by_key.get(DEFAULT_ROUTE)
        self._routes = sorted(
            (route for route in routes if route.key != DEFAULT_ROUTE),
            key=lambda route: (route.rank, route.method == ANY),
        )

    def take(self, method: str, path: str) -> Taken | None:
        """``path`` is raw and within the stage. None: not found."""
        for route in self._routes:
            if route.method in (method, ANY):
                found = route.pattern.fullmatch(path)
                if found is not None:
                    values = map(unquote, found.groups())
                    return Taken(route, dict(zip(route.names, values, strict=True)))
        return None if self._default is None else Taken(self._default, {})


def _read_integration(part: ApiPart, default_timeout_s: float) -> Integration:
    settings = part.settings
    timeout_ms = settings.get("TimeoutInMillis")
    return Integration(
        integration_id=part.part_id,
        uri=settings.get("IntegrationUri") or "",
        is_mock=settings["IntegrationType"] == "MOCK",
        payload_version=settings.get("PayloadFormatVersion", "1.0"),
        timeout_s=default_timeout_s if timeout_ms is None else timeout_ms / _TIMEOUT_SCALE,
        has_role=bool(settings.get("CredentialsArn")),
    )


def _read_authorizer(part: ApiPart) -> Authorizer:
    settings = part.settings
    jwt = settings.get("JwtConfiguration")
    return Authorizer(
        authorizer_id=part.part_id,
        function=Integration(
            integration_id=part.part_id,
            uri=settings.get("AuthorizerUri") or "",
            is_mock=False,
            payload_version=settings.get("AuthorizerPayloadFormatVersion") or "1.0",
            timeout_s=_AUTHORIZER_TIMEOUT_S,
            has_role=bool(settings.get("AuthorizerCredentialsArn")),
        ),
        payload_version=settings.get("AuthorizerPayloadFormatVersion") or "1.0",
        is_simple=bool(settings.get("EnableSimpleResponses")),
        sources=tuple(settings.get("IdentitySource") or ()),
        ttl_s=float(settings.get("AuthorizerResultTtlInSeconds") or 0),
        jwt=None if jwt is None else JwtSettings(jwt["Issuer"], frozenset(jwt["Audience"])),
    )


def _read_route(
    part: ApiPart,
    integrations: Mapping[str, Integration],
    authorizers: Mapping[str, Authorizer],
    *,
    has_response: bool,
) -> Route:
    key: str = part.settings["RouteKey"]
    method, _, path = key.rpartition(" ")
    segments = [_read_segment(segment) for segment in path.split("/")]
    return Route(
        route_id=part.part_id,
        key=key,
        method=method,
        path=path,
        pattern=re.compile("/".join(pattern for pattern, _, _ in segments)),
        names=tuple(name for _, name, _ in segments if name is not None),
        rank=tuple(rank for _, _, rank in segments),
        integration=integrations.get(find_target_id(part.settings)),
        has_response=has_response and bool(part.settings.get("RouteResponseSelectionExpression")),
        authorization=part.settings.get("AuthorizationType", "NONE"),
        authorizer=authorizers.get(part.settings.get("AuthorizerId", "")),
        scopes=frozenset(part.settings.get("AuthorizationScopes") or ()),
    )


def _read_segment(segment: str) -> tuple[str, str | None, int]:
    """Pattern, name of the variable, rank."""
    if segment.startswith("{") and segment.endswith("+}"):
        return "(.+)", segment[1:-2], _GREEDY
    if segment.startswith("{") and segment.endswith("}"):
        return "([^/]+)", segment[1:-1], _VARIABLE
    return re.escape(segment), None, _LITERAL
