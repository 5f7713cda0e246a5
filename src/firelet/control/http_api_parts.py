"""Pure steps of the changes of HTTP and WebSocket APIs: from one value of an API to the next.

Called by ``http_apis``, which keeps them, and by ``http_api_import``.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from firelet.control import http_api_rules as rules
from firelet.control.api_errors import BadRequest, Conflict, NotFound
from firelet.model import limits
from firelet.model.http_api import (
    AUTHORIZER,
    DEFAULT_STAGE,
    INTEGRATION,
    ROUTE,
    ApiPart,
    Deployment,
    HttpApi,
    Settings,
    Stage,
)

_ALPHABET = string.ascii_lowercase + string.digits
PART_ID_LENGTH = 7


def quickly_made(api: HttpApi, uri: str, route_key: str) -> HttpApi:
    """An API with a route to a function, in a stage that deploys itself, made just now."""
    integration = ApiPart(
        part_id=new_id(PART_ID_LENGTH, {}),
        is_managed=True,
        settings={
            "IntegrationType": "AWS_PROXY",
            "IntegrationUri": uri,
            "IntegrationMethod": "POST",
            "PayloadFormatVersion": "2.0",
        },
    )
    rules.check_integration(api, integration.settings)
    api = with_part(api, INTEGRATION, integration)
    target = f"integrations/{integration.part_id}"
    route = ApiPart(
        part_id=new_id(PART_ID_LENGTH, {}),
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
    return deployed(with_stage(with_part(api, ROUTE, route), stage), api.created)


def deployed(api: HttpApi, now: float) -> HttpApi:
    """The same API, whose stages that deploy themselves serve what it is now. Deployments
    made so and served by no stage any more are forgotten."""
    mine = [stage for stage in api.stages.values() if stage.deploys_itself]
    if not mine:
        return api
    made = make_deployment(api, now, None, is_auto=True) if api.of_kind(ROUTE) else None
    for stage in mine:
        served_id = None if made is None else made.deployment_id
        api = with_stage(api, replace(stage, deployment_id=served_id))
    served = {stage.deployment_id for stage in api.stages.values()}
    kept = {name: one for name, one in api.deployments.items() if not one.is_auto or name in served}
    if made is not None:
        kept[made.deployment_id] = made
    return replace(api, deployments=kept)


def make_deployment(
    api: HttpApi, now: float, description: str | None, *, is_auto: bool = False
) -> Deployment:
    """What the API is now."""
    return Deployment(
        deployment_id=new_id(PART_ID_LENGTH, api.deployments),
        created=now,
        parts=api.parts,
        description=description,
        is_auto=is_auto,
    )


def check_part(api: HttpApi, kind: str, settings: Settings, part_id: str | None) -> None:
    """BadRequest, Conflict or NotYetImplemented unless the API may have such a part; ``part_id``
    is that of the one which it takes the place of."""
    if kind == ROUTE:
        rules.check_route(api, settings, part_id)
    elif kind == INTEGRATION:
        rules.check_integration(api, settings)
    elif kind == AUTHORIZER:
        rules.check_authorizer(api, settings)
    else:
        find_part(api, ROUTE, settings["RouteId"])


def check_unused(api: HttpApi, kind: str, part_id: str) -> None:
    """Conflict when a route needs the integration or authorizer."""
    for route in api.of_kind(ROUTE).values():
        settings = route.settings
        if part_id in (rules.find_target_id(settings), settings.get("AuthorizerId")):
            raise Conflict(
                f"Cannot delete {kind} '{part_id}' because it is referenced by Route"
                f" '{route.part_id}'."
            )


def find_part(api: HttpApi, kind: str, part_id: str) -> ApiPart:
    """NotFound."""
    part = api.of_kind(kind).get(part_id)
    if part is None:
        raise rules.no_part(kind)
    return part


def find_stage(api: HttpApi, name: str) -> Stage:
    """NotFound."""
    stage = api.stages.get(name)
    if stage is None:
        raise NotFound("Invalid stage identifier specified")
    return stage


def find_deployment(api: HttpApi, deployment_id: str) -> Deployment:
    """NotFound."""
    made = api.deployments.get(deployment_id)
    if made is None:
        raise rules.no_part("Deployment")
    return made


def with_part(api: HttpApi, kind: str, part: ApiPart) -> HttpApi:
    """The same API with one part more, or with another in the place of one."""
    return replace(api, parts={**api.parts, kind: {**api.of_kind(kind), part.part_id: part}})


def with_stage(api: HttpApi, stage: Stage) -> HttpApi:
    """The same API with one stage more, or with another in the place of one."""
    return replace(api, stages={**api.stages, stage.name: stage})


def with_deployment(api: HttpApi, stage: Stage, deployment_id: str | None) -> Stage:
    """The stage, serving that deployment if one is given. BadRequest, NotFound."""
    if deployment_id is None:
        return stage
    if stage.deploys_itself and deployment_id != stage.deployment_id:
        raise BadRequest("Deployment ID cannot be set on a stage that has AutoDeploy enabled.")
    find_deployment(api, deployment_id)
    return replace(stage, deployment_id=deployment_id)


def with_tags(api: HttpApi, tags: Mapping[str, str], stage_name: str | None = None) -> HttpApi:
    """The same API with those tags, or with them on one of its stages. BadRequest."""
    if len(tags) > limits.TAGS_MAX:
        raise BadRequest("Number of tags exceeds resource tag limit.")
    if any(name.lower().startswith("aws:") for name in tags):
        raise BadRequest("Tag keys may not begin with aws:")
    if stage_name is None:
        return replace(api, tags=dict(tags))
    return with_stage(api, replace(find_stage(api, stage_name), tags=dict(tags)))


def without(kept: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What is kept by name, less one."""
    return {key: value for key, value in kept.items() if key != name}


def new_id(length: int, taken: Mapping[str, Any]) -> str:
    """Lower-case letters and digits, and none of ``taken``."""
    while True:
        made = "".join(secrets.choice(_ALPHABET) for _ in range(length))
        if made not in taken:
            return made
