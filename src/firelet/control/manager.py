"""The worker manager: which environment serves an invocation, a warm one or a new one.

An invocation that finds no idle environment has a new one made, and is served by whichever is
free first, that one or one that another invocation gives back meanwhile. Versions with provisioned
concurrency have a floor of environments that are made ahead, serve first and stay.
Called by ``control.invoke``; environments come from the ``Fleet`` port.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from firelet.control.floor import Floor, FloorView
from firelet.control.pool import Environment, Pool, PoolView, VersionKey, Waiter
from firelet.model.errors import FireletError, PlatformError, Unavailable
from firelet.model.function import (
    FunctionKey,
    FunctionVersion,
    InitializationType,
    without_state,
)

__all__ = ["Environment", "Fleet", "FunctionKey", "Manager", "PoolView", "VersionKey"]

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_START_TIMES_KEPT = 8_192


class Fleet(Protocol):
    """Makes environments; INIT has been run when ``start`` returns. FunctionError when the INIT
    of a provisioned one has failed."""

    async def start(
        self,
        version: FunctionVersion,
        initialization: InitializationType = InitializationType.ON_DEMAND,
    ) -> Environment: ...


class Manager:
    """Owns every environment of this platform from its start to its end."""

    def __init__(self, fleet: Fleet, clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._clock = clock
        self._pools: dict[VersionKey, Pool] = {}
        self._generations: dict[Environment, tuple[VersionKey, int]] = {}
        self._matched: WeakKeyDictionary[Environment, FunctionVersion] = WeakKeyDictionary()
        self._starts: set[asyncio.Task[bool]] = set()
        self._ends: set[asyncio.Task[None]] = set()
        self._start_times: deque[float] = deque(maxlen=_START_TIMES_KEPT)
        self._is_closed = False

    async def acquire(self, version: FunctionVersion) -> Environment:
        """An environment that serves nobody else until ``release``."""
        key = _key(version)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool()
        pool.invocations += 1
        environment = pool.pop_idle()
        if environment is None:
            pool.cold += 1
        while True:
            if environment is None:
                environment = await self._wait(key, pool, version)
            if pool.wants(environment) and self._fits(environment, version):
                pool.busy += 1
                pool.count_served_by(environment)
                return environment
            self._discard(environment)
            environment = pool.pop_idle()

    def release(self, environment: Environment) -> None:
        """Gives it back; it serves again as soon as its runtime asks for the next event."""
        found = self._generations.get(environment)
        if found is None:
            return  # the manager was closed meanwhile
        self._pools[found[0]].busy -= 1
        environment.when_free(self._give_back)

    async def warm(self, version: FunctionVersion, wait_s: float, count: int = 1) -> int:
        """Makes environments ahead of their first invocations; returns when they are there, or
        after ``wait_s``, while it goes on. How many were made: one that cannot be made is not an
        error here, the invocation that needs it will meet it."""
        key = _key(version)
        pool = self._pools.setdefault(key, Pool())
        starts = [self._start(key, pool, version) for _ in range(count)]
        done, _ = await asyncio.wait(starts, timeout=wait_s)
        return sum(not start.cancelled() and start.result() for start in done)

    def provide(self, version: FunctionVersion, count: int) -> None:
        """Keeps ``count`` environments of a version initialised from now on, from 0. Asking again
        for the same tries at once what failed before."""
        key = _key(version)
        pool = self._pools.setdefault(key, Pool())
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
            for idle in pool.idle_stacks:
                kept = []
                for environment in idle:
                    if keep is not None and _is_same(environment.version, keep):
                        self._generations[environment] = (key, pool.generation)
                        kept.append(environment)
                    else:
                        self._discard(environment)
                idle[:] = kept

    def tend(self, freeze_after_s: float, stop_after_s: float) -> None:
        """Freezes and stops what has been idle for long. Called every now and then."""
        for key, pool in list(self._pools.items()):
            self._tend_idle(pool, pool.idle, freeze_after_s, stop_after_s)
            floor = pool.floor
            if floor is not None:
                self._tend_idle(pool, floor.idle, freeze_after_s, math.inf)
                self._fill(key, pool)
                if floor.is_over:
                    pool.floor = None
            if pool.is_empty and not self._owns(key):
                # A generation that starts again at 0 is right: nothing of the old one is left.
                del self._pools[key]

    def count(self) -> dict[str, int]:
        """Environments by what they do."""
        pools = self._pools.values()
        return {
            "starting": sum(pool.starts for pool in pools),
            "busy": sum(pool.busy for pool in pools),
            "idle": sum(len(idle) for pool in pools for idle in pool.idle_stacks),
        }

    def view(self) -> list[PoolView]:
        """Every function version that has, or lately had, environments."""
        return [pool.view(key) for key, pool in self._pools.items()]

    def started_within(self, seconds: float) -> int:
        """How many environments were made in the last so many seconds."""
        since = self._clock() - seconds
        return sum(moment > since for moment in self._start_times)

    async def close(self) -> None:
        """Ends every environment; whoever waits for one is told."""
        self._is_closed = True
        starts = list(self._starts)
        for task in starts:
            task.cancel()
        await asyncio.gather(*starts, return_exceptions=True)
        for pool in self._pools.values():
            while pool.waiting:
                _fail_first(pool, Unavailable("firelet is stopping."))
        for environment in list(self._generations):
            self._discard(environment)
        await asyncio.gather(*self._ends, return_exceptions=True)
        self._pools.clear()

    async def _wait(self, key: VersionKey, pool: Pool, version: FunctionVersion) -> Environment:
        """The next environment that becomes free, after seeing to it that one is being made."""
        if self._is_closed:
            raise Unavailable("firelet is stopping.")
        future: asyncio.Future[Environment] = asyncio.get_running_loop().create_future()
        waiter = Waiter(version, future)
        pool.waiting.append(waiter)
        if pool.starting < len(pool.waiting):
            self._start(key, pool, version)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._give_back(future.result())
            raise
        finally:
            if waiter in pool.waiting:
                pool.waiting.remove(waiter)

    def _start(self, key: VersionKey, pool: Pool, version: FunctionVersion) -> asyncio.Task[bool]:
        pool.starting += 1
        return _supervise(self._starts, self._start_one(key, pool, version))

    async def _start_one(self, key: VersionKey, pool: Pool, version: FunctionVersion) -> bool:
        """Whether there is one now."""
        generation = pool.generation
        try:
            environment = await self._fleet.start(version)
        except Exception as error:
            # The supervisor of starts: whatever went wrong, an invocation waits to hear of it.
            _log_failed_start(error, version)
            _fail_first(pool, _describe(error))
            return False
        finally:
            pool.starting -= 1
        self._admit(environment, key, generation)
        return True

    def _fill(self, key: VersionKey, pool: Pool) -> None:
        """Begins the starts that the floor is due."""
        floor = pool.floor
        if floor is None or self._is_closed:
            return
        for _ in range(floor.due(self._clock())):
            floor.starting += 1
            _supervise(self._starts, self._start_for_floor(key, pool, floor))

    async def _start_for_floor(
        self, key: VersionKey, pool: Pool, floor: Floor[Environment]
    ) -> bool:
        """Whether there is one more now."""
        generation = pool.generation
        version = floor.version
        try:
            environment = await self._fleet.start(version, InitializationType.PROVISIONED)
        except Exception as error:
            # The supervisor of starts: whatever went wrong, the floor's status tells of it.
            _log_failed_start(error, version)
            floor.on_failed(error, self._clock())
            return False
        finally:
            floor.starting -= 1
        floor.on_started()
        floor.members.add(environment)
        self._admit(environment, key, generation)
        self._fill(key, pool)
        return True

    def _admit(self, environment: Environment, key: VersionKey, generation: int) -> None:
        self._pools[key].started += 1
        self._start_times.append(self._clock())
        self._generations[environment] = (key, generation)
        self._give_back(environment)

    def _give_back(self, environment: Environment) -> None:
        """To the invocation that has waited longest, else to the idle ones."""
        found = self._generations.get(environment)
        if found is None:
            return  # closed meanwhile
        key, generation = found
        pool = self._pools[key]
        if self._is_closed or generation != pool.generation or not pool.wants(environment):
            self._discard(environment)
            if not self._is_closed and pool.starting < len(pool.waiting):
                # Whoever waits for one that turned out useless gets another one made.
                self._start(key, pool, pool.waiting[0].version)
            return
        while pool.waiting:
            future = pool.waiting.popleft().environment
            if not future.done():
                future.set_result(environment)
                return
        environment.idle_since = self._clock()
        pool.stack_of(environment).append(environment)

    def _tend_idle(
        self, pool: Pool, idle: list[Environment], freeze_after_s: float, stop_after_s: float
    ) -> None:
        now = self._clock()
        kept: list[Environment] = []
        for environment in idle:
            idle_s = now - environment.idle_since
            if idle_s >= stop_after_s or not pool.wants(environment):
                self._discard(environment)
                continue
            if idle_s >= freeze_after_s and not environment.is_frozen:
                environment.freeze()
            kept.append(environment)
        idle[:] = kept

    def _fits(self, environment: Environment, version: FunctionVersion) -> bool:
        """Compared once for each record of a version, and remembered: this is the hot path."""
        if environment.version is version or self._matched.get(environment) is version:
            return True
        if not _is_same(environment.version, version):
            return False
        self._matched[environment] = version
        return True

    def _discard(self, environment: Environment) -> None:
        found = self._generations.pop(environment, None)
        if found is not None:
            key, _ = found
            pool = self._pools[key]
            if pool.floor is not None and environment in pool.floor.members:
                pool.floor.members.remove(environment)
                self._fill(key, pool)
        _supervise(self._ends, environment.close())

    def _owns(self, key: VersionKey) -> bool:
        return any(owner == key for owner, _ in self._generations.values())


def _supervise(tasks: set[asyncio.Task[_T]], work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    task.add_done_callback(_log_failure)
    return task


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("environment task failed", exc_info=task.exception())


def _key(version: FunctionVersion) -> VersionKey:
    return (version.account, version.region, version.name, version.version)


def _is_same(one: FunctionVersion, other: FunctionVersion) -> bool:
    """Whether both mean the same code and configuration, whatever their state says."""
    return one is other or _configuration(one) == _configuration(other)


def _configuration(version: FunctionVersion) -> FunctionVersion:
    return replace(without_state(version), description="")


def _log_failed_start(error: Exception, version: FunctionVersion) -> None:
    """What is no error of ours is logged with its trace."""
    if isinstance(error, FireletError):
        log.warning("environment not started function=%s: %s", version.name, error.message)
    else:
        log.error("environment not started function=%s", version.name, exc_info=error)


def _describe(error: Exception) -> FireletError:
    """What the waiting invocation is told."""
    if isinstance(error, FireletError):
        return error
    return PlatformError("The execution environment could not be started.")


def _fail_first(pool: Pool, error: FireletError) -> None:
    while pool.waiting:
        future = pool.waiting.popleft().environment
        if not future.done():
            future.set_exception(error)
            return
