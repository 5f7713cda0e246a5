"""What a test leaves behind in the kernel: processes, mounts, control groups, descriptors and
network namespaces. Used through the fixture ``nothing_leaks``."""

from __future__ import annotations

import ctypes
import gc
import os
import time
from dataclasses import dataclass
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE_S = 20.0
_PAUSE_S = 0.02

_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Footprint:
    """What belongs to this process at one moment, each thing as a line for people."""

    processes: frozenset[str]
    namespaces: frozenset[str]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    descriptors: frozenset[str]

    def added_since(self, before: Footprint) -> list[str]:
        return [
            f"{kind}: {thing}"
            for kind in self.__dataclass_fields__
            for thing in sorted(getattr(self, kind) - getattr(before, kind))
        ]


def adopt_orphans(is_adopting: bool) -> None:
    """Makes this process the parent of what its descendants leave behind. A zygote's first stage
    ends at once, so that the zygote would be nobody's otherwise. Source: prctl(2)."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, int(is_adopting), 0, 0, 0)


def leave_out_of_collections() -> None:
    """What other tests hold, a gigabyte after thousands of them, is not looked through each time
    that garbage is collected."""
    gc.collect()
    gc.freeze()


def take_footprint() -> Footprint:
    below = descendants()
    return Footprint(
        processes=frozenset(_describe(pid) for pid in below),
        namespaces=frozenset(filter(None, map(_network_of, below))) - {_network_of("self")},
        mounts=frozenset(Path("/proc/self/mountinfo").read_text().splitlines()),
        cgroups=frozenset(_cgroups(below)),
        descriptors=frozenset(_descriptors()),
    )


def wait_for_leaks_to_end(before: Footprint) -> list[str]:
    """What is still there after the ends that are under way have had their time."""
    end = time.monotonic() + _PATIENCE_S
    while True:
        gc.collect()
        reap_adopted()
        leaked = take_footprint().added_since(before)
        if not leaked or time.monotonic() > end:
            return leaked
        time.sleep(_PAUSE_S)


def descendants() -> list[int]:
    """Every process below this one, adopted ones included."""
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        fields = _stat_fields(int(name))
        if fields is not None:
            parents[int(name)] = int(fields[1])
    found = []
    for pid in parents:
        ancestor = parents[pid]
        while ancestor in parents and ancestor != os.getpid():
            ancestor = parents[ancestor]
        if ancestor == os.getpid():
            found.append(pid)
    return found


def _stat_fields(pid: int) -> list[str] | None:
    """State, parent and what follows in /proc/PID/stat; None when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _describe(pid: int) -> str:
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return f"{pid} (ended)"
    return f"{pid} {name}: {command[:120]}"


def reap_adopted() -> None:
    """Collects adopted children that have ended."""
    for pid in descendants():
        fields = _stat_fields(pid)
        if fields is not None and fields[0] == "Z" and int(fields[1]) == os.getpid():
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue


def _network_of(pid: int | str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return None


def _cgroups(descendants: list[int]) -> list[str]:
    """Directories of platforms that are ours or dead: those of other live ones are their own."""
    found = []
    for home in (_CGROUP_ROOT / "firelet", *_CGROUP_ROOT.glob("*/firelet")):
        owners = home.iterdir() if home.is_dir() else ()
        for owner in owners:
            pid = owner.name.partition("-")[0]
            if not owner.is_dir() or not pid.isdigit():
                continue
            is_ours = int(pid) in (os.getpid(), *descendants)
            if is_ours or not Path(f"/proc/{pid}").exists():
                found.append(str(owner))
    return found


def _descriptors() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:
            continue  # the one that the listing itself had open
    return found
