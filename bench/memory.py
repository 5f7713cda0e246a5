"""Memory of an idle sandbox, as the kernel counts it for the processes in its control groups.

PSS shares each page among the processes that map it; USS (private clean + dirty) is what the host
gets back when the sandbox ends, if its processes share nothing with each other.
Source: Documentation/filesystems/proc.rst, smaps_rollup.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.functions import PYTHON, PYTHON_SOURCE
from bench.platforms import Firelet
from bench.wire import call_once

SANDBOXES = 20
_CGROUPS = Path("/sys/fs/cgroup")
_HIERARCHIES = ("", "memory", "freezer")  # version 2, or any of version 1
_SLEEP_S = 3.0
_SETTLE_S = 1.5  # idle sandboxes are frozen by then
_KIB_PER_MIB = 1024
_PRIVATE = ("Private_Clean", "Private_Dirty")


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
    time.sleep(_SETTLE_S)
    # A log stream is named by version and environment: 2026/01/31[$LATEST]0123….
    identities = {stream.rpartition("]")[2] for stream in streams}
    if len(identities) != SANDBOXES:
        raise RuntimeError(f"{SANDBOXES} concurrent calls ran in {len(identities)} sandboxes")
    groups = [_processes(identity) for identity in identities]
    usage = [_usage_kib(processes) for processes in groups]
    firelet.delete("idle")
    return Footprint(
        sandboxes=len(groups),
        processes=sum(map(len, groups)) / len(groups),
        pss_mib=sum(pss for pss, _ in usage) / len(usage) / _KIB_PER_MIB,
        uss_mib=sum(uss for _, uss in usage) / len(usage) / _KIB_PER_MIB,
    )


def _processes(identity: str) -> list[int]:
    for hierarchy in _HIERARCHIES:
        for file in (_CGROUPS / hierarchy / "firelet").glob(f"*/{identity}/cgroup.procs"):
            if processes := [int(line) for line in file.read_text().split()]:
                return processes
    raise RuntimeError(f"no control group holds the processes of sandbox {identity}")


def _usage_kib(processes: Iterable[int]) -> tuple[int, int]:
    """PSS and USS of these processes together."""
    pss = uss = 0
    for pid in processes:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, value = line.partition(":")
            size = int(value.split()[0])
            if name == "Pss":
                pss += size
            elif name in _PRIVATE:
                uss += size
    return pss, uss
