"""Health checks of functions, on a clock of their own."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any, cast

import pytest

from firelet.control.load_balancer_records import Rule, TargetGroup
from firelet.control.load_balancers import LoadBalancers, add_listener, put_rule
from firelet.control.target_groups import TargetGroups
from firelet.gateway.load_balancer_calls import BalancerCalls, CallFailed
from firelet.gateway.load_balancer_health import HealthChecks, is_expected
from firelet.store.documents import MemoryDocuments

CODES = "Health checks failed with these codes:"
WORLD = ("000000000000", "us-east-1")
SETTINGS = {
    "HealthCheckEnabled": True,
    "HealthCheckIntervalSeconds": 10,
    "HealthCheckTimeoutSeconds": 5,
    "HealthyThresholdCount": 2,
    "UnhealthyThresholdCount": 3,
}


class FakeCalls:
    """Answers with ``status``, or raises it."""

    def __init__(self) -> None:
        self.status: int | Exception = 200
        self.events: list[dict[str, Any]] = []

    async def call(
        self, group: TargetGroup, event: bytes, timeout_s: float, trace_id: str | None = None
    ) -> bytes:
        assert timeout_s == 5
        self.events.append(json.loads(event))
        if isinstance(self.status, Exception):
            raise self.status
        return json.dumps({"statusCode": self.status}).encode()


class Checked:
    """Health checks of one group whose load balancer forwards to it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls = FakeCalls()
        self.groups = TargetGroups(MemoryDocuments())
        self.balancers = LoadBalancers(MemoryDocuments(), self.groups, lambda: 0.0)
        self.checks = HealthChecks(
            self.balancers, self.groups, cast(BalancerCalls, self.calls), lambda: self.now
        )

    async def open(self) -> None:
        made = await self.groups.create(*WORLD, "g", SETTINGS, {})
        self.arn = made.arn
        await self.groups.change(*WORLD, self.arn, lambda g: replace(g, target="arn:f"))
        balancer = await self.balancers.create(*WORLD, "lb", "internal", "ipv4", ["a", "b"], [], {})
        self.balancer = balancer.arn
        action = {"Type": "forward", "TargetGroupArn": self.arn}
        await self.balancers.change(
            *WORLD, balancer.arn, lambda b: add_listener(b, 80, "HTTP", (action,), {}, {})[0]
        )

    @property
    def health(self) -> tuple[str, str | None, str | None]:
        return self.checks.health(self.groups.get(*WORLD, self.arn))

    async def step(self, seconds: float, status: int | Exception) -> str:
        """The state after a look, ``seconds`` later."""
        self.now += seconds
        self.calls.status = status
        self.checks.look()
        for _ in range(5):
            await asyncio.sleep(0)
        return self.health[0]


@pytest.fixture
async def checked() -> Checked:
    checked = Checked()
    await checked.open()
    return checked


async def test_one_check_that_passes_makes_a_new_target_healthy(checked: Checked) -> None:
    assert checked.health[:2] == ("initial", "Elb.InitialHealthChecking")
    assert await checked.step(0, 200) == "healthy"
    assert len(checked.calls.events) == 1


async def test_a_check_is_made_once_in_its_interval(checked: Checked) -> None:
    for _ in range(5):
        await checked.step(1, 200)
    assert len(checked.calls.events) == 1
    await checked.step(6, 200)
    assert len(checked.calls.events) == 2


async def test_thresholds_count_in_a_row(checked: Checked) -> None:
    statuses = (200, 500, 500, 200, 500, 500, 500, 200, 200)
    states = [await checked.step(10, status) for status in statuses]

    assert states == ["healthy"] * 6 + ["unhealthy"] * 2 + ["healthy"]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (404, ("Target.ResponseCodeMismatch", f"{CODES} [404]")),
        (CallFailed("no"), ("Target.ResponseCodeMismatch", f"{CODES} [502]")),
        (TimeoutError(), ("Target.Timeout", "Request timed out")),
    ],
)
async def test_a_failure_says_why(
    checked: Checked, status: int | Exception, reason: tuple[str, str]
) -> None:
    for _ in range(3):
        await checked.step(10, status)

    assert checked.health == ("unhealthy", *reason)


async def test_what_is_not_forwarded_to_is_not_checked(checked: Checked) -> None:
    fixed = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}

    def silence(balancer: Any) -> Any:
        (listener,) = balancer.listeners.values()
        rule: Rule = listener.default_rule
        return put_rule(balancer, replace(rule, actions=(fixed,)))

    await checked.step(0, 200)
    await checked.balancers.change(*WORLD, checked.balancer, silence)
    await checked.step(10, 200)

    assert len(checked.calls.events) == 1


async def test_another_target_begins_anew(checked: Checked) -> None:
    assert await checked.step(0, 200) == "healthy"
    await checked.groups.change(*WORLD, checked.arn, lambda g: replace(g, target="arn:other"))

    assert checked.health[0] == "initial"
    assert await checked.step(0, 200) == "healthy"


@pytest.mark.parametrize(
    ("matcher", "good", "bad"),
    [("200", [200], [201]), ("200,301", [200, 301], [300]), ("200-299", [200, 250, 299], [300])],
)
def test_a_matcher_is_a_list_or_a_range(matcher: str, good: list[int], bad: list[int]) -> None:
    settings = {"Matcher": {"HttpCode": matcher}}

    assert all(is_expected(settings, status) for status in good)
    assert not any(is_expected(settings, status) for status in bad)
