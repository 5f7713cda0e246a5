"""The worker manager: which environment serves an invocation, a warm one or a new one.

An invocation that finds no idle environment has a new one made, and is served by whichever is
free first, that one or one that another invocation gives back meanwhile.
Called by ``control.invoke``; environments come from the ``Fleet`` port.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from firelet.model.errors import FireletError
from firelet.model.function import FunctionVersion, State, UpdateStatus
from firelet.model.invocation import Invocation, Outcome

log = logging.getLogger(__name__)

VersionKey = tuple[str, str, str, str]


class Environment(Protocol):
    """One execution environment, as ``worker.slots.Slot`` offers it."""

    idle_since: float

    @property
    def version(self) -> FunctionVersion: ...
    @property
    def is_usable(self) -> bool: ...
    @property
    def is_frozen(self) -> bool: ...
    async def invoke(self, invocation: Invocation) -> Outcome: ...
    def when_free(self, callback: Callable[[Environment], None]) -> None: ...
    def freeze(self) -> None: ...
    async def close(self) -> None: ...


class Fleet(Protocol):
    """Makes environments; INIT has been run when ``start`` returns."""

    async def start(self, version: FunctionVersion) -> Environment: ...


@dataclass(slots=True)
class _Pool:
    """The environments of one function version. ``idle`` is a stack: the last used serves first,
    so that the others grow old and stop. ``generation`` grows when the configuration changes."""

    idle: list[Environment] = field(default_factory=list)
    waiting: deque[asyncio.Future[Environment]] = field(default_factory=deque)
    starting: int = 0
    busy: int = 0
    generation: int = 0


class Manager:
    """Owns every environment of this platform from its start to its end."""

    def __init__(self, fleet: Fleet, clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._clock = clock
        self._pools: dict[VersionKey, _Pool] = {}
        self._generations: dict[Environment, tuple[VersionKey, int]] = {}
        self._matched: WeakKeyDictionary[Environment, FunctionVersion] = WeakKeyDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def acquire(self, version: FunctionVersion) -> Environment:
        """An environment that serves nobody else until ``release``."""
        key = _key(version)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = _Pool()
        while True:
            environment = pool.idle.pop() if pool.idle else await self._wait(key, pool, version)
            if environment.is_usable and self._fits(environment, version):
                pool.busy += 1
                return environment
            self._discard(environment)

    def _fits(self, environment: Environment, version: FunctionVersion) -> bool:
        """Compared once for each record of a version, and remembered: this is the hot path."""
        if environment.version is version or self._matched.get(environment) is version:
            return True
        if not _is_same(environment.version, version):
            return False
        self._matched[environment] = version
        return True

    async def _wait(self, key: VersionKey, pool: _Pool, version: FunctionVersion) -> Environment:
        """The next environment that becomes free, after seeing to it that one is being made."""
        waiter: asyncio.Future[Environment] = asyncio.get_running_loop().create_future()
        pool.waiting.append(waiter)
        if pool.starting < len(pool.waiting):
            self._start(key, pool, version)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._give_back(waiter.result())
            raise
        finally:
            if waiter in pool.waiting:
                pool.waiting.remove(waiter)

    def release(self, environment: Environment) -> None:
        """Gives it back; it serves again as soon as its runtime asks for the next event."""
        key, _ = self._generations[environment]
        self._pools[key].busy -= 1
        environment.when_free(self._give_back)

    async def warm(self, version: FunctionVersion, wait_s: float) -> None:
        """Makes an environment ahead of the first invocation; returns when it is there, or after
        ``wait_s``, while it goes on. One that cannot be made is not an error here: the invocation
        that needs it will meet it."""
        key = _key(version)
        pool = self._pools.setdefault(key, _Pool())
        await asyncio.wait([self._start(key, pool, version)], timeout=wait_s)

    def retire(
        self,
        function: tuple[str, str, str],
        version: str | None,
        keep: FunctionVersion | None = None,
    ) -> None:
        """Ends the idle environments of a function (of one version) and marks the busy ones,
        except for idle ones of the configuration ``keep``."""
        for key, pool in list(self._pools.items()):
            if key[:3] != function or version not in (None, key[3]):
                continue
            pool.generation += 1
            kept = []
            for environment in pool.idle:
                if keep is not None and _is_same(environment.version, keep):
                    self._generations[environment] = (key, pool.generation)
                    kept.append(environment)
                else:
                    self._discard(environment)
            pool.idle = kept

    def tend(self, freeze_after_s: float, stop_after_s: float) -> None:
        """Freezes and stops what has been idle for long. Called every now and then."""
        now = self._clock()
        for key, pool in list(self._pools.items()):
            kept: list[Environment] = []
            for environment in pool.idle:
                idle_s = now - environment.idle_since
                if idle_s >= stop_after_s or not environment.is_usable:
                    self._discard(environment)
                    continue
                if idle_s >= freeze_after_s and not environment.is_frozen:
                    environment.freeze()
                kept.append(environment)
            pool.idle = kept
            if not any(owner == key for owner, _ in self._generations.values()) and not (
                pool.waiting or pool.starting or pool.busy
            ):
                # A generation that starts again at 0 is right: nothing of the old one is left.
                del self._pools[key]

    def count(self) -> dict[str, int]:
        """Environments by what they do."""
        pools = self._pools.values()
        idle = sum(len(pool.idle) for pool in pools)
        return {
            "starting": sum(pool.starting for pool in pools),
            "busy": sum(pool.busy for pool in pools),
            "idle": idle,
        }

    async def close(self) -> None:
        """Ends every environment."""
        self._is_closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(environment.close() for environment in list(self._generations)))
        self._generations.clear()
        self._pools.clear()

    def _start(self, key: VersionKey, pool: _Pool, version: FunctionVersion) -> asyncio.Task[None]:
        pool.starting += 1
        return self._supervise(self._start_one(key, pool, version))

    async def _start_one(self, key: VersionKey, pool: _Pool, version: FunctionVersion) -> None:
        generation = pool.generation
        try:
            environment = await self._fleet.start(version)
        except FireletError as error:
            log.warning("environment not started function=%s: %s", version.name, error.message)
            _fail_first(pool, error)
            return
        finally:
            pool.starting -= 1
        self._generations[environment] = (key, generation)
        self._give_back(environment)

    def _give_back(self, environment: Environment) -> None:
        """To the invocation that has waited longest, else to the idle ones."""
        found = self._generations.get(environment)
        if found is None:
            return  # closed meanwhile
        key, generation = found
        pool = self._pools[key]
        if self._is_closed or not environment.is_usable or generation != pool.generation:
            self._discard(environment)
            self._replace_for_waiting(key, pool, environment.version)
            return
        while pool.waiting:
            waiter = pool.waiting.popleft()
            if not waiter.done():
                waiter.set_result(environment)
                return
        environment.idle_since = self._clock()
        pool.idle.append(environment)

    def _replace_for_waiting(self, key: VersionKey, pool: _Pool, version: FunctionVersion) -> None:
        """Whoever waits for an environment that turned out useless gets another one made."""
        if not self._is_closed and pool.starting < len(pool.waiting):
            self._start(key, pool, version)

    def _discard(self, environment: Environment) -> None:
        self._generations.pop(environment, None)
        self._supervise(environment.close())

    def _supervise(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("environment task failed", exc_info=task.exception())


def _key(version: FunctionVersion) -> VersionKey:
    return (version.account, version.region, version.name, version.version)


def _is_same(one: FunctionVersion, other: FunctionVersion) -> bool:
    """Whether both mean the same code and configuration, whatever their state says."""
    return one is other or _configuration(one) == _configuration(other)


def _configuration(version: FunctionVersion) -> FunctionVersion:
    return replace(
        version,
        description="",
        last_modified="",
        revision_id="",
        state=State.ACTIVE,
        state_reason=None,
        state_reason_code=None,
        last_update_status=UpdateStatus.SUCCESSFUL,
        last_update_reason=None,
        last_update_reason_code=None,
    )


def _fail_first(pool: _Pool, error: FireletError) -> None:
    while pool.waiting:
        waiter = pool.waiting.popleft()
        if not waiter.done():
            waiter.set_exception(error)
            return
