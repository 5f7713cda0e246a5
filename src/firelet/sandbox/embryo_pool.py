"""The embryos of one runtime that wait for a function: made ahead, taken, replaced, let go.

How many there should be is decided by ``embryos``; how one is made is the driver's.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from firelet.model.errors import PlatformError
from firelet.sandbox.embryos import MEMORY_S, Bounds, Takings, decide

log = logging.getLogger(__name__)

# As many as a zygote forks at a time.
_MADE_AT_ONCE = 4
# So long the processors are left to the first invocations of a sandbox that took an embryo, and
# at least to its start if that was the last one.
_FILL_AFTER_S = 0.1
_FILL_LAST_AFTER_S = 0.015


class Embryo(Protocol):
    """What the pool has to know of one."""

    @property
    def is_dead(self) -> bool: ...
    async def stop(self) -> None: ...


E = TypeVar("E", bound=Embryo)


class EmbryoPool(Generic[E]):
    """Owned by the driver. ``make`` makes one embryo; PlatformError when it cannot."""

    def __init__(self, runtime: str, make: Callable[[], Awaitable[E]], bounds: Bounds) -> None:
        self._runtime = runtime
        self._make = make
        self._bounds = bounds
        self._waiting: deque[E] = deque()
        self._takings = Takings()
        self._making: set[asyncio.Task[None]] = set()
        self._stopping: set[asyncio.Task[None]] = set()
        self._filling: asyncio.TimerHandle | None = None
        self._shrinking: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def waiting(self) -> tuple[E, ...]:
        return tuple(self._waiting)

    async def take(self) -> E:
        """One that waits, or else a new one; others are made in its place."""
        loop = asyncio.get_running_loop()
        self._takings = self._takings.after_start(loop.time())
        while self._waiting:
            embryo = self._waiting.popleft()
            if not embryo.is_dead:
                self._fill_soon()
                return embryo
        embryo = await self.make()
        self.fill()
        return embryo

    async def make(self) -> E:
        """A new one, past those that wait."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        embryo = await self._make()
        self._takings = self._takings.after_making(loop.time() - began)
        return embryo

    def fill(self) -> None:
        """Sees to it that as many as should wait are there or under way."""
        if self._filling is not None:
            self._filling.cancel()
            self._filling = None
        if self._is_closed:
            return
        missing = self._wanted() - len(self._waiting) - len(self._making)
        for _ in range(min(missing, _MADE_AT_ONCE - len(self._making))):
            task = asyncio.create_task(self._make_ahead())
            self._making.add(task)
            task.add_done_callback(self._making.discard)
        if self._shrinking is None:
            self._shrink_later()

    async def settle(self) -> None:
        """Returns when none is to be made, being made or being stopped."""
        if self._filling is not None:
            self.fill()
        while under_way := self._making | self._stopping:
            await asyncio.wait(under_way)

    def drop(self, embryo: E) -> bool:
        """It ended by itself. False when it was not waiting here: then it has an owner."""
        if embryo not in self._waiting:
            return False
        self._waiting.remove(embryo)
        self._stop(embryo)
        return True

    async def close(self) -> None:
        """Makes no more. Those that wait are the driver's to stop, as all of its sandboxes."""
        self._is_closed = True
        for timer in (self._filling, self._shrinking):
            if timer is not None:
                timer.cancel()
        for task in self._making:
            task.cancel()
        await asyncio.gather(*self._making, *self._stopping, return_exceptions=True)

    def _wanted(self) -> int:
        return decide(self._takings, asyncio.get_running_loop().time(), self._bounds)

    def _fill_soon(self) -> None:
        """A little later, if starts are rare: to make one takes a processor for milliseconds, and
        whoever asked for the sandbox is about to use it."""
        if self._wanted() > self._bounds.least + 1:
            self.fill()
            return
        if self._is_closed:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + (_FILL_AFTER_S if self._waiting else _FILL_LAST_AFTER_S)
        if self._filling is not None:
            if self._filling.when() <= due:
                return
            self._filling.cancel()
        self._filling = loop.call_at(due, self.fill)

    async def _make_ahead(self) -> None:
        try:
            while True:
                self._waiting.append(await self.make())
                # This one is still among those under way.
                if len(self._waiting) + len(self._making) > self._wanted():
                    return
        except PlatformError as error:
            # The next request for this runtime meets the same error and reports it.
            log.warning("embryo not made runtime=%s: %s", self._runtime, error.message)

    def _shrink_later(self) -> None:
        self._shrinking = asyncio.get_running_loop().call_later(MEMORY_S, self._shrink)

    def _shrink(self) -> None:
        """Lets those go that a burst has left, and looks again for as long as there are some."""
        self._shrinking = None
        for _ in range(len(self._waiting) - self._wanted()):
            self._stop(self._waiting.pop())
        if len(self._waiting) > self._bounds.least:
            self._shrink_later()

    def _stop(self, embryo: E) -> None:
        task = asyncio.create_task(embryo.stop())
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)
