"""Makes and ends environments: within the memory of the host, in tasks that somebody looks after.

Each start takes room first and gives it back when the environment has ended. What it is not: the
decision to start or to end one, which is the worker manager's, its only user.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from firelet.control.pool import Environment
from firelet.control.room import Room
from firelet.model import limits
from firelet.model.errors import EC2Throttled, FireletError, PlatformError, SandboxEnded
from firelet.model.function import FunctionVersion, InitializationType

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_TIMES_KEPT = 8_192


class Fleet(Protocol):
    """Makes environments; INIT has been run when ``start`` returns. FunctionError when the INIT
    of a provisioned one has failed."""

    async def start(
        self,
        version: FunctionVersion,
        initialization: InitializationType = InitializationType.ON_DEMAND,
    ) -> Environment: ...


class Starts:
    """``on_short`` is called when a start waits for room, so that something can be made to go."""

    def __init__(
        self, fleet: Fleet, room: Room, clock: Callable[[], float], on_short: Callable[[], None]
    ) -> None:
        self._fleet = fleet
        self._room = room
        self._clock = clock
        self._on_short = on_short
        self._starting: set[asyncio.Task[bool]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._times: deque[float] = deque(maxlen=_TIMES_KEPT)

    def begin(self, start: Coroutine[Any, Any, bool]) -> asyncio.Task[bool]:
        """Runs a coroutine that makes an environment, until ``cancel``."""
        return _supervise(self._starting, start)

    async def make(
        self,
        version: FunctionVersion,
        initialization: InitializationType,
        *,
        may_wait: bool = True,
    ) -> tuple[Environment, float]:
        """An environment, and how many seconds its start took. EC2Throttled when there is no
        memory for it; what the fleet raises, which has been logged."""
        memory_mib = version.memory_mib
        if not self._room.take(memory_mib):
            if not may_wait:
                raise EC2Throttled
            claim = self._room.claim(memory_mib, self._clock())
            self._on_short()
            await self._room.granted(claim)
        began = self._clock()
        try:
            environment = await self._start(version, initialization)
        except BaseException as error:
            self._room.give(memory_mib)
            _log_failed(error, version)
            raise
        ended = self._clock()
        self._times.append(ended)
        return environment, ended - began

    def end(self, environment: Environment) -> None:
        """Ends it in the background."""
        self._room.leave(environment.version.memory_mib)
        _supervise(self._ending, self._end(environment))

    def within(self, seconds: float) -> int:
        """How many environments were made in the last so many seconds."""
        since = self._clock() - seconds
        return sum(moment > since for moment in self._times)

    async def cancel(self) -> None:
        """Gives up all starts that are under way."""
        starting = list(self._starting)
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)

    async def ended(self) -> None:
        """Returns when all that were to end have ended."""
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _start(
        self, version: FunctionVersion, initialization: InitializationType
    ) -> Environment:
        for _ in range(limits.SANDBOXES_TRIED - 1):
            try:
                return await self._fleet.start(version, initialization)
            except SandboxEnded as error:
                log.warning("start begun again function=%s: %s", version.name, error.message)
        return await self._fleet.start(version, initialization)

    async def _end(self, environment: Environment) -> None:
        try:
            await environment.close()
        finally:
            self._room.left(environment.version.memory_mib)


def describe(error: Exception) -> FireletError:
    """What an invocation is told for which none could be made."""
    if isinstance(error, FireletError):
        return error
    return PlatformError("The execution environment could not be started.")


def _supervise(tasks: set[asyncio.Task[_T]], work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    task.add_done_callback(_log_failure)
    return task


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("environment task failed", exc_info=task.exception())


def _log_failed(error: BaseException, version: FunctionVersion) -> None:
    """What is no error of ours is logged with its trace."""
    if isinstance(error, FireletError):
        log.warning("environment not started function=%s: %s", version.name, error.message)
    elif isinstance(error, Exception):
        log.error("environment not started function=%s", version.name, exc_info=error)
