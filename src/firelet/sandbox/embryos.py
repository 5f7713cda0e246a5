"""How many embryos of one runtime should wait, by how fast they are taken.

A policy: no clock, no I/O. Called by ``embryo_pool``. What a start takes is replaced at once, but
that takes a while: as many as are taken meanwhile should wait, beside the few that always do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# The rate of the last seconds counts, so that the number follows a burst and forgets it.
MEMORY_S = 2.0
# The weight of the newest of the times that embryos took to make.
_NEWEST = 0.2


@dataclass(frozen=True, slots=True)
class Bounds:
    """``least`` wait at any time, and never more than ``most``."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Takings:
    """What has been seen of one runtime: the rate of starts (per second) as it was at ``at``
    (seconds of any clock that does not jump), and the usual time to make an embryo."""

    per_s: float = 0.0
    at: float = 0.0
    make_s: float = 0.0

    def rate(self, now: float) -> float:
        """Starts per second, each weighing less the longer ago it was."""
        return self.per_s * math.exp((self.at - now) / MEMORY_S)

    def after_start(self, now: float) -> Takings:
        return Takings(self.rate(now) + 1 / MEMORY_S, now, self.make_s)

    def after_making(self, took_s: float) -> Takings:
        usual = took_s if self.make_s == 0 else self.make_s + _NEWEST * (took_s - self.make_s)
        return Takings(self.per_s, self.at, usual)


def decide(takings: Takings, now: float, bounds: Bounds) -> int:
    """The number that should wait now."""
    taken_meanwhile = math.ceil(takings.rate(now) * takings.make_s - 1e-9)
    return max(bounds.least, min(bounds.most, bounds.least + taken_meanwhile))
