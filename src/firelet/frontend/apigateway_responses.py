"""Gateway responses: what an API answers by itself. All of them exist always, and some are set.

Source: https://docs.aws.amazon.com/apigateway/latest/api/ and the service model of ``apigateway``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from firelet.control.rest_api_checks import check_gateway_response
from firelet.control.rest_api_patch import Entries, Schema, apply_patch, text
from firelet.control.rest_api_records import RestApi
from firelet.control.rest_api_tree import named, with_definition
from firelet.control.rest_apis import RestApis
from firelet.frontend.apigateway_shapes import cut, without
from firelet.frontend.operations import Call, Operations
from firelet.model.gateway_responses import STATUSES, default_response

Output = Mapping[str, Any]

_PATHS: Schema = {
    "statusCode": text,
    "responseParameters": Entries(),
    "responseTemplates": Entries(),
}


class GatewayResponseOperations:
    """How refusals are worded."""

    def __init__(self, apis: RestApis) -> None:
        self._apis = apis

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("PutGatewayResponse", self.put_gateway_response),
            ("GetGatewayResponse", self.get_gateway_response),
            ("GetGatewayResponses", self.get_gateway_responses),
            ("UpdateGatewayResponse", self.update_gateway_response),
            ("DeleteGatewayResponse", self.delete_gateway_response),
        ):
            operations.add("apigateway", name, handler)

    async def put_gateway_response(self, call: Call) -> Output:
        kind = call.params["responseType"]
        given = {
            "responseParameters": {},
            "responseTemplates": {},
            **without(call.params, "restApiId"),
            "defaultResponse": False,
        }
        check_gateway_response(given)

        def change(api: RestApi) -> RestApi:
            responses = api.definition.gateway_responses
            return with_definition(api, gateway_responses={**responses, kind: given})

        await self._change(call, change)
        return _with_status(given)

    async def get_gateway_response(self, call: Call) -> Output:
        return _find(self._api(call), call.params["responseType"])

    async def get_gateway_responses(self, call: Call) -> Output:
        api = self._api(call)
        page = cut(call, sorted(STATUSES), str)
        return {**page, "items": [_find(api, kind) for kind in page["items"]]}

    async def update_gateway_response(self, call: Call) -> Output:
        kind = call.params["responseType"]

        def change(api: RestApi) -> RestApi:
            after = apply_patch(_PATHS, _find(api, kind), call.params.get("patchOperations", []))
            after["defaultResponse"] = False
            check_gateway_response(after)
            responses = api.definition.gateway_responses
            return with_definition(api, gateway_responses={**responses, kind: after})

        return _find(await self._change(call, change), kind)

    async def delete_gateway_response(self, call: Call) -> None:
        """What is left is AWS's own."""
        kind = call.params["responseType"]

        def change(api: RestApi) -> RestApi:
            responses = dict(api.definition.gateway_responses)
            named(responses, kind, "Gateway response type not defined on api")
            del responses[kind]
            return with_definition(api, gateway_responses=responses)

        await self._change(call, change)

    def _api(self, call: Call) -> RestApi:
        return self._apis.get(call.account, call.region, call.params["restApiId"])

    async def _change(self, call: Call, change: Callable[[RestApi], RestApi]) -> RestApi:
        return await self._apis.change(call.account, call.region, call.params["restApiId"], change)


def _find(api: RestApi, kind: str) -> dict[str, Any]:
    found = api.definition.gateway_responses.get(kind)
    return default_response(kind) if found is None else _with_status(found)


def _with_status(response: Mapping[str, Any]) -> dict[str, Any]:
    status = response.get("statusCode") or STATUSES[response["responseType"]]
    return {**response, "statusCode": status}
