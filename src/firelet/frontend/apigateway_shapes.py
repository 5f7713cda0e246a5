"""REST APIs and their parts as members of the API Gateway API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from firelet.control.api_errors import BadRequest
from firelet.control.rest_api_records import Deployment, RestApi, RestResource, Stage
from firelet.frontend.markers import cut_page
from firelet.frontend.operations import Call
from firelet.model.errors import InvalidParameterValue

T = TypeVar("T")

PAGE_DEFAULT, PAGE_MAX = 25, 500  # source: API reference, limit

_API_DEFAULTS: Mapping[str, Any] = {
    "apiKeySource": "HEADER",
    "endpointConfiguration": {"types": ["EDGE"], "ipAddressType": "ipv4"},
    "disableExecuteApiEndpoint": False,
}
_STAGE_DEFAULTS: Mapping[str, Any] = {
    "cacheClusterEnabled": False,
    "cacheClusterStatus": "NOT_AVAILABLE",
    "tracingEnabled": False,
}
# Source: documented defaults of the method settings of a stage.
_METHOD_SETTING_DEFAULTS: Mapping[str, Any] = {
    "metricsEnabled": False,
    "loggingLevel": "OFF",
    "dataTraceEnabled": False,
    "throttlingBurstLimit": 5000,
    "throttlingRateLimit": 10000.0,
    "cachingEnabled": False,
    "cacheTtlInSeconds": 300,
    "cacheDataEncrypted": False,
    "requireAuthorizationForCacheControl": True,
    "unauthorizedCacheControlHeaderStrategy": "SUCCEED_WITH_RESPONSE_HEADER",
}


def format_api(api: RestApi) -> dict[str, Any]:
    settings = api.definition.settings
    shown = {**_API_DEFAULTS, **settings}
    if "policy" in settings:
        # As AWS does: the document with its quotes escaped, as it would stand inside a string.
        shown["policy"] = json.dumps(settings["policy"])[1:-1]
    return {
        "id": api.id,
        **shown,
        "createdDate": api.created,
        "rootResourceId": api.definition.root.id,
        "tags": api.tags,
    }


def format_resource(resource: RestResource, *, with_methods: bool) -> dict[str, Any]:
    """``resourceMethods`` has the methods' names, and what they are only when that is asked for."""
    shown: dict[str, Any] = {"id": resource.id, "path": resource.path}
    if resource.parent_id is not None:
        shown |= {"parentId": resource.parent_id, "pathPart": resource.path_part}
    if resource.methods:
        shown["resourceMethods"] = {
            verb: method if with_methods else {} for verb, method in resource.methods.items()
        }
    return shown


def format_deployment(deployment: Deployment, *, with_summary: bool = False) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": deployment.id,
        "createdDate": deployment.created,
        "description": deployment.description,
    }
    if with_summary:
        shown["apiSummary"] = {
            item.path: {
                verb: {
                    "authorizationType": method["authorizationType"],
                    "apiKeyRequired": method.get("apiKeyRequired", False),
                }
                for verb, method in item.methods.items()
            }
            for item in deployment.definition.resources.values()
            if item.methods
        }
    return shown


def format_stage(stage: Stage) -> dict[str, Any]:
    settings = dict(stage.settings)
    method_settings = {
        path: {**_METHOD_SETTING_DEFAULTS, **given}
        for path, given in settings.pop("methodSettings", {}).items()
    }
    return {
        **_STAGE_DEFAULTS,
        **settings,
        "stageName": stage.name,
        "deploymentId": stage.deployment_id,
        "methodSettings": method_settings,
        "createdDate": stage.created,
        "lastUpdatedDate": stage.updated,
    }


def cut(call: Call, items: Iterable[T], name: Callable[[T], str]) -> dict[str, Any]:
    """One page of ``items``, which are in the order of ``name``, by this API's names."""
    params = call.params
    size = params.get("limit") or PAGE_DEFAULT
    try:
        page, marker = cut_page(
            items,
            lambda item: (name(item),),
            {"Marker": params.get("position"), "MaxItems": size},
            PAGE_MAX,
        )
    except InvalidParameterValue:
        raise BadRequest("Invalid position parameter") from None
    return {"items": page, "position": marker.get("NextMarker")}


def without(params: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """What a caller set, without the members that say of what."""
    return {name: value for name, value in params.items() if name not in names}
