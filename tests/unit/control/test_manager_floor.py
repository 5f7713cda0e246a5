"""Provisioned environments: made ahead, first to serve, replaced when lost, never too many."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from firelet.control.floor import FloorView
from firelet.control.manager import PoolView
from firelet.model import limits
from firelet.model.errors import FunctionError, InvalidRuntime, PlatformError
from firelet.model.function import InitializationType
from unit.control.fake_fleet import FakeEnvironment, ManagedFleet, settle
from unit.versions import make_version

VERSION = make_version(version="1")
KEY = (VERSION.account, VERSION.region, VERSION.name)
INIT_FAILED = FunctionError("Runtime.ExitError", b"{}")
RETRY_S = limits.PROVISIONED_RETRY_MIN_S


class Platform(ManagedFleet):
    version = VERSION

    async def provide(self, count: int) -> list[FakeEnvironment]:
        """What was made for it."""
        before = len(self.fleet.made)
        self.manager.provide(VERSION, count)
        await settle()
        return self.fleet.made[before:]

    async def tend(self) -> None:
        self.manager.tend(freeze_after_s=5, stop_after_s=60)
        await settle()

    async def fail(self, error: Exception) -> None:
        """The start that was begun first goes wrong."""
        self.fleet.pending[0].set_exception(error)
        await settle()

    @property
    def floor(self) -> FloorView:
        return self.manager.provided(VERSION)

    @property
    def view(self) -> PoolView:
        (view,) = self.manager.view()
        return view


@pytest.fixture
async def platform() -> Any:
    """Starts are over at once."""
    platform = Platform(is_instant=True)
    yield platform
    await platform.manager.close()


@pytest.fixture
async def slow() -> Any:
    """Starts take until the test ends them."""
    platform = Platform(is_instant=False)
    yield platform
    await platform.manager.close()


class TestMadeAhead:
    async def test_so_many_are_made_as_were_asked_for(self, platform: Platform) -> None:
        await platform.provide(7)
        assert platform.floor == FloorView(ready=7)
        assert platform.manager.count() == {"starting": 0, "busy": 0, "idle": 7}
        assert set(platform.fleet.initializations) == {InitializationType.PROVISIONED}

    async def test_only_a_few_are_made_at_a_time(self, slow: Platform) -> None:
        await slow.provide(7)
        assert len(slow.fleet.pending) == limits.PROVISIONED_STARTS_AT_ONCE
        slow.fleet.pending[0].set_result(None)
        await settle()
        assert len(slow.fleet.pending) == limits.PROVISIONED_STARTS_AT_ONCE
        assert slow.floor == FloorView(ready=1)

    async def test_asking_again_for_the_same_changes_nothing(self, platform: Platform) -> None:
        await platform.provide(2)
        assert await platform.provide(2) == []

    async def test_more_are_made_when_more_are_asked_for(self, platform: Platform) -> None:
        await platform.provide(2)
        assert len(await platform.provide(3)) == 1

    async def test_what_is_not_provided_has_nothing_ready(self, platform: Platform) -> None:
        assert platform.floor == FloorView()
        platform.manager.release(await platform.acquire())
        assert platform.floor == FloorView()


class TestServing:
    async def test_a_provisioned_one_serves_before_others(self, platform: Platform) -> None:
        platform.manager.release(await platform.acquire())
        (provisioned,) = await platform.provide(1)
        assert await platform.acquire() is provisioned

    async def test_others_serve_when_all_are_in_use(self, platform: Platform) -> None:
        (provisioned,) = await platform.provide(1)
        assert await platform.acquire() is provisioned
        other = await platform.acquire()
        assert platform.fleet.initializations[-1] is InitializationType.ON_DEMAND
        assert (platform.view.provisioned_invocations, platform.view.spilled) == (1, 1)
        assert platform.view.cold == 1
        platform.manager.release(other)
        platform.manager.release(provisioned)
        assert await platform.acquire() is provisioned

    async def test_one_in_use_still_counts(self, platform: Platform) -> None:
        await platform.provide(1)
        await platform.acquire()
        assert platform.floor == FloorView(ready=1)
        assert (platform.view.floor, platform.view.provisioned) == (1, 1)

    async def test_who_waits_is_served_by_one_that_becomes_ready(self, slow: Platform) -> None:
        waiting = asyncio.create_task(slow.acquire())
        await settle()
        await slow.provide(1)
        assert slow.fleet.initializations[1] is InitializationType.PROVISIONED
        slow.fleet.pending[1].set_result(None)
        assert (await waiting).number == 0
        assert slow.view.provisioned_invocations == 1

    async def test_without_a_floor_nothing_spills(self, platform: Platform) -> None:
        await platform.acquire()
        assert (platform.view.provisioned_invocations, platform.view.spilled) == (0, 0)


class TestKept:
    async def test_they_are_frozen_and_never_stopped_when_idle(self, platform: Platform) -> None:
        (provisioned,) = await platform.provide(1)
        platform.clock.now += 1000
        await platform.tend()
        assert (provisioned.is_frozen, provisioned.closes) == (True, 0)
        assert platform.floor == FloorView(ready=1)

    async def test_others_are_stopped_beside_them(self, platform: Platform) -> None:
        (provisioned,) = await platform.provide(1)
        await platform.acquire()
        other = await platform.acquire()
        platform.manager.release(other)
        platform.manager.release(provisioned)
        platform.clock.now += 60
        await platform.tend()
        assert (provisioned.closes, other.closes) == (0, 1)

    async def test_one_that_lost_its_runtime_in_use_is_replaced(self, platform: Platform) -> None:
        (lost,) = await platform.provide(1)
        environment = await platform.acquire()
        environment.is_initialised = False
        platform.manager.release(environment)
        await settle()
        assert lost.closes == 1
        assert platform.floor == FloorView(ready=1)
        assert (await platform.acquire()).number == 1

    @pytest.mark.parametrize("loss", ["is_usable", "is_initialised"])
    async def test_one_that_is_lost_while_idle_is_replaced(
        self, platform: Platform, loss: str
    ) -> None:
        (lost,) = await platform.provide(1)
        setattr(lost, loss, False)
        await platform.tend()
        assert lost.closes == 1
        assert platform.floor == FloorView(ready=1)

    async def test_one_that_is_lost_while_idle_does_not_serve(self, platform: Platform) -> None:
        sound, lost = await platform.provide(2)
        lost.is_initialised = False
        assert await platform.acquire() is sound
        assert await platform.acquire() is not lost

    async def test_an_on_demand_one_without_a_runtime_serves_all_the_same(
        self, platform: Platform
    ) -> None:
        environment = await platform.acquire()
        environment.is_initialised = False
        platform.manager.release(environment)
        assert await platform.acquire() is environment


class TestFewer:
    async def test_idle_ones_end_at_once(self, platform: Platform) -> None:
        made = await platform.provide(3)
        await platform.provide(1)
        assert sorted(item.closes for item in made) == [0, 1, 1]
        assert platform.floor == FloorView(ready=1)

    async def test_busy_ones_end_after_their_invocation(self, platform: Platform) -> None:
        await platform.provide(1)
        environment = await platform.acquire()
        await platform.provide(0)
        assert environment.closes == 0
        platform.manager.release(environment)
        await settle()
        assert environment.closes == 1
        assert platform.floor == FloorView()

    async def test_one_that_was_being_made_ends(self, slow: Platform) -> None:
        await slow.provide(1)
        await slow.provide(0)
        slow.fleet.pending[0].set_result(None)
        await settle()
        assert slow.fleet.made[0].closes == 1

    async def test_nothing_is_left_of_a_version_without_a_floor(self, platform: Platform) -> None:
        await platform.provide(2)
        await platform.provide(0)
        await platform.tend()
        assert platform.manager.view() == []

    async def test_a_deleted_function_keeps_none(self, platform: Platform) -> None:
        made = await platform.provide(2)
        platform.manager.provide(VERSION, 0)
        platform.manager.retire(KEY, None)
        await settle()
        assert [item.closes for item in made] == [1, 1]

    async def test_close_ends_all_and_makes_no_more(self, platform: Platform) -> None:
        made = await platform.provide(2)
        await platform.manager.close()
        assert [item.closes for item in made] == [1, 1]
        assert await platform.provide(3) == []


class TestFailed:
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (INIT_FAILED, "FUNCTION_ERROR_INIT_FAILURE"),
            (InvalidRuntime("no such runtime"), "InvalidRuntime"),
            (PlatformError("no room"), "InternalError"),
            (OSError(28, "No space left on device"), "InternalError"),
        ],
    )
    async def test_the_reason_is_told(self, slow: Platform, error: Exception, reason: str) -> None:
        await slow.provide(1)
        await slow.fail(error)
        assert slow.floor == FloorView(ready=0, failure=reason)

    async def test_it_is_tried_again_ever_more_seldom_and_alone(self, slow: Platform) -> None:
        await slow.provide(3)
        while slow.fleet.pending:
            await slow.fail(INIT_FAILED)
        for pause_s in (RETRY_S, 2 * RETRY_S, 4 * RETRY_S):
            slow.clock.now += pause_s - 1
            await slow.tend()
            assert slow.fleet.pending == []
            slow.clock.now += 1
            await slow.tend()
            assert len(slow.fleet.pending) == 1
            await slow.fail(INIT_FAILED)

    async def test_the_pause_does_not_grow_for_ever(self, slow: Platform) -> None:
        await slow.provide(1)
        for _ in range(20):
            await slow.fail(INIT_FAILED)
            slow.clock.now += limits.PROVISIONED_RETRY_MAX_S
            await slow.tend()
            assert len(slow.fleet.pending) == 1

    async def test_a_good_one_brings_the_others(self, slow: Platform) -> None:
        await slow.provide(3)
        while slow.fleet.pending:
            await slow.fail(INIT_FAILED)
        slow.clock.now += RETRY_S
        await slow.tend()
        slow.fleet.is_instant = True
        slow.fleet.pending[0].set_result(None)
        await settle()
        assert slow.floor == FloorView(ready=3)

    async def test_asking_again_tries_at_once(self, slow: Platform) -> None:
        await slow.provide(1)
        await slow.fail(INIT_FAILED)
        await slow.provide(1)
        assert len(slow.fleet.pending) == 1
        assert slow.floor == FloorView()

    async def test_who_invokes_meanwhile_has_one_made_on_demand(self, slow: Platform) -> None:
        await slow.provide(1)
        await slow.fail(INIT_FAILED)
        slow.fleet.is_instant = True
        assert (await slow.acquire()).number == 0
        assert slow.fleet.initializations[-1] is InitializationType.ON_DEMAND
