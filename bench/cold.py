"""First calls: of a fresh function, and cold ones, for which a new environment must be made.

The platform may initialise an environment as soon as a function is deployed, so that its first
call is not cold. A cold call is therefore forced: while another call keeps that environment busy.
The handler answers with the moment when its module was loaded, and only a call for which that
was after the request had been sent counts as cold.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.functions import Source
from bench.platforms import Firelet, emulator_call, running_emulator
from bench.wire import Call, call_once

_TIMEOUT_S = 60.0
_AT_ONCE = b"0"
_BUSY_S = 0.5
_BUSY_AFTER_S = 0.05  # until the call that keeps the environment busy has arrived there


@dataclass(frozen=True, slots=True)
class Cold:
    """Milliseconds, sorted. ``first_ms``: the first call after a deployment, whatever it met.
    ``cold_ms``: calls that had an environment made; ``warm`` more were meant to, and had not."""

    first_ms: list[float]
    cold_ms: list[float]
    warm: int = 0


def measure_cold(firelet: Firelet, runtime: str, source: Source, samples: int) -> Cold:
    """A new function for each sample; all are deleted afterwards, outside of what is measured."""
    first_ms, cold_ms = [], []
    warm = 0
    names = [f"cold-{runtime.replace('.', '-')}-{number}" for number in range(samples)]
    with ThreadPoolExecutor(1) as other_client:
        for name in names:
            firelet.create(name, runtime, source, "born")
            call = firelet.call(name, _AT_ONCE)
            first_ms.append(call_once(call, _TIMEOUT_S)[1])
            busy = firelet.call(name, json.dumps(_BUSY_S).encode())
            occupied = other_client.submit(call_once, busy, _TIMEOUT_S)
            time.sleep(_BUSY_AFTER_S)
            is_cold, elapsed_ms = _call_and_tell(call)
            if is_cold:
                cold_ms.append(elapsed_ms)
            else:
                warm += 1
            occupied.result()
    for name in names:
        firelet.delete(name)
    return Cold(sorted(first_ms), sorted(cold_ms), warm)


def _call_and_tell(call: Call) -> tuple[bool, float]:
    sent_ns = time.monotonic_ns()
    body, elapsed_ms = call_once(call, _TIMEOUT_S)
    return int(body) > sent_ns, elapsed_ms


def measure_emulator_cold(scratch: Path, samples: int) -> Cold:
    """Its first call after each start of the emulator, whose own start is not counted."""
    latencies_ms = []
    for _ in range(samples):
        with running_emulator(scratch, "born") as port:
            _, elapsed_ms = call_once(emulator_call(port, _AT_ONCE), _TIMEOUT_S)
            latencies_ms.append(elapsed_ms)
    return Cold(sorted(latencies_ms), sorted(latencies_ms))
