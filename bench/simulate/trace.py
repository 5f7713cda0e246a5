"""What is replayed: functions, and when each of them is invoked for how long."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function's invocations in the order of their arrival, in seconds from the start.

    ``start_s`` is what making an environment takes, with INIT; ``memory_mib`` what one that is
    idle holds.
    """

    name: str
    start_s: float
    memory_mib: float
    arrivals_s: array[float]
    durations_s: array[float]


@dataclass(frozen=True, slots=True)
class Trace:
    """Functions over the same span of time. ``source`` says where they come from."""

    source: str
    length_s: float
    functions: list[Function]

    @property
    def invocations(self) -> int:
        return sum(len(function.arrivals_s) for function in self.functions)
