"""Removes what ended sandboxes leave in the kernel: many of them in one turn of one thread.

A turn on a thread costs the event loop more than the removal itself, and a control group cannot
be removed before its last process has ended. So the removals of a short while are collected;
by their turn the processes, which were killed first, have mostly ended.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Sequence
from dataclasses import dataclass

from firelet.sandbox.cgroups import Cgroup

_COLLECT_S = 0.02
_END_WITHIN_MS = 10_000


@dataclass(frozen=True, slots=True)
class Remains:
    """Of one sandbox: the control group, and a descriptor of its pid 1 (-1: it never had one),
    which has been killed. The descriptor is closed."""

    cgroup: Cgroup | None
    pidfd: int


class Removals:
    """Owned by the driver. ``remove`` may be called by any number of coroutines at once."""

    def __init__(self, collect_s: float = _COLLECT_S) -> None:
        self._collect_s = collect_s
        self._waiting: list[tuple[Remains, asyncio.Future[None]]] = []
        self._working: asyncio.Task[None] | None = None

    async def remove(self, remains: Remains) -> None:
        """Returns when nothing is left of it. OSError when it cannot be removed."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((remains, done))
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        # Who gives up waiting does not keep it from being removed.
        await done

    async def close(self) -> None:
        """Returns when all is removed, that for which nobody waits any more too."""
        if self._working is not None:
            await self._working

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._collect_s)
            batch, self._waiting = self._waiting, []
            outcomes = await asyncio.to_thread(_remove_all, [remains for remains, _ in batch])
            for (_, done), error in zip(batch, outcomes, strict=True):
                if done.done():
                    continue
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)
        self._working = None


def _remove_all(batch: Sequence[Remains]) -> list[OSError | None]:
    """In a thread. What went wrong with each, if anything."""
    outcomes: list[OSError | None] = []
    for remains in batch:
        try:
            _await_end(remains.pidfd)
            if remains.cgroup is not None:
                remains.cgroup.remove()
        except OSError as error:
            outcomes.append(error)
        else:
            outcomes.append(None)
    return outcomes


def _await_end(pidfd: int) -> None:
    """Pid 1 ends after every other process of its namespace."""
    if pidfd < 0:
        return
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(_END_WITHIN_MS)
    finally:
        os.close(pidfd)
