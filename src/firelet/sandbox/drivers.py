"""The sandbox drivers of one process, one for each isolation, behind the port of a single one.

Each sandbox is made by the driver of the isolation that its function asks for, or else of the one
that the platform is set to. A driver is opened when the first function wants it. One that cannot
be opened fails whoever wanted it and nobody else, and is tried again the next time: another driver
never stands in for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from weakref import WeakKeyDictionary

from firelet.model.isolation import Isolation
from firelet.sandbox.driver import Sandbox, SandboxDriver, SandboxSpec

OpenDriver = Callable[[], Awaitable[SandboxDriver]]


class Drivers:
    """Implements ``SandboxDrivers``. ``openers`` give a driver that is open, which this closes, or
    raise IsolationMissing; ``default`` is the isolation of who asks for none."""

    def __init__(self, openers: Mapping[Isolation, OpenDriver], default: Isolation) -> None:
        self._openers = openers
        self._default = default
        self._opened: dict[Isolation, asyncio.Task[SandboxDriver]] = {}
        self._makers: WeakKeyDictionary[Sandbox, SandboxDriver] = WeakKeyDictionary()

    async def open(self) -> None:
        """Opens the platform's own; IsolationMissing when that cannot be."""
        await self._driver(None)

    async def prepare(self, runtime: str, isolation: Isolation | None) -> None:
        driver = await self._driver(isolation)
        driver.expect(runtime)

    async def create(self, spec: SandboxSpec) -> Sandbox:
        driver = await self._driver(spec.isolation)
        return await driver.create(spec)

    async def create_snapshot(self, spec: SandboxSpec) -> Sandbox:
        driver = await self._driver(spec.isolation)
        snapshot = await driver.create_snapshot(spec)
        self._makers[snapshot] = driver
        return snapshot

    async def seal(self, snapshot: Sandbox) -> None:
        await self._makers[snapshot].seal(snapshot)

    async def clone(self, snapshot: Sandbox, spec: SandboxSpec) -> Sandbox:
        return await self._makers[snapshot].clone(snapshot, spec)

    async def close(self) -> None:
        """Closes what was opened, and gives up what is being opened."""
        tasks, self._opened = list(self._opened.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled() and task.exception() is None:
                await task.result().close()

    async def _driver(self, isolation: Isolation | None) -> SandboxDriver:
        wanted = isolation or self._default
        task = self._opened.get(wanted)
        if task is None:
            task = self._opened[wanted] = asyncio.create_task(self._open(wanted))
        try:
            # Whoever gives up does not take it away from the others that wait for it.
            return await asyncio.shield(task)
        except Exception:
            if self._opened.get(wanted) is task:
                del self._opened[wanted]
            raise

    async def _open(self, isolation: Isolation) -> SandboxDriver:
        return await self._openers[isolation]()
