"""The first call of a function after it became active, against the calls that follow it.

The first one comes after a pause, in which the caller asked whether the function is active. On an
idle processor, and more so on a virtual one, a call after a pause takes longer than one right
after another, whatever is called: hence two comparisons.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench.functions import NO_OP_EVENT, PYTHON, PYTHON_SOURCE
from bench.platforms import Firelet
from bench.wire import Line

_FOLLOWING = 50
_AFTER_PAUSES = 5
PAUSE_S = 0.02  # about as long as the answer to "is it active" and the wait before it take
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class First:
    """Milliseconds, sorted. All by the same client on the same connection."""

    first_ms: list[float]
    warm_ms: list[float]
    paused_ms: list[float]


def measure_first(firelet: Firelet, samples: int) -> First:
    """A new function for each sample; all are deleted afterwards."""
    first_ms: list[float] = []
    warm_ms: list[float] = []
    paused_ms: list[float] = []
    names = [f"first-{number}" for number in range(samples)]
    for name in names:
        firelet.create(name, PYTHON, PYTHON_SOURCE, "no_op")
        call = firelet.call(name, NO_OP_EVENT)
        with Line(call.host, call.port, _TIMEOUT_S) as line:
            first_ms.append(line.ask(call)[1])
            warm_ms += [line.ask(call)[1] for _ in range(_FOLLOWING)]
            for _ in range(_AFTER_PAUSES):
                time.sleep(PAUSE_S)
                paused_ms.append(line.ask(call)[1])
    for name in names:
        firelet.delete(name)
    return First(sorted(first_ms), sorted(warm_ms), sorted(paused_ms))
