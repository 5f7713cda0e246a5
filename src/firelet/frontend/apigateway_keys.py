"""API keys and usage plans: operations of the API Gateway API.

Source: https://docs.aws.amazon.com/apigateway/latest/api/ and the service model of ``apigateway``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any, Protocol

from firelet.control.api_errors import BadRequest, NotFound
from firelet.control.rest_api_patch import (
    Operation,
    Schema,
    apply_patch,
    flag,
    integer,
    number,
    refuse,
    split_path,
    text,
)
from firelet.control.usage_plans import ApiKey, UsagePlan, UsagePlans
from firelet.frontend.apigateway_shapes import cut, without
from firelet.frontend.operations import Call, Operations

Output = Mapping[str, Any]

_KEY_PATHS: Schema = {"name": text, "description": text, "customerId": text, "enabled": flag}
_THROTTLE: Schema = {"rateLimit": number, "burstLimit": integer}
_PLAN_PATHS: Schema = {
    "name": text,
    "description": text,
    "productCode": text,
    "throttle": _THROTTLE,
    "quota": {"limit": integer, "offset": integer, "period": text},
}
_USAGE_DAYS_MAX = 90


class Counts(Protocol):
    """How often keys were used."""

    def daily(
        self, plan_id: str, key_id: str, start: date, end: date, quota: Mapping[str, Any] | None
    ) -> list[tuple[int, int]]:
        """Used and remaining of each day, both days included."""


class RestKeyOperations:
    """Who may call, and how much of it."""

    def __init__(self, plans: UsagePlans, counts: Counts) -> None:
        self._plans = plans
        self._counts = counts

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("CreateApiKey", self.create_api_key),
            ("GetApiKey", self.get_api_key),
            ("GetApiKeys", self.get_api_keys),
            ("UpdateApiKey", self.update_api_key),
            ("DeleteApiKey", self.delete_api_key),
            ("CreateUsagePlan", self.create_usage_plan),
            ("GetUsagePlan", self.get_usage_plan),
            ("GetUsagePlans", self.get_usage_plans),
            ("UpdateUsagePlan", self.update_usage_plan),
            ("DeleteUsagePlan", self.delete_usage_plan),
            ("CreateUsagePlanKey", self.create_usage_plan_key),
            ("GetUsagePlanKey", self.get_usage_plan_key),
            ("GetUsagePlanKeys", self.get_usage_plan_keys),
            ("DeleteUsagePlanKey", self.delete_usage_plan_key),
            ("GetUsage", self.get_usage),
        ):
            operations.add("apigateway", name, handler)

    async def create_api_key(self, call: Call) -> Output:
        params = call.params
        key = await self._plans.create_key(
            call.account,
            call.region,
            params.get("value"),
            name=params.get("name", ""),
            description=params.get("description"),
            customer_id=params.get("customerId"),
            # A key that is made without a word is not enabled. Source: model of CreateApiKey.
            is_enabled=params.get("enabled", False),
            tags=params.get("tags", {}),
        )
        return _format_key(key, with_value=True)

    async def get_api_key(self, call: Call) -> Output:
        key = self._plans.key(call.account, call.region, call.params["apiKey"])
        return _format_key(key, with_value=call.params.get("includeValue", False))

    async def get_api_keys(self, call: Call) -> Output:
        params = call.params
        prefix, customer = params.get("nameQuery", ""), params.get("customerId")
        keys = [
            key
            for key in self._plans.keys(call.account, call.region)
            if key.name.startswith(prefix) and customer in (None, key.customer_id)
        ]
        page = cut(call, keys, lambda key: key.id)
        with_value = params.get("includeValues", False)
        return {**page, "items": [_format_key(k, with_value=with_value) for k in page["items"]]}

    async def update_api_key(self, call: Call) -> Output:
        def change(key: ApiKey) -> ApiKey:
            before = {
                "name": key.name,
                "description": key.description,
                "customerId": key.customer_id,
                "enabled": key.is_enabled,
            }
            after = apply_patch(_KEY_PATHS, before, call.params.get("patchOperations", []))
            return replace(
                key,
                name=after.get("name", ""),
                description=after.get("description"),
                customer_id=after.get("customerId"),
                is_enabled=after.get("enabled", False),
            )

        key = await self._plans.change_key(call.account, call.region, call.params["apiKey"], change)
        return _format_key(key, with_value=False)

    async def delete_api_key(self, call: Call) -> None:
        await self._plans.delete_key(call.account, call.region, call.params["apiKey"])

    async def create_usage_plan(self, call: Call) -> Output:
        params = call.params
        stages = {
            f"{item.get('apiId')}:{item.get('stage')}": item.get("throttle", {})
            for item in params.get("apiStages", [])
        }
        plan = await self._plans.create_plan(
            call.account,
            call.region,
            without(params, "apiStages", "tags"),
            stages,
            params.get("tags", {}),
        )
        return _format_plan(plan)

    async def get_usage_plan(self, call: Call) -> Output:
        return _format_plan(self._plan(call))

    async def get_usage_plans(self, call: Call) -> Output:
        plans, key_id = self._plans.plans(call.account, call.region), call.params.get("keyId")
        if key_id is not None:
            plans = [plan for plan in plans if key_id in plan.keys]
        page = cut(call, plans, lambda plan: plan.id)
        return {**page, "items": [_format_plan(plan) for plan in page["items"]]}

    async def update_usage_plan(self, call: Call) -> Output:
        def change(plan: UsagePlan) -> UsagePlan:
            for operation in call.params.get("patchOperations", []):
                plan = _patch_plan(plan, operation)
            return plan

        plan = await self._plans.change_plan(
            call.account, call.region, call.params["usagePlanId"], change
        )
        return _format_plan(plan)

    async def delete_usage_plan(self, call: Call) -> None:
        await self._plans.delete_plan(call.account, call.region, call.params["usagePlanId"])

    async def create_usage_plan_key(self, call: Call) -> Output:
        params = call.params
        if params["keyType"] != "API_KEY":
            raise BadRequest("Usage Plan key type must be API_KEY")
        key = await self._plans.add_key(
            call.account, call.region, params["usagePlanId"], params["keyId"]
        )
        return _format_plan_key(key)

    async def get_usage_plan_key(self, call: Call) -> Output:
        if call.params["keyId"] not in self._plan(call).keys:
            raise NotFound("Invalid Usage Plan Key identifier specified")
        return _format_plan_key(self._plans.key(call.account, call.region, call.params["keyId"]))

    async def get_usage_plan_keys(self, call: Call) -> Output:
        keys = [self._plans.key(call.account, call.region, k) for k in self._plan(call).keys]
        prefix = call.params.get("nameQuery", "")
        chosen = sorted((k for k in keys if k.name.startswith(prefix)), key=lambda key: key.id)
        page = cut(call, chosen, lambda key: key.id)
        return {**page, "items": [_format_plan_key(key) for key in page["items"]]}

    async def delete_usage_plan_key(self, call: Call) -> None:
        await self._plans.remove_key(
            call.account, call.region, call.params["usagePlanId"], call.params["keyId"]
        )

    async def get_usage(self, call: Call) -> Output:
        plan, params = self._plan(call), call.params
        start, end = _parse_date(params["startDate"]), _parse_date(params["endDate"])
        if not 0 <= (end - start).days < _USAGE_DAYS_MAX:
            raise BadRequest(f"Usage can be asked for up to {_USAGE_DAYS_MAX} days")
        wanted = params.get("keyId")
        keys = [key for key in plan.keys if wanted in (None, key)]
        quota = plan.settings.get("quota")
        days = {key: self._counts.daily(plan.id, key, start, end, quota) for key in keys}
        return {
            "usagePlanId": plan.id,
            "startDate": params["startDate"],
            "endDate": params["endDate"],
            "items": {key: [list(pair) for pair in used] for key, used in days.items()},
        }

    def _plan(self, call: Call) -> UsagePlan:
        return self._plans.plan(call.account, call.region, call.params["usagePlanId"])


def _patch_plan(plan: UsagePlan, operation: Operation) -> UsagePlan:
    tokens = split_path(operation.get("path", ""))
    if tokens[0] != "apiStages":
        return replace(plan, settings=apply_patch(_PLAN_PATHS, plan.settings, [operation]))
    stages = dict(plan.stages)
    if len(tokens) == 1:
        name = operation.get("value", "")
        if operation.get("op") == "add":
            stages.setdefault(name, {})
        elif operation.get("op") == "remove":
            stages.pop(name, None)
        else:
            raise refuse(operation, _PLAN_PATHS)
        return replace(plan, stages=stages)
    if tokens[1] not in stages or tokens[2:3] != ["throttle"]:
        raise refuse(operation, _PLAN_PATHS)
    stages[tokens[1]] = _patch_throttles(stages[tokens[1]], tokens[3:], operation)
    return replace(plan, stages=stages)


def _patch_throttles(
    before: Mapping[str, Any], tokens: list[str], operation: Operation
) -> Mapping[str, Any]:
    """Throttles of methods, by ``/pets/GET``: ``/~1pets~1GET/rateLimit`` or ``/~1pets/GET/…``."""
    if not tokens:
        return {}
    is_limit = tokens[-1] in _THROTTLE and len(tokens) > 1
    name = "/".join(tokens[:-1] if is_limit else tokens)
    if not is_limit:
        if operation.get("op") != "remove":
            raise refuse(operation, _PLAN_PATHS)
        return {key: value for key, value in before.items() if key != name}
    change = {**operation, "path": f"/{tokens[-1]}"}
    return {**before, name: apply_patch(_THROTTLE, before.get(name, {}), [change])}


def _format_key(key: ApiKey, *, with_value: bool) -> dict[str, Any]:
    return {
        "id": key.id,
        "value": key.value if with_value else None,
        "name": key.name,
        "customerId": key.customer_id,
        "description": key.description,
        "enabled": key.is_enabled,
        "createdDate": key.created,
        "lastUpdatedDate": key.updated,
        "stageKeys": [],
        "tags": key.tags,
    }


def _format_plan(plan: UsagePlan) -> dict[str, Any]:
    stages = []
    for name, throttle in plan.stages.items():
        api_id, _, stage = name.partition(":")
        stages.append({"apiId": api_id, "stage": stage, "throttle": throttle or None})
    return {"id": plan.id, **plan.settings, "apiStages": stages, "tags": plan.tags}


def _format_plan_key(key: ApiKey) -> dict[str, Any]:
    return {"id": key.id, "type": "API_KEY", "value": key.value, "name": key.name}


def _parse_date(given: str) -> date:
    try:
        return date.fromisoformat(given)
    except ValueError:
        raise BadRequest("Invalid date specified. Dates are written as YYYY-MM-DD") from None
