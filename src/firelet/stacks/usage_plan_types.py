"""API keys and usage plans of REST APIs.

Source: docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_ApiGateway.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from firelet.stacks import rest_api_schemas as schemas
from firelet.stacks.resource_types import (
    Clients,
    Made,
    Properties,
    map_tags,
    unless_missing,
    without,
)
from firelet.stacks.rest_api_parts import lower

Patch = dict[str, str]


class ApiKeyType:
    """A key that a client sends."""

    schema = schemas.API_KEY

    def __init__(self, clients: Clients) -> None:
        self._apis = clients("apigateway")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        wanted = properties.get("Name", name)
        found = self._apis.get_api_keys(nameQuery=wanted, limit=500)["items"]
        return [item["id"] for item in found if item["name"] == wanted]

    def create(self, name: str, properties: Properties) -> Made:
        given = lower(without(properties, ("Tags",)))
        if "stageKeys" in given:
            given["stageKeys"] = [lower(item) for item in given["stageKeys"]]
        made = self._apis.create_api_key(**{"name": name, **given}, tags=map_tags(properties))
        return _made(made["id"], "APIKeyId")

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        paths = {"CustomerId": "", "Description": "", "Enabled": "false"}
        patches = [
            _replace(f"/{name[:1].lower()}{name[1:]}", after.get(name, cleared))
            for name, cleared in paths.items()
            if before.get(name) != after.get(name)
        ]
        self._apis.update_api_key(apiKey=physical_id, patchOperations=patches)
        return _made(physical_id, "APIKeyId")

    def delete(self, physical_id: str, properties: Properties) -> None:
        unless_missing(self._apis.delete_api_key, apiKey=physical_id)


class UsagePlanType:
    """Which stages keys may call, and how much."""

    schema = schemas.USAGE_PLAN

    def __init__(self, clients: Clients) -> None:
        self._apis = clients("apigateway")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        wanted = properties.get("UsagePlanName", name)
        found = self._apis.get_usage_plans(limit=500)["items"]
        return [item["id"] for item in found if item["name"] == wanted]

    def create(self, name: str, properties: Properties) -> Made:
        given: dict[str, Any] = {
            "name": properties.get("UsagePlanName", name),
            "apiStages": [_stage(item) for item in properties.get("ApiStages") or ()],
            "tags": map_tags(properties),
        }
        if "Description" in properties:
            given["description"] = properties["Description"]
        for member in ("Quota", "Throttle"):
            if member in properties:
                given[member.lower()] = lower(properties[member])
        return _made(self._apis.create_usage_plan(**given)["id"], "Id")

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        patches = list(_plan_patches(before, after))
        if patches:
            self._apis.update_usage_plan(usagePlanId=physical_id, patchOperations=patches)
        return _made(physical_id, "Id")

    def delete(self, physical_id: str, properties: Properties) -> None:
        """Its stages leave it first: a plan that has some is kept."""
        plan = unless_missing(self._apis.get_usage_plan, usagePlanId=physical_id)
        if plan is None:
            return
        patches = [
            {"op": "remove", "path": "/apiStages", "value": f"{item['apiId']}:{item['stage']}"}
            for item in plan["apiStages"]
        ]
        if patches:
            self._apis.update_usage_plan(usagePlanId=physical_id, patchOperations=patches)
        unless_missing(self._apis.delete_usage_plan, usagePlanId=physical_id)


class UsagePlanKeyType:
    """A key of a plan."""

    schema = schemas.USAGE_PLAN_KEY

    def __init__(self, clients: Clients) -> None:
        self._apis = clients("apigateway")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        place = {"usagePlanId": properties["UsagePlanId"], "keyId": properties["KeyId"]}
        found = unless_missing(self._apis.get_usage_plan_key, **place)
        return () if found is None else (_identity(properties),)

    def create(self, name: str, properties: Properties) -> Made:
        self._apis.create_usage_plan_key(**lower(properties))
        return _made(_identity(properties), "Id")

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        """All of its properties are fixed."""
        return _made(physical_id, "Id")

    def delete(self, physical_id: str, properties: Properties) -> None:
        key_id, _, plan_id = physical_id.partition(":")
        unless_missing(self._apis.delete_usage_plan_key, usagePlanId=plan_id, keyId=key_id)


def _plan_patches(before: Properties, after: Properties) -> Iterator[Patch]:
    for member, path in (("UsagePlanName", "/name"), ("Description", "/description")):
        if member in after and before.get(member) != after[member]:
            yield _replace(path, after[member])
    for member in ("Quota", "Throttle"):
        path = f"/{member.lower()}"
        if member in after:
            for name, value in lower(after[member]).items():
                yield _replace(f"{path}/{name}", value)
        elif member in before:
            yield {"op": "remove", "path": path}
    old = {_name(item): item for item in before.get("ApiStages") or ()}
    new = {_name(item): item for item in after.get("ApiStages") or ()}
    for name in old.keys() - new.keys():
        yield {"op": "remove", "path": "/apiStages", "value": name}
    for name in new.keys() - old.keys():
        yield {"op": "add", "path": "/apiStages", "value": name}


def _stage(item: Mapping[str, Any]) -> dict[str, Any]:
    stage = {"apiId": item.get("ApiId"), "stage": item.get("Stage")}
    throttle = {path: lower(limits) for path, limits in (item.get("Throttle") or {}).items()}
    return {**stage, "throttle": throttle} if throttle else stage


def _name(item: Mapping[str, Any]) -> str:
    return f"{item.get('ApiId')}:{item.get('Stage')}"


def _replace(path: str, value: Any) -> Patch:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return {"op": "replace", "path": path, "value": text}


def _identity(properties: Properties) -> str:
    return f"{properties['KeyId']}:{properties['UsagePlanId']}"


def _made(physical_id: str, attribute: str) -> Made:
    return Made(physical_id, {attribute: physical_id})
