"""The event loop's clock in the hands of a test: time passes when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_TURNS = 50


class LoopClock:
    """Shifts ``loop.time``. Timers come due by ``advance`` instead of by waiting."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._real = loop.time
        self._passed_s = 0.0
        loop.time = lambda: self._real() + self._passed_s  # type: ignore[method-assign]

    async def advance(self, seconds: float) -> None:
        """Lets that much time pass and all that is due happen."""
        self._passed_s += seconds
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def until(self, condition: Callable[[], object], patience_s: float = 30.0) -> None:
        """Turns the loop until something has happened that needs the kernel's help."""
        end = self._real() + patience_s
        while not condition():
            assert self._real() < end, "it did not happen"
            await asyncio.sleep(0)

    def restore(self) -> None:
        del self._loop.time
