"""Runs queued asynchronous invocations: takes what is due, tries it, and obeys ``retry.decide``.

Nothing is polled: it sleeps until an event is put or the next one is due.
Made by ``app``; the invoke path behind the ``Runner`` port is the one of synchronous calls.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from firelet.events.queue import AsyncEvent, AsyncQueue, decode_event
from firelet.events.retry import Attempt, Result, decide
from firelet.model import limits
from firelet.store.queue import QueuedEvent

log = logging.getLogger(__name__)


class Runner(Protocol):
    """Runs one attempt of an event, to its end."""

    async def run(self, event: AsyncEvent) -> Result: ...


class Dispatcher:
    """``start`` once, ``close`` before the queue is closed."""

    def __init__(
        self,
        queue: AsyncQueue,
        runner: Runner,
        *,
        parallel: int = limits.ASYNC_PARALLEL,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._queue = queue
        self._runner = runner
        self._parallel = parallel
        self._clock = clock
        self._running: set[asyncio.Task[None]] = set()
        self._loop_task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins with what an earlier process left."""
        self._loop_task = asyncio.create_task(self._dispatch())

    async def close(self) -> None:
        """Stops taking events. What runs is broken off and is tried again at the next start."""
        tasks = [task for task in (self._loop_task, *self._running) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _dispatch(self) -> None:
        while True:
            self._queue.has_more.clear()
            room = self._parallel - len(self._running)
            items = await self._queue.store.take(room, self._now_ms()) if room else []
            for item in items:
                task = asyncio.create_task(self._attempt(item))
                self._running.add(task)
                task.add_done_callback(self._on_done)
            if not items:
                await self._sleep()

    async def _sleep(self) -> None:
        """Until something may be due: a put, an ended attempt, or the next due time."""
        due_ms = await self._queue.store.next_due_ms()
        delay_s = None
        if due_ms is not None and len(self._running) < self._parallel:
            delay_s = max(0.0, (due_ms - self._now_ms()) / 1000)
        try:
            async with asyncio.timeout(delay_s):
                await self._queue.has_more.wait()
        except TimeoutError:
            return

    async def _attempt(self, item: QueuedEvent) -> None:
        event = decode_event(item)
        try:
            result = await self._runner.run(event)
        except Exception:
            # The supervisor of attempts: an accepted event is not lost by a fault of ours.
            log.exception("asynchronous attempt failed request_id=%s", event.request_id)
            result = Result.THROTTLED
        failed = result is Result.FUNCTION_FAILED
        decision = decide(
            Attempt(
                result=result,
                attempts=item.attempts,
                failures=item.failures + failed,
                enqueued_ms=item.enqueued_ms,
            ),
            self._now_ms(),
        )
        if decision.due_ms is None:
            if decision.reason is not None:
                log.warning(
                    "asynchronous event dropped reason=%s function=%s request_id=%s",
                    decision.reason,
                    event.function,
                    event.request_id,
                )
            await self._queue.store.done([item.id])
        else:
            await self._queue.store.retry(item.id, decision.due_ms, is_failure=failed)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._queue.has_more.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("asynchronous attempt not finished", exc_info=task.exception())

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
