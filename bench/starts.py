"""Sustained starts: environments that are made, serve one call and are ended, per second.

A platform of its own ends an environment as soon as it looks after the idle ones (ten times a
second), and there are so many functions, called in turn, that each has lost its environment when
its turn comes again. The handler tells whether that was so: only cold calls are counted.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.functions import PYTHON, PYTHON_SOURCE
from bench.platforms import running_firelet
from bench.wire import Call, Line

CLIENTS = 8
_FUNCTIONS_EACH = 16
_TIMEOUT_S = 60.0
_AT_ONCE = b"0"


@dataclass(frozen=True, slots=True)
class Starts:
    """Cold calls, sorted, in milliseconds; ``warm`` more calls met an environment."""

    cold_ms: list[float]
    warm: int
    elapsed_s: float

    @property
    def per_second(self) -> float:
        return len(self.cold_ms) / self.elapsed_s


def measure_starts(scratch: Path, duration_s: float, **variables: str) -> Starts:
    """Each client has functions of its own, so that no two calls want the same environment.
    ``variables`` are the platform's."""
    home = scratch / "starts"
    home.mkdir()
    with running_firelet(home, FIRELET_IDLE_STOP_AFTER_S="0", **variables) as firelet:
        calls = []
        for number in range(CLIENTS * _FUNCTIONS_EACH):
            firelet.create(f"start-{number}", PYTHON, PYTHON_SOURCE, "born")
            calls.append(firelet.call(f"start-{number}", _AT_ONCE))
        began = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as threads:
            parts = [
                threads.submit(_call_in_turn, calls[client::CLIENTS], began + duration_s)
                for client in range(CLIENTS)
            ]
            results = [part.result() for part in parts]
        elapsed_s = time.perf_counter() - began
    cold_ms = sorted(itertools.chain.from_iterable(cold for cold, _ in results))
    return Starts(cold_ms, sum(warm for _, warm in results), elapsed_s)


def _call_in_turn(calls: Sequence[Call], ends: float) -> tuple[list[float], int]:
    cold_ms, warm = [], 0
    with Line(calls[0].host, calls[0].port, _TIMEOUT_S) as line:
        for call in itertools.cycle(calls):
            sent_ns = time.monotonic_ns()
            if time.perf_counter() >= ends:
                break
            body, elapsed_ms = line.ask(call)
            if int(body) > sent_ns:
                cold_ms.append(elapsed_ms)
            else:
                warm += 1
    return cold_ms, warm
