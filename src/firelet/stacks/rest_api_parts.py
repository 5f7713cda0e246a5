"""Resources, methods and authorizers of REST APIs: what templates without a definition are made of.

Source: docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_ApiGateway.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from firelet.stacks import rest_api_schemas as schemas
from firelet.stacks.resource_types import Clients, Made, Properties, unless_missing, without

_LIMIT = 500  # the most that a list gives at once


class ResourceType:
    """A part of a path."""

    schema = schemas.RESOURCE

    def __init__(self, clients: Clients) -> None:
        self._apis = clients("apigateway")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        found = unless_missing(
            self._apis.get_resources, restApiId=properties["RestApiId"], limit=_LIMIT
        )
        wanted = (properties["ParentId"], properties["PathPart"])
        items = [] if found is None else found["items"]
        return [i["id"] for i in items if (i.get("parentId"), i.get("pathPart")) == wanted]

    def create(self, name: str, properties: Properties) -> Made:
        made = self._apis.create_resource(**lower(properties))["id"]
        return Made(made, {"ResourceId": made})

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        """All of its properties are fixed."""
        return Made(physical_id, {"ResourceId": physical_id})

    def delete(self, physical_id: str, properties: Properties) -> None:
        unless_missing(
            self._apis.delete_resource, restApiId=properties["RestApiId"], resourceId=physical_id
        )


class MethodType:
    """What is done at a resource. A change makes it anew: nobody sees it before a deployment."""

    schema = schemas.METHOD

    def __init__(self, clients: Clients) -> None:
        self._apis = clients("apigateway")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        found = unless_missing(self._apis.get_method, **_place(properties))
        return () if found is None else (_identity(properties),)

    def create(self, name: str, properties: Properties) -> Made:
        place = _place(properties)
        skipped = ("RestApiId", "ResourceId", "HttpMethod", "Integration", "MethodResponses")
        given = {"authorizationType": "NONE", **lower(without(properties, skipped))}
        self._apis.put_method(**place, **given)
        for response in properties.get("MethodResponses") or ():
            self._apis.put_method_response(**place, **lower(response))
        integration = properties.get("Integration")
        if integration is not None:
            given = lower(without(integration, ("IntegrationResponses",)))
            self._apis.put_integration(**place, **given)
            for response in integration.get("IntegrationResponses") or ():
                self._apis.put_integration_response(**place, **lower(response))
        return Made(_identity(properties))

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        self.delete(physical_id, before)
        return self.create("", after)

    def delete(self, physical_id: str, properties: Properties) -> None:
        unless_missing(self._apis.delete_method, **_place(properties))


class AuthorizerType:
    """Who may call a method."""

    schema = schemas.AUTHORIZER

    def __init__(self, clients: Clients) -> None:
        self._apis = clients("apigateway")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        found = unless_missing(
            self._apis.get_authorizers, restApiId=properties["RestApiId"], limit=_LIMIT
        )
        items = [] if found is None else found["items"]
        return [item["id"] for item in items if item["name"] == properties["Name"]]

    def create(self, name: str, properties: Properties) -> Made:
        made = self._apis.create_authorizer(**lower(properties))["id"]
        return Made(made, {"AuthorizerId": made})

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        changed = lower(without(after, ("RestApiId",)))
        gone = lower(without(before, tuple(after))).keys()
        self._apis.update_authorizer(
            restApiId=after["RestApiId"],
            authorizerId=physical_id,
            patchOperations=[
                *({"op": "replace", "path": f"/{n}", "value": str(v)} for n, v in changed.items()),
                *({"op": "remove", "path": f"/{name}"} for name in gone),
            ],
        )
        return Made(physical_id, {"AuthorizerId": physical_id})

    def delete(self, physical_id: str, properties: Properties) -> None:
        unless_missing(
            self._apis.delete_authorizer,
            restApiId=properties["RestApiId"],
            authorizerId=physical_id,
        )


def lower(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Members by the names of the API; what is within them stays as it is."""
    return {name[:1].lower() + name[1:]: value for name, value in properties.items()}


def _place(properties: Properties) -> dict[str, str]:
    return lower({name: properties[name] for name in ("RestApiId", "ResourceId", "HttpMethod")})


def _identity(properties: Properties) -> str:
    return "-".join(_place(properties).values())
