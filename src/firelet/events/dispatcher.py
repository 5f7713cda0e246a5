"""Runs asynchronous events: takes those that are due and sees each to its end.

What it is: a loop that sleeps until an event is put, one ends, or the next becomes due, and one
task per event under way. What it is not: the way into a sandbox; ``app`` brings a ``Runner`` over
the control plane's invoke. An event is delivered at least once: what was under way when the process
died is run again by the next one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from firelet.events.destinations import Destinations, EndedEvent
from firelet.events.queue import AsyncEvent, AsyncEventQueue, TakenEvent
from firelet.events.retry import (
    AGE_DEFAULT_MS,
    RETRIES_DEFAULT,
    Again,
    Attempt,
    Condition,
    Discard,
    Ending,
    decide,
    is_too_old,
)
from firelet.model.errors import (
    CallerError,
    FunctionError,
    FunctionSwitchedOff,
    PlatformError,
    RecursiveInvocation,
    ResourceConflict,
    SnapStartFailed,
    SnapStartNotReady,
    SnapStartTimeout,
    TooManyRequests,
)
from firelet.model.event_invoke import EventInvokeConfig
from firelet.model.function import FunctionKey
from firelet.model.invocation import Outcome

log = logging.getLogger(__name__)

# Events under way at once (firelet): enough that a few slow functions do not hold up the others,
# few enough that their payloads, of up to a megabyte each, fit into memory.
PARALLEL_MAX = 256
_MAY_RUN_LATER = (
    TooManyRequests,
    ResourceConflict,
    SnapStartNotReady,
    SnapStartFailed,
    SnapStartTimeout,
    PlatformError,
)
_STORE_RETRY_S = 1.0  # after the queue itself failed


class Runner(Protocol):
    """The way to run an event."""

    async def run(self, event: AsyncEvent) -> Outcome:
        """One attempt. TooManyRequests, ResourceConflict, the errors of SnapStart and PlatformError
        mean that the function did not run and may later; another CallerError, or
        FunctionSwitchedOff, that it never can."""


class Settings(Protocol):
    """How the events of a function are to be treated."""

    def find(self, key: FunctionKey, qualifier: str | None) -> EventInvokeConfig | None:
        """None: as AWS treats them by default."""


class TimerHandle(Protocol):
    """A timer that can be taken back."""

    def cancel(self) -> None: ...


class Timers(Protocol):
    """The part of an event loop that a dispatcher needs; tests bring their own."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> TimerHandle: ...


@dataclass(frozen=True, slots=True)
class _Ended:
    """How an attempt ended; without an outcome when the function did not run."""

    ending: Ending
    outcome: Outcome | None = None


class Dispatcher:
    """Runs the events of ``queue`` through ``runner``, and tells ``destinations`` of their end.
    Does not own any of them."""

    def __init__(
        self,
        queue: AsyncEventQueue,
        runner: Runner,
        settings: Settings,
        destinations: Destinations,
        *,
        parallel_max: int = PARALLEL_MAX,
        timers: Timers | None = None,
    ) -> None:
        self._queue = queue
        self._runner = runner
        self._settings = settings
        self._destinations = destinations
        self._parallel_max = parallel_max
        self._timers = timers
        self._timer: TimerHandle | None = None
        self._woken = asyncio.Event()
        self._is_stopping = False
        self._running = 0
        self._loop: asyncio.Task[None] | None = None

    @property
    def running(self) -> int:
        """Events under way."""
        return self._running

    async def start(self) -> None:
        """Begins with what an earlier process left."""
        self._queue.subscribe(self._woken.set)
        self._woken.set()
        self._loop = asyncio.create_task(self._dispatch(), name="event dispatcher")

    async def stop(self, drain_s: float) -> None:
        """Takes no more events and gives those under way ``drain_s`` seconds to end. What is not
        done by then is cancelled, and run again after the next start."""
        self._is_stopping = True
        self._woken.set()
        if self._loop is None:
            return
        await asyncio.wait([self._loop], timeout=drain_s)
        self._loop.cancel()
        await asyncio.gather(self._loop, return_exceptions=True)
        self._loop = None

    async def _dispatch(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                while not self._is_stopping:
                    await self._woken.wait()
                    self._woken.clear()
                    await self._start_due(group)
        finally:
            self._set_timer(None)

    async def _start_due(self, group: asyncio.TaskGroup) -> None:
        """Starts what is due and has room, and sets the timer for what comes next."""
        free = self._parallel_max - self._running
        if free <= 0 or self._is_stopping:
            return  # the end of a running event wakes the loop
        try:
            taken = await self._queue.take(free)
            next_due_ms = None if len(taken) == free else await self._queue.next_due_ms()
        except PlatformError:
            log.exception("event queue cannot be read")
            self._set_timer(_STORE_RETRY_S)
            return
        self._running += len(taken)
        for event in taken:
            group.create_task(self._see_through(event), name=f"event {event.event.request_id}")
        self._set_timer(None)
        if next_due_ms is not None:
            delay_ms = next_due_ms - self._queue.now_ms()
            if delay_ms > 0:
                self._set_timer(delay_ms / 1000)
            else:
                self._woken.set()  # it came, or became due, since the queue was asked

    async def _see_through(self, taken: TakenEvent) -> None:
        try:
            event = taken.event
            config = self._settings.find(
                (event.account, event.region, event.function_name), event.qualifier
            )
            decision, ended = await self._attempt(taken, config)
            if ended is not None:
                await self._insist(taken, partial(self._destinations.deliver, ended, config))
            await self._insist(taken, partial(self._settle, taken, decision))
        finally:
            self._running -= 1
            self._woken.set()

    async def _insist(self, taken: TakenEvent, step: Callable[[], Awaitable[None]]) -> None:
        """Repeats ``step`` while the disk refuses: the event must neither be run again for that
        nor be forgotten."""
        while True:
            try:
                return await step()
            except PlatformError:
                log.exception("event not settled: request=%s", taken.event.request_id)
            await self._pause(_STORE_RETRY_S)

    async def _settle(self, taken: TakenEvent, decision: Again | Discard) -> None:
        """Writes the decision down."""
        if isinstance(decision, Discard):
            await self._queue.done(taken.id)
        else:
            await self._queue.retry(taken.id, decision.due_ms, is_failure=decision.is_failure)

    async def _attempt(
        self, taken: TakenEvent, config: EventInvokeConfig | None
    ) -> tuple[Again | Discard, EndedEvent | None]:
        """Runs the event, unless it is too old. What becomes of it, and its end if that is one."""
        event = taken.event
        retries_max, age_max_ms = _limits(config)
        attempts, outcome = taken.failures, None
        if is_too_old(event.enqueued_ms, self._queue.now_ms(), age_max_ms):
            decision: Again | Discard = Discard(Condition.EVENT_AGE_EXCEEDED)
        else:
            ended = await self._run(event)
            outcome = ended.outcome
            attempts += outcome is not None
            attempt = Attempt(
                ending=ended.ending,
                enqueued_ms=event.enqueued_ms,
                failures=taken.failures,
                postponements=taken.postponements,
                retries_max=retries_max,
                age_max_ms=age_max_ms,
            )
            decision = decide(attempt, self._queue.now_ms())
        if isinstance(decision, Again):
            return decision, None
        condition = decision.condition
        if condition is not Condition.SUCCESS:
            log.warning(
                "event discarded: condition=%s function=%s request=%s",
                condition,
                event.invoked_arn,
                event.request_id,
            )
        return decision, EndedEvent(
            event=event, condition=condition, attempts=attempts, outcome=outcome
        )

    async def _run(self, event: AsyncEvent) -> _Ended:
        try:
            outcome = await self._runner.run(event)
        except FunctionSwitchedOff:
            return _Ended(Ending.SWITCHED_OFF)
        except RecursiveInvocation:
            return _Ended(Ending.LOOPED)
        except _MAY_RUN_LATER as error:
            log.info("event postponed: request=%s reason=%s", event.request_id, error.code)
            return _Ended(Ending.POSTPONED)
        except CallerError as error:
            log.info("event rejected: request=%s reason=%s", event.request_id, error.message)
            return _Ended(Ending.REJECTED)
        except FunctionError:
            return _Ended(Ending.FUNCTION_ERROR)
        except Exception:
            # Supervisor: no event may end the dispatcher.
            log.exception("event failed in the platform: request=%s", event.request_id)
            return _Ended(Ending.POSTPONED)
        is_success = outcome.function_error is None
        return _Ended(Ending.SUCCESS if is_success else Ending.FUNCTION_ERROR, outcome)

    async def _pause(self, delay_s: float) -> None:
        over = asyncio.Event()
        timer = self._call_later(delay_s, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()

    def _set_timer(self, delay_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay_s is not None:
            self._timer = self._call_later(delay_s, self._woken.set)

    def _call_later(self, delay_s: float, callback: Callable[[], None]) -> TimerHandle:
        timers = self._timers or asyncio.get_running_loop()
        return timers.call_later(delay_s, callback)


def _limits(config: EventInvokeConfig | None) -> tuple[int, int]:
    """The most retries after function errors, and the greatest age of an event in ms."""
    retries_max = None if config is None else config.retries_max
    age_max_s = None if config is None else config.age_max_s
    return (
        RETRIES_DEFAULT if retries_max is None else retries_max,
        AGE_DEFAULT_MS if age_max_s is None else age_max_s * 1000,
    )
