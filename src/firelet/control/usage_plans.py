"""API keys and usage plans: who may call which stages of REST APIs, how fast and how often.

The rules and the records. What it is not: counting, which is ``gateway.usage``. Called by
``frontend.apigateway_keys`` and ``gateway.rest_api``.
Source: API reference of API Gateway; sentences as recorded by users.
"""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from firelet.control.api_errors import BadRequest, Conflict, NotFound
from firelet.control.rest_apis import RestApis, find_stage, new_id
from firelet.store.documents import DocumentStore
from firelet.store.records import Records

_VALUE_LENGTH, _VALUE_MIN, _VALUE_MAX = 40, 20, 128
_VALUE_ALPHABET = string.ascii_letters + string.digits
_KEY_ID_LENGTH = 10
# By the period of a quota: the last day on which one can begin, and how AWS says so.
_OFFSETS = {
    "DAY": (0, "zero"),
    "WEEK": (6, "between zero and six inclusive"),
    "MONTH": (27, "between zero and 27 inclusive"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key that a client sends. ``value`` is what it sends."""

    account: str
    region: str
    id: str
    value: str
    name: str
    description: str | None = None
    customer_id: str | None = None
    is_enabled: bool = True
    created: float
    updated: float
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        return f"arn:aws:apigateway:{self.region}::/apikeys/{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsagePlan:
    """Stages, the keys that may call them, and how much. ``settings`` has ``name``,
    ``description``, ``throttle``, ``quota``, ``productCode`` of the shape ``UsagePlan``; ``stages``
    the throttles of methods by ``API:STAGE``."""

    account: str
    region: str
    id: str
    settings: Mapping[str, Any]
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        return f"arn:aws:apigateway:{self.region}::/usageplans/{self.id}"


class UsagePlans:
    """``load`` first. Every change is on disk when its call returns. ``clock``: epoch seconds."""

    def __init__(
        self, documents: DocumentStore, apis: RestApis, clock: Callable[[], float]
    ) -> None:
        self._keys = Records(documents, "api-key", ApiKey)
        self._plans = Records(documents, "usage-plan", UsagePlan)
        self._apis = apis
        self._clock = clock
        self._changing = asyncio.Lock()

    def load(self) -> None:
        """Blocking: at start-up only."""
        self._keys.load()
        self._plans.load()

    def find(
        self, account: str, region: str, stage: str, value: str
    ) -> tuple[UsagePlan, ApiKey] | None:
        """The plan by which an enabled key may call ``stage`` (``API:STAGE``)."""
        for plan in self._plans.values():
            if stage not in plan.stages or (plan.account, plan.region) != (account, region):
                continue
            for key_id in plan.keys:
                key = self._keys.get(key_id)
                if key is not None and key.is_enabled and _is_equal(key.value, value):
                    return plan, key
        return None

    # Keys.

    def key(self, account: str, region: str, key_id: str) -> ApiKey:
        found = self._keys.get(key_id)
        if found is None or (found.account, found.region) != (account, region):
            raise NotFound("Invalid API Key identifier specified")
        return found

    def keys(self, account: str, region: str) -> list[ApiKey]:
        """By id."""
        mine = [k for k in self._keys.values() if (k.account, k.region) == (account, region)]
        return sorted(mine, key=lambda key: key.id)

    async def create_key(
        self, account: str, region: str, value: str | None, **members: Any
    ) -> ApiKey:
        """Without a value, one that nobody can guess. Conflict when the value is taken."""
        async with self._changing:
            value = value or "".join(secrets.choice(_VALUE_ALPHABET) for _ in range(_VALUE_LENGTH))
            if not _VALUE_MIN <= len(value) <= _VALUE_MAX:
                raise BadRequest(f"API Key value should be at least {_VALUE_MIN} characters")
            if any(_is_equal(key.value, value) for key in self._keys.values()):
                raise Conflict("API Key already exists")
            now = self._clock()
            key = ApiKey(
                account=account,
                region=region,
                id=new_id(_KEY_ID_LENGTH),
                value=value,
                created=now,
                updated=now,
                **members,
            )
            await self._keys.put(key.id, key)
            return key

    async def change_key(
        self, account: str, region: str, key_id: str, change: Callable[[ApiKey], ApiKey]
    ) -> ApiKey:
        async with self._changing:
            after = replace(change(self.key(account, region, key_id)), updated=self._clock())
            await self._keys.put(key_id, after)
            return after

    async def delete_key(self, account: str, region: str, key_id: str) -> None:
        """It leaves the plans that it is in."""
        async with self._changing:
            self.key(account, region, key_id)
            for plan in list(self._plans.values()):
                if key_id in plan.keys:
                    left = tuple(key for key in plan.keys if key != key_id)
                    await self._plans.put(plan.id, replace(plan, keys=left))
            await self._keys.delete(key_id)

    # Plans.

    def plan(self, account: str, region: str, plan_id: str) -> UsagePlan:
        found = self._plans.get(plan_id)
        if found is None or (found.account, found.region) != (account, region):
            raise NotFound("Invalid Usage Plan ID specified")
        return found

    def plans(self, account: str, region: str) -> list[UsagePlan]:
        """By id."""
        mine = [p for p in self._plans.values() if (p.account, p.region) == (account, region)]
        return sorted(mine, key=lambda plan: plan.id)

    async def create_plan(
        self,
        account: str,
        region: str,
        settings: Mapping[str, Any],
        stages: Mapping[str, Mapping[str, Any]],
        tags: Mapping[str, str],
    ) -> UsagePlan:
        plan = UsagePlan(
            account=account,
            region=region,
            id=new_id(),
            settings=settings,
            stages=stages,
            tags=tags,
        )
        async with self._changing:
            self._check(plan)
            await self._plans.put(plan.id, plan)
            return plan

    async def change_plan(
        self, account: str, region: str, plan_id: str, change: Callable[[UsagePlan], UsagePlan]
    ) -> UsagePlan:
        async with self._changing:
            before = self.plan(account, region, plan_id)
            after = change(before)
            self._check(after, before)
            await self._plans.put(plan_id, after)
            return after

    async def delete_plan(self, account: str, region: str, plan_id: str) -> None:
        """BadRequest while it has stages that exist."""
        async with self._changing:
            plan = self.plan(account, region, plan_id)
            used = [stage for stage in plan.stages if self._has(stage)]
            if used:
                raise BadRequest(
                    f"Cannot delete usage plan {plan_id}. Please remove all API stages from this"
                    f" usage plan before deleting: {', '.join(used)}"
                )
            await self._plans.delete(plan_id)

    async def add_key(self, account: str, region: str, plan_id: str, key_id: str) -> ApiKey:
        """Conflict when the key is in the plan, or in another plan of the same stage."""
        key = self.key(account, region, key_id)

        def change(plan: UsagePlan) -> UsagePlan:
            if key_id in plan.keys:
                raise Conflict(f"Usage Plan {plan_id} already has the API Key {key_id}")
            for other in self.plans(account, region):
                shared = other.stages.keys() & plan.stages.keys()
                if key_id in other.keys and shared:
                    raise Conflict(
                        f"API Key {key_id} cannot be added to Usage Plan {plan_id} because it is"
                        f" in Usage Plan {other.id} for the same API stage: {', '.join(shared)}"
                    )
            return replace(plan, keys=(*plan.keys, key_id))

        await self.change_plan(account, region, plan_id, change)
        return key

    async def remove_key(self, account: str, region: str, plan_id: str, key_id: str) -> None:
        def change(plan: UsagePlan) -> UsagePlan:
            if key_id not in plan.keys:
                raise NotFound("Invalid API Key identifier specified")
            return replace(plan, keys=tuple(key for key in plan.keys if key != key_id))

        await self.change_plan(account, region, plan_id, change)

    def _has(self, name: str) -> bool:
        api_id, _, stage = name.partition(":")
        api = self._apis.find(api_id)
        return api is not None and stage in api.stages

    def _check(self, plan: UsagePlan, before: UsagePlan | None = None) -> None:
        """BadRequest or NotFound. Stages that were in the plan may have gone since."""
        if not plan.settings.get("name"):
            raise BadRequest("Usage plan name cannot be blank")
        for name in plan.stages.keys() - (before.stages.keys() if before else set()):
            api_id, _, stage = name.partition(":")
            find_stage(self._apis.get(plan.account, plan.region, api_id), stage)
        for throttle in (plan.settings.get("throttle"), *_throttles(plan)):
            if throttle and min(throttle.get("rateLimit", 0), throttle.get("burstLimit", 0)) < 0:
                raise BadRequest("Usage Plan throttle limits must not be negative")
        quota = plan.settings.get("quota")
        if quota:
            _check_quota(quota)


def _throttles(plan: UsagePlan) -> list[Mapping[str, Any]]:
    return [t for stage in plan.stages.values() for t in stage.values()]


def _check_quota(quota: Mapping[str, Any]) -> None:
    if quota.get("limit", 0) <= 0:
        raise BadRequest("Usage Plan quota limit must be greater than 0")
    period = quota.get("period")
    if period not in _OFFSETS:
        raise BadRequest("Usage Plan quota period must be one of: [DAY, WEEK, MONTH]")
    most, sentence = _OFFSETS[period]
    if not 0 <= quota.get("offset", 0) <= most:
        raise BadRequest(f"Usage Plan quota offset must be {sentence} in the {period} period")


def _is_equal(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())
