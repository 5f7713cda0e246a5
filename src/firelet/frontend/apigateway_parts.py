"""What methods refer to: authorizers, models and request validators.

Three families of the same five operations. Source: the API reference of API Gateway and the service
model of ``apigateway``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from firelet.control.api_errors import BadRequest, Conflict
from firelet.control.rest_api_checks import TTL_DEFAULT_S, check_authorizer
from firelet.control.rest_api_patch import Items, Schema, apply_patch, flag, integer, text
from firelet.control.rest_api_records import RestApi, Settings
from firelet.control.rest_api_tree import named, with_definition
from firelet.control.rest_apis import RestApis, new_id
from firelet.frontend.apigateway_shapes import cut, without
from firelet.frontend.operations import Call, Operations

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


class RestPartOperations:
    """The parts of an API's definition that have names of their own."""

    def __init__(self, apis: RestApis) -> None:
        self._apis = apis

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("GetAuthorizer", self.get_authorizer),
            ("GetAuthorizers", self.get_authorizers),
            ("UpdateAuthorizer", self.update_authorizer),
            ("DeleteAuthorizer", self.delete_authorizer),
            ("CreateModel", self.create_model),
            ("GetModel", self.get_model),
            ("GetModels", self.get_models),
            ("UpdateModel", self.update_model),
            ("DeleteModel", self.delete_model),
            ("GetRequestValidator", self.get_request_validator),
            ("GetRequestValidators", self.get_request_validators),
            ("UpdateRequestValidator", self.update_request_validator),
            ("DeleteRequestValidator", self.delete_request_validator),
        ):
            operations.add("apigateway", name, handler)
        for name, handler, lacks in (
            ("CreateAuthorizer", self.create_authorizer, "no user pools"),
            ("CreateRequestValidator", self.create_request_validator, "bodies are not checked"),
        ):
            operations.add("apigateway", name, handler, lacks=lacks)

    # Authorizers.

    async def create_authorizer(self, call: Call) -> Output:
        given = without(call.params, "restApiId")
        made = {
            "id": new_id(),
            "authType": "custom",
            "authorizerResultTtlInSeconds": TTL_DEFAULT_S,
            **given,
        }
        check_authorizer(made)

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
            check_authorizer,
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
        is_used: Callable[[Settings], bool],
    ) -> None:
        def change(api: RestApi) -> RestApi:
            parts = dict(getattr(api.definition, member))
            named(parts, name, missing)
            for resource in api.definition.resources.values():
                for verb, method in resource.methods.items():
                    if is_used(method):
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
