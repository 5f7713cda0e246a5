"""The API Gateway API of REST APIs: all its families, with tags and the account's settings.

What it is: operations over ``control.rest_apis`` and ``control.usage_plans``. What it is not: HTTP
and WebSocket APIs, which are another API, custom domains, VPC links, documentation or SDKs.
Source: https://docs.aws.amazon.com/apigateway/latest/api/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from firelet.control.api_errors import NotFound
from firelet.control.rest_api_account import ApiGatewayAccounts
from firelet.control.rest_api_patch import Items, Schema, apply_patch, text
from firelet.control.rest_api_records import RestApi
from firelet.control.rest_apis import RestApis, find_stage
from firelet.control.usage_plans import UsagePlans
from firelet.frontend.apigateway_apis import RestApiOperations
from firelet.frontend.apigateway_keys import Counts, RestKeyOperations
from firelet.frontend.apigateway_methods import RestMethodOperations
from firelet.frontend.apigateway_parts import RestPartOperations
from firelet.frontend.apigateway_responses import GatewayResponseOperations
from firelet.frontend.apigateway_stages import RestStageOperations
from firelet.frontend.operations import Call, Operations

Output = Mapping[str, Any]
Tags = Mapping[str, str]

_ARN = re.compile(
    r"arn:aws[a-z-]*:apigateway:(?P<region>[a-z0-9-]+)::/"
    r"(?P<kind>restapis|apikeys|usageplans)/(?P<id>[a-zA-Z0-9_-]+)(/stages/(?P<stage>[^/]+))?"
)
_ACCOUNT_PATHS: Schema = {"cloudwatchRoleArn": text, "features": Items()}


class ApiGatewayOperations:
    """Everything of the API Gateway API that firelet serves."""

    def __init__(
        self, apis: RestApis, plans: UsagePlans, accounts: ApiGatewayAccounts, counts: Counts
    ) -> None:
        self._apis = apis
        self._plans = plans
        self._accounts = accounts
        self._families = (
            RestApiOperations(apis),
            RestMethodOperations(apis),
            RestPartOperations(apis),
            GatewayResponseOperations(apis),
            RestStageOperations(apis),
            RestKeyOperations(plans, counts),
        )

    def register(self, operations: Operations) -> None:
        for family in self._families:
            family.register(operations)
        for name, handler in (
            ("TagResource", self.tag_resource),
            ("UntagResource", self.untag_resource),
            ("GetTags", self.get_tags),
            ("GetAccount", self.get_account),
            ("UpdateAccount", self.update_account),
        ):
            operations.add("apigateway", name, handler)

    async def tag_resource(self, call: Call) -> None:
        await self._tag(call, lambda tags: {**tags, **call.params["tags"]})

    async def untag_resource(self, call: Call) -> None:
        gone = set(call.params["tagKeys"])
        await self._tag(call, lambda tags: {k: v for k, v in tags.items() if k not in gone})

    async def get_tags(self, call: Call) -> Output:
        parts, who = _parse_arn(call), (call.account, call.region)
        tags: Tags
        if parts["kind"] == "apikeys":
            tags = self._plans.key(*who, parts["id"]).tags
        elif parts["kind"] == "usageplans":
            tags = self._plans.plan(*who, parts["id"]).tags
        else:
            api = self._apis.get(*who, parts["id"])
            stage = parts["stage"]
            tags = api.tags if stage is None else find_stage(api, stage).settings.get("tags", {})
        return {"tags": tags}

    async def get_account(self, call: Call) -> Output:
        return self._accounts.get(call.account, call.region)

    async def update_account(self, call: Call) -> Output:
        before = self._accounts.get(call.account, call.region)
        after = apply_patch(_ACCOUNT_PATHS, before, call.params.get("patchOperations", []))
        await self._accounts.put(call.account, call.region, after.get("cloudwatchRoleArn") or None)
        return self._accounts.get(call.account, call.region)

    async def _tag(self, call: Call, change: Callable[[Tags], Tags]) -> None:
        parts, who = _parse_arn(call), (call.account, call.region)
        if parts["kind"] == "apikeys":
            await self._plans.change_key(
                *who, parts["id"], lambda key: replace(key, tags=change(key.tags))
            )
        elif parts["kind"] == "usageplans":
            await self._plans.change_plan(
                *who, parts["id"], lambda plan: replace(plan, tags=change(plan.tags))
            )
        else:
            await self._apis.change(
                *who, parts["id"], lambda api: _tag_api(api, parts["stage"], change)
            )


def _tag_api(api: RestApi, name: str | None, change: Callable[[Tags], Tags]) -> RestApi:
    if name is None:
        return replace(api, tags=change(api.tags))
    stage = find_stage(api, name)
    settings = {**stage.settings, "tags": change(stage.settings.get("tags", {}))}
    return replace(api, stages={**api.stages, name: replace(stage, settings=settings)})


def _parse_arn(call: Call) -> Mapping[str, Any]:
    arn = call.params["resourceArn"]
    found = _ARN.fullmatch(arn)
    if found is None or found["region"] != call.region:
        raise NotFound("Invalid resource ARN specified")
    return found.groupdict()
