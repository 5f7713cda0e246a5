"""Snapshots: one initialised environment for each version with SnapStart, to make others from.

A snapshot is made when a version is published, and again when it is asked for and is not there:
after a restart of the platform, or when it has died. It never serves an invocation itself.
Called by ``worker.node``, which makes the slots.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from firelet.model import limits
from firelet.model.errors import PlatformError
from firelet.model.function import FunctionKey, FunctionVersion
from firelet.model.isolation import Isolation
from firelet.worker.slots import Slot

# A version, and what its snapshot is isolated by: that may be changed.
_Key = tuple[str, str, str, str, Isolation | None]


@dataclass(frozen=True, slots=True)
class Resting:
    """A snapshot of which no clone lives since ``since``. It holds ``memory_mib``, and took
    ``start_s`` to make."""

    id: str
    memory_mib: float
    start_s: float
    since: float


class Snapshots:
    """``make`` gives a slot that has been through INIT, or FunctionError."""

    def __init__(
        self,
        make: Callable[[FunctionVersion], Awaitable[Slot]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._clock = clock
        self._clones: Counter[_Key] = Counter()
        self._used_at: dict[_Key, float] = {}
        self._start_s: dict[_Key, float] = {}
        self._slots: dict[_Key, asyncio.Task[Slot]] = {}
        # Of versions that are gone: they end with the last of their clones, which would not have
        # their time for a shutdown otherwise.
        self._retired: dict[_Key, list[asyncio.Task[Slot]]] = {}
        self._ends: set[asyncio.Task[None]] = set()

    async def of(self, version: FunctionVersion) -> Slot:
        """The snapshot of a version, at its restore point. Whoever comes while it is made waits
        for the same one; one that is of no use any more is replaced."""
        key = _key(version)
        task = self._slots.get(key)
        if task is not None and task.done() and not _is_good(task):
            self._drop(key)
            task = None
        if task is None:
            task = self._slots[key] = asyncio.create_task(self._begin(version))
        return await asyncio.shield(task)

    def give_up(self, version: FunctionVersion, slot: Slot) -> None:
        """It could not be cloned: the next one is made anew, unless that has happened already."""
        key = _key(version)
        task = self._slots.get(key)
        if task is not None and _is_good(task) and task.result() is slot:
            self._drop(key)

    def lease(self, version: FunctionVersion) -> Callable[[], None]:
        """For a clone, from before its start; what is returned is called at its end."""
        key = _key(version)
        self._clones[key] += 1

        def end() -> None:
            self._clones[key] -= 1
            if key in self._used_at:
                self._used_at[key] = self._clock()
            if not self._clones[key]:
                del self._clones[key]
                self._end_retired(key)

        return end

    def resting(self) -> list[Resting]:
        """Those that could be ended without harm to anything that runs."""
        return [
            Resting(
                task.result().id,
                task.result().sandbox.memory_bytes() / limits.MIB,
                self._start_s[key],
                self._used_at[key],
            )
            for key, task in self._slots.items()
            if task.done() and _is_good(task) and key not in self._clones
        ]

    def end(self, identity: str) -> None:
        """Ends one of those; it is made again when it is asked for."""
        for key, task in list(self._slots.items()):
            if task.done() and _is_good(task) and task.result().id == identity:
                self._drop(key)

    def retire(self, function: FunctionKey, version: str | None) -> None:
        """A version, or all of a function, is gone."""
        for key in list(self._slots):
            if key[:3] == function and version in (None, key[3]):
                if key in self._clones:
                    self._forget(key)
                    self._retired.setdefault(key, []).append(self._slots.pop(key))
                else:
                    self._drop(key)

    async def close(self) -> None:
        for key in list(self._slots):
            self._drop(key)
        for key in list(self._retired):
            self._end_retired(key)
        await asyncio.gather(*self._ends, return_exceptions=True)

    async def _begin(self, version: FunctionVersion) -> Slot:
        began = self._clock()
        slot = await self._make(version)
        if not slot.is_snapshot:
            await slot.close()
            raise PlatformError("The runtime did not stop at its restore point.")
        key = _key(version)
        self._used_at[key] = self._clock()
        self._start_s[key] = self._used_at[key] - began
        return slot

    def _drop(self, key: _Key) -> None:
        self._forget(key)
        self._end(self._slots.pop(key))

    def _end_retired(self, key: _Key) -> None:
        for task in self._retired.pop(key, ()):
            self._end(task)

    def _forget(self, key: _Key) -> None:
        self._used_at.pop(key, None)
        self._start_s.pop(key, None)

    def _end(self, task: asyncio.Task[Slot]) -> None:
        end = asyncio.create_task(_close(task))
        self._ends.add(end)
        end.add_done_callback(self._ends.discard)


def _key(version: FunctionVersion) -> _Key:
    return (*version.key, version.isolation)


def _is_good(task: asyncio.Task[Slot]) -> bool:
    return not task.cancelled() and task.exception() is None and task.result().is_snapshot


async def _close(task: asyncio.Task[Slot]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled() and task.exception() is None:
        await task.result().close()
