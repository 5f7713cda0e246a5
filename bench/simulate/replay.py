"""Runs a trace under a policy in simulated time, and counts what it cost.

The mechanism is the worker manager's: a request takes the environment that was used last, and one
that was made ahead and never used only when there is no other; without any it waits for whichever
is free first, one that is being made for it or one that is given back. Functions do not
share environments, so that each is replayed by itself.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

from bench.simulate.policies import Keeper, Policy
from bench.simulate.trace import Function, Trace

MIB_S_PER_GIB_H = 1_024 * 3_600


@dataclass(slots=True)
class Tally:
    """What one policy cost. A request is cold if it found no idle environment and waited;
    ``delays_s`` are the waits of those. Idle memory-time includes that of starting."""

    invocations: int = 0
    starts: int = 0
    delays_s: array[float] = field(default_factory=lambda: array("d"))
    idle_mib_s: float = 0.0
    busy_mib_s: float = 0.0

    @property
    def cold_share(self) -> float:
        return len(self.delays_s) / self.invocations if self.invocations else 0.0

    def delay_s(self, share: float) -> float:
        """The start delay that this share of all requests did not exceed."""
        rank = math.ceil(share * self.invocations)
        waited = rank - (self.invocations - len(self.delays_s))
        return sorted(self.delays_s)[waited - 1] if waited > 0 else 0.0

    @property
    def idle_gib_h(self) -> float:
        return self.idle_mib_s / MIB_S_PER_GIB_H

    @property
    def total_gib_h(self) -> float:
        return (self.idle_mib_s + self.busy_mib_s) / MIB_S_PER_GIB_H


def replay(trace: Trace, policy: Policy) -> Tally:
    """The cost of all functions of a trace together."""
    tally = Tally()
    for function in trace.functions:
        if function.arrivals_s:
            keeper = policy.keeper(function, function.arrivals_s[0])
            _Replay(function, keeper, trace.length_s, tally).run()
    return tally


# Kinds of events, in the order in which they happen at one moment.
_ENDED = 0
_STARTED = 1


class _Replay:
    """One function. ``idle`` is a stack of since when; ``waiting`` has arrivals and durations."""

    def __init__(self, function: Function, keeper: Keeper, end_s: float, tally: Tally) -> None:
        self._function = function
        self._keeper = keeper
        self._end_s = end_s
        self._tally = tally
        self._events: list[tuple[float, int]] = []
        self._idle: list[float] = []
        self._waiting: deque[tuple[float, float]] = deque()
        self._starting = 0
        self._busy = 0
        self._decide_at = math.inf
        self._idle_s = 0.0
        self._busy_s = 0.0

    def run(self) -> None:
        """All that happens before the end of the trace."""
        function = self._function
        events = self._events
        requests: Iterator[tuple[float, float]] = zip(
            function.arrivals_s, function.durations_s, strict=True
        )
        nothing = (math.inf, 0.0)
        arrival, duration = next(requests, nothing)
        while True:
            event_at = events[0][0] if events else math.inf
            if event_at <= arrival and event_at <= self._decide_at:
                if event_at >= self._end_s:
                    break
                at, kind = heappop(events)
                if kind == _ENDED:
                    self._busy -= 1
                    self._decide_at = min(self._decide_at, self._keeper.released(at))
                    self._give(at, is_new=False)
                else:
                    self._starting -= 1
                    self._give(at, is_new=True)
            elif arrival <= self._decide_at:
                if arrival >= self._end_s:
                    break
                self._arrive(arrival, duration)
                arrival, duration = next(requests, nothing)
            else:
                if self._decide_at >= self._end_s:
                    break
                self._decide(self._decide_at)
        self._settle()

    def _arrive(self, now: float, duration: float) -> None:
        self._tally.invocations += 1
        self._decide_at = min(self._decide_at, self._keeper.arrived(now))
        if self._idle:
            self._idle_s += now - self._idle.pop()
            self._serve(now, duration)
            return
        self._waiting.append((now, duration))
        if self._starting < len(self._waiting):
            self._start(now)

    def _serve(self, now: float, duration: float) -> None:
        self._busy += 1
        self._busy_s += min(duration, self._end_s - now)
        heappush(self._events, (now + duration, _ENDED))

    def _start(self, now: float) -> None:
        start_s = self._function.start_s
        self._starting += 1
        self._tally.starts += 1
        self._idle_s += min(start_s, self._end_s - now)
        heappush(self._events, (now + start_s, _STARTED))

    def _give(self, now: float, *, is_new: bool) -> None:
        """An environment is free: to the request that has waited longest, else it is idle."""
        if self._waiting:
            arrived, duration = self._waiting.popleft()
            self._tally.delays_s.append(now - arrived)
            self._serve(now, duration)
        else:
            self._idle.insert(0 if is_new else len(self._idle), now)

    def _decide(self, now: float) -> None:
        oldest = sorted(self._idle)
        decision = self._keeper.decide(now, self._starting, self._busy, oldest)
        self._decide_at = decision.again_at
        for since in oldest[: decision.stop]:
            self._idle_s += now - since
            self._idle.remove(since)
        for _ in range(decision.start):
            self._start(now)

    def _settle(self) -> None:
        """What is there at the end costs until the end, and who still waits has waited so long."""
        self._tally.delays_s.extend(self._end_s - arrived for arrived, _ in self._waiting)
        self._idle_s += sum(self._end_s - since for since in self._idle)
        memory_mib = self._function.memory_mib
        self._tally.idle_mib_s += self._idle_s * memory_mib
        self._tally.busy_mib_s += self._busy_s * memory_mib
