"""The worker manager under random faults: whatever happens, in any order, counts stay true.

Starts succeed, fail or hang; environments die at any moment; callers go away; versions change and
are retired; floors rise and fall; memory is short; tenants come, more than may have environments;
and at the end all is closed, wherever it was.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from firelet.control.counting import Counting
from firelet.control.invoke import Invoker
from firelet.control.latencies import Latencies
from firelet.control.manager import Manager
from firelet.control.matching import is_same
from firelet.model.errors import FireletError, FunctionError, PlatformError, SandboxEnded
from firelet.model.function import FunctionKey, FunctionVersion, InitializationType
from firelet.model.invocation import Invocation, Outcome
from unit.control.fake_fleet import FakeClock, FakeEnvironment, FakeFleet
from unit.versions import make_invocation, make_version

LATEST, PUBLISHED, OTHER, TENANTS = 0, 1, 2, 3
TENANTS_CONCURRENCY, TENANT_ENVIRONMENTS = 1, 2
MEMORY_MIB = 1_500
FAILURES: tuple[Callable[[], Exception], ...] = (
    lambda: PlatformError("no room"),
    lambda: SandboxEnded(),
    lambda: FunctionError("Runtime.ExitError", b"{}"),
    lambda: OSError(28, "No space left on device"),
)


class Environment(FakeEnvironment):
    """Serves one invocation at a time, until the machine ends it. ``is_retired`` when it may serve
    none any more."""

    def __init__(self, version: FunctionVersion, number: int) -> None:
        super().__init__(version, number)
        self.is_retired = False
        self.ending: asyncio.Future[None] | None = None
        self.is_lingering = False

    async def invoke(self, invocation: Invocation) -> Outcome:
        assert self.ending is None, "two invocations have one environment"
        assert not self.is_lingering, "its runtime has not come back from the last one"
        assert self.closes == 0
        assert not self.is_retired
        assert is_same(self.version, invocation.function)
        self.is_frozen = False
        self.ending = asyncio.get_running_loop().create_future()
        try:
            await self.ending
        finally:
            self.ending = None
        return Outcome(payload=b"1", executed_version=self.version.version)

    def when_free(self, callback: Callable[[FakeEnvironment], None]) -> None:
        self.is_lingering = self.is_busy_after and self.is_usable
        super().when_free(callback)

    def become_free(self) -> None:
        self.is_lingering = False
        super().become_free()


@dataclass(eq=False)
class Start:
    """One that is under way in the fleet."""

    version: FunctionVersion
    gate: asyncio.Future[None]
    is_retired: bool = False


class Fleet(FakeFleet):
    """Starts hang until the machine ends them, if it ever does."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Any] = []
        self.under_way: list[Start] = []

    async def start(
        self,
        version: FunctionVersion,
        initialization: InitializationType = InitializationType.ON_DEMAND,
    ) -> FakeEnvironment:
        start = Start(version, asyncio.get_running_loop().create_future())
        self.under_way.append(start)
        try:
            await start.gate
        finally:
            self.under_way.remove(start)
        environment = Environment(version, len(self.made))
        environment.is_retired = start.is_retired
        self.made.append(environment)
        return environment

    @property
    def alive(self) -> list[Environment]:
        return [environment for environment in self.made if not environment.closes]


class NoReservations:
    def reserved_total(self, account: str, region: str) -> int:
        return 0


class ManagerMachine(RuleBasedStateMachine):
    """Three versions of two functions, one of which may have provisioned concurrency; and a
    function that keeps its tenants apart."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.fleet = Fleet()
        self.counting = Counting(clock=self.clock)
        self.manager = Manager(self.fleet, self.clock, MEMORY_MIB)
        self.invoker = Invoker(self.manager, self.counting, NoReservations(), Latencies())
        self.versions = [
            make_version(),
            make_version(version="1"),
            make_version(name="other", memory_mib=300),
            make_version(
                name="tenants", extras={"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}}
            ),
        ]
        self.calls: list[tuple[FunctionVersion, asyncio.Task[Outcome]]] = []
        self.warming: list[asyncio.Task[int]] = []
        self.target = 0
        self.is_short = False

    def do(self, action: Callable[[], object]) -> None:
        """On the loop, followed by everything that comes of it."""

        async def on_loop() -> None:
            action()
            for _ in range(20):
                await asyncio.sleep(0)

        self.loop.run_until_complete(on_loop())
        for version, task in list(self.calls):
            if task.done():
                self.calls.remove((version, task))
                error = None if task.cancelled() else task.exception()
                assert error is None or isinstance(error, FireletError), error

    @property
    def serving(self) -> list[Environment]:
        return [environment for environment in self.fleet.made if environment.ending is not None]

    def of(self, version: FunctionVersion) -> Callable[[FunctionVersion], bool]:
        return lambda other: key_of(other) == key_of(version) and other.version == version.version

    @rule(index=st.integers(0, 2), count=st.integers(1, 5))
    def invoke(self, index: int, count: int) -> None:
        version = self.versions[index]

        def begin() -> None:
            for _ in range(count):
                work = self.invoker.invoke(make_invocation(version), key_of(version), None)
                self.calls.append((version, self.loop.create_task(work)))

        self.do(begin)

    @rule(tenant=st.sampled_from("abc"))
    def invoke_for_a_tenant(self, tenant: str) -> None:
        version = self.versions[TENANTS]

        def begin() -> None:
            invocation = make_invocation(version, tenant_id=tenant)
            work = self.invoker.invoke(invocation, key_of(version), TENANTS_CONCURRENCY)
            self.calls.append((version, self.loop.create_task(work)))

        self.do(begin)

    @precondition(lambda self: self.fleet.under_way)
    @rule(index=st.integers(0, 99), failure=st.sampled_from((None, None, *FAILURES)))
    def start_ends(self, index: int, failure: Callable[[], Exception] | None) -> None:
        gate = self.fleet.under_way[index % len(self.fleet.under_way)].gate
        if failure is None:
            self.do(lambda: gate.set_result(None))
        else:
            self.do(lambda: gate.set_exception(failure()))

    @precondition(lambda self: self.serving)
    @rule(index=st.integers(0, 99), is_late=st.booleans())
    def invocation_ends(self, index: int, is_late: bool) -> None:
        environment = self.serving[index % len(self.serving)]
        environment.is_busy_after = is_late
        assert environment.ending is not None
        self.do(lambda: environment.ending and environment.ending.set_result(None))

    @precondition(lambda self: any(item.is_lingering for item in self.fleet.made))
    @rule(index=st.integers(0, 99))
    def runtime_comes_back(self, index: int) -> None:
        lingering = [item for item in self.fleet.made if item.is_lingering]
        self.do(lingering[index % len(lingering)].become_free)

    @precondition(lambda self: self.fleet.alive)
    @rule(index=st.integers(0, 99), has_taken_its_event=st.booleans())
    def sandbox_dies(self, index: int, has_taken_its_event: bool) -> None:
        """Whatever it was doing."""
        error = PlatformError("It is broken.") if has_taken_its_event else SandboxEnded()
        environment = self.fleet.alive[index % len(self.fleet.alive)]

        def die() -> None:
            environment.is_usable = False
            if environment.ending is not None:
                environment.ending.set_exception(error)
            environment.become_free()

        self.do(die)

    @precondition(lambda self: self.fleet.alive)
    @rule(index=st.integers(0, 99))
    def runtime_ends(self, index: int) -> None:
        self.fleet.alive[index % len(self.fleet.alive)].is_initialised = False

    @precondition(lambda self: self.calls)
    @rule(index=st.integers(0, 99))
    def caller_goes_away(self, index: int) -> None:
        self.do(self.calls[index % len(self.calls)][1].cancel)

    @precondition(lambda self: self.calls and (self.serving or self.fleet.under_way))
    @rule(index=st.integers(0, 99))
    def caller_goes_away_as_one_becomes_free(self, index: int) -> None:
        """In the same turn of the loop: whoever it was meant for is gone before it hears of it."""
        gates = [item.ending for item in self.serving if item.ending is not None]
        gates += [start.gate for start in self.fleet.under_way]

        def go() -> None:
            gates[index % len(gates)].set_result(None)
            for _, task in self.calls:
                if task is not self.calls[-1][1]:
                    self.loop.call_soon(task.cancel)

        self.do(go)

    @rule(index=st.integers(0, 2), count=st.integers(1, 3))
    def warm(self, index: int, count: int) -> None:
        work = self.manager.warm(self.versions[index], 1_000.0, count)
        self.do(lambda: self.warming.append(self.loop.create_task(work)))

    @rule(index=st.sampled_from([LATEST, OTHER]), is_other=st.booleans())
    def update(self, index: int, is_other: bool) -> None:
        """Another configuration, or the same with another state, as ``app`` retires after one."""
        old = self.versions[index]
        new = make_version(
            name=old.name,
            memory_mib=old.memory_mib,
            description=old.description + "!",
            timeout_s=old.timeout_s + is_other,
        )
        self.versions[index] = new
        self.retire(key_of(old), "$LATEST", new)

    @rule()
    def delete(self) -> None:
        """The function with two versions is gone; one with its name may be made again."""
        self.target = 0
        self.do(lambda: self.manager.provide(self.versions[PUBLISHED], 0))
        self.retire(key_of(self.versions[PUBLISHED]), None, None)

    def retire(self, key: FunctionKey, version: str | None, keep: FunctionVersion | None) -> None:
        def is_meant(other: FunctionVersion) -> bool:
            return key_of(other) == key and version in (None, other.version)

        for start in self.fleet.under_way:
            start.is_retired |= is_meant(start.version)
        for item in self.fleet.alive:
            is_busy = item.ending is not None or item.is_lingering
            is_kept = keep is not None and is_same(item.version, keep) and not is_busy
            item.is_retired |= is_meant(item.version) and not is_kept
        self.do(lambda: self.manager.retire(key, version, keep))

    @rule(count=st.integers(0, 3))
    def provide(self, count: int) -> None:
        self.target = count
        self.do(lambda: self.manager.provide(self.versions[PUBLISHED], count))

    @rule(share=st.sampled_from([0.3, 0.7, 0.95]))
    def memory_is_used(self, share: float) -> None:
        self.is_short = share > 0.9
        self.do(lambda: self.manager.press(share * 1_000, 1_000))
        self.time_passes(0.05)

    @rule(seconds=st.sampled_from([0.05, 1.0, 12.0, 100.0, 4_000.0]))
    def time(self, seconds: float) -> None:
        self.time_passes(seconds)

    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds
        self.do(lambda: self.manager.tend(0.25, 1_000.0))

    @invariant()
    def counts_add_up(self) -> None:
        count = self.manager.count()
        lingering = sum(item.is_lingering for item in self.fleet.alive)
        assert count["busy"] == len(self.serving)
        assert lingering == sum(pool.settling for pool in self.manager._pools.values())
        assert count["starting"] == len(self.fleet.under_way) + len(self.manager._room._claims)
        assert count["idle"] == len(self.fleet.alive) - len(self.serving) - lingering

    @invariant()
    def leases_are_those_of_live_invocations(self) -> None:
        running = Counter(key_of(version) for version, _ in self.calls)
        for version in self.versions:
            assert self.counting.running(key_of(version)) == running[key_of(version)]

    @invariant()
    def whoever_waits_is_waited_for(self) -> None:
        waiting = len(self.calls) - len(self.serving)
        pools = self.manager._pools.values()
        assert sum(len(pool.waiting) for pool in pools) == waiting
        assert all(pool.starting >= len(pool.waiting) for pool in pools)

    @invariant()
    def demand_is_what_is_asked_for(self) -> None:
        asked = sum(pool.upkeep.demand.concurrency for pool in self.manager._pools.values())
        assert asked == len(self.calls)

    @invariant()
    def memory_is_promised_once_and_no_more_than_there_is(self) -> None:
        versions = [item.version for item in (*self.fleet.alive, *self.fleet.under_way)]
        assert self.manager._room.taken_mib == sum(version.memory_mib for version in versions)
        assert self.manager._room.taken_mib <= MEMORY_MIB

    @invariant()
    def tenants_have_what_is_counted_and_no_more_than_they_may(self) -> None:
        key = key_of(self.versions[TENANTS])
        alive = sum(key_of(item.version) == key for item in self.fleet.alive)
        pools = self.manager._pools.items()
        starting = sum(pool.starting for owner, pool in pools if owner[:3] == key)
        assert self.manager._tenants.count(key) == alive + starting <= TENANT_ENVIRONMENTS

    @invariant()
    def the_floor_is_kept(self) -> None:
        found = self.manager.provided(self.versions[PUBLISHED])
        for pool in self.manager._pools.values():
            floor = pool.floor
            if floor is None:
                continue
            serving = len(floor.members & set(self.serving))
            lingering = sum(item.is_lingering for item in floor.members)  # type: ignore[attr-defined]
            assert (floor.target, len(floor.members)) == (self.target, found.ready)
            assert len(floor.idle) == len(floor.members) - serving - lingering
            assert len(floor.idle) <= max(0, self.target - serving - lingering)
            if found.failure is None and found.ready < self.target and not self.is_short:
                assert floor.starting > 0

    @invariant()
    def nothing_is_closed_twice(self) -> None:
        assert all(item.closes <= 1 for item in self.fleet.made)

    def teardown(self) -> None:
        """Closed as it stands: with starts, waiting invocations and busy environments."""

        async def close() -> None:
            await self.manager.close()
            for environment in self.serving:
                environment.ending.cancel()  # type: ignore[union-attr]
            tasks = [*self.warming, *(task for _, task in self.calls)]
            await asyncio.gather(*tasks, return_exceptions=True)

        try:
            self.loop.run_until_complete(close())
            assert all(item.closes == 1 for item in self.fleet.made)
            assert self.manager.count() == {"starting": 0, "busy": 0, "idle": 0}
            assert self.manager._room.taken_mib == 0
            assert all(self.counting.running(key_of(each)) == 0 for each in self.versions)
            assert not self.fleet.under_way
        finally:
            self.loop.close()


def key_of(version: FunctionVersion) -> FunctionKey:
    return (version.account, version.region, version.name)


TestManagerMachine = ManagerMachine.TestCase
TestManagerMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
