"""Which environment serves: the warm one used last, a new one, or whichever is free first."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from firelet.control.manager import Manager
from firelet.model import limits
from firelet.model.errors import PlatformError, SandboxEnded
from firelet.model.function import FunctionVersion, State
from unit.control.fake_fleet import FakeEnvironment, ManagedFleet, settle
from unit.versions import make_version

VERSION = make_version()
KEY = (VERSION.account, VERSION.region, VERSION.name)


class Platform(ManagedFleet):
    version = VERSION

    async def warm(self, count: int, version: FunctionVersion = VERSION) -> list[FakeEnvironment]:
        """That many idle environments, in the order in which they became idle."""
        environments = [await self.acquire(version) for _ in range(count)]
        for environment in environments:
            self.clock.now += 1
            self.manager.release(environment)
        return environments


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


class TestLifetime:
    @pytest.fixture
    async def mortal(self) -> Any:
        platform = Platform(is_instant=True)
        platform.manager = Manager(
            platform.fleet,  # type: ignore[arg-type]
            platform.clock,
            lifetime_s=60.0,
        )
        yield platform
        await platform.manager.close()

    async def test_one_that_is_old_ends_when_it_is_given_back(self, mortal: Platform) -> None:
        first = await mortal.acquire()
        mortal.clock.now += 60
        mortal.manager.release(first)
        await settle()
        assert first.closes == 1
        assert await mortal.acquire() is not first

    async def test_one_that_grows_old_in_idleness_ends(self, mortal: Platform) -> None:
        (first,) = await mortal.warm(1)
        mortal.clock.now += 58
        mortal.manager.tend(1.0, 1e9)
        await settle()
        assert first.closes == 0
        mortal.clock.now += 1
        mortal.manager.tend(1.0, 1e9)
        await settle()
        assert first.closes == 1


class TestReuse:
    async def test_the_first_invocation_has_one_made(self, platform: Platform) -> None:
        environment = await platform.acquire()
        assert environment.version is VERSION
        assert platform.manager.count() == {"starting": 0, "busy": 1, "idle": 0}

    async def test_an_idle_one_serves_again(self, platform: Platform) -> None:
        first = await platform.acquire()
        platform.manager.release(first)
        assert platform.manager.count() == {"starting": 0, "busy": 0, "idle": 1}
        assert await platform.acquire() is first
        assert len(platform.fleet.made) == 1

    async def test_the_one_used_last_serves_first(self, platform: Platform) -> None:
        environments = await platform.warm(3)
        assert await platform.acquire() is environments[2]
        assert await platform.acquire() is environments[1]

    async def test_a_busy_one_serves_nobody_else(self, platform: Platform) -> None:
        first = await platform.acquire()
        assert await platform.acquire() is not first

    async def test_functions_and_versions_do_not_share(self, platform: Platform) -> None:
        await platform.warm(1)
        for other in (make_version(name="other"), make_version(version="1")):
            assert (await platform.acquire(other)).version is other

    async def test_a_change_of_state_alone_keeps_them(self, platform: Platform) -> None:
        (first,) = await platform.warm(1)
        changed = make_version(
            revision_id="other", last_modified="later", state=State.PENDING, description="new"
        )
        assert await platform.acquire(changed) is first

    async def test_a_change_of_configuration_does_not(self, platform: Platform) -> None:
        (first,) = await platform.warm(1)
        changed = make_version(memory_mib=256)
        second = await platform.acquire(changed)
        assert second.version is changed
        await settle()
        assert first.closes == 1

    async def test_one_that_died_while_idle_is_passed_over(self, platform: Platform) -> None:
        one, two = await platform.warm(2)
        two.is_usable = False
        assert await platform.acquire() is one
        await settle()
        assert two.closes == 1

    async def test_one_that_died_in_use_is_not_kept(self, platform: Platform) -> None:
        environment = await platform.acquire()
        environment.is_usable = False
        platform.manager.release(environment)
        await settle()
        assert environment.closes == 1
        assert platform.manager.count() == {"starting": 0, "busy": 0, "idle": 0}


class TestWhicheverIsFirst:
    async def test_one_that_is_given_back_serves_who_waits_for_a_start(
        self, slow: Platform
    ) -> None:
        first = slow.ask()
        await settle()
        slow.fleet.pending[0].set_result(None)
        environment = await first
        second = slow.ask()
        await settle()
        assert slow.manager.count() == {"starting": 1, "busy": 1, "idle": 0}
        slow.manager.release(environment)
        assert await second is environment
        slow.fleet.pending[0].set_result(None)
        await settle()
        assert slow.manager.count() == {"starting": 0, "busy": 1, "idle": 1}

    async def test_who_waited_longest_is_served_first(self, slow: Platform) -> None:
        first, second = slow.ask(), slow.ask()
        await settle()
        slow.fleet.pending[1].set_result(None)
        await settle()
        assert (first.done(), second.done()) == (True, False)
        slow.fleet.pending[0].set_result(None)
        assert await second is not await first

    async def test_a_start_that_is_under_way_and_wanted_by_nobody_is_used(
        self, slow: Platform
    ) -> None:
        first = slow.ask()
        await settle()
        first.cancel()
        second = slow.ask()
        await settle()
        assert len(slow.fleet.starts) == 1
        slow.fleet.pending[0].set_result(None)
        assert (await second).number == 0

    async def test_one_whose_runtime_is_still_busy_waits_for_it(self, platform: Platform) -> None:
        environment = await platform.acquire()
        environment.is_busy_after = True
        platform.manager.release(environment)
        assert platform.manager.count()["idle"] == 0
        other = await platform.acquire()
        assert other is not environment
        environment.become_free()
        assert platform.manager.count() == {"starting": 0, "busy": 1, "idle": 1}


class TestFailedStart:
    async def test_it_reaches_exactly_one_of_those_who_wait(self, slow: Platform) -> None:
        first, second = slow.ask(), slow.ask()
        await settle()
        slow.fleet.pending[0].set_exception(PlatformError("no room"))
        with pytest.raises(PlatformError, match="no room"):
            await first
        await settle()
        assert not second.done()
        slow.fleet.pending[0].set_result(None)
        assert (await second).number == 0

    async def test_the_next_invocation_tries_again(self, slow: Platform) -> None:
        first = slow.ask()
        await settle()
        slow.fleet.pending[0].set_exception(PlatformError("no room"))
        with pytest.raises(PlatformError):
            await first
        second = slow.ask()
        await settle()
        slow.fleet.pending[0].set_result(None)
        assert (await second).number == 0

    async def test_one_that_nobody_waits_for_any_more_is_forgotten(self, slow: Platform) -> None:
        first = slow.ask()
        await settle()
        first.cancel()
        await settle()
        slow.fleet.pending[0].set_exception(PlatformError("no room"))
        await settle()
        assert slow.manager.count() == {"starting": 0, "busy": 0, "idle": 0}

    async def test_an_error_of_the_host_reaches_who_waits_too(self, slow: Platform) -> None:
        first = slow.ask()
        await settle()
        slow.fleet.pending[0].set_exception(OSError(28, "No space left on device"))
        await settle()
        assert first.done(), "the invocation waits for ever"
        with pytest.raises((PlatformError, OSError)):
            await first


class TestSandboxThatEnds:
    async def test_a_start_in_which_it_ends_is_begun_again(self, slow: Platform) -> None:
        waiting = slow.ask()
        for _ in range(limits.SANDBOXES_TRIED - 1):
            await settle()
            slow.fleet.pending[0].set_exception(SandboxEnded())
        await settle()
        assert not waiting.done()
        slow.fleet.pending[0].set_result(None)
        assert (await waiting).number == 0
        assert slow.manager.count() == {"starting": 0, "busy": 1, "idle": 0}

    async def test_but_not_for_ever(self, slow: Platform) -> None:
        waiting = slow.ask()
        for _ in range(limits.SANDBOXES_TRIED):
            await settle()
            slow.fleet.pending[0].set_exception(SandboxEnded())
        with pytest.raises(SandboxEnded):
            await waiting
        assert slow.fleet.pending == []


class TestCancelled:
    async def test_who_gave_up_before_it_came_leaves_it_idle(self, slow: Platform) -> None:
        waiting = slow.ask()
        await settle()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        slow.fleet.pending[0].set_result(None)
        await settle()
        assert slow.manager.count() == {"starting": 0, "busy": 0, "idle": 1}

    async def test_who_gave_up_as_it_came_gives_it_back(self, slow: Platform) -> None:
        holder = slow.ask()
        await settle()
        slow.fleet.pending[0].set_result(None)
        environment = await holder
        waiting = slow.ask()
        await settle()
        # Resolved and cancelled in one turn of the loop, before the waiter runs again.
        slow.manager.release(environment)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert slow.manager.count()["idle"] == 1
        assert await slow.acquire() is environment

    async def test_who_gave_up_as_it_came_gives_it_to_the_next_in_line(
        self, slow: Platform
    ) -> None:
        holder = slow.ask()
        await settle()
        slow.fleet.pending[0].set_result(None)
        environment = await holder
        first, second = slow.ask(), slow.ask()
        await settle()
        slow.manager.release(environment)
        first.cancel()
        assert await second is environment
        assert first.cancelled()


class TestRetire:
    async def test_idle_ones_end_at_once(self, platform: Platform) -> None:
        environments = await platform.warm(2)
        platform.manager.retire(KEY, None)
        await settle()
        assert [environment.closes for environment in environments] == [1, 1]
        assert platform.manager.count()["idle"] == 0

    async def test_busy_ones_end_after_their_invocation(self, platform: Platform) -> None:
        environment = await platform.acquire()
        platform.manager.retire(KEY, None)
        await settle()
        assert environment.closes == 0
        platform.manager.release(environment)
        await settle()
        assert environment.closes == 1

    async def test_one_that_was_being_started_does_not_serve(self, slow: Platform) -> None:
        waiting = slow.ask()
        await settle()
        slow.manager.retire(KEY, None)
        slow.fleet.pending[0].set_result(None)
        await settle()
        assert not waiting.done()
        assert slow.fleet.made[0].closes == 1
        slow.fleet.pending[0].set_result(None)
        assert (await waiting).number == 1

    async def test_a_start_for_the_old_configuration_is_not_repeated(self, slow: Platform) -> None:
        changed = make_version(memory_mib=256)
        holder = slow.ask()
        await settle()
        slow.fleet.pending[0].set_result(None)
        environment = await holder
        waiting = slow.ask(changed)
        await settle()
        slow.manager.retire(KEY, None)
        slow.manager.release(environment)
        for gate in slow.fleet.pending:
            gate.set_result(None)
        await settle()
        for gate in slow.fleet.pending:
            gate.set_result(None)
        await waiting
        started = [version.memory_mib for version, _ in slow.fleet.starts]
        assert Counter(started)[VERSION.memory_mib] == 1

    async def test_one_version_may_be_retired_alone(self, platform: Platform) -> None:
        published = make_version(version="1")
        (latest,) = await platform.warm(1)
        (first,) = await platform.warm(1, published)
        platform.manager.retire(KEY, "1")
        await settle()
        assert (latest.closes, first.closes) == (0, 1)

    async def test_other_functions_are_left_alone(self, platform: Platform) -> None:
        (environment,) = await platform.warm(1, make_version(name="other"))
        platform.manager.retire(KEY, None)
        await settle()
        assert environment.closes == 0

    async def test_new_ones_serve_afterwards(self, platform: Platform) -> None:
        await platform.warm(1)
        platform.manager.retire(KEY, None)
        environment = await platform.acquire()
        platform.manager.release(environment)
        assert await platform.acquire() is environment


class TestTend:
    async def test_what_has_been_idle_is_frozen_then_stopped(self, platform: Platform) -> None:
        (environment,) = await platform.warm(1)
        platform.manager.tend(freeze_after_s=5, stop_after_s=60)
        assert not environment.is_frozen
        platform.clock.now += 5
        platform.manager.tend(freeze_after_s=5, stop_after_s=60)
        assert environment.is_frozen
        platform.clock.now += 55
        platform.manager.tend(freeze_after_s=5, stop_after_s=60)
        await settle()
        assert environment.closes == 1
        assert platform.manager.count()["idle"] == 0

    async def test_only_what_grew_old_is_stopped(self, platform: Platform) -> None:
        one, two = await platform.warm(2)
        platform.clock.now = one.idle_since + 60
        platform.manager.tend(freeze_after_s=5, stop_after_s=60)
        await settle()
        assert (one.closes, two.closes) == (1, 0)
        assert await platform.acquire() is two

    async def test_a_busy_one_is_not_touched(self, platform: Platform) -> None:
        environment = await platform.acquire()
        platform.clock.now += 1000
        platform.manager.tend(freeze_after_s=5, stop_after_s=60)
        await settle()
        assert (environment.is_frozen, environment.closes) == (False, 0)

    async def test_one_that_died_while_idle_is_taken_away(self, platform: Platform) -> None:
        (environment,) = await platform.warm(1)
        environment.is_usable = False
        platform.manager.tend(freeze_after_s=5, stop_after_s=60)
        await settle()
        assert environment.closes == 1

    async def test_a_function_without_environments_serves_again(self, platform: Platform) -> None:
        await platform.warm(1)
        platform.clock.now += 60
        platform.manager.tend(freeze_after_s=5, stop_after_s=60)
        platform.manager.tend(freeze_after_s=5, stop_after_s=60)
        environment = await platform.acquire()
        platform.manager.release(environment)
        assert platform.manager.count() == {"starting": 0, "busy": 0, "idle": 1}


class TestClose:
    async def test_all_end_idle_and_busy(self, platform: Platform) -> None:
        idle, busy = await platform.warm(2)
        assert await platform.acquire() is busy
        await platform.manager.close()
        assert (idle.closes, busy.closes) == (1, 1)
        assert platform.manager.count() == {"starting": 0, "busy": 0, "idle": 0}

    async def test_an_invocation_that_ends_afterwards_may_give_back(
        self, platform: Platform
    ) -> None:
        environment = await platform.acquire()
        await platform.manager.close()
        platform.manager.release(environment)
        assert platform.manager.count() == {"starting": 0, "busy": 0, "idle": 0}

    async def test_who_waits_for_a_start_hears_of_it(self, slow: Platform) -> None:
        waiting = slow.ask()
        await settle()
        await slow.manager.close()
        await settle()
        assert waiting.done(), "the invocation waits for ever"
        assert waiting.exception() is not None

    async def test_one_that_is_being_ended_is_ended_to_the_end(self, platform: Platform) -> None:
        (environment,) = await platform.warm(1)
        ended = asyncio.Event()
        gate = asyncio.Event()

        async def close_slowly() -> None:
            await gate.wait()
            ended.set()

        environment.close = close_slowly  # type: ignore[method-assign]
        platform.manager.retire(KEY, None)
        await settle()
        closing = asyncio.create_task(platform.manager.close())
        await settle()
        gate.set()
        await closing
        assert ended.is_set()
