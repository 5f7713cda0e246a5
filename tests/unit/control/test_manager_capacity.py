"""How many environments there are: made ahead of demand, let go after it, and within the memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from firelet.control.manager import PoolView
from firelet.model import limits
from firelet.model.errors import EC2Throttled, PlatformError, TooManyRequests
from firelet.model.function import FunctionVersion
from unit.control.fake_fleet import ManagedFleet, settle
from unit.versions import make_version

VERSION = make_version()
KEY = (VERSION.account, VERSION.region, VERSION.name)
OTHER = make_version(name="other", memory_mib=512)
PUBLISHED = make_version(version="1")
HOUR_S = 3_600.0


class Platform(ManagedFleet):
    version = VERSION

    async def acquire_many(self, count: int, version: FunctionVersion = VERSION) -> None:
        """One after another, of which none is given back."""
        for _ in range(count):
            await self.acquire(version)

    async def call(self, version: FunctionVersion = VERSION, busy_s: float = 0.1) -> None:
        """One invocation by itself."""
        environment = await self.acquire(version)
        self.clock.now += busy_s
        self.manager.release(environment)
        await settle()

    async def pass_time(self, seconds: float, step_s: float = 1.0) -> None:
        """As ``app`` does, only not so often."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now += min(step_s, end - self.clock.now)
            self.manager.tend(0.25, float("inf"))
            await settle()

    async def start_ends(self, error: Exception | None = None) -> None:
        gate = self.fleet.pending[0]
        if error is None:
            gate.set_result(None)
        else:
            gate.set_exception(error)
        await settle()

    @property
    def idle(self) -> int:
        return self.manager.count()["idle"]

    def view(self, version: FunctionVersion = VERSION) -> PoolView:
        (view,) = [
            view for view in self.manager.view() if view.key[2:] == (version.name, version.version)
        ]
        return view


@pytest.fixture
async def platform() -> Any:
    """Starts are over at once."""
    platform = Platform()
    yield platform
    await platform.manager.close()


@pytest.fixture
async def slow() -> Any:
    """Starts take until the test ends them."""
    platform = Platform(is_instant=False)
    yield platform
    await platform.manager.close()


@pytest.fixture
async def small() -> Any:
    """Memory for five environments of the default size."""
    platform = Platform(5 * VERSION.memory_mib)
    yield platform
    await platform.manager.close()


class TestAheadOfDemand:
    async def test_more_are_begun_than_wait_while_demand_rises(self, slow: Platform) -> None:
        waiting = [slow.ask() for _ in range(8)]
        await settle()
        assert slow.manager.count()["starting"] == 12
        assert slow.view().wanted == 12
        for task in waiting:
            task.cancel()

    async def test_a_first_invocation_begins_one(self, slow: Platform) -> None:
        waiting = slow.ask()
        await settle()
        assert slow.manager.count()["starting"] == 1
        waiting.cancel()

    async def test_what_was_made_ahead_and_not_needed_goes(self, platform: Platform) -> None:
        held = [await platform.acquire() for _ in range(8)]
        await platform.pass_time(0.1)
        assert platform.idle > 0
        await platform.pass_time(120)
        assert platform.idle == 0
        assert [environment.closes for environment in held] == [0] * 8

    async def test_a_function_called_every_hour_is_warm_for_its_next_call(
        self, platform: Platform
    ) -> None:
        for _ in range(8):
            await platform.call()
            await platform.pass_time(HOUR_S - 0.1, 10.0)
        await platform.call()
        made = len(platform.fleet.made)
        cold = platform.view().cold
        await platform.pass_time(600, 10.0)
        assert platform.idle == 0, "it waits all the hour"
        await platform.pass_time(HOUR_S - 600, 10.0)
        assert platform.idle == 1
        await platform.call()
        assert platform.view().cold == cold
        assert len(platform.fleet.made) == made + 1

    async def test_nothing_is_made_ahead_of_a_version_that_is_gone(
        self, platform: Platform
    ) -> None:
        for _ in range(8):
            await platform.call()
            await platform.pass_time(HOUR_S - 0.1, 10.0)
        made = len(platform.fleet.made)
        platform.manager.retire(KEY, None)
        await platform.pass_time(2 * HOUR_S, 10.0)
        assert len(platform.fleet.made) == made
        assert platform.manager.view() == []

    async def test_after_an_update_it_is_the_new_version_that_is_made(
        self, platform: Platform
    ) -> None:
        await platform.call()
        changed = make_version(timeout_s=9)
        await platform.manager.warm(changed, 1.0)
        platform.manager.retire(KEY, "$LATEST", changed)
        await settle()
        assert platform.idle == 1
        await platform.pass_time(60)
        assert platform.idle == 1, "one that was retired counts as foreseen"
        for each in platform.fleet.made:
            each.is_usable = False
        await platform.pass_time(60)
        assert platform.idle == 1
        assert platform.fleet.made[-1].version is changed

    async def test_one_that_dies_while_idle_is_made_again(self, platform: Platform) -> None:
        await platform.call()
        platform.fleet.made[0].is_usable = False
        await platform.pass_time(2)
        assert platform.idle == 1
        assert platform.fleet.made[0].closes == 1

    async def test_those_that_were_asked_for_stay_for_a_while(self, platform: Platform) -> None:
        assert await platform.manager.warm(VERSION, 1.0, 20) == 20
        await platform.pass_time(120)
        assert platform.idle == 20
        await platform.pass_time(30 * HOUR_S, 60.0)
        assert platform.idle == 0

    async def test_the_fixed_time_holds_whatever_the_policy_says(self, platform: Platform) -> None:
        await platform.call()
        for _ in range(100):
            platform.clock.now += 1
            platform.manager.tend(0.25, 20.0)
            await settle()
        assert platform.idle == 0
        assert len(platform.fleet.made) == 1, "it was made again only to go"

    async def test_a_start_ahead_that_fails_is_nobody_s_failure(self, slow: Platform) -> None:
        waiting = [slow.ask() for _ in range(8)]
        await settle()
        for gate in slow.fleet.pending[8:]:
            gate.set_exception(PlatformError("no room"))
        await settle()
        assert not any(task.done() for task in waiting)
        assert slow.manager.count()["starting"] == 8
        slow.clock.now += 1
        more = slow.ask()
        await settle()
        assert slow.manager.count()["starting"] == 9, "it is tried again at once"
        slow.clock.now += limits.AHEAD_PAUSE_S
        waiting += [more, *(slow.ask() for _ in range(8))]
        await settle()
        assert slow.manager.count()["starting"] > 17
        for task in waiting:
            task.cancel()

    async def test_one_that_failed_is_tried_again_though_nobody_calls(self, slow: Platform) -> None:
        waiting = slow.ask()
        await settle()
        await slow.start_ends()
        slow.manager.release(await waiting)
        slow.fleet.made[0].is_usable = False
        await slow.pass_time(2)
        for _ in range(3):
            await slow.start_ends(PlatformError("no room"))
            assert slow.fleet.pending == []
            await slow.pass_time(limits.AHEAD_PAUSE_S)
        await slow.start_ends()
        assert slow.idle == 1

    async def test_who_relied_on_a_start_ahead_that_fails_has_one_made(
        self, slow: Platform
    ) -> None:
        waiting = [slow.ask() for _ in range(4)]
        await settle()
        late = slow.ask()
        await settle()
        begun = len(slow.fleet.starts)
        for gate in slow.fleet.pending[4:]:
            gate.set_exception(PlatformError("no room"))
        await settle()
        assert not late.done()
        assert len(slow.fleet.starts) == begun + 1
        for task in (*waiting, late):
            task.cancel()

    async def test_provisioned_ones_count_as_being_there(self, platform: Platform) -> None:
        platform.manager.provide(PUBLISHED, 3)
        await settle()
        await platform.call(PUBLISHED)
        await platform.pass_time(HOUR_S, 10.0)
        assert len(platform.fleet.made) == 3
        assert platform.idle == 3

    async def test_one_whose_extensions_are_at_work_counts_as_being_there(
        self, platform: Platform
    ) -> None:
        await platform.manager.warm(VERSION, 1.0)
        environment = await platform.acquire()
        environment.is_busy_after = True
        platform.manager.release(environment)
        await platform.pass_time(60)
        assert len(platform.fleet.made) == 1
        assert platform.view().wanted == 1
        environment.become_free()
        await platform.pass_time(60)
        assert (platform.idle, len(platform.fleet.made)) == (1, 1)


class TestWhichServes:
    async def test_calls_one_after_another_stay_with_one_environment(
        self, platform: Platform
    ) -> None:
        for _ in range(100):
            await platform.call(busy_s=0.01)
        assert len(platform.fleet.made) == 1

    async def test_one_made_ahead_serves_after_those_that_were_used(
        self, platform: Platform
    ) -> None:
        used = await platform.acquire()
        platform.manager.release(used)
        await platform.manager.warm(VERSION, 1.0)
        assert platform.idle == 2
        assert await platform.acquire() is used


class TestMemoryThatMayBePromised:
    async def test_no_more_are_started_than_there_is_memory_for(self, small: Platform) -> None:
        for _ in range(5):
            await small.acquire()
        sixth = small.ask()
        await settle()
        assert not sixth.done()
        assert len(small.fleet.made) == 5
        small.clock.now += limits.ROOM_WAIT_S
        small.manager.tend(0.25, float("inf"))
        with pytest.raises(EC2Throttled):
            await sixth
        assert small.manager.count() == {"starting": 0, "busy": 5, "idle": 0}

    async def test_idle_ones_of_others_make_room_the_cheapest_first(self, small: Platform) -> None:
        cheap, dear = make_version(name="cheap"), make_version(name="dear")
        for version in (cheap, dear):
            held = [await small.acquire(version) for _ in range(2)]
            for environment in held:
                small.manager.release(environment)
        small.manager._pools[key_of(dear)].upkeep.note_start(30.0)
        await small.acquire(make_version(name="third", memory_mib=3 * VERSION.memory_mib))
        closed = [item.version.name for item in small.fleet.made if item.closes]
        assert closed == ["cheap", "cheap"]

    async def test_one_that_comes_back_makes_room_for_who_waits(self, small: Platform) -> None:
        held = [await small.acquire() for _ in range(5)]
        other = small.ask(OTHER)
        await settle()
        for environment in held[:4]:
            assert not other.done()
            small.manager.release(environment)
            await settle()
        assert (await other).version is OTHER
        assert [item.closes for item in held] == [1, 1, 1, 1, 0]

    async def test_one_of_the_same_version_that_comes_back_serves(self, small: Platform) -> None:
        held = [await small.acquire() for _ in range(5)]
        sixth = small.ask()
        await settle()
        small.manager.release(held[0])
        assert await sixth is held[0]

    async def test_memory_comes_back_only_when_an_environment_has_ended(
        self, small: Platform
    ) -> None:
        held = [await small.acquire() for _ in range(5)]
        gate = asyncio.Event()

        async def close_slowly() -> None:
            await gate.wait()

        held[0].close = close_slowly  # type: ignore[method-assign]
        other = small.ask(make_version(name="other"))
        await settle()
        small.manager.release(held[0])
        await settle()
        assert not other.done()
        gate.set()
        await other

    async def test_provisioned_ones_do_not_make_room(self, small: Platform) -> None:
        small.manager.provide(PUBLISHED, 5)
        await settle()
        other = small.ask()
        await settle()
        assert [item.closes for item in small.fleet.made] == [0] * 5
        other.cancel()

    async def test_what_never_fits_is_refused_at_once(self, small: Platform) -> None:
        with pytest.raises(EC2Throttled):
            await small.acquire(make_version(memory_mib=10_240))

    async def test_none_is_made_ahead_where_there_is_no_room(self, small: Platform) -> None:
        keeper = await small.acquire(OTHER)
        small.manager.release(keeper)
        waiting = [small.ask() for _ in range(8)]
        await settle()
        assert keeper.closes == 1, "an invocation needed its room"
        assert len(small.fleet.made) == 1 + 5
        assert small.manager.count() == {"starting": 3, "busy": 5, "idle": 0}
        for task in waiting:
            task.cancel()

    async def test_a_start_that_fails_gives_its_memory_back(self) -> None:
        platform = Platform(VERSION.memory_mib, is_instant=False)
        for error in (PlatformError("no room"), OSError(28, "No space left on device")):
            waiting = platform.ask()
            await settle()
            await platform.start_ends(error)
            assert waiting.exception() is not None
        last = platform.ask()
        await settle()
        await platform.start_ends()
        assert last.done()
        await platform.manager.close()

    async def test_who_gives_up_leaves_the_line_to_others(self, small: Platform) -> None:
        held = [await small.acquire() for _ in range(5)]
        first, second = small.ask(OTHER), small.ask(make_version(name="second"))
        await settle()
        first.cancel()
        for environment in held:
            small.manager.release(environment)
            await settle()
        await second
        assert small.manager.count()["starting"] == 0


class TestMemoryThatIsThere:
    async def test_idle_ones_end_when_it_runs_out(self, platform: Platform) -> None:
        held = [await platform.acquire() for _ in range(5)]
        for environment in held[:4]:
            environment.idle_mib = 60.0
            platform.clock.now += 1
            platform.manager.release(environment)
        platform.manager.press(899, 1_000)
        await settle()
        assert platform.idle == 4
        platform.manager.press(901, 1_000)
        await settle()
        # Two are enough to come down to the low mark; the busy one is not asked.
        assert [item.closes for item in held] == [1, 1, 0, 0, 0]

    async def test_they_count_with_what_they_hold(self, platform: Platform) -> None:
        for version in (VERSION, OTHER):
            await platform.call(version)
        small, large = platform.fleet.made
        small.idle_mib, large.idle_mib = 1.0, 500.0
        platform.manager.press(910, 1_000)
        await settle()
        assert (small.closes, large.closes) == (0, 1)

    async def test_provisioned_ones_go_last_and_come_back_when_there_is_memory(
        self, platform: Platform
    ) -> None:
        platform.manager.provide(PUBLISHED, 2)
        await settle()
        await platform.call()
        platform.manager.press(910, 1_000)
        await settle()
        assert platform.fleet.made[2].closes == 1
        assert platform.manager.provided(PUBLISHED).ready < 2
        await platform.pass_time(10)
        assert platform.manager.provided(PUBLISHED).ready == 0
        platform.manager.press(500, 1_000)
        await platform.pass_time(1)
        assert platform.manager.provided(PUBLISHED).ready == 2

    async def test_while_it_is_short_none_is_made_ahead(self, slow: Platform) -> None:
        slow.manager.press(950, 1_000)
        waiting = [slow.ask() for _ in range(8)]
        await settle()
        assert slow.manager.count()["starting"] == 8
        slow.manager.press(500, 1_000)
        await slow.pass_time(2)
        assert slow.manager.count()["starting"] == 12
        for task in waiting:
            task.cancel()

    async def test_the_dearer_it_is_the_sooner_idle_ones_go(self) -> None:
        kept_s = []
        for used in (100, 880):
            platform = Platform()
            platform.manager.press(used, 1_000)
            await platform.call()
            began = platform.clock.now
            while platform.idle:
                await platform.pass_time(10, 10.0)
            kept_s.append(platform.clock.now - began)
            await platform.manager.close()
        assert kept_s[1] < kept_s[0] / 4


class TestScalingRate:
    async def test_a_function_gets_a_thousand_new_ones_in_ten_seconds(
        self, platform: Platform
    ) -> None:
        made = limits.SCALING_ENVIRONMENTS
        await platform.acquire_many(made // 2)
        with pytest.raises(TooManyRequests) as caught:
            await platform.acquire_many(made, PUBLISHED)
        assert caught.value.reason == "FunctionInvocationRateLimitExceeded"
        assert len(platform.fleet.made) == made, "those made ahead count too"
        await platform.acquire(OTHER)
        platform.clock.now += 1
        await platform.acquire_many(50)

    async def test_what_is_warm_serves_all_the_same(self, platform: Platform) -> None:
        environment = await platform.acquire()
        with pytest.raises(TooManyRequests):
            await platform.acquire_many(limits.SCALING_ENVIRONMENTS)
        platform.manager.release(environment)
        assert await platform.acquire() is environment


def key_of(version: FunctionVersion) -> tuple[str, str, str, str]:
    return (version.account, version.region, version.name, version.version)
