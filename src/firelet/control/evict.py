"""Which idle environments go when the host runs short of memory.

A policy: no clock, no I/O. Those that are quick to make again for the memory they free go first,
provisioned ones and snapshots last, and no more than it takes. One that is busy is never touched.
Called by the worker manager: ``decide`` when it is told how much memory is in use, ``choose`` when
a start needs room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

# Eviction begins above the first share of the host's memory and goes down to the second, so that
# one more start does not bring it back at once. What is left is for starts and the page cache.
HIGH_SHARE = 0.90
LOW_SHARE = 0.80


class Standing(IntEnum):
    """The order in which kinds of environments are given up."""

    ON_DEMAND = 0
    PROVISIONED = 1
    SNAPSHOT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """``memory_mib`` is what its end frees, ``start_s`` what making it again takes with INIT;
    ``idle_since`` is None while it is busy."""

    id: str
    memory_mib: float
    start_s: float
    idle_since: float | None
    standing: Standing = Standing.ON_DEMAND


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The host's memory, and all environments on it."""

    used_mib: float
    memory_mib: float
    candidates: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class Decision:
    """The ids of those to stop, in this order."""

    stop: tuple[str, ...]


def decide(view: View, now: float) -> Decision:
    """What to stop; nothing below the high mark."""
    if view.used_mib <= view.memory_mib * HIGH_SHARE:
        return Decision(())
    excess_mib = view.used_mib - view.memory_mib * LOW_SHARE
    return Decision(choose(view.candidates, excess_mib, now))


def choose(candidates: Sequence[Candidate], excess_mib: float, now: float) -> tuple[str, ...]:
    """The ids of those to stop so that so much is freed, or all that can be."""
    idle = [each for each in candidates if each.idle_since is not None and each.memory_mib > 0]
    chosen: list[Candidate] = []
    freed_mib = 0.0
    for candidate in sorted(idle, key=lambda each: _rank(each, now)):
        if freed_mib >= excess_mib:
            break
        chosen.append(candidate)
        freed_mib += candidate.memory_mib
    return tuple(each.id for each in _without_needless(chosen, freed_mib - excess_mib))


def _without_needless(chosen: list[Candidate], spare_mib: float) -> list[Candidate]:
    """A large one taken late may make some before it needless: the dearest of those stay."""
    kept: list[Candidate] = []
    for candidate in reversed(chosen):
        if candidate.memory_mib <= spare_mib:
            spare_mib -= candidate.memory_mib
        else:
            kept.append(candidate)
    kept.reverse()
    return kept


def _rank(candidate: Candidate, now: float) -> tuple[int, float, float, str]:
    """Smaller goes first. The longest idle of equals, then the id: one view, one answer."""
    assert candidate.idle_since is not None
    cost = candidate.start_s / candidate.memory_mib
    return (candidate.standing, cost, candidate.idle_since - now, candidate.id)
