"""HTTP and WebSocket APIs: the changes to them, their rules and their records.

What it is: what the operations of apigatewayv2 do. What it is not: serving (``gateway``). A change
is durable before it is acknowledged, and stages that deploy themselves serve it from then on.
Source: docs.aws.amazon.com/apigateway/latest/developerguide/http-api.html and
apigateway-websocket-api.html.
"""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from firelet.control import http_api_rules as rules
from firelet.iam.records import Records
from firelet.model import limits
from firelet.model.http_api import (
    DEFAULT_ROUTE,
    DEFAULT_STAGE,
    INTEGRATION,
    ROUTE,
    ROUTE_RESPONSE,
    ApiPart,
    Deployment,
    HttpApi,
    Settings,
    Stage,
)
from firelet.store.documents import DocumentStore

_KIND = "apigatewayv2.api.v1"
_ALPHABET = string.ascii_lowercase + string.digits
_API_ID_LENGTH = 10
_PART_ID_LENGTH = 7
_LIMITS = {ROUTE: rules.ROUTES_MAX, INTEGRATION: rules.INTEGRATIONS_MAX}


@dataclass(frozen=True, slots=True)
class Owner:
    """The world that APIs belong to."""

    account: str
    region: str


class HttpApis:
    """``load`` before anything else. ``clock`` gives epoch seconds."""

    def __init__(self, documents: DocumentStore, clock: Callable[[], float]) -> None:
        self._records = Records(documents, _KIND, HttpApi)
        self._clock = clock
        self._changing = asyncio.Lock()
        self._by_id: dict[str, HttpApi] = {}

    def load(self) -> None:
        """Blocking: at start-up only."""
        self._records.load()
        self._by_id = {api.api_id: api for api in self._records.values()}

    def find(self, api_id: str) -> HttpApi | None:
        """The API that answers at an address; ids are unique on the platform."""
        return self._by_id.get(api_id)

    def get(self, owner: Owner, api_id: str) -> HttpApi:
        """NotFound for those of others, too."""
        api = self._by_id.get(api_id)
        if api is None or (api.account, api.region) != (owner.account, owner.region):
            raise rules.no_api(owner.account, api_id)
        return api

    def all(self, owner: Owner) -> list[HttpApi]:
        """Those of one world, by id."""
        mine = [
            api
            for api in self._by_id.values()
            if (api.account, api.region) == (owner.account, owner.region)
        ]
        return sorted(mine, key=lambda api: api.api_id)

    async def create(
        self,
        owner: Owner,
        protocol: str,
        settings: Settings,
        tags: Mapping[str, str],
        function_uri: str | None = None,
        route_key: str | None = None,
    ) -> HttpApi:
        """``function_uri`` makes a whole API at once (quick create): a route to that function in a
        stage that deploys itself."""
        async with self._changing:
            now = self._clock()
            api = HttpApi(
                account=owner.account,
                region=owner.region,
                api_id=_new_id(_API_ID_LENGTH, self._by_id),
                protocol=protocol,
                settings=settings,
                created=now,
            )
            api = _with_tags(api, tags)
            if function_uri is not None:
                api = self._quickly(api, function_uri, route_key or DEFAULT_ROUTE)
            return await self._put(api)

    async def update(self, owner: Owner, api_id: str, changed: Settings) -> HttpApi:
        """Replaces the settings that are given."""
        async with self._changing:
            api = self.get(owner, api_id)
            return await self._put(replace(api, settings={**api.settings, **changed}))

    async def drop_setting(self, owner: Owner, api_id: str, name: str) -> None:
        """Takes one setting away."""
        async with self._changing:
            api = self.get(owner, api_id)
            await self._put(replace(api, settings=_without(api.settings, name)))

    async def delete(self, owner: Owner, api_id: str) -> None:
        """With everything that belongs to it."""
        async with self._changing:
            api = self.get(owner, api_id)
            await self._records.delete(api.key)
            del self._by_id[api_id]

    def part(self, owner: Owner, api_id: str, kind: str, part_id: str) -> ApiPart:
        """One route, integration or route response."""
        return _part(self.get(owner, api_id), kind, part_id)

    async def add_part(self, owner: Owner, api_id: str, kind: str, settings: Settings) -> ApiPart:
        """BadRequest, Conflict, NotYetImplemented (``http_api_rules``)."""
        async with self._changing:
            api = self.get(owner, api_id)
            parts = api.of_kind(kind)
            if len(parts) >= _LIMITS.get(kind, rules.ROUTES_MAX):
                raise rules.BadRequest(f"The API has the maximum number of {kind.lower()}s")
            _check_part(api, kind, settings, None)
            part = ApiPart(part_id=_new_id(_PART_ID_LENGTH, parts), settings=settings)
            await self._put(self._deployed(_with_part(api, kind, part)))
            return part

    async def update_part(
        self, owner: Owner, api_id: str, kind: str, part_id: str, changed: Settings
    ) -> ApiPart:
        """Replaces the settings that are given."""
        async with self._changing:
            api = self.get(owner, api_id)
            before = _part(api, kind, part_id)
            part = replace(before, settings={**before.settings, **changed})
            _check_part(api, kind, part.settings, part_id)
            await self._put(self._deployed(_with_part(api, kind, part)))
            return part

    async def delete_part(self, owner: Owner, api_id: str, kind: str, part_id: str) -> None:
        """Conflict for an integration that a route has; a route's responses go with it."""
        async with self._changing:
            api = self.get(owner, api_id)
            _part(api, kind, part_id)
            if kind == INTEGRATION:
                _check_unused(api, part_id)
            parts = {**api.parts, kind: _without(api.of_kind(kind), part_id)}
            if kind == ROUTE:
                parts[ROUTE_RESPONSE] = {
                    response_id: response
                    for response_id, response in api.of_kind(ROUTE_RESPONSE).items()
                    if response.settings["RouteId"] != part_id
                }
            await self._put(self._deployed(replace(api, parts=parts)))

    def stage(self, owner: Owner, api_id: str, name: str) -> Stage:
        """One stage."""
        return _stage(self.get(owner, api_id), name)

    async def add_stage(
        self,
        owner: Owner,
        api_id: str,
        name: str,
        settings: Settings,
        deployment_id: str | None,
        tags: Mapping[str, str],
    ) -> Stage:
        """BadRequest, Conflict."""
        rules.check_stage_name(name)
        async with self._changing:
            api = self.get(owner, api_id)
            if name in api.stages:
                raise rules.Conflict("Stage already exists")
            if len(api.stages) >= rules.STAGES_MAX:
                raise rules.BadRequest("The API has the maximum number of stages")
            now = self._clock()
            stage = Stage(name=name, settings=settings, created=now, updated=now)
            api = _with_stage(api, _with_deployment(api, stage, deployment_id))
            api = _with_tags(api, tags, name)
            return _stage(await self._put(self._deployed(api)), name)

    async def update_stage(
        self, owner: Owner, api_id: str, name: str, changed: Settings, deployment_id: str | None
    ) -> Stage:
        """Replaces the settings that are given."""
        async with self._changing:
            api = self.get(owner, api_id)
            before = _stage(api, name)
            settings = {**before.settings, **changed}
            stage = replace(before, settings=settings, updated=self._clock())
            api = _with_stage(api, _with_deployment(api, stage, deployment_id))
            return _stage(await self._put(self._deployed(api)), name)

    async def delete_stage(self, owner: Owner, api_id: str, name: str) -> None:
        """Nothing answers at it any more."""
        async with self._changing:
            api = self.get(owner, api_id)
            _stage(api, name)
            await self._put(replace(api, stages=_without(api.stages, name)))

    def deployment(self, owner: Owner, api_id: str, deployment_id: str) -> Deployment:
        """One deployment."""
        return _deployment(self.get(owner, api_id), deployment_id)

    async def deploy(
        self, owner: Owner, api_id: str, stage_name: str | None, description: str | None
    ) -> Deployment:
        """Keeps what the API is now, and serves it at a stage if one is given."""
        async with self._changing:
            api = self.get(owner, api_id)
            if not api.of_kind(ROUTE):
                raise rules.BadRequest("At least one route is required before deploying the Api.")
            made = self._make_deployment(api, description)
            api = replace(api, deployments={**api.deployments, made.deployment_id: made})
            if stage_name is not None:
                stage = replace(_stage(api, stage_name), updated=self._clock())
                api = _with_stage(api, _with_deployment(api, stage, made.deployment_id))
            await self._put(api)
            return made

    async def describe_deployment(
        self, owner: Owner, api_id: str, deployment_id: str, description: str | None
    ) -> Deployment:
        """What can be changed of a deployment: its description."""
        async with self._changing:
            api = self.get(owner, api_id)
            made = _deployment(api, deployment_id)
            if description is not None:
                made = replace(made, description=description)
            deployments = {**api.deployments, deployment_id: made}
            await self._put(replace(api, deployments=deployments))
            return made

    async def delete_deployment(self, owner: Owner, api_id: str, deployment_id: str) -> None:
        """Conflict while a stage serves it."""
        async with self._changing:
            api = self.get(owner, api_id)
            _deployment(api, deployment_id)
            if any(stage.deployment_id == deployment_id for stage in api.stages.values()):
                raise rules.Conflict("Active stages pointing to this deployment must be removed.")
            left = _without(api.deployments, deployment_id)
            await self._put(replace(api, deployments=left))

    async def change_tags(
        self,
        owner: Owner,
        api_id: str,
        stage_name: str | None,
        added: Mapping[str, str],
        removed: frozenset[str],
    ) -> None:
        """Of the API, or of one of its stages."""
        async with self._changing:
            api = self.get(owner, api_id)
            before = api.tags if stage_name is None else _stage(api, stage_name).tags
            kept = {name: value for name, value in before.items() if name not in removed}
            await self._put(_with_tags(api, {**kept, **added}, stage_name))

    def _quickly(self, api: HttpApi, uri: str, route_key: str) -> HttpApi:
        integration = ApiPart(
            part_id=_new_id(_PART_ID_LENGTH, {}),
            is_managed=True,
            settings={
                "IntegrationType": "AWS_PROXY",
                "IntegrationUri": uri,
                "IntegrationMethod": "POST",
                "PayloadFormatVersion": "2.0",
            },
        )
        rules.check_integration(api, integration.settings)
        api = _with_part(api, INTEGRATION, integration)
        target = f"integrations/{integration.part_id}"
        route = ApiPart(
            part_id=_new_id(_PART_ID_LENGTH, {}),
            is_managed=True,
            settings={"RouteKey": route_key, "Target": target},
        )
        rules.check_route(api, route.settings, None)
        stage = Stage(
            name=DEFAULT_STAGE,
            settings={"AutoDeploy": True},
            created=api.created,
            updated=api.created,
            is_managed=True,
        )
        return self._deployed(_with_stage(_with_part(api, ROUTE, route), stage))

    def _deployed(self, api: HttpApi) -> HttpApi:
        """The same API, whose stages that deploy themselves serve what it is now. Deployments
        made so and served by no stage any more are forgotten."""
        mine = [stage for stage in api.stages.values() if stage.deploys_itself]
        if not mine or not api.of_kind(ROUTE):
            return api
        made = self._make_deployment(api, None, is_auto=True)
        for stage in mine:
            api = _with_stage(api, replace(stage, deployment_id=made.deployment_id))
        served = {stage.deployment_id for stage in api.stages.values()}
        kept = {
            name: one for name, one in api.deployments.items() if not one.is_auto or name in served
        }
        return replace(api, deployments={**kept, made.deployment_id: made})

    def _make_deployment(
        self, api: HttpApi, description: str | None, *, is_auto: bool = False
    ) -> Deployment:
        return Deployment(
            deployment_id=_new_id(_PART_ID_LENGTH, api.deployments),
            created=self._clock(),
            parts=api.parts,
            description=description,
            is_auto=is_auto,
        )

    async def _put(self, api: HttpApi) -> HttpApi:
        await self._records.put(api.key, api)
        self._by_id[api.api_id] = api
        return api


def _check_part(api: HttpApi, kind: str, settings: Settings, part_id: str | None) -> None:
    if kind == ROUTE:
        rules.check_route(api, settings, part_id)
    elif kind == INTEGRATION:
        rules.check_integration(api, settings)
    else:
        _part(api, ROUTE, settings["RouteId"])


def _check_unused(api: HttpApi, integration_id: str) -> None:
    for route in api.of_kind(ROUTE).values():
        if rules.find_target_id(route.settings) == integration_id:
            raise rules.Conflict(
                f"Cannot delete Integration '{integration_id}' because it is referenced by Route"
                f" '{route.part_id}'."
            )


def _part(api: HttpApi, kind: str, part_id: str) -> ApiPart:
    part = api.of_kind(kind).get(part_id)
    if part is None:
        raise rules.no_part(kind)
    return part


def _stage(api: HttpApi, name: str) -> Stage:
    stage = api.stages.get(name)
    if stage is None:
        raise rules.NotFound("Invalid stage identifier specified")
    return stage


def _deployment(api: HttpApi, deployment_id: str) -> Deployment:
    made = api.deployments.get(deployment_id)
    if made is None:
        raise rules.no_part("Deployment")
    return made


def _with_part(api: HttpApi, kind: str, part: ApiPart) -> HttpApi:
    return replace(api, parts={**api.parts, kind: {**api.of_kind(kind), part.part_id: part}})


def _with_stage(api: HttpApi, stage: Stage) -> HttpApi:
    return replace(api, stages={**api.stages, stage.name: stage})


def _with_deployment(api: HttpApi, stage: Stage, deployment_id: str | None) -> Stage:
    if deployment_id is None:
        return stage
    if stage.deploys_itself and deployment_id != stage.deployment_id:
        raise rules.BadRequest(
            "Deployment ID cannot be set on a stage that has AutoDeploy enabled."
        )
    _deployment(api, deployment_id)
    return replace(stage, deployment_id=deployment_id)


def _with_tags(api: HttpApi, tags: Mapping[str, str], stage_name: str | None = None) -> HttpApi:
    if len(tags) > limits.TAGS_MAX:
        raise rules.BadRequest("Number of tags exceeds resource tag limit.")
    if any(name.lower().startswith("aws:") for name in tags):
        raise rules.BadRequest("Tag keys may not begin with aws:")
    if stage_name is None:
        return replace(api, tags=dict(tags))
    return _with_stage(api, replace(_stage(api, stage_name), tags=dict(tags)))


def _without(kept: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in kept.items() if key != name}


def _new_id(length: int, taken: Mapping[str, Any]) -> str:
    while True:
        made = "".join(secrets.choice(_ALPHABET) for _ in range(length))
        if made not in taken:
            return made
