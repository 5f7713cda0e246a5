"""The upkeep of one function version: its demand, what its environments cost, and so how many are
to be there.

The worker manager and ``bench.simulate`` keep environments by this same class, so that what the
simulator shows is what the platform does. No clock, no I/O; it says when it wants to be asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from firelet.control import capacity
from firelet.control.capacity import Decision, View
from firelet.control.demand import GAP_MAX_S, Demand

# What is assumed until it has been measured: an interpreter with a few modules.
START_ASSUMED_S = 0.2
IDLE_ASSUMED_MIB = 30.0
# Of the mean that is kept of either, the newest counts so much: one slow start among many is noise.
_NEWEST_SHARE = 0.25
# While demand rises a decision is due with each request, but no sooner than this after the last:
# in so short a time nobody's start is finished.
RISE_STEP_S = 0.02


class Upkeep:
    """Told of each request; ``arrived`` and ``released`` name the time of the next decision, which
    may be at once, or never when one that was named before is early enough."""

    __slots__ = ("_due_at", "_rise_due_at", "demand", "idle_mib", "start_s")

    def __init__(
        self, now: float, start_s: float = START_ASSUMED_S, idle_mib: float = IDLE_ASSUMED_MIB
    ) -> None:
        self.demand = Demand(now)
        self.start_s = start_s
        self.idle_mib = idle_mib
        self._due_at = math.inf
        self._rise_due_at = -math.inf

    def arrived(self, now: float) -> float:
        """A request came in; when to decide."""
        demand = self.demand
        demand.arrived(now)
        if not demand.is_rising:
            return math.inf
        return self._due(max(self._rise_due_at, now))

    def released(self, now: float) -> float:
        """One was answered, or its caller went away; when to decide."""
        self.demand.released(now)
        if self._due_at <= now + capacity.SETTLE_S:
            return math.inf  # no decision is due sooner after a release
        return self._due(capacity.look_again_at(self.demand, now))

    def note_start(self, seconds: float) -> None:
        """A start, INIT included, took so long."""
        self.start_s += (seconds - self.start_s) * _NEWEST_SHARE

    def note_idle(self, memory_mib: float) -> None:
        """An idle environment was seen to hold so much; 0 where that cannot be measured."""
        if memory_mib:
            self.idle_mib += (memory_mib - self.idle_mib) * _NEWEST_SHARE

    def decide(
        self,
        now: float,
        *,
        starting: int,
        busy: int,
        idle: Sequence[float],
        pressure: float = 0.0,
        keep_max_s: float = math.inf,
    ) -> Decision:
        """What to start and to stop; see ``capacity.View``."""
        view = View(
            demand=self.demand,
            starting=starting,
            busy=busy,
            idle=idle,
            start_s=self.start_s,
            idle_mib=self.idle_mib,
            pressure=pressure,
            keep_max_s=keep_max_s,
        )
        self._rise_due_at = now + RISE_STEP_S
        decision = capacity.decide(view, now)
        self._due_at = decision.again_at
        return decision

    def _due(self, at: float) -> float:
        if at >= self._due_at:
            return math.inf
        self._due_at = at
        return at

    def is_past(self, now: float) -> bool:
        """Whether nothing is to be learnt from it any more."""
        demand = self.demand
        return not demand.arrivals or (not demand.concurrency and now - demand.seen_at > GAP_MAX_S)
