"""HTTP and WebSocket APIs: the changes to them, their rules and their records.

What it is: what the operations of apigatewayv2 do. What it is not: serving (``gateway``). A change
is durable before it is acknowledged, and stages that deploy themselves serve it from then on.
Source: docs.aws.amazon.com/apigateway/latest/developerguide/http-api.html and
apigateway-websocket-api.html.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from firelet.control import http_api_rules as rules
from firelet.control.api_errors import BadRequest, Conflict
from firelet.control.http_api_import import Definition, define
from firelet.control.http_api_parts import (
    PART_ID_LENGTH,
    check_part,
    check_unused,
    deployed,
    find_deployment,
    find_part,
    find_stage,
    make_deployment,
    new_id,
    quickly_made,
    with_deployment,
    with_part,
    with_stage,
    with_tags,
    without,
)
from firelet.model.http_api import (
    AUTHORIZER,
    DEFAULT_ROUTE,
    HTTP,
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
from firelet.store.records import Records

_KIND = "apigatewayv2.api.v1"
_API_ID_LENGTH = 10
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
                api_id=new_id(_API_ID_LENGTH, self._by_id),
                protocol=protocol,
                settings=settings,
                created=now,
            )
            api = with_tags(api, tags)
            if function_uri is not None:
                api = quickly_made(api, function_uri, route_key or DEFAULT_ROUTE)
            return await self._put(api)

    async def import_(self, owner: Owner, definition: Definition) -> HttpApi:
        """An API as an OpenAPI definition has it, without a stage."""
        async with self._changing:
            api = HttpApi(
                account=owner.account,
                region=owner.region,
                api_id=new_id(_API_ID_LENGTH, self._by_id),
                protocol=HTTP,
                settings={},
                created=self._clock(),
            )
            return await self._put(with_tags(define(api, definition), definition.tags))

    async def reimport(self, owner: Owner, api_id: str, definition: Definition) -> HttpApi:
        """The same API with other routes and integrations; its stages stay, and its tags."""
        async with self._changing:
            api = self.get(owner, api_id)
            if api.protocol != HTTP:
                raise BadRequest("Only HTTP APIs can be imported")
            api = with_tags(define(api, definition), {**api.tags, **definition.tags})
            return await self._put(self._deploy(api))

    async def update(self, owner: Owner, api_id: str, changed: Settings) -> HttpApi:
        """Replaces the settings that are given."""
        async with self._changing:
            api = self.get(owner, api_id)
            return await self._put(replace(api, settings={**api.settings, **changed}))

    async def drop_setting(self, owner: Owner, api_id: str, name: str) -> None:
        """Takes one setting away."""
        async with self._changing:
            api = self.get(owner, api_id)
            await self._put(replace(api, settings=without(api.settings, name)))

    async def delete(self, owner: Owner, api_id: str) -> None:
        """With everything that belongs to it."""
        async with self._changing:
            api = self.get(owner, api_id)
            await self._records.delete(api.key)
            del self._by_id[api_id]

    def part(self, owner: Owner, api_id: str, kind: str, part_id: str) -> ApiPart:
        """One route, integration or route response."""
        return find_part(self.get(owner, api_id), kind, part_id)

    async def add_part(self, owner: Owner, api_id: str, kind: str, settings: Settings) -> ApiPart:
        """BadRequest, Conflict, NotYetImplemented (``http_api_rules``)."""
        async with self._changing:
            api = self.get(owner, api_id)
            parts = api.of_kind(kind)
            if len(parts) >= _LIMITS.get(kind, rules.ROUTES_MAX):
                raise BadRequest(f"The API has the maximum number of {kind.lower()}s")
            check_part(api, kind, settings, None)
            part = ApiPart(part_id=new_id(PART_ID_LENGTH, parts), settings=settings)
            await self._put(self._deploy(with_part(api, kind, part)))
            return part

    async def update_part(
        self, owner: Owner, api_id: str, kind: str, part_id: str, changed: Settings
    ) -> ApiPart:
        """Replaces the settings that are given."""
        async with self._changing:
            api = self.get(owner, api_id)
            before = find_part(api, kind, part_id)
            part = replace(before, settings={**before.settings, **changed})
            check_part(api, kind, part.settings, part_id)
            await self._put(self._deploy(with_part(api, kind, part)))
            return part

    async def delete_part(self, owner: Owner, api_id: str, kind: str, part_id: str) -> None:
        """Conflict for an integration that a route has; a route's responses go with it."""
        async with self._changing:
            api = self.get(owner, api_id)
            find_part(api, kind, part_id)
            if kind in (INTEGRATION, AUTHORIZER):
                check_unused(api, kind, part_id)
            parts = {**api.parts, kind: without(api.of_kind(kind), part_id)}
            if kind == ROUTE:
                parts[ROUTE_RESPONSE] = {
                    response_id: response
                    for response_id, response in api.of_kind(ROUTE_RESPONSE).items()
                    if response.settings["RouteId"] != part_id
                }
            await self._put(self._deploy(replace(api, parts=parts)))

    def stage(self, owner: Owner, api_id: str, name: str) -> Stage:
        """One stage."""
        return find_stage(self.get(owner, api_id), name)

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
                raise Conflict("Stage already exists")
            if len(api.stages) >= rules.STAGES_MAX:
                raise BadRequest("The API has the maximum number of stages")
            now = self._clock()
            stage = Stage(name=name, settings=settings, created=now, updated=now)
            api = with_stage(api, with_deployment(api, stage, deployment_id))
            api = with_tags(api, tags, name)
            return find_stage(await self._put(self._deploy(api)), name)

    async def update_stage(
        self, owner: Owner, api_id: str, name: str, changed: Settings, deployment_id: str | None
    ) -> Stage:
        """Replaces the settings that are given."""
        async with self._changing:
            api = self.get(owner, api_id)
            before = find_stage(api, name)
            settings = {**before.settings, **changed}
            stage = replace(before, settings=settings, updated=self._clock())
            api = with_stage(api, with_deployment(api, stage, deployment_id))
            return find_stage(await self._put(self._deploy(api)), name)

    async def drop_stage_setting(
        self, owner: Owner, api_id: str, name: str, setting: str, key: str | None = None
    ) -> None:
        """Takes one setting of a stage away, or one ``key`` of a setting that is a table."""
        async with self._changing:
            api = self.get(owner, api_id)
            stage = find_stage(api, name)
            settings = without(stage.settings, setting)
            if key is not None:
                settings[setting] = without(stage.settings.get(setting) or {}, key)
            await self._put(with_stage(api, replace(stage, settings=settings)))

    async def delete_stage(self, owner: Owner, api_id: str, name: str) -> None:
        """Nothing answers at it any more."""
        async with self._changing:
            api = self.get(owner, api_id)
            find_stage(api, name)
            await self._put(replace(api, stages=without(api.stages, name)))

    def deployment(self, owner: Owner, api_id: str, deployment_id: str) -> Deployment:
        """One deployment."""
        return find_deployment(self.get(owner, api_id), deployment_id)

    async def deploy(
        self, owner: Owner, api_id: str, stage_name: str | None, description: str | None
    ) -> Deployment:
        """Keeps what the API is now, and serves it at a stage if one is given."""
        async with self._changing:
            api = self.get(owner, api_id)
            if not api.of_kind(ROUTE):
                raise BadRequest("At least one route is required before deploying the Api.")
            made = make_deployment(api, self._clock(), description)
            api = replace(api, deployments={**api.deployments, made.deployment_id: made})
            if stage_name is not None:
                stage = replace(find_stage(api, stage_name), updated=self._clock())
                api = with_stage(api, with_deployment(api, stage, made.deployment_id))
            await self._put(api)
            return made

    async def describe_deployment(
        self, owner: Owner, api_id: str, deployment_id: str, description: str | None
    ) -> Deployment:
        """What can be changed of a deployment: its description."""
        async with self._changing:
            api = self.get(owner, api_id)
            made = find_deployment(api, deployment_id)
            if description is not None:
                made = replace(made, description=description)
            deployments = {**api.deployments, deployment_id: made}
            await self._put(replace(api, deployments=deployments))
            return made

    async def delete_deployment(self, owner: Owner, api_id: str, deployment_id: str) -> None:
        """Conflict while a stage serves it."""
        async with self._changing:
            api = self.get(owner, api_id)
            find_deployment(api, deployment_id)
            if any(stage.deployment_id == deployment_id for stage in api.stages.values()):
                raise Conflict("Active stages pointing to this deployment must be removed.")
            left = without(api.deployments, deployment_id)
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
            before = api.tags if stage_name is None else find_stage(api, stage_name).tags
            kept = {name: value for name, value in before.items() if name not in removed}
            await self._put(with_tags(api, {**kept, **added}, stage_name))

    def _deploy(self, api: HttpApi) -> HttpApi:
        return deployed(api, self._clock())

    async def _put(self, api: HttpApi) -> HttpApi:
        await self._records.put(api.key, api)
        self._by_id[api.api_id] = api
        return api
