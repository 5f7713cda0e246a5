"""Many idle environments held at once: what they cost, and what they cost their neighbours."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench.functions import NO_OP_EVENT, PYTHON, PYTHON_SOURCE
from bench.load import Load, run_load
from bench.memory import KIB_PER_MIB, SETTLE_S, Footprint, weigh
from bench.platforms import Firelet
from bench.sandboxes import await_sandboxes, find_sandboxes, read_available_kib, read_usage_kib

_QUIET_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Held:
    """``footprint`` is the mean of those held. ``host_mib`` is what the host lost for each, the
    kernel's share included, and ``platform_mib`` what the platform's own process grew for each;
    ``made_per_second`` is how fast they were made. ``without`` and ``beside`` are loads of another
    function before and while they are held."""

    count: int
    footprint: Footprint
    host_mib: float
    platform_mib: float
    made_per_second: float
    without: Load
    beside: Load


def measure_held(firelet: Firelet, count: int, load_s: float) -> Held:
    """They are made ahead by ``/_firelet/warm``: none of them has served a call."""
    firelet.create("beside", PYTHON, PYTHON_SOURCE, "no_op")
    firelet.create("held", PYTHON, PYTHON_SOURCE, "no_op")
    call = firelet.call("beside", NO_OP_EVENT)
    without = run_load(call, 1, load_s)
    time.sleep(SETTLE_S)
    others = find_sandboxes(firelet.pid)
    available_kib = read_available_kib()
    own_kib, _ = read_usage_kib([firelet.pid])
    began = time.perf_counter()
    firelet.warm("held", count)
    elapsed_s = time.perf_counter() - began
    time.sleep(SETTLE_S)
    taken_kib = available_kib - read_available_kib()
    grown_kib = read_usage_kib([firelet.pid])[0] - own_kib
    found = find_sandboxes(firelet.pid)
    # The few that are made ahead for whichever function comes next weigh about the same.
    footprint = weigh([found[identity] for identity in found.keys() - others.keys()])
    beside = run_load(call, 1, load_s)
    firelet.delete("held")
    firelet.delete("beside")
    await_sandboxes(firelet.pid, len(others), _QUIET_WITHIN_S)
    return Held(
        count=count,
        footprint=footprint,
        host_mib=taken_kib / count / KIB_PER_MIB,
        platform_mib=grown_kib / count / KIB_PER_MIB,
        made_per_second=count / elapsed_s,
        without=without,
        beside=beside,
    )
