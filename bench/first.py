"""The first call of a function after it became active, against the calls that follow it."""

from __future__ import annotations

from dataclasses import dataclass

from bench.functions import NO_OP_EVENT, PYTHON, PYTHON_SOURCE
from bench.platforms import Firelet
from bench.wire import Line

_FOLLOWING = 50
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class First:
    """Milliseconds, sorted. Both by the same client on the same connection."""

    first_ms: list[float]
    warm_ms: list[float]


def measure_first(firelet: Firelet, samples: int) -> First:
    """A new function for each sample; all are deleted afterwards."""
    first_ms: list[float] = []
    warm_ms: list[float] = []
    names = [f"first-{number}" for number in range(samples)]
    for name in names:
        firelet.create(name, PYTHON, PYTHON_SOURCE, "no_op")
        call = firelet.call(name, NO_OP_EVENT)
        with Line(call.host, call.port, _TIMEOUT_S) as line:
            first_ms.append(line.ask(call)[1])
            warm_ms += [line.ask(call)[1] for _ in range(_FOLLOWING)]
    for name in names:
        firelet.delete(name)
    return First(sorted(first_ms), sorted(warm_ms))
