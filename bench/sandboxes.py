"""The sandboxes of a platform as the kernel knows them: control groups, processes, memory.

PSS shares each page among the processes that map it; USS (private clean + dirty) is what the host
gets back when the sandbox ends, if its processes share nothing with each other.
Source: Documentation/filesystems/proc.rst, smaps_rollup.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_HIERARCHIES = ("", "memory", "freezer")  # version 2, or any of version 1
_PRIVATE = ("Private_Clean", "Private_Dirty")
_POLL_S = 0.05


def find_sandboxes(platform: int) -> dict[str, list[int]]:
    """The processes of each sandbox of the platform with that process id, by sandbox id. Those
    that are made ahead and serve no function yet are among them."""
    for hierarchy in _HIERARCHIES:
        found = {}
        for file in (_CGROUPS / hierarchy / "firelet").glob(f"{platform}-*/*/cgroup.procs"):
            with contextlib.suppress(OSError):  # a sandbox that ended meanwhile
                if processes := [int(line) for line in file.read_text().split()]:
                    found[file.parent.name] = processes
        if found:
            return found
    return {}


def await_sandboxes(platform: int, at_most: int, within_s: float) -> None:
    """Returns when no more than so many are left, or after ``within_s``."""
    deadline = time.monotonic() + within_s
    while len(find_sandboxes(platform)) > at_most and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def read_usage_kib(processes: Iterable[int]) -> tuple[int, int]:
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


def read_available_kib() -> int:
    """What the host could still give: unlike PSS, this counts the kernel's own share too."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1])
    raise RuntimeError("/proc/meminfo has no MemAvailable")
