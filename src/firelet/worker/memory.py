"""How much memory this host has, and how much of it is in use, by sandboxes or by others.

What the page cache holds counts as free: the kernel gives it back. Where the whole host, as seen
from here, is a container with a memory limit, that limit counts too: the control groups of
sandboxes are below the same root. Read by ``app``, which tells the worker manager.
Source: proc(5), /proc/meminfo; Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from firelet.model import limits

_MEMINFO = Path("/proc/meminfo")
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """``used_mib`` is what could not be had for the asking."""

    used_mib: float
    total_mib: float


class HostMemory:
    """Reads a few files of the kernel's; none of them is on a disk."""

    def __init__(self, meminfo: Path = _MEMINFO, cgroups: Path = _CGROUPS) -> None:
        self._meminfo = meminfo
        self._cgroups = cgroups

    def read(self) -> MemoryUse:
        """The host's memory, or its container's, whichever is scarcer."""
        host = parse_meminfo(self._meminfo.read_text())
        container = self._read_container()
        if container is None or container.total_mib >= host.total_mib:
            return host
        free_mib = min(host.total_mib - host.used_mib, container.total_mib - container.used_mib)
        return MemoryUse(container.total_mib - free_mib, container.total_mib)

    def _read_container(self) -> MemoryUse | None:
        v1 = self._cgroups / "memory"
        if (v1 / "memory.usage_in_bytes").exists():
            return parse_version_1(
                (v1 / "memory.usage_in_bytes").read_text(), (v1 / "memory.stat").read_text()
            )
        v2 = self._cgroups
        if (v2 / "memory.max").exists():  # the root of the host itself has none
            return parse_version_2(
                (v2 / "memory.max").read_text(),
                (v2 / "memory.current").read_text(),
                (v2 / "memory.stat").read_text(),
            )
        return None


def parse_meminfo(text: str) -> MemoryUse:
    """``/proc/meminfo``, which counts in KiB."""
    sizes = {name: int(value.split()[0]) for name, _, value in _split(text, ":")}
    total_mib = sizes["MemTotal"] / limits.KIB
    return MemoryUse(total_mib - sizes["MemAvailable"] / limits.KIB, total_mib)


def parse_version_1(usage: str, stat: str) -> MemoryUse:
    """``memory.usage_in_bytes`` and ``memory.stat``, which has the limit that is in force."""
    sizes = _parse_stat(stat)
    cached = sizes["total_inactive_file"] + sizes["total_active_file"]
    return _use_of(int(usage) - cached, sizes["hierarchical_memory_limit"])


def parse_version_2(limit: str, current: str, stat: str) -> MemoryUse | None:
    """``memory.max``, ``memory.current`` and ``memory.stat``; None when there is no limit."""
    if limit.strip() == "max":
        return None
    sizes = _parse_stat(stat)
    return _use_of(int(current) - sizes["inactive_file"] - sizes["active_file"], int(limit))


def _use_of(used: int, total: int) -> MemoryUse:
    return MemoryUse(max(used, 0) / limits.MIB, total / limits.MIB)


def _parse_stat(text: str) -> dict[str, int]:
    return {name: int(value) for name, _, value in _split(text, " ")}


def _split(text: str, separator: str) -> list[tuple[str, str, str]]:
    return [line.partition(separator) for line in text.splitlines()]
