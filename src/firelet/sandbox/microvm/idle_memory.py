"""The memory of a machine that nobody needs for a while: what its guest has freed is given back.

A guest tells of that by itself (free page reporting), but within some seconds of its own time, and
a frozen machine has none. So one that has stood still for a while, and holds more than before, goes
on without its function until nothing more comes back. Whoever needs it meanwhile has it at once.
Called by ``machine_sandbox``. Source: Linux, Documentation/mm/free_page_reporting.rst and
mm/page_reporting.c.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from firelet.model.limits import MIB
from firelet.sandbox.cgroups import Cgroup

log = logging.getLogger(__name__)

IDLE_S = 10.0
WORTHWHILE_BYTES = 64 * MIB  # a clone that has done little has 40 of its own
# A guest begins 2 s after it has freed something. The first time it has all its free memory to tell
# of, of which it tells a sixteenth every 2 s: what is given back may come last.
QUIET_S = 3.5
FIRST_QUIET_S = 36.0
LONGEST_S = 90.0
_PAUSE_S = 0.25


class IdleMemory:
    """Of a machine whose control group is ``cgroup``. ``hold`` has its guest stop the function's
    processes, or let them go on."""

    def __init__(self, cgroup: Cgroup, hold: Callable[[bool], None]) -> None:
        self._cgroup = cgroup
        self._hold = hold
        self._timer: asyncio.TimerHandle | None = None
        self._is_held = False
        self._quiet_s = FIRST_QUIET_S
        self._kept_bytes = 0  # what it could not do without the last time

    def begin(self) -> None:
        """It has been frozen."""
        self._timer = asyncio.get_running_loop().call_later(IDLE_S, self._on_idle)

    def end(self) -> None:
        """It is about to be thawed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._release()

    def _on_idle(self) -> None:
        held = self._cgroup.memory_bytes()
        self._kept_bytes = min(self._kept_bytes, held)
        if held - self._kept_bytes < WORTHWHILE_BYTES:
            return
        self._is_held = True
        self._hold(True)
        self._cgroup.thaw()
        self._look(_Fall(asyncio.get_running_loop().time(), held, self._quiet_s))

    def _look(self, fall: _Fall) -> None:
        loop = asyncio.get_running_loop()
        if fall.goes_on(loop.time(), self._cgroup.memory_bytes()):
            self._timer = loop.call_later(_PAUSE_S, self._look, fall)
            return
        # It hears of that, and goes on, when it is thawed.
        self._release()
        self._cgroup.freeze()
        self._quiet_s = QUIET_S
        self._kept_bytes = fall.least_bytes
        log.debug("memory given back: %d MiB", (fall.first_bytes - fall.least_bytes) // MIB)

    def _release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._hold(False)


class _Fall:
    """What a machine holds, while it becomes less."""

    def __init__(self, now: float, held_bytes: int, quiet_s: float) -> None:
        self._quiet_s = quiet_s
        self.first_bytes = self.least_bytes = held_bytes
        self._begun = self._fell = now

    def goes_on(self, now: float, held_bytes: int) -> bool:
        if held_bytes <= self.least_bytes - MIB:
            self.least_bytes, self._fell = held_bytes, now
        return now - self._fell < self._quiet_s and now - self._begun < LONGEST_S
