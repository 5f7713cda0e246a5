"""REST APIs as they are kept: the API with its resources and stages, and its deployments.

Values only. What a caller sets of an API, method, integration or stage is a mapping whose members
are those of the service model's shape of that name: the model has checked them, the answers repeat
them, and patches name them by their paths. What serves requests compiles them once
(``gateway.rest_api_routes``). Times are epoch seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestResource:
    """One node of the tree of paths. The root has neither parent nor part, and the path ``/``.

    ``methods`` are shapes ``Method`` by their HTTP method, ``ANY`` among them.
    """

    id: str
    parent_id: str | None = None
    path_part: str | None = None
    path: str
    methods: Mapping[str, Settings] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a deployment takes a copy of: all that says how requests are answered.

    ``settings`` has what a caller set of the shape ``RestApi``; the others are by id or name.
    """

    settings: Settings
    resources: Mapping[str, RestResource]
    authorizers: Mapping[str, Settings] = field(default_factory=dict)
    models: Mapping[str, Settings] = field(default_factory=dict)
    validators: Mapping[str, Settings] = field(default_factory=dict)
    gateway_responses: Mapping[str, Settings] = field(default_factory=dict)

    @property
    def root(self) -> RestResource:
        return next(item for item in self.resources.values() if item.parent_id is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A copy of an API's definition, which stages serve."""

    api_id: str
    id: str
    created: float
    description: str | None = None
    definition: Definition


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A name under which a deployment is served. ``settings`` is of the shape ``Stage``."""

    name: str
    deployment_id: str
    created: float
    updated: float
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestApi:
    """One API. ``definition`` is what the next deployment will be."""

    account: str
    region: str
    id: str
    created: float
    definition: Definition
    stages: Mapping[str, Stage] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        name: str = self.definition.settings["name"]
        return name

    @property
    def arn(self) -> str:
        """As tags name it."""
        return f"arn:aws:apigateway:{self.region}::/restapis/{self.id}"
