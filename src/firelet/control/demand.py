"""What has been asked of one function version, in little space and constant time per event.

Concurrency is seen as levels: the third environment of a version is needed exactly while three or
more requests are in flight. Each level keeps how long it was free until it was needed again, which
is how long the environment that serves it was idle. Beside that, arrival rates over a short and a
long time tell whether demand rises. Written by the worker manager, read by ``control.capacity``.
"""

from __future__ import annotations

import math
from array import array

# Gaps shorter than this are one bin: nothing is ever stopped and started again within them.
GAP_MIN_S = 10.0
# Gaps longer than this count as "never": no environment waits a day for its next request.
GAP_MAX_S = 86_400.0
# Eight bins an octave: a timer of ten minutes is known to within a minute.
BINS_PER_OCTAVE = 8
BINS = 2 + math.ceil(BINS_PER_OCTAVE * math.log2(GAP_MAX_S / GAP_MIN_S))
# Where the bins begin, in seconds; the last one, "never", has no end.
EDGES_S = (0.0, *(GAP_MIN_S * 2 ** (i / BINS_PER_OCTAVE) for i in range(BINS - 1)))

# A gap this near to the edge of its bin could as well have fallen into the next one.
_EDGE_SHARE = 0.2
_SPILL = 0.3
# The habits of a function are those of about its last so many gaps.
_MEMORY_GAPS = 64
_GAIN_GROWTH = 1 + 1 / _MEMORY_GAPS
_GAIN_MAX = 1e9  # then the weights are scaled back, long before floats lose precision
_SOON_MAX = 256  # gaps of the first bin that are counted before they are added in one go

# Long enough to hold a few requests of a beginning burst, and the usual time between two.
RATE_SHORT_S = 10.0
RATE_LONG_S = 60.0
_SHORT_STEP = 1 / RATE_SHORT_S
_LONG_STEP = 1 / RATE_LONG_S
# Rates fade no more often than this: within it they would by less than a ten-thousandth.
_FADE_STEP_S = 0.001
# So many requests in the short time or fewer are chance, not a trend.
_RISING_MIN_REQUESTS = 2.5
_RISING_FACTOR = 2.0

# Up to here each level has a histogram of its own; above, two an octave share what they see.
_OWN_LEVELS = 4


class Gaps:
    """A histogram of gaps on a logarithmic scale in which old ones fade.

    ``plan`` is a memo of ``control.capacity``.
    """

    __slots__ = ("_gain", "_seen", "_soon", "_weights", "plan")

    def __init__(self) -> None:
        self._weights = array("d", bytes(8 * BINS))
        self._gain = 1.0
        self._seen = 0
        self._soon = 0
        self.plan: object = None

    @property
    def seen(self) -> int:
        """How many gaps were ever added."""
        return self._seen + self._soon

    def add(self, gap_s: float) -> None:
        """One more gap, of more weight than all before it by a little."""
        if gap_s < GAP_MIN_S:
            # Nearly all gaps of a busy function, and so on the hot path: counted only.
            self._soon += 1
            if self._soon == _SOON_MAX:
                self._add_soon()
            return
        self._add_soon()
        self._seen += 1
        weights = self._weights
        gain = self._gain
        if gap_s >= GAP_MAX_S:
            weights[-1] += gain
        else:
            position = BINS_PER_OCTAVE * math.log2(gap_s / GAP_MIN_S) + 1
            own = int(position)
            place = position - own
            near = own - 1 if place < _EDGE_SHARE else own + 1 if place > 1 - _EDGE_SHARE else own
            weights[own] += gain * (1 - _SPILL)
            weights[near] += gain * _SPILL
        self._grow(_GAIN_GROWTH)

    def weights(self) -> list[float]:
        """By bin, in gaps: the newest counts as one."""
        self._add_soon()
        newest = self._gain / _GAIN_GROWTH
        return [weight / newest for weight in self._weights]

    def _add_soon(self) -> None:
        """What adding them one after another would have come to: a geometric series."""
        growth = _GAIN_GROWTH**self._soon
        self._weights[0] += self._gain * (growth - 1) / (_GAIN_GROWTH - 1)
        self._seen += self._soon
        self._soon = 0
        self._grow(growth)

    def _grow(self, growth: float) -> None:
        self._gain *= growth
        if self._gain > _GAIN_MAX:
            self._weights = array("d", (weight / self._gain for weight in self._weights))
            self._gain = 1.0


class Demand:
    """See the module's text. ``concurrency`` is the number of requests in flight or waiting.

    Times are seconds of one clock that never goes back.
    """

    __slots__ = ("_at", "_free_since", "_gaps", "_long", "_short", "arrivals", "concurrency")

    def __init__(self, now: float) -> None:
        self.concurrency = 0
        self.arrivals = 0
        # By level, the first one at index 0. A new version is as one whose request just ended.
        self._free_since = [now]
        self._gaps: dict[int, Gaps] = {}
        self._at = now
        self._short = 0.0
        self._long = 0.0

    def arrived(self, now: float) -> None:
        """A request came in."""
        if now - self._at > _FADE_STEP_S:
            self._fade(now)
        self._short += _SHORT_STEP
        self._long += _LONG_STEP
        self.concurrency = level = self.concurrency + 1
        free_since = self._free_since
        if level > len(free_since):
            free_since.append(now)
        elif self.arrivals:
            self.gaps(level).add(now - free_since[level - 1])
        self.arrivals += 1

    def released(self, now: float) -> None:
        """A request was answered, or its caller went away."""
        if now - self._at > _FADE_STEP_S:
            self._fade(now)
        self._free_since[self.concurrency - 1] = now
        self.concurrency -= 1
        if now - self._free_since[-1] > GAP_MAX_S:
            # Only the highest level: one each time is enough, they go as they came.
            self.gaps(len(self._free_since)).add(GAP_MAX_S)
            self._free_since.pop()

    def expect(self, count: int, now: float) -> None:
        """So many more requests at once are foreseen: as if as many had just been answered."""
        first = self.concurrency
        del self._free_since[first : first + count]
        self._free_since[first:first] = [now] * count

    def gaps(self, level: int) -> Gaps:
        """What is known of this level and of those that are counted with it."""
        shared = level if level <= _OWN_LEVELS else int(2 * math.log2(level)) + 1
        found = self._gaps.get(shared)
        if found is None:
            found = self._gaps[shared] = Gaps()
        return found

    def free_levels(self) -> range:
        """The levels that were needed once and are not needed now."""
        return range(self.concurrency + 1, len(self._free_since) + 1)

    def free_since(self, level: int) -> float:
        """When this level was needed last."""
        return self._free_since[level - 1]

    @property
    def seen_at(self) -> float:
        """When the last event was."""
        return self._at

    @property
    def is_rising(self) -> bool:
        """At the time of the last event."""
        return (
            self._short * RATE_SHORT_S > _RISING_MIN_REQUESTS
            and self._short > _RISING_FACTOR * self._long
        )

    def rises_until(self) -> float:
        """When the rise is over if nothing more comes in: both rates fade, the short one faster."""
        if not self.is_rising:
            return self._at
        few_s = RATE_SHORT_S * math.log(self._short * RATE_SHORT_S / _RISING_MIN_REQUESTS)
        ratio = self._short / (_RISING_FACTOR * self._long)
        even_s = math.log(ratio) / (1 / RATE_SHORT_S - 1 / RATE_LONG_S)
        return self._at + min(few_s, even_s)

    def _fade(self, now: float) -> None:
        elapsed = now - self._at
        self._at = now
        self._short *= math.exp(-elapsed / RATE_SHORT_S)
        self._long *= math.exp(-elapsed / RATE_LONG_S)
