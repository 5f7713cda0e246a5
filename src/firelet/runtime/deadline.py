"""The deadline of the current invocation of one environment, kept by one timer for many of them.

To arm and cancel a timer for each invocation costs more than to let the one before run out: when
it rings, it sets itself again for the deadline that holds by then, or rests. Used by
``worker.slots``. Times are those of the running loop's clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_RESOLUTION_S = 0.001  # of the loop's timers: one that rings a little early is in time


class Deadline:
    """``on_passed`` is called once for each deadline that is reached before it is cleared."""

    def __init__(self, on_passed: Callable[[], None]) -> None:
        self._on_passed = on_passed
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, loop: asyncio.AbstractEventLoop, after_s: float) -> None:
        """From now on there are ``after_s`` seconds."""
        due = self._due = loop.time() + after_s
        timer = self._timer
        if timer is not None and timer.when() > due:
            timer.cancel()
            timer = None
        if timer is None:
            self._timer = loop.call_at(due, self._ring, loop)

    def clear(self) -> None:
        """What was to be done is done in time."""
        self._due = None

    def close(self) -> None:
        """No timer is left behind."""
        self._due = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._due is None:
            return
        if self._due - loop.time() > _RESOLUTION_S:
            self._timer = loop.call_at(self._due, self._ring, loop)
            return
        self._due = None
        self._on_passed()
