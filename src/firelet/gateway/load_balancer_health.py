"""Health checks of functions behind a load balancer: when, and what they come to.

What it is: the states of targets in memory, and one task that calls functions whose check is due.
What it is not: routing: a group has one function, and a load balancer whose targets are all
unhealthy sends requests to them all the same.

Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/
lambda-functions.html#enable-health-checks-lambda and target-group-health-checks.html
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from firelet.control.load_balancer_records import Shape, TargetGroup
from firelet.control.load_balancers import LoadBalancers
from firelet.control.target_groups import MULTI_VALUE, TargetGroups
from firelet.gateway.load_balancer_calls import BalancerCalls, CallFailed
from firelet.gateway.load_balancer_event import format_health_event, parse_result
from firelet.gateway.proxy_event import MalformedResult

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5


@dataclass(slots=True)
class _State:
    """Of one target. ``due`` is when the next check is; ``good`` and ``bad`` count in a row."""

    target: str
    due: float
    is_healthy: bool | None = None
    good: int = 0
    bad: int = 0
    reason: str | None = None
    text: str | None = None


class HealthChecks:
    """``start`` once the loop runs. ``clock`` gives monotonic seconds."""

    def __init__(
        self,
        balancers: LoadBalancers,
        groups: TargetGroups,
        calls: BalancerCalls,
        clock: Callable[[], float],
    ) -> None:
        self._balancers = balancers
        self._groups = groups
        self._calls = calls
        self._clock = clock
        self._states: dict[str, _State] = {}
        self._checking: dict[str, asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None

    def health(self, group: TargetGroup) -> tuple[str, str | None, str | None]:
        """State, reason and description of the group's target, which is in use."""
        if not group.settings["HealthCheckEnabled"]:
            return "unavailable", "Target.HealthCheckDisabled", "Health checks are disabled"
        state = self._states.get(group.arn)
        if state is None or state.is_healthy is None or state.target != group.target:
            return "initial", "Elb.InitialHealthChecking", "Initial health checks in progress"
        if state.is_healthy:
            return "healthy", None, None
        return "unhealthy", state.reason, state.text

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stops to check; the functions that run are the calls' to wait for."""
        tasks = [*self._checking.values(), *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                self.look()
            except Exception:
                # The supervisor of the checks: one that cannot be made must not end the others.
                log.exception("health checks not made")

    def look(self) -> None:
        """Begins the checks that are due, and forgets targets that are not checked any more."""
        groups = [g for g in self._groups.everything() if g.settings["HealthCheckEnabled"]]
        used = self._balancers.used_groups() if groups else set()
        checked = {group.arn: group for group in groups if group.target and group.arn in used}
        for arn in self._states.keys() - checked.keys():
            del self._states[arn]
        now = self._clock()
        for arn, group in checked.items():
            state = self._states.get(arn)
            if state is None or state.target != group.target:
                state = self._states[arn] = _State(group.target or "", now)
            if state.due <= now and arn not in self._checking:
                state.due = now + group.settings["HealthCheckIntervalSeconds"]
                task = asyncio.create_task(self._check(group, state))
                self._checking[arn] = task
                task.add_done_callback(partial(self._end, arn))

    def _end(self, arn: str, task: asyncio.Task[None]) -> None:
        self._checking.pop(arn, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("health check failed group=%s", arn, exc_info=task.exception())

    async def _check(self, group: TargetGroup, state: _State) -> None:
        settings = group.settings
        failure = await self._try(group)
        if failure is None:
            state.good, state.bad = state.good + 1, 0
            # The first check that passes is enough for a new target.
            if state.is_healthy is None or state.good >= settings["HealthyThresholdCount"]:
                state.is_healthy = True
            return
        state.good, state.bad = 0, state.bad + 1
        state.reason, state.text = failure
        if state.bad >= settings["UnhealthyThresholdCount"]:
            state.is_healthy = False

    async def _try(self, group: TargetGroup) -> tuple[str, str] | None:
        """Reason and description of a failure."""
        settings = group.settings
        is_multi_value = group.attributes.get(MULTI_VALUE) == "true"
        path = settings["HealthCheckPath"]
        event = format_health_event(group.arn, path, is_multi_value=is_multi_value)
        try:
            payload = await self._calls.call(group, event, settings["HealthCheckTimeoutSeconds"])
            status = parse_result(payload, is_multi_value=is_multi_value).status
        except TimeoutError:
            return "Target.Timeout", "Request timed out"
        except (CallFailed, MalformedResult):
            return "Target.ResponseCodeMismatch", "Health checks failed with these codes: [502]"
        if is_expected(settings, status):
            return None
        return "Target.ResponseCodeMismatch", f"Health checks failed with these codes: [{status}]"


def is_expected(settings: Shape, status: int) -> bool:
    """Whether the matcher has the status: ``200``, ``200,202`` or ``200-299``."""
    for part in settings["Matcher"]["HttpCode"].split(","):
        low, _, high = part.partition("-")
        if int(low) <= status <= int(high or low):
            return True
    return False
