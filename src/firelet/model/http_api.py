"""HTTP and WebSocket APIs as values: routes, integrations, stages, deployments.

``control.http_apis`` owns the changes; ``gateway.http_api`` and ``gateway.websocket`` serve them.
``settings`` have the members of AWS's shapes, as callers gave them: most are only shown again. What
is served is read out of them in one place, ``gateway.api_routes``.
Source: docs.aws.amazon.com/apigatewayv2/latest/api-reference/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

HTTP = "HTTP"
WEBSOCKET = "WEBSOCKET"
DEFAULT_STAGE = "$default"
DEFAULT_ROUTE = "$default"

# Kinds of parts, by AWS's names.
ROUTE = "Route"
INTEGRATION = "Integration"
ROUTE_RESPONSE = "RouteResponse"
AUTHORIZER = "Authorizer"

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiPart:
    """A route, an integration, a route response or an authorizer. ``is_managed``: made by quick
    create."""

    part_id: str
    settings: Settings
    is_managed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What a stage serves: the routes and integrations at one moment. Times are epoch seconds."""

    deployment_id: str
    created: float
    parts: Mapping[str, Mapping[str, ApiPart]]
    description: str | None = None
    is_auto: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A name under which a deployment is served."""

    name: str
    settings: Settings
    created: float
    updated: float
    deployment_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    is_managed: bool = False

    @property
    def deploys_itself(self) -> bool:
        """Whether each change of the API is served at once (AutoDeploy)."""
        return bool(self.settings.get("AutoDeploy"))


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpApi:
    """One API and everything that belongs to it; one document of the store."""

    account: str
    region: str
    api_id: str
    protocol: str
    settings: Settings
    created: float
    parts: Mapping[str, Mapping[str, ApiPart]] = field(default_factory=dict)
    stages: Mapping[str, Stage] = field(default_factory=dict)
    deployments: Mapping[str, Deployment] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Key of its document."""
        return f"{self.account}/{self.region}/{self.api_id}"

    def of_kind(self, kind: str) -> Mapping[str, ApiPart]:
        """The parts of one kind by their ids."""
        return self.parts.get(kind, {})


def execution_arn(api: HttpApi, stage: str, rest: str) -> str:
    """The ARN by which function policies know a request: ``…/stage/METHOD/path`` and the like."""
    return f"arn:aws:execute-api:{api.region}:{api.account}:{api.api_id}/{stage}/{rest}"
