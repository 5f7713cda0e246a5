"""REST APIs, and their resources: operations of the API Gateway API.

Source: https://docs.aws.amazon.com/apigateway/latest/api/ and the service model of ``apigateway``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from firelet.control.api_errors import BadRequest
from firelet.control.rest_api_import import import_definition
from firelet.control.rest_api_patch import Items, Schema, apply_patch, flag, integer, text
from firelet.control.rest_api_records import RestApi
from firelet.control.rest_api_tree import (
    add_resource,
    delete_resource,
    find_resource,
    move_resource,
    with_definition,
)
from firelet.control.rest_apis import RestApis
from firelet.frontend.apigateway_shapes import cut, format_api, format_resource, without
from firelet.frontend.operations import Call, Operations

Output = Mapping[str, Any]

_API_PATHS: Schema = {
    "name": text,
    "description": text,
    "version": text,
    "apiKeySource": text,
    "policy": text,
    "minimumCompressionSize": integer,
    "disableExecuteApiEndpoint": flag,
    "binaryMediaTypes": Items(),
    "endpointConfiguration": {"types": Items(), "vpcEndpointIds": Items(), "ipAddressType": text},
    "securityPolicy": text,
    "endpointAccessMode": text,
}
_COMPRESSION_MAX_BYTES = 10_485_760
_KEPT = "policies are kept and not evaluated, and answers are not compressed"
_CUSTOM_ID_TAG = "_custom_id_"  # what tools for local clouds use to ask for an id


class RestApiOperations:
    """APIs as a whole, and their resources."""

    def __init__(self, apis: RestApis) -> None:
        self._apis = apis

    def register(self, operations: Operations) -> None:
        for name, partly, lacks in (
            ("CreateRestApi", self.create_rest_api, _KEPT),
            ("UpdateRestApi", self.update_rest_api, _KEPT),
            ("ImportRestApi", self.import_rest_api, "OpenAPI as JSON, not as YAML"),
            ("PutRestApi", self.put_rest_api, "OpenAPI as JSON, not as YAML"),
        ):
            operations.add("apigateway", name, partly, lacks=lacks)
        for name, handler in (
            ("GetRestApi", self.get_rest_api),
            ("GetRestApis", self.get_rest_apis),
            ("DeleteRestApi", self.delete_rest_api),
            ("CreateResource", self.create_resource),
            ("GetResource", self.get_resource),
            ("GetResources", self.get_resources),
            ("UpdateResource", self.update_resource),
            ("DeleteResource", self.delete_resource),
        ):
            operations.add("apigateway", name, handler)

    async def create_rest_api(self, call: Call) -> Output:
        settings = without(call.params, "tags", "cloneFrom")
        _check(settings)
        tags = dict(call.params.get("tags", {}))
        source = call.params.get("cloneFrom")
        change = None
        if source is not None:
            model = self._apis.get(call.account, call.region, source).definition

            def change(api: RestApi) -> RestApi:
                return replace(api, definition=replace(model, settings=settings))

        api = await self._apis.create(
            call.account,
            call.region,
            settings,
            tags,
            api_id=tags.get(_CUSTOM_ID_TAG),
            change=change,
        )
        return format_api(api)

    async def get_rest_api(self, call: Call) -> Output:
        return format_api(self._api(call))

    async def get_rest_apis(self, call: Call) -> Output:
        ordered = sorted(self._apis.all(call.account, call.region), key=lambda api: api.id)
        page = cut(call, ordered, lambda api: api.id)
        return {**page, "items": [format_api(api) for api in page["items"]]}

    async def update_rest_api(self, call: Call) -> Output:
        operations = call.params.get("patchOperations", [])

        def change(api: RestApi) -> RestApi:
            settings = apply_patch(_API_PATHS, api.definition.settings, operations)
            _check(settings)
            return with_definition(api, settings=settings)

        return format_api(await self._change(call, change))

    async def delete_rest_api(self, call: Call) -> None:
        await self._apis.delete(call.account, call.region, call.params["restApiId"])

    async def import_rest_api(self, call: Call) -> Output:
        document, options = call.params["body"], call.params.get("parameters", {})

        def change(api: RestApi) -> RestApi:
            return _import(api, document, options, is_merge=False)

        return format_api(
            await self._apis.create(call.account, call.region, {"name": ""}, {}, change=change)
        )

    async def put_rest_api(self, call: Call) -> Output:
        document, options = call.params["body"], call.params.get("parameters", {})
        is_merge = call.params.get("mode", "merge") == "merge"

        def change(api: RestApi) -> RestApi:
            return _import(api, document, options, is_merge=is_merge)

        return format_api(await self._change(call, change))

    async def create_resource(self, call: Call) -> Output:
        made = []

        def change(api: RestApi) -> RestApi:
            parent = find_resource(api, call.params["parentId"])
            definition, child = add_resource(api.definition, parent, call.params["pathPart"])
            made.append(child)
            return replace(api, definition=definition)

        await self._change(call, change)
        return format_resource(made[0], with_methods=False)

    async def get_resource(self, call: Call) -> Output:
        resource = find_resource(self._api(call), call.params["resourceId"])
        return format_resource(resource, with_methods=_embeds_methods(call))

    async def get_resources(self, call: Call) -> Output:
        ordered = sorted(self._api(call).definition.resources.values(), key=lambda item: item.id)
        page = cut(call, ordered, lambda item: item.id)
        with_methods = _embeds_methods(call)
        items = [format_resource(item, with_methods=with_methods) for item in page["items"]]
        return {**page, "items": items}

    async def update_resource(self, call: Call) -> Output:
        identity = call.params["resourceId"]
        paths: Schema = {"pathPart": text, "parentId": text}

        def change(api: RestApi) -> RestApi:
            resource = find_resource(api, identity)
            before = {"pathPart": resource.path_part, "parentId": resource.parent_id}
            after = apply_patch(paths, before, call.params.get("patchOperations", []))
            return move_resource(api, identity, after["parentId"] or "", after["pathPart"] or "")

        api = await self._change(call, change)
        return format_resource(find_resource(api, identity), with_methods=False)

    async def delete_resource(self, call: Call) -> None:
        await self._change(call, lambda api: delete_resource(api, call.params["resourceId"]))

    def _api(self, call: Call) -> RestApi:
        return self._apis.get(call.account, call.region, call.params["restApiId"])

    async def _change(self, call: Call, change: Any) -> RestApi:
        return await self._apis.change(call.account, call.region, call.params["restApiId"], change)


def _import(
    api: RestApi, document: bytes, options: Mapping[str, str], *, is_merge: bool
) -> RestApi:
    after = import_definition(api, document, options, is_merge=is_merge)
    _check(after.definition.settings)
    return after


def _check(settings: Mapping[str, Any]) -> None:
    """BadRequest for what the service model lets through."""
    if not settings["name"]:
        raise BadRequest("Name cannot be blank")
    size = settings.get("minimumCompressionSize")
    if size is not None and not 0 <= size <= _COMPRESSION_MAX_BYTES:
        raise BadRequest("Invalid minimum compression size, must be between 0 and 10485760")
    if settings.get("apiKeySource", "HEADER") not in ("HEADER", "AUTHORIZER"):
        raise BadRequest("Invalid API key source, must be one of: [HEADER, AUTHORIZER]")
    policy = settings.get("policy")
    if policy:
        try:
            json.loads(policy)
        except ValueError:
            raise BadRequest("Invalid policy document. Please check the policy syntax.") from None


def _embeds_methods(call: Call) -> bool:
    return "methods" in call.params.get("embed", ())
