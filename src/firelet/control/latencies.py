"""How long the last invocations of each function took, for whoever wants to look.

A ring of a few hundred durations per function. It is fed by ``control.invoke`` on the hot path,
for about 0.2 µs per invocation, and read by ``frontend.status``, which does the arithmetic.
"""

from __future__ import annotations

from collections import deque

from firelet.model.function import FunctionKey

LATENCIES_KEPT = 200  # of one function: two of them are above the 99th percentile
_FUNCTIONS_MAX = 4_096


class Latencies:
    """Seconds from admission to answer, cold starts and failures included."""

    def __init__(self) -> None:
        self._rings: dict[FunctionKey, deque[float]] = {}

    def note(self, key: FunctionKey, seconds: float) -> None:
        """Remembers one invocation, and forgets the oldest one."""
        try:
            self._rings[key].append(seconds)
        except KeyError:
            if len(self._rings) >= _FUNCTIONS_MAX:
                # The function that was first seen longest ago: bounded memory is worth its ring.
                del self._rings[next(iter(self._rings))]
            self._rings[key] = deque((seconds,), maxlen=LATENCIES_KEPT)

    def of(self, key: FunctionKey) -> list[float]:
        """The last invocations of a function, oldest first."""
        return list(self._rings.get(key, ()))
