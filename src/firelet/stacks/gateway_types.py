"""HTTP and WebSocket APIs: the types of AWS::ApiGatewayV2 that SAM's HttpApi becomes, and more.

Source: docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_ApiGatewayV2.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from firelet.stacks import gateway_schemas as schemas
from firelet.stacks.errors import StackError
from firelet.stacks.resource_types import (
    Clients,
    Made,
    Properties,
    map_tags,
    unless_missing,
    without,
)
from firelet.stacks.schemas import Schema

# What stands for a property that a template no longer has.
_CLEARED: Mapping[str, Any] = {
    "ApiKeyRequired": False,
    "AuthorizationScopes": [],
    "AuthorizationType": "NONE",
    "AutoDeploy": False,
    "DefaultRouteSettings": {},
    "Description": "",
    "DisableExecuteApiEndpoint": False,
    "RouteSettings": {},
    "StageVariables": {},
    "Version": "",
}
_IMPORTED = ("Body", "FailOnWarnings")
_CREATED_ONLY = ("Tags", "ProtocolType", "Target", "RouteKey", "CredentialsArn")


class ApiType:
    """An API, from properties or from an OpenAPI definition."""

    schema = schemas.API

    def __init__(self, clients: Clients) -> None:
        self._apis = clients("apigatewayv2")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        wanted = _title(properties)
        return [item["ApiId"] for item in _list(self._apis, "get_apis") if item["Name"] == wanted]

    def create(self, name: str, properties: Properties) -> Made:
        given = without(properties, ("Tags", *_IMPORTED))
        if "Body" not in properties:
            return _made_api(self._apis.create_api(**given, Tags=map_tags(properties)))
        made = self._apis.import_api(Body=_body(properties))
        self._set(made, {}, map_tags(properties))
        given = without(given, _CREATED_ONLY)
        return _made_api(self._apis.update_api(ApiId=made["ApiId"], **given) if given else made)

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        if "Body" in after:
            self._apis.reimport_api(ApiId=physical_id, Body=_body(after))
        skipped = (*_IMPORTED, *_CREATED_ONLY)
        if "CorsConfiguration" in before and "CorsConfiguration" not in after:
            self._apis.delete_cors_configuration(ApiId=physical_id)
        changed = _changed(physical_id, before, after, (*skipped, "CorsConfiguration"))
        changed |= {name: after[name] for name in ("CorsConfiguration",) if name in after}
        for name in ("Target", "RouteKey"):
            if before.get(name) != after.get(name):
                raise StackError(f"{name} of {physical_id} cannot be changed")
        made = self._apis.update_api(ApiId=physical_id, **changed)
        self._set(made, map_tags(before), map_tags(after))
        return _made_api(made)

    def delete(self, physical_id: str, properties: Properties) -> None:
        unless_missing(self._apis.delete_api, ApiId=physical_id)

    def _set(self, made: Mapping[str, Any], before: Mapping[str, str], after: Any) -> None:
        region = self._apis.meta.region_name
        arn = f"arn:aws:apigateway:{region}::/apis/{made['ApiId']}"
        _set_tags(self._apis, arn, before, after)


class StageType:
    """A stage of an API."""

    schema = schemas.STAGE

    def __init__(self, clients: Clients) -> None:
        self._apis = clients("apigatewayv2")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        found = unless_missing(self._apis.get_stage, **_place(properties))
        return () if found is None else (found["StageName"],)

    def create(self, name: str, properties: Properties) -> Made:
        given = without(properties, ("Tags",))
        self._apis.create_stage(**given, Tags=map_tags(properties))
        return Made(properties["StageName"])

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        place = _place(after)
        changed = _changed(physical_id, before, after, ("Tags", *place, "AccessLogSettings"))
        if "AccessLogSettings" in after:
            changed["AccessLogSettings"] = after["AccessLogSettings"]
        elif "AccessLogSettings" in before:
            self._apis.delete_access_log_settings(**place)
        self._apis.update_stage(**place, **changed)
        arn = (
            f"arn:aws:apigateway:{self._apis.meta.region_name}::/apis/{place['ApiId']}"
            f"/stages/{place['StageName']}"
        )
        _set_tags(self._apis, arn, map_tags(before), map_tags(after))
        return Made(physical_id)

    def delete(self, physical_id: str, properties: Properties) -> None:
        unless_missing(self._apis.delete_stage, **_place(properties))


class ApiPartType:
    """A route, an integration, an authorizer, a route response or a deployment: they differ in
    names only."""

    def __init__(self, clients: Clients, kind: str, word: str, schema: Schema) -> None:
        self.schema = schema
        self._apis = clients("apigatewayv2")
        self._id = f"{kind}Id"
        self._word = word
        # Where it is: these are in every call.
        self._above = tuple(name for name in ("ApiId", "RouteId") if name in schema.fixed)

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        """What has the same values; AWS's defaults are on what was made, too."""
        above = self._pick(properties)
        if unless_missing(self._apis.get_api, ApiId=properties["ApiId"]) is None:
            return ()
        wanted = without(properties, self._above)
        found = _list(self._apis, f"get_{self._word}s", **above)
        return [
            item[self._id]
            for item in found
            if all(
                name == "StageName" or _is_same(item.get(name), value)
                for name, value in wanted.items()
            )
        ]

    def create(self, name: str, properties: Properties) -> Made:
        return self._made(getattr(self._apis, f"create_{self._word}")(**properties))

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        changed = _changed(physical_id, before, after, self._above)
        place = {**self._pick(after), self._id: physical_id}
        return self._made(getattr(self._apis, f"update_{self._word}")(**place, **changed))

    def delete(self, physical_id: str, properties: Properties) -> None:
        place = {**self._pick(properties), self._id: physical_id}
        unless_missing(getattr(self._apis, f"delete_{self._word}"), **place)

    def _pick(self, properties: Properties) -> dict[str, Any]:
        return {name: properties[name] for name in self._above}

    def _made(self, answer: Mapping[str, Any]) -> Made:
        made = answer[self._id]
        return Made(made, {self._id: made})


def make_gateway_types(clients: Clients) -> dict[str, Any]:
    """Every supported type of AWS::ApiGatewayV2 by its name in templates."""
    prefix = "AWS::ApiGatewayV2::"
    return {
        f"{prefix}Api": ApiType(clients),
        f"{prefix}Stage": StageType(clients),
        f"{prefix}Route": ApiPartType(clients, "Route", "route", schemas.ROUTE),
        f"{prefix}Integration": ApiPartType(
            clients, "Integration", "integration", schemas.INTEGRATION
        ),
        f"{prefix}Authorizer": ApiPartType(clients, "Authorizer", "authorizer", schemas.AUTHORIZER),
        f"{prefix}RouteResponse": ApiPartType(
            clients, "RouteResponse", "route_response", schemas.ROUTE_RESPONSE
        ),
        f"{prefix}Deployment": ApiPartType(clients, "Deployment", "deployment", schemas.DEPLOYMENT),
    }


def _changed(
    physical_id: str, before: Properties, after: Properties, skipped: Sequence[str]
) -> dict[str, Any]:
    """What to send: what is wanted, and what stands for what was taken away."""
    gone = before.keys() - after.keys() - set(skipped)
    unknown = sorted(gone - _CLEARED.keys())
    if unknown:
        raise StackError(f"{', '.join(unknown)} of {physical_id} cannot be taken away")
    return {**{name: _CLEARED[name] for name in gone}, **without(after, frozenset(skipped))}


def _is_same(found: Any, wanted: Any) -> bool:
    """Templates may have texts for numbers."""
    return bool(found == wanted) or str(found).lower() == str(wanted).lower()


def _list(client: Any, operation: str, **params: Any) -> list[Any]:
    items: list[Any] = []
    token: dict[str, str] = {}
    while True:
        page = getattr(client, operation)(**params, **token)
        items += page["Items"]
        if "NextToken" not in page:
            return items
        token = {"NextToken": page["NextToken"]}


def _set_tags(client: Any, arn: str, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    gone = sorted(before.keys() - after.keys())
    if gone:
        client.untag_resource(ResourceArn=arn, TagKeys=gone)
    if after and after != before:
        client.tag_resource(ResourceArn=arn, Tags=dict(after))


def _title(properties: Properties) -> str | None:
    body = properties.get("Body")
    document = json.loads(body) if isinstance(body, str) else body
    stated = properties.get("Name")
    if stated is None and document is not None:
        stated = (document.get("info") or {}).get("title")
    return None if stated is None else str(stated)


def _body(properties: Properties) -> str:
    body = properties["Body"]
    return body if isinstance(body, str) else json.dumps(body)


def _place(properties: Properties) -> dict[str, Any]:
    return {name: properties[name] for name in ("ApiId", "StageName")}


def _made_api(answer: Mapping[str, Any]) -> Made:
    return Made(answer["ApiId"], {name: answer[name] for name in ("ApiId", "ApiEndpoint")})
