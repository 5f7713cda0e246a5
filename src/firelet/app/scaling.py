"""Applies what scaling decides: a supervised task that looks at every scalable target.

Joins the scalable targets, the metrics and the registry's provisioned concurrency. The decisions
are ``control.scaling_schedule`` and ``control.target_tracking``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from firelet.control import scaling_schedule, target_tracking
from firelet.control.provisioned import AllocationStatus, Provisioned
from firelet.control.scaling import Scaling
from firelet.control.scaling_records import ScalableTarget, ScalingActivity, ScalingPolicy
from firelet.control.target_tracking import Memory, Tracker, TrackingView
from firelet.model.errors import FireletError
from firelet.observe.invocation_meter import InvocationMeter
from firelet.observe.metric_tables import MINUTE_S, Metric
from firelet.observe.metrics import MetricStore

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_CUSTOM_WINDOW_S = 3 * MINUTE_S  # the newest minute in it counts


class Scaler:
    """``start`` once the registry and the targets have loaded."""

    def __init__(
        self,
        scaling: Scaling,
        provisioned: Provisioned,
        meter: InvocationMeter,
        metrics: MetricStore,
        *,
        in_after_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._scaling = scaling
        self._provisioned = provisioned
        self._meter = meter
        self._metrics = metrics
        self._in_after_s = in_after_s
        self._clock = clock
        self._memories: dict[str, Memory] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._look_often())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> None:
        """One look at every target."""
        targets = self._scaling.everything()
        for target in targets:
            await self._scale(target)
        known = {target.arn for target in targets}
        self._memories = {arn: m for arn, m in self._memories.items() if arn in known}

    async def _look_often(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                await self.look()
            except Exception:
                # The supervisor of scaling: one target that cannot be scaled must not end it.
                log.exception("targets not scaled")

    async def _scale(self, target: ScalableTarget) -> None:
        now = self._clock()
        scheduled = scaling_schedule.decide(target, now)
        if scheduled.action is not None:
            action = scheduled.action
            changed = await self._scaling.update(
                target, lambda current: scaling_schedule.decide(current, now).target
            )
            if changed is None:
                return
            cause = f"scheduled action name {action} was triggered"
            minimum, maximum = changed.minimum, changed.maximum
            await self._note(
                changed, f"Setting min capacity to {minimum} and max capacity to {maximum}", cause
            )
            capacity, _ = self._capacity(changed)
            wanted = max(minimum, min(maximum, capacity))
            if wanted != capacity:
                await self._apply(changed, wanted, cause)
        elif target.policies:
            await self._track(target, now)

    async def _track(self, target: ScalableTarget, now: float) -> None:
        capacity, is_settled = self._capacity(target)
        view = TrackingView(
            capacity=capacity,
            minimum=target.minimum,
            maximum=target.maximum,
            trackers=[await self._tracker(target, p, now) for p in target.policies.values()],
            memory=self._memories.get(target.arn, Memory()),
            is_settled=is_settled,
            can_scale_out="DynamicScalingOutSuspended" not in target.suspended,
            can_scale_in="DynamicScalingInSuspended" not in target.suspended,
            in_after_s=self._in_after_s,
        )
        decision = target_tracking.decide(view, now)
        self._memories[target.arn] = decision.memory
        if decision.capacity == capacity:
            return
        if decision.policy is None:
            cause = f"the capacity was not between {target.minimum} and {target.maximum}"
        else:
            cause = f"the metric of its policy triggered policy {decision.policy}"
        await self._apply(target, decision.capacity, cause)

    async def _tracker(self, target: ScalableTarget, policy: ScalingPolicy, now: float) -> Tracker:
        configuration = policy.configuration
        custom = configuration.get("CustomizedMetricSpecification")
        if custom is None:
            value = self._meter.utilization.get((target.key, target.qualifier))
        else:
            value = await self._read(target, custom, now)
        return Tracker(
            name=policy.name,
            value=value,
            target=configuration["TargetValue"],
            out_cooldown_s=configuration.get("ScaleOutCooldown", 0),
            in_cooldown_s=configuration.get("ScaleInCooldown", 0),
            can_scale_in=not configuration.get("DisableScaleIn", False),
        )

    async def _read(
        self, target: ScalableTarget, custom: Mapping[str, Any], now: float
    ) -> float | None:
        pairs = sorted((d["Name"], d["Value"]) for d in custom.get("Dimensions", ()))
        metric = Metric(
            target.account, target.region, custom["Namespace"], custom["MetricName"], tuple(pairs)
        )
        start_s = int(now // MINUTE_S) * MINUTE_S - _CUSTOM_WINDOW_S
        periods = await self._metrics.periods(
            metric, start_s, int(now) + 1, MINUTE_S, custom.get("Unit")
        )
        return periods[-1].summary.statistic(custom["Statistic"]) if periods else None

    def _capacity(self, target: ScalableTarget) -> tuple[int, bool]:
        """What is asked for now, and whether all of that is there."""
        try:
            found = self._provisioned.get(target.key, target.qualifier)
        except FireletError:
            return 0, True
        return found.config.requested, found.status is not AllocationStatus.IN_PROGRESS

    async def _apply(self, target: ScalableTarget, capacity: int, cause: str) -> None:
        description = f"Setting provisioned concurrency to {capacity}."
        failure = None
        try:
            if capacity:
                await self._provisioned.put(target.key, target.qualifier, capacity)
            else:
                await self._provisioned.delete(target.key, target.qualifier)
        except FireletError as error:
            failure = error.message
        if failure is not None and _is_repeated(target, description, failure):
            return
        await self._note(target, description, cause, failure)

    async def _note(
        self, target: ScalableTarget, description: str, cause: str, failure: str | None = None
    ) -> None:
        now = self._clock()
        activity = ScalingActivity(
            id=str(uuid4()),
            description=description,
            cause=cause,
            start=now,
            end=now,
            status="Successful" if failure is None else "Failed",
            message="Change successfully fulfilled by lambda." if failure is None else failure,
        )
        await self._scaling.update(target, lambda current: current.with_activity(activity))


def _is_repeated(target: ScalableTarget, description: str, failure: str) -> bool:
    """What fails each second for the same reason is told once."""
    if not target.activities:
        return False
    last = target.activities[0]
    return (last.description, last.message) == (description, failure)
