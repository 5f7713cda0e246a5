"""Which environment serves: the warm one used last, a new one, or whichever is free first."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from firelet.control.manager import Manager
from firelet.model.errors import PlatformError
from firelet.model.function import FunctionVersion, State
from unit.control.fake_fleet import FakeClock, FakeEnvironment, FakeFleet
from unit.versions import make_version

VERSION = make_version()
KEY = (VERSION.account, VERSION.region, VERSION.name)


class Platform:
    """A manager on a fleet and a clock that the test drives."""

    def __init__(self, *, is_instant: bool) -> None:
        self.clock = FakeClock()
        self.fleet = FakeFleet(is_instant=is_instant)
        self.manager = Manager(self.fleet, self.clock)  # type: ignore[arg-type]

    async def acquire(self, version: FunctionVersion = VERSION) -> FakeEnvironment:
        async with asyncio.timeout(5):
            environment: Any = await self.manager.acquire(version)
        return environment

    def ask(self, version: FunctionVersion = VERSION) -> asyncio.Task[Any]:
        return asyncio.create_task(self.manager.acquire(version))

    async def warm(self, count: int, version: FunctionVersion = VERSION) -> list[FakeEnvironment]:
        """That many idle environments, in the order in which they became idle."""
        environments = [await self.acquire(version) for _ in range(count)]
        for environment in environments:
            self.clock.now += 1
            self.manager.release(environment)
        return environments


async def settle() -> None:
    """Lets every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


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


class ManagerMachine(RuleBasedStateMachine):
    """Random invocations, starts, failures, cancellations, retirements and ticks of the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.versions = [VERSION, make_version(name="other")]
        self.held: list[FakeEnvironment] = []
        self.lingering: list[FakeEnvironment] = []
        self.waiting: list[tuple[FunctionVersion, asyncio.Task[Any]]] = []
        self.platform = self.run(self.make())

    async def make(self) -> Platform:
        return Platform(is_instant=False)

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def call(self, action: Callable[..., None], *arguments: object) -> None:
        """Calls the manager on the loop, where it makes tasks, and looks at what came of it."""

        async def on_loop() -> None:
            action(*arguments)
            await settle()

        self.run(on_loop())
        self.look()

    def look(self) -> None:
        self.run(settle())
        for entry in list(self.waiting):
            version, task = entry
            if not task.done():
                continue
            self.waiting.remove(entry)
            if task.cancelled() or task.exception() is not None:
                continue
            environment = task.result()
            assert environment not in self.held, "two invocations have one environment"
            assert environment.version.name == version.name
            assert environment.is_usable
            assert environment.closes == 0
            self.held.append(environment)

    @rule(index=st.integers(0, 1))
    def invoke(self, index: int) -> None:
        version = self.versions[index]
        task = self.loop.create_task(self.platform.manager.acquire(version))
        self.waiting.append((version, task))
        self.look()

    @precondition(lambda self: self.platform.fleet.pending)
    @rule(index=st.integers(0, 100), is_good=st.booleans())
    def start_ends(self, index: int, is_good: bool) -> None:
        pending = self.platform.fleet.pending
        gate = pending[index % len(pending)]
        if is_good:
            gate.set_result(None)
        else:
            gate.set_exception(PlatformError("no room"))
        self.look()

    @precondition(lambda self: self.held)
    @rule(index=st.integers(0, 100), is_usable=st.booleans(), is_late=st.booleans())
    def invocation_ends(self, index: int, is_usable: bool, is_late: bool) -> None:
        environment = self.held.pop(index % len(self.held))
        environment.is_usable = is_usable
        environment.is_busy_after = is_late
        if is_late and is_usable:
            self.lingering.append(environment)
        self.call(self.platform.manager.release, environment)

    @precondition(lambda self: self.lingering)
    @rule(index=st.integers(0, 100))
    def runtime_becomes_free(self, index: int) -> None:
        self.call(self.lingering.pop(index % len(self.lingering)).become_free)

    @precondition(lambda self: self.waiting)
    @rule(index=st.integers(0, 100), comes_with_a_release=st.booleans())
    def caller_gives_up(self, index: int, comes_with_a_release: bool) -> None:
        _, task = self.waiting[index % len(self.waiting)]
        environment = self.held.pop() if comes_with_a_release and self.held else None

        def give_up() -> None:
            if environment is not None:
                self.platform.manager.release(environment)
            task.cancel()

        self.call(give_up)

    @rule(index=st.integers(0, 1))
    def configuration_changes(self, index: int) -> None:
        old = self.versions[index]
        self.versions[index] = make_version(name=old.name, memory_mib=old.memory_mib + 1)
        self.call(self.platform.manager.retire, (old.account, old.region, old.name), None)

    @rule(seconds=st.sampled_from([1.0, 10.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.platform.clock.now += seconds
        self.call(self.platform.manager.tend, 5.0, 60.0)

    @invariant()
    def counts_add_up(self) -> None:
        count = self.platform.manager.count()
        assert count["busy"] == len(self.held)
        assert count["starting"] == len(self.platform.fleet.pending)
        usable = [item for item in self.platform.fleet.made if item.closes == 0]
        assert count["idle"] == len(usable) - len(self.held) - len(self.lingering)

    @invariant()
    def whoever_waits_is_waited_for(self) -> None:
        for name in ("hello", "other"):
            waiting = sum(1 for version, _ in self.waiting if version.name == name)
            starting = sum(
                1
                for version, gate in self.platform.fleet.starts
                if version.name == name and not gate.done()
            )
            assert starting >= waiting, "an invocation waits and nothing is being started for it"

    @invariant()
    def nothing_is_closed_twice(self) -> None:
        assert all(item.closes <= 1 for item in self.platform.fleet.made)

    def teardown(self) -> None:
        async def close() -> None:
            for environment in self.held:
                self.platform.manager.release(environment)
            for _, task in self.waiting:
                task.cancel()
            await settle()
            await self.platform.manager.close()

        try:
            self.run(close())
            assert all(item.closes == 1 for item in self.platform.fleet.made)
        finally:
            self.loop.close()


TestManagerMachine = ManagerMachine.TestCase
TestManagerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
