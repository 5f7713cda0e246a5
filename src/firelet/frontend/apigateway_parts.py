"""What methods refer to: authorizers, models, request validators, gateway responses.

Four families of the same five operations. Source: the API reference of API Gateway and the service
model of ``apigateway``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from firelet.control.gateway_regex import compile_whole
from firelet.control.rest_api_errors import BadRequest, Conflict
from firelet.control.rest_api_integrations import function_of
from firelet.control.rest_api_patch import Entries, Items, Schema, apply_patch, flag, integer, text
from firelet.control.rest_api_records import RestApi, Settings
from firelet.control.rest_api_tree import named, with_definition
from firelet.control.rest_apis import RestApis, new_id
from firelet.frontend.apigateway_shapes import cut, without
from firelet.frontend.operations import Call, Operations
from firelet.model.errors import NotYetImplemented
from firelet.model.gateway_responses import STATUSES, default_response
from firelet.model.mapping_template import UnsupportedTemplate, parse_template

Output = Mapping[str, Any]

_NO_AUTHORIZER = "Invalid Authorizer identifier specified"
_NO_VALIDATOR = "Invalid Request Validator identifier specified"

_AUTHORIZER_PATHS: Schema = {
    "name": text,
    "type": text,
    "authType": text,
    "authorizerUri": text,
    "authorizerCredentials": text,
    "identitySource": text,
    "identityValidationExpression": text,
    "authorizerResultTtlInSeconds": integer,
    "providerARNs": Items(),
}
_MODEL_PATHS: Schema = {"description": text, "schema": text}
_VALIDATOR_PATHS: Schema = {
    "name": text,
    "validateRequestBody": flag,
    "validateRequestParameters": flag,
}
_GATEWAY_RESPONSE_PATHS: Schema = {
    "statusCode": text,
    "responseParameters": Entries(),
    "responseTemplates": Entries(),
}


class RestPartOperations:
    """The parts of an API's definition that have names of their own."""

    def __init__(self, apis: RestApis) -> None:
        self._apis = apis

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("CreateAuthorizer", self.create_authorizer),
            ("GetAuthorizer", self.get_authorizer),
            ("GetAuthorizers", self.get_authorizers),
            ("UpdateAuthorizer", self.update_authorizer),
            ("DeleteAuthorizer", self.delete_authorizer),
            ("CreateModel", self.create_model),
            ("GetModel", self.get_model),
            ("GetModels", self.get_models),
            ("UpdateModel", self.update_model),
            ("DeleteModel", self.delete_model),
            ("CreateRequestValidator", self.create_request_validator),
            ("GetRequestValidator", self.get_request_validator),
            ("GetRequestValidators", self.get_request_validators),
            ("UpdateRequestValidator", self.update_request_validator),
            ("DeleteRequestValidator", self.delete_request_validator),
            ("PutGatewayResponse", self.put_gateway_response),
            ("GetGatewayResponse", self.get_gateway_response),
            ("GetGatewayResponses", self.get_gateway_responses),
            ("UpdateGatewayResponse", self.update_gateway_response),
            ("DeleteGatewayResponse", self.delete_gateway_response),
        ):
            operations.add("apigateway", name, handler)

    # Authorizers.

    async def create_authorizer(self, call: Call) -> Output:
        given = without(call.params, "restApiId")
        made = {"id": new_id(), "authType": "custom", "authorizerResultTtlInSeconds": 300, **given}
        _check_authorizer(made)

        def change(api: RestApi) -> RestApi:
            authorizers = api.definition.authorizers
            if any(item["name"] == made["name"] for item in authorizers.values()):
                raise BadRequest("Authorizer name must be unique.")
            return with_definition(api, authorizers={**authorizers, made["id"]: made})

        await self._change(call, change)
        return made

    async def get_authorizer(self, call: Call) -> Output:
        return named(
            self._api(call).definition.authorizers, call.params["authorizerId"], _NO_AUTHORIZER
        )

    async def get_authorizers(self, call: Call) -> Output:
        return _list(call, self._api(call).definition.authorizers)

    async def update_authorizer(self, call: Call) -> Output:
        return await self._update(
            call,
            "authorizers",
            call.params["authorizerId"],
            _AUTHORIZER_PATHS,
            _NO_AUTHORIZER,
            _check_authorizer,
        )

    async def delete_authorizer(self, call: Call) -> None:
        identity = call.params["authorizerId"]

        def is_used(method: Settings) -> bool:
            return bool(method.get("authorizerId") == identity)

        await self._delete(call, "authorizers", identity, _NO_AUTHORIZER, is_used)

    # Models.

    async def create_model(self, call: Call) -> Output:
        made = {"id": new_id(), **without(call.params, "restApiId")}

        def change(api: RestApi) -> RestApi:
            models = api.definition.models
            if made["name"] in models:
                raise Conflict(f"Model name already exists for this REST API: {made['name']}")
            return with_definition(api, models={**models, made["name"]: made})

        await self._change(call, change)
        return made

    async def get_model(self, call: Call) -> Output:
        name = call.params["modelName"]
        return named(self._api(call).definition.models, name, _no_model(name))

    async def get_models(self, call: Call) -> Output:
        return _list(call, self._api(call).definition.models)

    async def update_model(self, call: Call) -> Output:
        name = call.params["modelName"]
        return await self._update(call, "models", name, _MODEL_PATHS, _no_model(name))

    async def delete_model(self, call: Call) -> None:
        name = call.params["modelName"]

        def is_used(method: Settings) -> bool:
            responses = method.get("methodResponses", {}).values()
            used = [*method.get("requestModels", {}).values()]
            used += [m for item in responses for m in item.get("responseModels", {}).values()]
            return name in used

        await self._delete(call, "models", name, _no_model(name), is_used)

    # Request validators.

    async def create_request_validator(self, call: Call) -> Output:
        given = without(call.params, "restApiId")
        flags = {"validateRequestBody": False, "validateRequestParameters": False}
        made = {"id": new_id(), **flags, **given}

        def change(api: RestApi) -> RestApi:
            validators = api.definition.validators
            return with_definition(api, validators={**validators, made["id"]: made})

        await self._change(call, change)
        return made

    async def get_request_validator(self, call: Call) -> Output:
        validators = self._api(call).definition.validators
        return named(validators, call.params["requestValidatorId"], _NO_VALIDATOR)

    async def get_request_validators(self, call: Call) -> Output:
        return _list(call, self._api(call).definition.validators)

    async def update_request_validator(self, call: Call) -> Output:
        identity = call.params["requestValidatorId"]
        return await self._update(call, "validators", identity, _VALIDATOR_PATHS, _NO_VALIDATOR)

    async def delete_request_validator(self, call: Call) -> None:
        identity = call.params["requestValidatorId"]

        def is_used(method: Settings) -> bool:
            return bool(method.get("requestValidatorId") == identity)

        await self._delete(call, "validators", identity, _NO_VALIDATOR, is_used)

    # Gateway responses: all of them exist always, and some are set.

    async def put_gateway_response(self, call: Call) -> Output:
        kind = call.params["responseType"]
        given = {
            "responseParameters": {},
            "responseTemplates": {},
            **without(call.params, "restApiId"),
            "defaultResponse": False,
        }
        _check_gateway_response(given)

        def change(api: RestApi) -> RestApi:
            responses = api.definition.gateway_responses
            return with_definition(api, gateway_responses={**responses, kind: given})

        await self._change(call, change)
        return _with_status(given)

    async def get_gateway_response(self, call: Call) -> Output:
        return _gateway_response(self._api(call), call.params["responseType"])

    async def get_gateway_responses(self, call: Call) -> Output:
        api = self._api(call)
        page = cut(call, sorted(STATUSES), str)
        return {**page, "items": [_gateway_response(api, kind) for kind in page["items"]]}

    async def update_gateway_response(self, call: Call) -> Output:
        kind = call.params["responseType"]

        def change(api: RestApi) -> RestApi:
            before = _gateway_response(api, kind)
            after = apply_patch(
                _GATEWAY_RESPONSE_PATHS, before, call.params.get("patchOperations", [])
            )
            after["defaultResponse"] = False
            _check_gateway_response(after)
            responses = api.definition.gateway_responses
            return with_definition(api, gateway_responses={**responses, kind: after})

        return _gateway_response(await self._change(call, change), kind)

    async def delete_gateway_response(self, call: Call) -> None:
        kind = call.params["responseType"]
        await self._delete(
            call, "gateway_responses", kind, "Gateway response type not defined on api", None
        )

    # Their common parts.

    def _api(self, call: Call) -> RestApi:
        return self._apis.get(call.account, call.region, call.params["restApiId"])

    async def _change(self, call: Call, change: Callable[[RestApi], RestApi]) -> RestApi:
        return await self._apis.change(call.account, call.region, call.params["restApiId"], change)

    async def _update(
        self,
        call: Call,
        member: str,
        name: str,
        paths: Schema,
        missing: str,
        check: Callable[[Settings], None] | None = None,
    ) -> Settings:
        def change(api: RestApi) -> RestApi:
            parts = getattr(api.definition, member)
            after = apply_patch(
                paths, named(parts, name, missing), call.params.get("patchOperations", [])
            )
            if check is not None:
                check(after)
            return with_definition(api, **{member: {**parts, name: after}})

        api = await self._change(call, change)
        return named(getattr(api.definition, member), name, missing)

    async def _delete(
        self,
        call: Call,
        member: str,
        name: str,
        missing: str,
        is_used: Callable[[Settings], bool] | None,
    ) -> None:
        def change(api: RestApi) -> RestApi:
            parts = dict(getattr(api.definition, member))
            named(parts, name, missing)
            for resource in api.definition.resources.values():
                for verb, method in resource.methods.items():
                    if is_used is not None and is_used(method):
                        raise Conflict(
                            f"Cannot delete '{name}': it is used by the method {verb} of"
                            f" {resource.path}"
                        )
            del parts[name]
            return with_definition(api, **{member: parts})

        await self._change(call, change)


def _list(call: Call, parts: Mapping[str, Settings]) -> Output:
    page = cut(call, sorted(parts), str)
    return {**page, "items": [parts[name] for name in page["items"]]}


def _no_model(name: str) -> str:
    return f"Invalid model name specified: {name}"


def _check_authorizer(authorizer: Settings) -> None:
    kind = authorizer["type"]
    if kind not in ("TOKEN", "REQUEST"):
        raise NotYetImplemented(f"firelet does not serve authorizers of type {kind} yet")
    if not authorizer.get("authorizerUri"):
        raise BadRequest("Authorizer URI must be specified for custom authorizers")
    if kind == "TOKEN" and not authorizer.get("identitySource"):
        raise BadRequest("Invalid identity source: a TOKEN authorizer needs one")
    if authorizer.get("identityValidationExpression"):
        compile_whole(authorizer["identityValidationExpression"])
    if function_of(authorizer["authorizerUri"]) is None:
        raise BadRequest(f"Invalid Authorizer URI: {authorizer['authorizerUri']}")
    ttl = authorizer["authorizerResultTtlInSeconds"]
    if not 0 <= ttl <= 3600:
        raise BadRequest("Authorizer result TTL must be between 0 and 3600 seconds")
    if kind == "REQUEST" and ttl and not authorizer.get("identitySource"):
        raise BadRequest("Identity source is required when the authorizer caches its results")


def _check_gateway_response(response: Mapping[str, Any]) -> None:
    status = response.get("statusCode")
    if status is not None and not (status.isascii() and status.isdigit() and len(status) == 3):
        raise BadRequest("Invalid status code specified for the gateway response")
    for template in response["responseTemplates"].values():
        try:
            parse_template(template)
        except UnsupportedTemplate as error:
            raise NotYetImplemented(f"firelet does not evaluate this template: {error}") from None


def _gateway_response(api: RestApi, kind: str) -> dict[str, Any]:
    found = api.definition.gateway_responses.get(kind)
    return default_response(kind) if found is None else _with_status(found)


def _with_status(response: Mapping[str, Any]) -> dict[str, Any]:
    status = response.get("statusCode") or STATUSES[response["responseType"]]
    return {**response, "statusCode": status}
