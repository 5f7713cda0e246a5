"""Methods, integrations and their responses: operations of the API Gateway API.

Source: https://docs.aws.amazon.com/apigateway/latest/api/ and the service model of ``apigateway``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from firelet.control.api_errors import BadRequest, Conflict
from firelet.control.rest_api_integrations import complete_integration, complete_response
from firelet.control.rest_api_patch import Entries, Items, Schema, apply_patch, flag, integer, text
from firelet.control.rest_api_records import RestApi, Settings
from firelet.control.rest_api_tree import (
    find_integration,
    find_method,
    find_resource,
    find_response,
    put_integration,
    put_method,
    with_response,
)
from firelet.control.rest_apis import RestApis
from firelet.frontend.apigateway_shapes import without
from firelet.frontend.operations import Call, Operations

Output = Mapping[str, Any]

_NAMES = ("restApiId", "resourceId", "httpMethod")
_VERBS = ("ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_AUTHORIZATIONS = ("NONE", "AWS_IAM", "CUSTOM", "COGNITO_USER_POOLS")

_METHOD_PATHS: Schema = {
    "authorizationType": text,
    "authorizerId": text,
    "authorizationScopes": Items(),
    "apiKeyRequired": flag,
    "operationName": text,
    "requestValidatorId": text,
    "requestParameters": Entries(flag),
    "requestModels": Entries(),
}
_INTEGRATION_PATHS: Schema = {
    "type": text,
    "httpMethod": text,
    "uri": text,
    "credentials": text,
    "connectionType": text,
    "connectionId": text,
    "passthroughBehavior": text,
    "contentHandling": text,
    "timeoutInMillis": integer,
    "cacheNamespace": text,
    "cacheKeyParameters": Items(),
    "requestParameters": Entries(),
    "requestTemplates": Entries(),
    "responseTransferMode": text,
    "tlsConfig": {"insecureSkipVerification": flag},
}
_METHOD_RESPONSE_PATHS: Schema = {"responseParameters": Entries(flag), "responseModels": Entries()}
_INTEGRATION_RESPONSE_PATHS: Schema = {
    "selectionPattern": text,
    "contentHandling": text,
    "responseParameters": Entries(),
    "responseTemplates": Entries(),
}


class RestMethodOperations:
    """What is done at a resource."""

    def __init__(self, apis: RestApis) -> None:
        self._apis = apis

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("PutMethod", self.put_method),
            ("GetMethod", self.get_method),
            ("UpdateMethod", self.update_method),
            ("DeleteMethod", self.delete_method),
            ("PutMethodResponse", self.put_method_response),
            ("GetMethodResponse", self.get_method_response),
            ("UpdateMethodResponse", self.update_method_response),
            ("DeleteMethodResponse", self.delete_method_response),
            ("GetIntegration", self.get_integration),
            ("DeleteIntegration", self.delete_integration),
            ("PutIntegrationResponse", self.put_integration_response),
            ("GetIntegrationResponse", self.get_integration_response),
            ("UpdateIntegrationResponse", self.update_integration_response),
            ("DeleteIntegrationResponse", self.delete_integration_response),
        ):
            operations.add("apigateway", name, handler)
        kinds = "functions and MOCK only; no directives in templates"
        operations.add("apigateway", "PutIntegration", self.put_integration, lacks=kinds)
        operations.add("apigateway", "UpdateIntegration", self.update_integration, lacks=kinds)

    async def put_method(self, call: Call) -> Output:
        _, resource_id, verb = _place(call)
        given = {"apiKeyRequired": False, **without(call.params, *_NAMES), "httpMethod": verb}

        def change(api: RestApi) -> RestApi:
            if verb in find_resource(api, resource_id).methods:
                raise Conflict("Method already exists for this resource")
            _check_method(api, given)
            return put_method(api, resource_id, verb, given)

        return find_method(await self._change(call, change), resource_id, verb)

    async def get_method(self, call: Call) -> Output:
        api_id, resource_id, verb = _place(call)
        return find_method(self._api(call, api_id), resource_id, verb)

    async def update_method(self, call: Call) -> Output:
        def update(api: RestApi, method: Settings) -> Settings:
            after = apply_patch(_METHOD_PATHS, method, _operations(call))
            _check_method(api, after)
            return after

        return await self._update_method(call, update)

    async def delete_method(self, call: Call) -> None:
        _, resource_id, verb = _place(call)
        await self._change(call, lambda api: put_method(api, resource_id, verb, None))

    async def put_method_response(self, call: Call) -> Output:
        status = call.params["statusCode"]
        given = without(call.params, *_NAMES)

        def update(api: RestApi, method: Settings) -> Settings:
            if status in method.get("methodResponses", {}):
                raise Conflict("Response already exists for this resource")
            return with_response(method, "methodResponses", status, given)

        method = await self._update_method(call, update)
        return find_response(method, "methodResponses", status)

    async def get_method_response(self, call: Call) -> Output:
        method = await self.get_method(call)
        return find_response(method, "methodResponses", call.params["statusCode"])

    async def update_method_response(self, call: Call) -> Output:
        status = call.params["statusCode"]

        def update(api: RestApi, method: Settings) -> Settings:
            before = find_response(method, "methodResponses", status)
            after = apply_patch(_METHOD_RESPONSE_PATHS, before, _operations(call))
            return with_response(method, "methodResponses", status, after)

        method = await self._update_method(call, update)
        return find_response(method, "methodResponses", status)

    async def delete_method_response(self, call: Call) -> None:
        status = call.params["statusCode"]
        await self._update_method(
            call, lambda _, method: with_response(method, "methodResponses", status, None)
        )

    async def put_integration(self, call: Call) -> Output:
        """One that is there is replaced, with its responses."""
        _, resource_id, verb = _place(call)
        given = without(call.params, *_NAMES, "integrationHttpMethod")
        if "integrationHttpMethod" in call.params:
            given["httpMethod"] = call.params["integrationHttpMethod"].upper()
        integration = complete_integration(given, resource_id)

        def change(api: RestApi) -> RestApi:
            return put_integration(api, resource_id, verb, integration)

        return find_integration(await self._change(call, change), resource_id, verb)

    async def get_integration(self, call: Call) -> Output:
        api_id, resource_id, verb = _place(call)
        return find_integration(self._api(call, api_id), resource_id, verb)

    async def update_integration(self, call: Call) -> Output:
        resource_id = call.params["resourceId"]

        def update(integration: Settings) -> Settings:
            after = apply_patch(_INTEGRATION_PATHS, integration, _operations(call))
            return complete_integration(after, resource_id)

        return await self._update_integration(call, update)

    async def delete_integration(self, call: Call) -> None:
        _, resource_id, verb = _place(call)
        await self._change(call, lambda api: put_integration(api, resource_id, verb, None))

    async def put_integration_response(self, call: Call) -> Output:
        status = call.params["statusCode"]
        given = complete_response(without(call.params, *_NAMES))
        _, resource_id, verb = _place(call)

        def change(api: RestApi) -> RestApi:
            _check_mapped(find_method(api, resource_id, verb), status, given)
            after = with_response(
                find_integration(api, resource_id, verb), "integrationResponses", status, given
            )
            return put_integration(api, resource_id, verb, after)

        api = await self._change(call, change)
        integration = find_integration(api, resource_id, verb)
        return find_response(integration, "integrationResponses", status)

    async def get_integration_response(self, call: Call) -> Output:
        integration = await self.get_integration(call)
        return find_response(integration, "integrationResponses", call.params["statusCode"])

    async def update_integration_response(self, call: Call) -> Output:
        status = call.params["statusCode"]

        def update(integration: Settings) -> Settings:
            before = find_response(integration, "integrationResponses", status)
            after = apply_patch(_INTEGRATION_RESPONSE_PATHS, before, _operations(call))
            return with_response(
                integration, "integrationResponses", status, complete_response(after)
            )

        integration = await self._update_integration(call, update)
        return find_response(integration, "integrationResponses", status)

    async def delete_integration_response(self, call: Call) -> None:
        status = call.params["statusCode"]
        await self._update_integration(
            call,
            lambda integration: with_response(integration, "integrationResponses", status, None),
        )

    def _api(self, call: Call, api_id: str) -> RestApi:
        return self._apis.get(call.account, call.region, api_id)

    async def _change(self, call: Call, change: Callable[[RestApi], RestApi]) -> RestApi:
        return await self._apis.change(call.account, call.region, call.params["restApiId"], change)

    async def _update_method(
        self, call: Call, update: Callable[[RestApi, Settings], Settings]
    ) -> Settings:
        _, resource_id, verb = _place(call)

        def change(api: RestApi) -> RestApi:
            method = update(api, find_method(api, resource_id, verb))
            return put_method(api, resource_id, verb, method)

        return find_method(await self._change(call, change), resource_id, verb)

    async def _update_integration(
        self, call: Call, update: Callable[[Settings], Settings]
    ) -> Settings:
        _, resource_id, verb = _place(call)

        def change(api: RestApi) -> RestApi:
            integration = update(find_integration(api, resource_id, verb))
            return put_integration(api, resource_id, verb, integration)

        return find_integration(await self._change(call, change), resource_id, verb)


def _place(call: Call) -> tuple[str, str, str]:
    params = call.params
    return params["restApiId"], params["resourceId"], params["httpMethod"].upper()


def _operations(call: Call) -> Any:
    return call.params.get("patchOperations", [])


def _check_method(api: RestApi, method: Mapping[str, Any]) -> None:
    """BadRequest for what the service model lets through."""
    if method["httpMethod"] not in _VERBS:
        raise BadRequest(
            "Invalid HttpMethod specified. Valid options are"
            " GET,PUT,POST,DELETE,PATCH,OPTIONS,HEAD,ANY"
        )
    kind = method["authorizationType"]
    if kind not in _AUTHORIZATIONS:
        raise BadRequest(
            "Invalid authorizationType specified. Valid values are"
            " [NONE, AWS_IAM, CUSTOM, COGNITO_USER_POOLS]"
        )
    definition = api.definition
    if (
        kind in ("CUSTOM", "COGNITO_USER_POOLS")
        and method.get("authorizerId") not in definition.authorizers
    ):
        raise BadRequest(
            "Invalid authorizer ID specified. Setting the authorization type to CUSTOM or"
            " COGNITO_USER_POOLS requires a valid authorizer."
        )
    validator = method.get("requestValidatorId")
    if validator and validator not in definition.validators:
        raise BadRequest("Invalid Request Validator identifier specified")
    for name in method.get("requestModels", {}).values():
        if name not in definition.models:
            raise BadRequest(f"Invalid model identifier specified: {name}")
    for parameter in method.get("requestParameters", {}):
        place = parameter.split(".")[:3]
        if place[:2] != ["method", "request"] or place[-1] not in ("path", "querystring", "header"):
            raise BadRequest(
                "Invalid mapping expression specified: Validation Result: warnings : [], errors :"
                f" [Invalid mapping expression parameter specified: {parameter}]"
            )


def _check_mapped(method: Settings, status: str, response: Mapping[str, Any]) -> None:
    """A response has a method response of its status, and sets headers that this declares."""
    declared = find_response(method, "methodResponses", status)
    for parameter in response.get("responseParameters", {}):
        if parameter not in declared.get("responseParameters", {}):
            raise BadRequest(
                "Invalid mapping expression specified: Validation Result: warnings : [], errors :"
                f" [Invalid mapping expression parameter specified: {parameter}]"
            )
