"""Tenants: what all those of a function may have together, however environments come and go."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from firelet.control.counting import Counting
from firelet.control.invoke import Invoker
from firelet.control.latencies import Latencies
from firelet.control.manager import Manager
from firelet.control.tenants import environments_max
from firelet.model.errors import FunctionError, PlatformError, TooManyRequests
from firelet.model.function import FunctionVersion
from unit.control.fake_fleet import FakeClock, FakeFleet, settle
from unit.versions import make_invocation, make_version

TENANCY = {"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}}
VERSION = make_version(extras=TENANCY)
FEW = 2  # of the concurrency of the account, which is 5 environments
MOST = 5


class NoReservations:
    def reserved_total(self, account: str, region: str) -> int:
        return 0


class Platform:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.fleet = FakeFleet()
        self.manager = Manager(self.fleet, self.clock)  # type: ignore[arg-type]
        counting = Counting(account_limit=FEW, clock=self.clock)
        self.invoker = Invoker(self.manager, counting, NoReservations(), Latencies())

    async def invoke(
        self, tenant: str, version: FunctionVersion = VERSION, reserved: int | None = None
    ) -> Any:
        self.clock.now += 1
        invocation = make_invocation(version, tenant_id=tenant)
        async with asyncio.timeout(30):
            return await self.invoker.invoke(invocation, version.function_key, reserved)

    async def fill(self, version: FunctionVersion = VERSION) -> None:
        """As many tenants as there may be have an idle environment each."""
        for number in range(MOST):
            await self.invoke(f"tenant {number}", version)


@pytest.fixture
async def platform() -> Any:
    platform = Platform()
    yield platform
    await platform.manager.close()


@pytest.mark.parametrize(
    ("concurrency", "environments"), [(1_000, 2_500), (10, 25), (2, 5), (1, 2), (3, 7)]
)
def test_there_are_2500_for_each_1000_of_concurrency(concurrency: int, environments: int) -> None:
    assert environments_max(concurrency) == environments


async def test_one_more_tenant_is_refused_though_all_others_are_idle(platform: Platform) -> None:
    await platform.fill()
    with pytest.raises(TooManyRequests) as caught:
        await platform.invoke("one more")
    assert (caught.value.message, caught.value.reason) == (
        "Rate Exceeded.",
        "ConcurrentInvocationLimitExceeded",
    )
    assert platform.manager.count() == {"starting": 0, "busy": 0, "idle": MOST}


async def test_those_that_have_one_are_served(platform: Platform) -> None:
    await platform.fill()
    await platform.fill()
    assert len(platform.fleet.made) == MOST


async def test_versions_share_it_and_functions_do_not(platform: Platform) -> None:
    await platform.fill()
    with pytest.raises(TooManyRequests):
        await platform.invoke("tenant 0", make_version(extras=TENANCY, version="1"))
    await platform.fill(make_version(extras=TENANCY, name="other"))


async def test_a_reservation_is_what_counts_if_there_is_one(platform: Platform) -> None:
    for tenant in "ab":
        await platform.invoke(tenant, reserved=1)
    with pytest.raises(TooManyRequests):
        await platform.invoke("c", reserved=1)
    await platform.invoke("c", reserved=2)


async def test_one_that_has_ended_makes_room(platform: Platform) -> None:
    await platform.fill()
    platform.fleet.made[0].is_usable = False
    platform.manager.tend(0.25, 1_000.0)
    await platform.invoke("one more")
    with pytest.raises(TooManyRequests):
        await platform.invoke("tenant 0")
    platform.manager.retire(VERSION.function_key, None)
    await platform.fill()


@pytest.mark.parametrize("failure", [PlatformError("no room"), FunctionError("X", b"{}")])
async def test_a_start_that_comes_to_nothing_takes_none(
    platform: Platform, failure: Exception
) -> None:
    platform.fleet.is_instant = False
    for number in range(MOST + 1):
        task = asyncio.create_task(platform.invoke(f"tenant {number}"))
        await settle()
        platform.fleet.pending[0].set_exception(failure)
        with pytest.raises(type(failure)):
            await task
    platform.fleet.is_instant = True
    await platform.fill()


async def test_a_start_that_is_under_way_takes_one(platform: Platform) -> None:
    for number in range(MOST - 1):
        await platform.invoke(f"tenant {number}")
    platform.fleet.is_instant = False
    last = asyncio.create_task(platform.invoke("last"))
    await settle()
    with pytest.raises(TooManyRequests):
        await platform.invoke("one more")
    platform.fleet.pending[0].set_result(None)
    await last
