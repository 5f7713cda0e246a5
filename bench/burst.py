"""A burst: a hundred callers at the same moment of a function that nobody has called yet.

The platform may have one environment of it ready; the other calls have theirs made.
"""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.functions import PYTHON, PYTHON_SOURCE
from bench.platforms import Firelet
from bench.sandboxes import await_sandboxes, find_sandboxes
from bench.wire import Call, Line

CALLS = 100
_SLEEP_S = 0.2
_TIMEOUT_S = 60.0
_QUIET_WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Burst:
    """Seconds until all calls of a round were answered, sorted; failed calls of all rounds."""

    rounds_s: list[float]
    failures: int


def measure_burst(firelet: Firelet, rounds: int) -> Burst:
    """A new function for each round, which begins when the sandboxes of the last one are gone."""
    elapsed_s, failures = [], 0
    at_rest = len(find_sandboxes(firelet.pid))
    for number in range(rounds):
        name = f"burst-{number}"
        firelet.create(name, PYTHON, PYTHON_SOURCE, "place")
        seconds, failed = _burst(firelet.call(name, json.dumps(_SLEEP_S).encode()))
        elapsed_s.append(seconds)
        failures += failed
        firelet.delete(name)
        await_sandboxes(firelet.pid, at_rest, _QUIET_WITHIN_S)
    return Burst(sorted(elapsed_s), failures)


def _burst(call: Call) -> tuple[float, int]:
    """Every caller is connected before the first one sends."""
    at_once = threading.Barrier(CALLS + 1, timeout=_TIMEOUT_S)

    def is_answered() -> bool:
        with Line(call.host, call.port, _TIMEOUT_S) as line:
            at_once.wait()
            try:
                line.ask(call)
            except (OSError, RuntimeError):
                return False
            return True

    with ThreadPoolExecutor(CALLS) as threads:
        answers = [threads.submit(is_answered) for _ in range(CALLS)]
        at_once.wait()
        began = time.perf_counter()
        failures = sum(not answer.result() for answer in answers)
        return time.perf_counter() - began, failures
