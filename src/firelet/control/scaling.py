"""Scalable targets: what may scale, between which bounds, by which policies and schedules.

The rules and the records. What it is not: the decision when to scale (``target_tracking``,
``scaling_schedule``) or its application, which is ``app.scaling``. Called by
``frontend.autoscaling``.
Source: Application Auto Scaling API reference; sentences as recorded by users.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from firelet.control.cron import ScheduleError, parse_schedule
from firelet.control.scaling_errors import (
    ScalingObjectNotFound,
    ScalingResourceNotFound,
    ScalingValidationError,
)
from firelet.control.scaling_records import ScalableTarget, ScalingPolicy, ScheduledAction
from firelet.store.documents import DocumentStore
from firelet.store.records import Records

DIMENSION = "lambda:function:ProvisionedConcurrency"
PREDEFINED_METRIC = "LambdaProvisionedConcurrencyUtilization"

_KIND = "scalable-target"


@dataclass(frozen=True, slots=True)
class TargetName:
    """How a caller names a target; none of it has to exist."""

    account: str
    region: str
    function: str
    qualifier: str

    @property
    def resource_id(self) -> str:
        return f"function:{self.function}:{self.qualifier}"

    @property
    def key(self) -> str:
        return f"{self.account}/{self.region}/{self.function}/{self.qualifier}"

    def __str__(self) -> str:
        return (
            f"service namespace: lambda, resource ID: {self.resource_id},"
            f" scalable dimension: {DIMENSION}"
        )


class Scaling:
    """``load`` first. Every change is on disk when its call returns."""

    def __init__(self, documents: DocumentStore, clock: Callable[[], float]) -> None:
        self._records = Records(documents, _KIND, ScalableTarget)
        self._clock = clock
        self._changing = asyncio.Lock()

    def load(self) -> None:
        """Blocking: at start-up only."""
        self._records.load()

    def everything(self) -> list[ScalableTarget]:
        return list(self._records.values())

    def targets(self, account: str, region: str) -> list[ScalableTarget]:
        """Those of one world, by resource id."""
        mine = [t for t in self._records.values() if (t.account, t.region) == (account, region)]
        return sorted(mine, key=lambda target: target.resource_id)

    async def register(
        self,
        name: TargetName,
        minimum: int | None,
        maximum: int | None,
        suspended: frozenset[str] | None,
        tags: Mapping[str, str],
    ) -> ScalableTarget:
        """Makes a target, or changes what is given of one. ScalingValidationError."""
        async with self._changing:
            before = self._records.get(name.key)
            if before is None:
                if minimum is None or maximum is None:
                    raise ScalingValidationError(
                        "Both MinCapacity and MaxCapacity must be specified when registering a new"
                        " scalable target."
                    )
                identity = uuid4().hex
                before = ScalableTarget(
                    account=name.account,
                    region=name.region,
                    function=name.function,
                    qualifier=name.qualifier,
                    arn=f"arn:aws:application-autoscaling:{name.region}:{name.account}"
                    f":scalable-target/{identity}",
                    created=self._clock(),
                    minimum=minimum,
                    maximum=maximum,
                    tags=tags,
                )
            elif tags:
                raise ScalingValidationError(
                    "Tags can only be given when a scalable target is registered."
                )
            after = replace(
                before,
                minimum=before.minimum if minimum is None else minimum,
                maximum=before.maximum if maximum is None else maximum,
                suspended=before.suspended if suspended is None else suspended,
            )
            check_bounds(after.minimum, after.maximum)
            await self._records.put(name.key, after)
            return after

    async def deregister(self, name: TargetName) -> None:
        """Its policies and scheduled actions go with it."""
        async with self._changing:
            if self._records.get(name.key) is None:
                raise ScalingObjectNotFound(f"No scalable target found for {name}")
            await self._records.delete(name.key)

    async def put_policy(
        self, name: TargetName, policy_name: str, configuration: Mapping[str, Any]
    ) -> ScalingPolicy:
        """Makes a target tracking policy or replaces it."""
        async with self._changing:
            target = self._registered(name)
            before = target.policies.get(policy_name)
            policy = ScalingPolicy(
                name=policy_name,
                arn=_hanging_arn(name, "scalingPolicy", f"policyName/{policy_name}")
                if before is None
                else before.arn,
                created=self._clock() if before is None else before.created,
                configuration=configuration,
            )
            policies = {**target.policies, policy_name: policy}
            await self._records.put(name.key, replace(target, policies=policies))
            return policy

    async def delete_policy(self, name: TargetName, policy_name: str) -> None:
        async with self._changing:
            target = self._records.get(name.key)
            if target is None or policy_name not in target.policies:
                raise ScalingObjectNotFound(
                    f"No scaling policy found for {name}, policy name: {policy_name}"
                )
            policies = _without(target.policies, policy_name)
            await self._records.put(name.key, replace(target, policies=policies))

    async def put_action(
        self, name: TargetName, action_name: str, changes: Mapping[str, Any]
    ) -> None:
        """Makes a scheduled action, or changes the fields of one that are given."""
        async with self._changing:
            target = self._registered(name)
            now = self._clock()
            before = target.actions.get(action_name)
            if before is None:
                if "schedule" not in changes:
                    raise ScalingValidationError("Schedule must be specified.")
                before = ScheduledAction(
                    name=action_name,
                    arn=_hanging_arn(name, "scheduledAction", f"scheduledActionName/{action_name}"),
                    created=now,
                    schedule=changes["schedule"],
                    done_until=now,
                )
            action = replace(before, **changes, done_until=now)
            _check_action(action)
            actions = {**target.actions, action_name: action}
            await self._records.put(name.key, replace(target, actions=actions))

    async def delete_action(self, name: TargetName, action_name: str) -> None:
        async with self._changing:
            target = self._records.get(name.key)
            if target is None or action_name not in target.actions:
                raise ScalingObjectNotFound(
                    f"No scheduled action found for {name}, scheduled action name: {action_name}"
                )
            actions = _without(target.actions, action_name)
            await self._records.put(name.key, replace(target, actions=actions))

    def tags(self, arn: str) -> Mapping[str, str]:
        return self._find_by_arn(arn).tags

    async def tag(self, arn: str, added: Mapping[str, str], removed: Iterable[str] = ()) -> None:
        """Adds tags, replaces those of the same key, then removes."""
        async with self._changing:
            target = self._find_by_arn(arn)
            gone = set(removed)
            tags = {k: v for k, v in {**target.tags, **added}.items() if k not in gone}
            await self._records.put(_key_of(target), replace(target, tags=tags))

    async def update(
        self, target: ScalableTarget, change: Callable[[ScalableTarget], ScalableTarget]
    ) -> ScalableTarget | None:
        """Changes what is kept of a target now; None if it is gone meanwhile."""
        async with self._changing:
            current = self._records.get(_key_of(target))
            if current is None:
                return None
            after = change(current)
            if after != current:
                await self._records.put(_key_of(target), after)
            return after

    def _registered(self, name: TargetName) -> ScalableTarget:
        target = self._records.get(name.key)
        if target is None:
            raise ScalingObjectNotFound(f"No scalable target registered for {name}")
        return target

    def _find_by_arn(self, arn: str) -> ScalableTarget:
        for target in self._records.values():
            if target.arn == arn:
                return target
        raise ScalingResourceNotFound(f"The resource {arn} could not be found.")


def check_bounds(minimum: int, maximum: int) -> None:
    """ScalingValidationError unless these can be the bounds of a target."""
    if minimum < 0:
        raise ScalingValidationError("Minimum capacity must be at least 0.")
    if minimum > maximum:
        raise ScalingValidationError("Maximum capacity cannot be less than minimum capacity")


def _check_action(action: ScheduledAction) -> None:
    try:
        parse_schedule(action.schedule)
    except ScheduleError:
        raise ScalingValidationError(
            f"The schedule expression {action.schedule} is not valid."
        ) from None
    if action.timezone is not None:
        try:
            ZoneInfo(action.timezone)
        except (OSError, ValueError, KeyError):
            raise ScalingValidationError(f"The time zone {action.timezone} is not valid.") from None
    if action.minimum is None and action.maximum is None:
        raise ScalingValidationError(
            "ScalableTargetAction must have at least one of MinCapacity and MaxCapacity."
        )
    if action.minimum is not None and action.maximum is not None:
        check_bounds(action.minimum, action.maximum)
    if action.start is not None and action.end is not None and action.start >= action.end:
        raise ScalingValidationError("The start time must be before the end time.")


def _hanging_arn(name: TargetName, kind: str, rest: str) -> str:
    return (
        f"arn:aws:autoscaling:{name.region}:{name.account}:{kind}:{uuid4()}"
        f":resource/lambda/{name.resource_id}:{rest}"
    )


def _without(items: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in items.items() if key != name}


def _key_of(target: ScalableTarget) -> str:
    return TargetName(target.account, target.region, target.function, target.qualifier).key
