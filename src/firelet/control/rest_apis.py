"""REST APIs: which there are, how they are changed, and their deployments.

What it is: the store of APIs with its read model. What it is not: the rules of their parts, which
are functions from one API to the next (``control.rest_api_tree``), or the serving of requests,
which asks ``find``. Called by ``frontend.apigateway*`` and ``gateway.rest_api``.
Source: API reference of API Gateway; sentences as recorded by users.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import replace

from firelet.control.api_errors import BadRequest, NotFound
from firelet.control.rest_api_records import (
    Definition,
    Deployment,
    RestApi,
    RestResource,
    Settings,
    Stage,
)
from firelet.store.documents import DocumentStore
from firelet.store.records import Records

_ALPHABET = string.ascii_lowercase + string.digits
_API_ID_LENGTH, _PART_ID_LENGTH = 10, 6
_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

# Every API begins with these two models. Source: GetModels on a new API.
_FIRST_MODELS = {
    "Empty": '{\n  "$schema": "http://json-schema.org/draft-04/schema#",\n'
    '  "title" : "Empty Schema",\n  "type" : "object"\n}',
    "Error": '{\n  "$schema" : "http://json-schema.org/draft-04/schema#",\n'
    '  "title" : "Error Schema",\n  "type" : "object",\n'
    '  "properties" : {\n    "message" : { "type" : "string" }\n  }\n}',
}

Change = Callable[[RestApi], RestApi]


class RestApis:
    """``load`` first. Every change is on disk when its call returns. ``clock``: epoch seconds."""

    def __init__(self, documents: DocumentStore, clock: Callable[[], float]) -> None:
        self._apis = Records(documents, "rest-api", RestApi)
        self._deployments = Records(documents, "rest-api-deployment", Deployment)
        self._clock = clock
        self._changing = asyncio.Lock()

    def load(self) -> None:
        """Blocking: at start-up only."""
        self._apis.load()
        self._deployments.load()

    @property
    def now(self) -> float:
        """Epoch seconds, of what is made now."""
        return self._clock()

    def find(self, api_id: str) -> RestApi | None:
        """Whose address it is; ids are unique on this platform."""
        return self._apis.get(api_id)

    def get(self, account: str, region: str, api_id: str) -> RestApi:
        """NotFound unless the caller has such an API."""
        api = self._apis.get(api_id)
        if api is None or (api.account, api.region) != (account, region):
            raise NotFound(f"Invalid API identifier specified {account}:{api_id}")
        return api

    def all(self, account: str, region: str) -> list[RestApi]:
        """Those of one world, the oldest first."""
        mine = [
            api for api in self._apis.values() if (api.account, api.region) == (account, region)
        ]
        return sorted(mine, key=lambda api: (api.created, api.id))

    async def create(
        self,
        account: str,
        region: str,
        settings: Settings,
        tags: Mapping[str, str],
        *,
        api_id: str | None = None,
        change: Change | None = None,
    ) -> RestApi:
        """A new API with a root resource, or what ``change`` makes of it. ``api_id`` is one that
        the caller wishes for; BadRequest when it is taken."""
        async with self._changing:
            if api_id is not None:
                self._check_id(api_id)
            api = RestApi(
                account=account,
                region=region,
                id=api_id or new_id(_API_ID_LENGTH),
                created=self._clock(),
                definition=make_definition(settings),
                tags=tags,
            )
            api = api if change is None else change(api)
            await self._apis.put(api.id, api)
            return api

    def _check_id(self, api_id: str) -> None:
        """Of a caller's own choice: it is a label of a host's name."""
        if _ID.fullmatch(api_id) is None:
            raise BadRequest("An API identifier has lower-case letters, digits and hyphens.")
        if self._apis.get(api_id) is not None:
            raise BadRequest(f"The API identifier {api_id} is taken.")

    async def change(self, account: str, region: str, api_id: str, change: Change) -> RestApi:
        """``change`` is pure: it gets the API as it is and returns it as it shall be, or raises."""
        async with self._changing:
            api = change(self.get(account, region, api_id))
            await self._apis.put(api.id, api)
            return api

    async def delete(self, account: str, region: str, api_id: str) -> None:
        """With its deployments: those that a crash leaves belong to no API and serve nobody."""
        async with self._changing:
            api = self.get(account, region, api_id)
            await self._apis.delete(api.id)
            for deployment in self.deployments(api):
                await self._deployments.delete(_deployment_key(api.id, deployment.id))

    def deployments(self, api: RestApi) -> list[Deployment]:
        """The oldest first."""
        mine = [item for item in self._deployments.values() if item.api_id == api.id]
        return sorted(mine, key=lambda item: (item.created, item.id))

    def find_deployment(self, api_id: str, deployment_id: str) -> Deployment | None:
        return self._deployments.get(_deployment_key(api_id, deployment_id))

    def deployment(self, api: RestApi, deployment_id: str) -> Deployment:
        """NotFound unless the API has it."""
        found = self.find_deployment(api.id, deployment_id)
        if found is None:
            raise NotFound("Invalid Deployment identifier specified")
        return found

    async def deploy(
        self,
        account: str,
        region: str,
        api_id: str,
        description: str | None,
        place: Callable[[RestApi, Deployment], RestApi] | None = None,
    ) -> Deployment:
        """Takes a copy of the definition. ``place`` puts it at a stage, with the same change."""
        async with self._changing:
            api = self.get(account, region, api_id)
            check_deployable(api.definition)
            deployment = Deployment(
                api_id=api_id,
                id=new_id(_PART_ID_LENGTH),
                created=self._clock(),
                description=description,
                definition=api.definition,
            )
            placed = None if place is None else place(api, deployment)
            # First what is to be served, then who serves it.
            await self._deployments.put(_deployment_key(api_id, deployment.id), deployment)
            if placed is not None:
                await self._apis.put(api_id, placed)
            return deployment

    async def describe_deployment(
        self, account: str, region: str, api_id: str, deployment_id: str, description: str | None
    ) -> Deployment:
        """The description is all that can be changed of a deployment."""
        async with self._changing:
            before = self.deployment(self.get(account, region, api_id), deployment_id)
            after = replace(before, description=description)
            await self._deployments.put(_deployment_key(api_id, deployment_id), after)
            return after

    async def delete_deployment(
        self, account: str, region: str, api_id: str, deployment_id: str
    ) -> None:
        """BadRequest while a stage serves it."""
        async with self._changing:
            api = self.get(account, region, api_id)
            self.deployment(api, deployment_id)
            if any(stage.deployment_id == deployment_id for stage in api.stages.values()):
                raise BadRequest(
                    "Active stages pointing to this deployment must be moved or deleted"
                )
            await self._deployments.delete(_deployment_key(api_id, deployment_id))


def new_id(length: int = _PART_ID_LENGTH) -> str:
    """Lower-case letters and digits, as the ids of APIs and their parts are."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def make_definition(settings: Settings) -> Definition:
    """A definition with nothing in it but the root and the models that every API has."""
    root = RestResource(id=new_id(_API_ID_LENGTH), path="/")
    models = {
        name: {
            "id": new_id(),
            "name": name,
            "contentType": "application/json",
            "description": f"This is a default {name.lower()} schema model",
            "schema": schema,
        }
        for name, schema in _FIRST_MODELS.items()
    }
    return Definition(settings=settings, resources={root.id: root}, models=models)


def check_deployable(definition: Definition) -> None:
    """BadRequest unless there is a method, and every method has an integration."""
    methods = [m for item in definition.resources.values() for m in item.methods.values()]
    if not methods:
        raise BadRequest("The REST API doesn't contain any methods")
    if any("methodIntegration" not in method for method in methods):
        raise BadRequest("No integration defined for method")


def find_stage(api: RestApi, name: str) -> Stage:
    """NotFound unless the API has it."""
    stage = api.stages.get(name)
    if stage is None:
        raise NotFound("Invalid Stage identifier specified")
    return stage


def _deployment_key(api_id: str, deployment_id: str) -> str:
    return f"{api_id}/{deployment_id}"
