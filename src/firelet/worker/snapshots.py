"""Snapshots: one initialised environment for each version with SnapStart, to make others from.

A snapshot is made when a version is published, and again when it is asked for and is not there:
after a restart of the platform, or when it has died. It never serves an invocation itself.
Called by ``worker.node``, which makes the slots.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from firelet.model.errors import PlatformError
from firelet.model.function import FunctionKey, FunctionVersion
from firelet.worker.slots import Slot

_Key = tuple[str, str, str, str]


class Snapshots:
    """``make`` gives a slot that has been through INIT, or FunctionError."""

    def __init__(self, make: Callable[[FunctionVersion], Awaitable[Slot]]) -> None:
        self._make = make
        self._slots: dict[_Key, asyncio.Task[Slot]] = {}
        self._ends: set[asyncio.Task[None]] = set()

    async def of(self, version: FunctionVersion) -> Slot:
        """The snapshot of a version, at its restore point. Whoever comes while it is made waits
        for the same one; one that is of no use any more is replaced."""
        key = (version.account, version.region, version.name, version.version)
        task = self._slots.get(key)
        if task is not None and task.done() and not _is_good(task):
            self._drop(key)
            task = None
        if task is None:
            task = self._slots[key] = asyncio.create_task(self._begin(version))
        return await asyncio.shield(task)

    def give_up(self, version: FunctionVersion, slot: Slot) -> None:
        """It could not be cloned: the next one is made anew, unless that has happened already."""
        key = (version.account, version.region, version.name, version.version)
        task = self._slots.get(key)
        if task is not None and _is_good(task) and task.result() is slot:
            self._drop(key)

    def retire(self, function: FunctionKey, version: str | None) -> None:
        """A version, or all of a function, is gone."""
        for key in list(self._slots):
            if key[:3] == function and version in (None, key[3]):
                self._drop(key)

    async def close(self) -> None:
        for key in list(self._slots):
            self._drop(key)
        await asyncio.gather(*self._ends, return_exceptions=True)

    async def _begin(self, version: FunctionVersion) -> Slot:
        slot = await self._make(version)
        if not slot.is_snapshot:
            await slot.close()
            raise PlatformError("The runtime did not stop at its restore point.")
        return slot

    def _drop(self, key: _Key) -> None:
        end = asyncio.create_task(_end(self._slots.pop(key)))
        self._ends.add(end)
        end.add_done_callback(self._ends.discard)


def _is_good(task: asyncio.Task[Slot]) -> bool:
    return not task.cancelled() and task.exception() is None and task.result().is_snapshot


async def _end(task: asyncio.Task[Slot]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled() and task.exception() is None:
        await task.result().close()
