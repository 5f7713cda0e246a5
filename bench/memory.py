"""Memory of an idle sandbox that has served calls, as the kernel counts it for its processes."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.functions import PYTHON, PYTHON_SOURCE
from bench.platforms import Firelet
from bench.sandboxes import find_sandboxes, read_usage_kib
from bench.wire import call_once

SANDBOXES = 20
KIB_PER_MIB = 1024
_SLEEP_S = 3.0
SETTLE_S = 1.5  # idle sandboxes are frozen by then


@dataclass(frozen=True, slots=True)
class Footprint:
    """Mean per idle sandbox."""

    sandboxes: int
    processes: float
    pss_mib: float
    uss_mib: float


def measure_footprint(firelet: Firelet) -> Footprint:
    """Makes ``SANDBOXES`` by as many concurrent sleeping calls, lets them idle, and reads."""
    firelet.create("idle", PYTHON, PYTHON_SOURCE, "place")
    call = firelet.call("idle", json.dumps(_SLEEP_S).encode())
    with ThreadPoolExecutor(SANDBOXES) as threads:
        answers = threads.map(lambda _: call_once(call, 60), range(SANDBOXES))
        streams = {json.loads(body) for body, _ in answers}
    time.sleep(SETTLE_S)
    # A log stream is named by version and environment: 2026/01/31[$LATEST]0123….
    identities = {stream.rpartition("]")[2] for stream in streams}
    if len(identities) != SANDBOXES:
        raise RuntimeError(f"{SANDBOXES} concurrent calls ran in {len(identities)} sandboxes")
    found = find_sandboxes(firelet.pid)
    footprint = weigh([found[identity] for identity in identities])
    firelet.delete("idle")
    return footprint


def weigh(sandboxes: list[list[int]]) -> Footprint:
    """Of sandboxes, each given by its processes."""
    usage = [read_usage_kib(processes) for processes in sandboxes]
    return Footprint(
        sandboxes=len(sandboxes),
        processes=sum(map(len, sandboxes)) / len(sandboxes),
        pss_mib=sum(pss for pss, _ in usage) / len(usage) / KIB_PER_MIB,
        uss_mib=sum(uss for _, uss in usage) / len(usage) / KIB_PER_MIB,
    )
