"""Changes to functions, one at a time for each function and each carried out to its end.

A caller that goes away cancels its own task and not the change: between the store and the memory
there is no moment at which giving up would be right. Background work is kept here too.
Called by the nouns of the registry.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from firelet.model.function import FunctionKey

log = logging.getLogger(__name__)

T = TypeVar("T")


class Mutations:
    """Owns the locks and the tasks. ``close`` waits for what is under way."""

    def __init__(self) -> None:
        # A lock lives as long as somebody holds it or waits for it.
        self._locks: WeakValueDictionary[FunctionKey, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[Any]] = set()

    def lock(self, key: FunctionKey) -> asyncio.Lock:
        """The lock of one function; use it in an ``async with``."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock

    async def carry_out(self, change: Coroutine[Any, Any, T]) -> T:
        """Awaits ``change``, which goes on if the awaiting task is cancelled."""
        return await asyncio.shield(self._keep(change))

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs ``work`` in the background; what it raises is logged."""
        self._keep(work).add_done_callback(_log_failure)

    async def close(self) -> None:
        """Waits until nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("background work of the registry failed", exc_info=task.exception())
