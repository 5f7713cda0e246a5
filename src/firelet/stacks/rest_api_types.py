"""REST APIs with their deployments and stages: the types of AWS::ApiGateway that SAM's Api becomes.

Source: docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_ApiGateway.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from firelet.stacks import rest_api_schemas as schemas
from firelet.stacks.resource_types import (
    Clients,
    Made,
    Properties,
    format_document,
    map_tags,
    unless_missing,
    without,
)
from firelet.stacks.rest_api_parts import AuthorizerType, MethodType, ResourceType
from firelet.stacks.usage_plan_types import ApiKeyType, UsagePlanKeyType, UsagePlanType

_IMPORTED = ("Body", "FailOnWarnings", "Mode", "Parameters")
# Paths of patches by property. What a template no longer has is set to the second value.
_API_PATHS: Mapping[str, tuple[str, str]] = {
    "Name": ("/name", ""),
    "Description": ("/description", ""),
    "ApiKeySourceType": ("/apiKeySource", "HEADER"),
    "DisableExecuteApiEndpoint": ("/disableExecuteApiEndpoint", "false"),
    "MinimumCompressionSize": ("/minimumCompressionSize", ""),
    "Policy": ("/policy", ""),
}
_STAGE_PATHS: Mapping[str, tuple[str, str]] = {
    "DeploymentId": ("/deploymentId", ""),
    "Description": ("/description", ""),
    "DocumentationVersion": ("/documentationVersion", ""),
    "TracingEnabled": ("/tracingEnabled", "false"),
    "CacheClusterEnabled": ("/cacheClusterEnabled", "false"),
    "CacheClusterSize": ("/cacheClusterSize", "0.5"),
}
_METHOD_SETTINGS: Mapping[str, str] = {
    "CacheDataEncrypted": "caching/dataEncrypted",
    "CacheTtlInSeconds": "caching/ttlInSeconds",
    "CachingEnabled": "caching/enabled",
    "DataTraceEnabled": "logging/dataTrace",
    "LoggingLevel": "logging/loglevel",
    "MetricsEnabled": "metrics/enabled",
    "ThrottlingBurstLimit": "throttling/burstLimit",
    "ThrottlingRateLimit": "throttling/rateLimit",
}

Patch = dict[str, str]


class RestApiType:
    """An API, from properties or from an OpenAPI definition."""

    schema = schemas.REST_API

    def __init__(self, clients: Clients) -> None:
        self._apis = clients("apigateway")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        wanted = _title(name, properties)
        pages = self._apis.get_paginator("get_rest_apis").paginate()
        return [item["id"] for page in pages for item in page["items"] if item["name"] == wanted]

    def create(self, name: str, properties: Properties) -> Made:
        if "Body" in properties:
            made = self._apis.import_rest_api(
                body=_body(properties), parameters=_options(properties)
            )
        else:
            made = self._apis.create_rest_api(name=_title(name, properties))
        self._patch(made, _api_patches({}, properties, made))
        self._set_tags(made["id"], {}, map_tags(properties))
        return _made_api(made)

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        if "Body" in after:
            self._apis.put_rest_api(
                restApiId=physical_id,
                mode=after.get("Mode", "overwrite"),
                body=_body(after),
                parameters=_options(after),
            )
        made = self._apis.get_rest_api(restApiId=physical_id)
        self._patch(made, _api_patches(before, after, made))
        self._set_tags(physical_id, map_tags(before), map_tags(after))
        return _made_api(made)

    def delete(self, physical_id: str, properties: Properties) -> None:
        unless_missing(self._apis.delete_rest_api, restApiId=physical_id)

    def _patch(self, made: Mapping[str, Any], patches: Sequence[Patch]) -> None:
        if patches:
            self._apis.update_rest_api(restApiId=made["id"], patchOperations=list(patches))

    def _set_tags(self, api_id: str, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        arn = f"arn:aws:apigateway:{self._apis.meta.region_name}::/restapis/{api_id}"
        set_tags(self._apis, arn, before, after)


class DeploymentType:
    """A copy of an API, which SAM makes anew for each change of it."""

    schema = schemas.DEPLOYMENT

    def __init__(self, clients: Clients) -> None:
        self._apis = clients("apigateway")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        found = unless_missing(
            self._apis.get_deployments, restApiId=properties["RestApiId"], limit=500
        )
        wanted = properties.get("Description")
        items = [] if found is None else found["items"]
        return [item["id"] for item in items if item.get("description") == wanted]

    def create(self, name: str, properties: Properties) -> Made:
        given = {"restApiId": properties["RestApiId"]}
        for member, parameter in (("Description", "description"), ("StageName", "stageName")):
            if member in properties:
                given[parameter] = properties[member]
        return _made_deployment(self._apis.create_deployment(**given)["id"])

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        value = after.get("Description", "")
        self._apis.update_deployment(
            restApiId=after["RestApiId"],
            deploymentId=physical_id,
            patchOperations=[{"op": "replace", "path": "/description", "value": value}],
        )
        return _made_deployment(physical_id)

    def delete(self, physical_id: str, properties: Properties) -> None:
        """With the stage that was made with it, if that serves nothing newer."""
        api = properties["RestApiId"]
        name = properties.get("StageName")
        if name is not None:
            place = {"restApiId": api, "stageName": name}
            stage = unless_missing(self._apis.get_stage, **place)
            if stage is not None and stage["deploymentId"] == physical_id:
                unless_missing(self._apis.delete_stage, **place)
        unless_missing(self._apis.delete_deployment, restApiId=api, deploymentId=physical_id)


class StageType:
    """A stage of an API."""

    schema = schemas.STAGE

    def __init__(self, clients: Clients) -> None:
        self._apis = clients("apigateway")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        found = unless_missing(self._apis.get_stage, **_place(name, properties))
        return () if found is None else (found["stageName"],)

    def create(self, name: str, properties: Properties) -> Made:
        place = _place(name, properties)
        self._apis.create_stage(
            **place, deploymentId=properties["DeploymentId"], tags=map_tags(properties)
        )
        self._patch(place, _stage_patches({}, without(properties, ("DeploymentId",))))
        return Made(place["stageName"])

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        place = {"restApiId": after["RestApiId"], "stageName": physical_id}
        self._patch(place, _stage_patches(before, after))
        arn = (
            f"arn:aws:apigateway:{self._apis.meta.region_name}::/restapis/{place['restApiId']}"
            f"/stages/{physical_id}"
        )
        set_tags(self._apis, arn, map_tags(before), map_tags(after))
        return Made(physical_id)

    def delete(self, physical_id: str, properties: Properties) -> None:
        unless_missing(
            self._apis.delete_stage, restApiId=properties["RestApiId"], stageName=physical_id
        )

    def _patch(self, place: Mapping[str, str], patches: Iterator[Patch]) -> None:
        listed = list(patches)
        if listed:
            self._apis.update_stage(**place, patchOperations=listed)


def make_rest_api_types(clients: Clients) -> dict[str, Any]:
    """Every supported type of AWS::ApiGateway by its name in templates."""
    prefix = "AWS::ApiGateway::"
    return {
        f"{prefix}RestApi": RestApiType(clients),
        f"{prefix}Resource": ResourceType(clients),
        f"{prefix}Method": MethodType(clients),
        f"{prefix}Authorizer": AuthorizerType(clients),
        f"{prefix}Deployment": DeploymentType(clients),
        f"{prefix}Stage": StageType(clients),
        f"{prefix}ApiKey": ApiKeyType(clients),
        f"{prefix}UsagePlan": UsagePlanType(clients),
        f"{prefix}UsagePlanKey": UsagePlanKeyType(clients),
    }


def set_tags(client: Any, arn: str, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Of anything that has an ARN."""
    gone = sorted(before.keys() - after.keys())
    if gone:
        client.untag_resource(resourceArn=arn, tagKeys=gone)
    if after and after != before:
        client.tag_resource(resourceArn=arn, tags=dict(after))


def _api_patches(before: Properties, after: Properties, made: Mapping[str, Any]) -> list[Patch]:
    # What a definition says by itself is not taken back.
    gone = {} if "Body" in after else before
    patches = list(_scalars(_API_PATHS, gone, after))
    for kind in after.get("BinaryMediaTypes", ()):
        patches.append({"op": "add", "path": f"/binaryMediaTypes/{_escape(kind)}"})
    for kind in set(before.get("BinaryMediaTypes", ())) - set(after.get("BinaryMediaTypes", ())):
        patches.append({"op": "remove", "path": f"/binaryMediaTypes/{_escape(kind)}"})
    types = (after.get("EndpointConfiguration") or {}).get("Types")
    if types and types != made["endpointConfiguration"]["types"]:
        patches.append(_replace("/endpointConfiguration/types/0", types[0]))
    return patches


def _stage_patches(before: Properties, after: Properties) -> Iterator[Patch]:
    yield from _scalars(_STAGE_PATHS, before, after)
    old, new = before.get("Variables") or {}, after.get("Variables") or {}
    for name in old.keys() - new.keys():
        yield {"op": "remove", "path": f"/variables/{name}"}
    for name, value in new.items():
        yield _replace(f"/variables/{name}", value)
    for member, path in (("DestinationArn", "destinationArn"), ("Format", "format")):
        value = (after.get("AccessLogSetting") or {}).get(member)
        if value is not None:
            yield _replace(f"/accessLogSettings/{path}", value)
    if "AccessLogSetting" in before and "AccessLogSetting" not in after:
        yield {"op": "remove", "path": "/accessLogSettings"}
    kept = {_method_path(item) for item in after.get("MethodSettings") or ()}
    for item in before.get("MethodSettings") or ():
        if _method_path(item) not in kept:
            yield {"op": "remove", "path": f"/{_method_path(item)}"}
    for item in after.get("MethodSettings") or ():
        for member, path in _METHOD_SETTINGS.items():
            if member in item:
                yield _replace(f"/{_method_path(item)}/{path}", item[member])


def _scalars(
    paths: Mapping[str, tuple[str, str]], before: Properties, after: Properties
) -> Iterator[Patch]:
    for member, (path, cleared) in paths.items():
        if member in after:
            if before.get(member) != after[member]:
                yield _replace(path, after[member])
        elif member in before:
            yield _replace(path, cleared) if cleared else {"op": "remove", "path": path}


def _replace(path: str, value: Any) -> Patch:
    if isinstance(value, bool):
        value = str(value).lower()
    text = format_document(value) if isinstance(value, Mapping) else str(value)
    return {"op": "replace", "path": path, "value": text}


def _method_path(setting: Mapping[str, Any]) -> str:
    """A template may write the slashes of a path as they are, or escaped, or ``/*`` for all."""
    path = setting.get("ResourcePath", "*")
    path = "*" if path == "/*" else path
    return f"{path if '~1' in path else _escape(path)}/{setting.get('HttpMethod', '*')}"


def _escape(text: str) -> str:
    return text.replace("~1", "/").replace("/", "~1")


def _title(name: str, properties: Properties) -> str:
    if "Name" in properties:
        return str(properties["Name"])
    if "Body" in properties:
        title = (json.loads(_body(properties)).get("info") or {}).get("title")
        return str(title)
    return name


def _body(properties: Properties) -> bytes:
    return format_document(properties["Body"]).encode()


def _options(properties: Properties) -> dict[str, str]:
    return {key: str(value) for key, value in (properties.get("Parameters") or {}).items()}


def _place(name: str, properties: Properties) -> dict[str, str]:
    return {
        "restApiId": properties["RestApiId"],
        "stageName": properties.get("StageName", name),
    }


def _made_api(made: Mapping[str, Any]) -> Made:
    return Made(made["id"], {"RestApiId": made["id"], "RootResourceId": made["rootResourceId"]})


def _made_deployment(deployment_id: str) -> Made:
    return Made(deployment_id, {"DeploymentId": deployment_id})
