"""The worker manager: which environment serves an invocation, a warm one or a new one.

An invocation that finds no idle environment has a new one made, and is served by whichever is
free first, that one or one that another invocation gives back meanwhile. How many are kept beyond
that, and made ahead, is what ``control.capacity`` says; which ones go when memory is short, what
``control.evict`` says. Versions with provisioned concurrency have a floor of environments that are
made ahead, serve first and stay.
Called by ``control.invoke``; environments come from the ``Fleet`` port.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable

from firelet.control.agenda import Agenda
from firelet.control.floor import Floor, FloorView
from firelet.control.matching import Matching, is_same
from firelet.control.pool import Environment, Pool, PoolView, VersionKey, Waiter
from firelet.control.rates import RateLimits
from firelet.control.relief import NoReserves, Relief, Reserves
from firelet.control.room import Room
from firelet.control.starts import Fleet, Starts, describe
from firelet.control.tenants import Tenant, TenantEnvironments, too_many_environments
from firelet.control.upkeep import Upkeep
from firelet.model import limits
from firelet.model.errors import FireletError, TooManyRequests, Unavailable
from firelet.model.function import FunctionKey, FunctionVersion, InitializationType
from firelet.model.isolation import Isolation

__all__ = ["Environment", "Fleet", "FunctionKey", "Manager", "PoolView", "VersionKey"]


class Manager:
    """Owns every environment of this platform from its start to its end. ``memory_mib`` is what
    the memory sizes of all may add up to; ``reserves`` go last when memory is short. One that is
    older than ``lifetime_s`` ends as soon as it is idle."""

    def __init__(
        self,
        fleet: Fleet,
        clock: Callable[[], float],
        memory_mib: float = math.inf,
        reserves: Reserves | None = None,
        lifetime_s: float = math.inf,
    ) -> None:
        self._clock = clock
        self._lifetime_s = lifetime_s
        self._born: dict[Environment, float] = {}
        self._room = Room(memory_mib)
        self._starts = Starts(fleet, self._room, clock, self._make_room)
        self._scaling = RateLimits()
        self._matching = Matching()
        self._tenants = TenantEnvironments()
        self._agenda: Agenda[VersionKey] = Agenda()
        self._pools: dict[VersionKey, Pool] = {}
        self._relief = Relief(self._pools, self._room, self._discard, reserves or NoReserves())
        self._generations: dict[Environment, tuple[VersionKey, int]] = {}
        self._keep_max_s = math.inf
        self._is_closed = False

    async def acquire(self, version: FunctionVersion, tenant: Tenant | None = None) -> Environment:
        """An environment that serves nobody else until ``release``, and no other tenant ever.
        TooManyRequests when the function has had as many made as it may have; EC2Throttled when
        there is no memory."""
        key = _key(version, tenant)
        pool = self._pools.get(key) or self._open(key)
        pool.version = version
        if tenant is not None:
            pool.tenants_max = tenant.environments_max
        pool.invocations += 1
        now = self._clock()
        decide_at = pool.upkeep.arrived(now)
        if decide_at <= now:
            # After this one has begun the start that it may need, with which it is to be counted.
            asyncio.get_running_loop().call_soon(self._look, key)
        elif decide_at < math.inf:
            self._agenda.put(key, decide_at)
        try:
            environment = await self._take(key, pool, version)
        except BaseException:
            self._agenda.put(key, pool.upkeep.released(self._clock()))
            raise
        pool.busy += 1
        pool.count_served_by(environment)
        return environment

    def release(self, environment: Environment) -> None:
        """Gives it back; it serves again as soon as its runtime asks for the next event."""
        found = self._generations.get(environment)
        if found is None:
            return  # the manager was closed meanwhile
        key = found[0]
        pool = self._pools[key]
        pool.busy -= 1
        decide_at = pool.upkeep.released(self._clock())
        if decide_at < math.inf:
            self._agenda.put(key, decide_at)
        pool.settling += 1
        environment.when_free(self._on_free)

    async def warm(self, version: FunctionVersion, wait_s: float, count: int = 1) -> int:
        """Makes environments ahead of their first invocations; returns when they are there, or
        after ``wait_s``, while it goes on. How many were made: one that cannot be made is not an
        error here, the invocation that needs it will meet it."""
        key = _key(version)
        pool = self._pools.get(key) or self._open(key)
        pool.version = version
        now = self._clock()
        # Idle ones of an older configuration are about to be retired.
        fitting = sum(self._matching.fits(environment, version) for environment in pool.idle)
        pool.upkeep.demand.expect(pool.starting + fitting + count, now)
        self._agenda.put(key, now + wait_s)
        starts = [self._start(key, pool, version) for _ in range(count)]
        done, _ = await asyncio.wait(starts, timeout=wait_s)
        return sum(not start.cancelled() and start.result() for start in done)

    def provide(self, version: FunctionVersion, count: int) -> None:
        """Keeps ``count`` environments of a version initialised from now on, from 0. Asking again
        for the same tries at once what failed before."""
        key = _key(version)
        pool = self._pools.get(key) or self._open(key)
        floor = pool.floor
        if floor is None:
            floor = pool.floor = Floor(version)
        floor.raise_to(version, count)
        for _ in range(min(floor.excess, len(floor.idle))):
            self._discard(floor.idle.pop(0))
        self._fill(key, pool)

    def provided(self, version: FunctionVersion) -> FloorView:
        """What there is of the environments that ``provide`` asked for."""
        pool = self._pools.get(_key(version))
        return FloorView() if pool is None or pool.floor is None else pool.floor.view

    def retire(
        self, function: FunctionKey, version: str | None, keep: FunctionVersion | None = None
    ) -> None:
        """Ends the idle environments of a function (of one version) and marks the busy ones,
        except for idle ones of the configuration ``keep``."""
        for key, pool in list(self._pools.items()):
            if key[:3] != function or version not in (None, key[3]):
                continue
            pool.generation += 1
            pool.version = keep
            for idle in pool.idle_stacks:
                kept = []
                for environment in idle:
                    if keep is not None and is_same(environment.version, keep):
                        self._generations[environment] = (key, pool.generation)
                        kept.append(environment)
                    else:
                        self._discard(environment)
                idle[:] = kept

    def tend(self, freeze_after_s: float, stop_after_s: float) -> None:
        """Does what is due by now: starts and stops what the capacity policy wants, freezes what
        has been idle for so long, and stops it after ``stop_after_s`` whatever the policy says.
        Called every now and then."""
        self._keep_max_s = stop_after_s
        now = self._clock()
        for key in self._agenda.pop_due(now):
            self._look(key)
        for key, pool in list(self._pools.items()):
            self._tend_idle(key, pool, pool.idle, freeze_after_s, stop_after_s)
            floor = pool.floor
            if floor is not None:
                self._tend_idle(key, pool, floor.idle, freeze_after_s, math.inf)
                self._fill(key, pool)
                if floor.is_over:
                    pool.floor = None
            if pool.is_empty and (pool.version is None or pool.upkeep.is_past(now)):
                self._forget(key)
        self._room.refuse_late(now)
        self._make_room()

    def press(self, used_mib: float, memory_mib: float) -> None:
        """Is told how much of the host's memory is in use, by whomever. When it is nearly all,
        idle environments end and none is made that no invocation waits for."""
        self._relief.press(used_mib, memory_mib, self._clock())

    def count(self) -> dict[str, int]:
        """Environments by what they do."""
        pools = self._pools.values()
        return {
            "starting": sum(pool.starts for pool in pools),
            "busy": sum(pool.busy for pool in pools),
            "idle": sum(len(idle) for pool in pools for idle in pool.idle_stacks),
        }

    def view(self) -> list[PoolView]:
        """Every function version that has environments, or has had invocations within a day."""
        isolations: defaultdict[VersionKey, set[Isolation | None]] = defaultdict(set)
        for environment, (key, _) in self._generations.items():
            isolations[key].add(environment.version.isolation)
        return [pool.view(key, isolations.get(key, ())) for key, pool in self._pools.items()]

    def started_within(self, seconds: float) -> int:
        """How many environments were made in the last so many seconds."""
        return self._starts.within(seconds)

    async def close(self) -> None:
        """Ends every environment; whoever waits for one is told."""
        self._is_closed = True
        await self._starts.cancel()
        for pool in self._pools.values():
            while pool.waiting:
                _fail_first(pool, Unavailable("firelet is stopping."))
        for environment in list(self._generations):
            self._discard(environment)
        await self._starts.ended()
        self._pools.clear()

    async def _take(self, key: VersionKey, pool: Pool, version: FunctionVersion) -> Environment:
        """An idle one, or else the next that becomes free."""
        environment = pool.pop_idle()
        if environment is None:
            pool.cold += 1
        while True:
            if environment is None:
                environment = await self._wait(key, pool, version)
            if pool.wants(environment) and self._matching.fits(environment, version):
                return environment
            self._discard(environment)
            environment = pool.pop_idle()

    async def _wait(self, key: VersionKey, pool: Pool, version: FunctionVersion) -> Environment:
        """The next environment that becomes free, after seeing to it that one is being made."""
        if self._is_closed:
            raise Unavailable("firelet is stopping.")
        if pool.starting <= len(pool.waiting):
            refusal = self._refusal(key, pool)
            if refusal is not None:
                raise refusal
            self._start(key, pool, version)
        future: asyncio.Future[Environment] = asyncio.get_running_loop().create_future()
        waiter = Waiter(version, future)
        pool.waiting.append(waiter)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._give_back(future.result())
            raise
        finally:
            if waiter in pool.waiting:
                pool.waiting.remove(waiter)

    def _refusal(self, key: VersionKey, pool: Pool) -> TooManyRequests | None:
        """Why the function may not have one more made now; None when it may, and it is counted."""
        if pool.tenants_max is not None and self._tenants.count(key[:3]) >= pool.tenants_max:
            return too_many_environments()
        period_s = limits.SCALING_PERIOD_S
        rate_per_s = limits.SCALING_ENVIRONMENTS / period_s
        if not self._scaling.admits(key[:3], self._clock(), rate_per_s, period_s):
            return TooManyRequests("FunctionInvocationRateLimitExceeded")
        return None

    def _start(
        self, key: VersionKey, pool: Pool, version: FunctionVersion, *, is_ahead: bool = False
    ) -> asyncio.Task[bool]:
        pool.starting += 1
        if pool.tenants_max is not None:
            self._tenants.add(key[:3])
        return self._starts.begin(self._start_one(key, pool, version, is_ahead))

    async def _start_one(
        self, key: VersionKey, pool: Pool, version: FunctionVersion, is_ahead: bool
    ) -> bool:
        """Whether there is one now."""
        generation = pool.generation
        try:
            environment, seconds = await self._starts.make(
                version, InitializationType.ON_DEMAND, may_wait=not is_ahead
            )
        except Exception as error:
            # The supervisor of starts: whatever went wrong, an invocation may wait to hear of it.
            pool.starting -= 1
            self._uncount(key, pool)
            if is_ahead:
                pool.ahead_from = self._clock() + limits.AHEAD_PAUSE_S
                self._agenda.put(key, pool.ahead_from)
                self._start_for_waiting(key, pool)
            elif pool.starting < len(pool.waiting):
                _fail_first(pool, describe(error))
            return False
        except asyncio.CancelledError:
            pool.starting -= 1
            self._uncount(key, pool)
            raise
        pool.starting -= 1
        self._admit(environment, key, generation, seconds)
        return True

    def _start_for_waiting(self, key: VersionKey, pool: Pool) -> None:
        """Whoever waits for one that came to nothing gets another one made."""
        if self._is_closed or pool.starting >= len(pool.waiting):
            return
        refusal = self._refusal(key, pool)
        if refusal is None:
            self._start(key, pool, pool.waiting[0].version)
        else:
            _fail_first(pool, refusal)

    def _look(self, key: VersionKey) -> None:
        """Asks the capacity policy about one version, and does what it says."""
        pool = self._pools.get(key)
        if pool is None or self._is_closed:
            return
        now = self._clock()
        decision = pool.decide(now, self._relief.pressure, self._keep_max_s)
        self._agenda.put(key, decision.again_at)
        if pool.version is None:
            return  # it is gone: what there is of it was retired
        for environment in pool.pop_oldest(decision.stop):
            self._discard(environment)
        if not self._start_ahead(key, pool, pool.version, decision.start):
            self._agenda.put(key, max(pool.ahead_from, now + limits.AHEAD_LOOK_AGAIN_S))

    def _start_ahead(
        self, key: VersionKey, pool: Pool, version: FunctionVersion, count: int
    ) -> bool:
        """Whether all of them could be begun."""
        for _ in range(count):
            if self._relief.is_short or self._clock() < pool.ahead_from:
                return False
            if self._refusal(key, pool) is not None:
                return False
            self._start(key, pool, version, is_ahead=True)
        return True

    def _fill(self, key: VersionKey, pool: Pool) -> None:
        """Begins the starts that the floor is due."""
        floor = pool.floor
        if floor is None or self._is_closed or self._relief.is_short:
            return
        for _ in range(floor.due(self._clock())):
            floor.starting += 1
            self._starts.begin(self._start_for_floor(key, pool, floor))

    async def _start_for_floor(
        self, key: VersionKey, pool: Pool, floor: Floor[Environment]
    ) -> bool:
        """Whether there is one more now."""
        generation = pool.generation
        try:
            environment, seconds = await self._starts.make(
                floor.version, InitializationType.PROVISIONED
            )
        except Exception as error:
            # The supervisor of starts: whatever went wrong, the floor's status tells of it.
            floor.on_failed(error, self._clock())
            return False
        finally:
            floor.starting -= 1
        floor.on_started()
        floor.members.add(environment)
        self._admit(environment, key, generation, seconds)
        self._fill(key, pool)
        return True

    def _admit(
        self, environment: Environment, key: VersionKey, generation: int, seconds: float
    ) -> None:
        pool = self._pools[key]
        pool.started += 1
        pool.upkeep.note_start(seconds)
        self._generations[environment] = (key, generation)
        self._born[environment] = self._clock()
        self._give_back(environment, is_new=True)

    def _on_free(self, environment: Environment) -> None:
        found = self._generations.get(environment)
        if found is not None:
            self._pools[found[0]].settling -= 1
        self._give_back(environment)

    def _give_back(self, environment: Environment, *, is_new: bool = False) -> None:
        """To the invocation that has waited longest, else to the idle ones."""
        found = self._generations.get(environment)
        if found is None:
            return  # closed meanwhile
        key, generation = found
        pool = self._pools[key]
        is_wanted = generation == pool.generation and pool.wants(environment)
        if self._is_closed or not is_wanted or self._is_old(environment):
            self._discard(environment)
            self._start_for_waiting(key, pool)
            return
        while pool.waiting:
            future = pool.waiting.popleft().environment
            if not future.done():
                future.set_result(environment)
                return
        environment.idle_since = self._clock()
        idle = pool.stack_of(environment)
        idle.insert(0 if is_new else len(idle), environment)
        if self._room.short_mib > 0:
            self._make_room()

    def _tend_idle(
        self,
        key: VersionKey,
        pool: Pool,
        idle: list[Environment],
        freeze_after_s: float,
        stop_after_s: float,
    ) -> None:
        now = self._clock()
        kept: list[Environment] = []
        for environment in idle:
            idle_s = now - environment.idle_since
            is_wanted = pool.wants(environment) and not self._is_old(environment)
            if idle_s >= stop_after_s or not is_wanted:
                self._discard(environment)
                self._agenda.put(key, now)
                continue
            if idle_s >= freeze_after_s and not environment.is_frozen:
                environment.freeze()
                pool.upkeep.note_idle(environment.idle_mib)
            kept.append(environment)
        idle[:] = kept

    def _is_old(self, environment: Environment) -> bool:
        if self._lifetime_s == math.inf:
            return False
        return self._clock() - self._born[environment] >= self._lifetime_s

    def _make_room(self) -> None:
        self._relief.make_room(self._clock())

    def _discard(self, environment: Environment) -> None:
        found = self._generations.pop(environment, None)
        self._born.pop(environment, None)
        if found is not None:
            key, _ = found
            pool = self._pools[key]
            self._uncount(key, pool)
            if pool.floor is not None and environment in pool.floor.members:
                pool.floor.members.remove(environment)
                self._fill(key, pool)
        self._starts.end(environment)

    def _uncount(self, key: VersionKey, pool: Pool) -> None:
        """One that was made for a tenant has ended, or came to nothing."""
        if pool.tenants_max is not None:
            self._tenants.remove(key[:3])

    def _open(self, key: VersionKey) -> Pool:
        pool = self._pools[key] = Pool(Upkeep(self._clock()))
        return pool

    def _forget(self, key: VersionKey) -> None:
        """Unless it still owns something: a generation starts again at 0, which is right when
        nothing of the old one is left."""
        if not any(owner == key for owner, _ in self._generations.values()):
            del self._pools[key]
            self._agenda.drop(key)


def _key(version: FunctionVersion, tenant: Tenant | None = None) -> VersionKey:
    return version.key if tenant is None else (*version.key, tenant.id)


def _fail_first(pool: Pool, error: FireletError) -> None:
    while pool.waiting:
        future = pool.waiting.popleft().environment
        if not future.done():
            future.set_exception(error)
            return
