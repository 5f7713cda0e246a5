"""The policies that are compared. Each keeps the environments of one function of a trace."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.simulate.trace import Function
from firelet.control.capacity import Decision
from firelet.control.upkeep import Upkeep


class Keeper(Protocol):
    """Told of each request, asked for a decision at the times that it names."""

    def arrived(self, now: float) -> float:
        """A request came in; when to decide."""

    def released(self, now: float) -> float:
        """One was answered; when to decide."""

    def decide(self, now: float, starting: int, busy: int, idle: Sequence[float]) -> Decision:
        """What to start and to stop. ``idle`` is as in ``capacity.View``."""


class FixedKeeper:
    """Stops each environment after the same time without a request."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s

    def arrived(self, now: float) -> float:
        return math.inf

    def released(self, now: float) -> float:
        return now + self._keep_s

    def decide(self, now: float, starting: int, busy: int, idle: Sequence[float]) -> Decision:
        stop = 0
        for since in idle:
            if since + self._keep_s > now:
                return Decision(0, stop, since + self._keep_s)
            stop += 1
        return Decision(0, stop, math.inf)


class CapacityKeeper:
    """firelet's own: the upkeep that the worker manager gives each version."""

    def __init__(self, function: Function, first_s: float, pressure: float) -> None:
        self._upkeep = Upkeep(first_s, function.start_s, function.memory_mib)
        self._pressure = pressure

    def arrived(self, now: float) -> float:
        return self._upkeep.arrived(now)

    def released(self, now: float) -> float:
        return self._upkeep.released(now)

    def decide(self, now: float, starting: int, busy: int, idle: Sequence[float]) -> Decision:
        return self._upkeep.decide(
            now, starting=starting, busy=busy, idle=idle, pressure=self._pressure
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """A name for the table, and what makes a keeper for a function first called at that time."""

    name: str
    keeper: Callable[[Function, float], Keeper]


def _fixed(minutes: int) -> Policy:
    return Policy(f"keep {minutes} min", lambda _function, _first_s: FixedKeeper(minutes * 60.0))


NONE = Policy("no keep-alive", lambda _function, _first_s: FixedKeeper(0.0))
REFERENCE = _fixed(10)


def firelet_policy(pressure: float = 0.0) -> Policy:
    """The capacity policy at one pressure on the host's memory."""
    return Policy("firelet", lambda function, first_s: CapacityKeeper(function, first_s, pressure))


def all_policies(pressure: float = 0.0) -> list[Policy]:
    """In the order of the table."""
    return [NONE, _fixed(1), _fixed(5), REFERENCE, _fixed(20), firelet_policy(pressure)]
