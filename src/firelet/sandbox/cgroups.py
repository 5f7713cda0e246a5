"""Control groups, version 1 and 2 behind one interface: limits, freezing, measuring, clean-up.

Each platform process owns one directory ``firelet/<pid>-<start time>`` (per hierarchy, in
version 1), and every sandbox one below it. The name tells whether the owner still lives, so that
any later start can sweep what a killed one left.
Source: Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from firelet.model import limits

_ROOT = Path("/sys/fs/cgroup")
_V1_CONTROLLERS = ("memory", "cpu", "pids", "freezer")
_V2_CONTROLLERS = ("memory", "cpu", "pids")
# Ten seconds: a process that is killed needs CPU time to end, of which it has no more than the
# share of its group, on a host that may be busy.
_REMOVE_ATTEMPTS = 2_000
_REMOVE_WAIT_S = 0.005
# Of a file in a group that is gone, or that has gone since it was opened.
_REMOVED = (errno.ENOENT, errno.ENODEV)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one sandbox may use. ``vcpus`` is None while it may use all of the host (INIT)."""

    memory_mib: int
    vcpus: float | None
    pids: int = limits.PIDS_MAX


class Cgroup(Protocol):
    """The control groups of one sandbox."""

    @property
    def procs_fds(self) -> list[int]:
        """Open files: a process of one thread that writes 0 to each joins."""

    def set_limits(self, wanted: Limits) -> None: ...
    def set_vcpus(self, vcpus: float | None) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def end_all_but(self, pid: int) -> None:
        """Ends every other process; none of them can fork any more, until ``allow_forks``."""

    def allow_forks(self) -> None: ...
    def memory_peak_bytes(self) -> int: ...
    def memory_bytes(self) -> int: ...
    def oom_kills(self) -> int: ...
    def close_procs(self) -> None: ...
    def remove(self) -> None:
        """Ends what is left inside and removes the directories. Blocks: call it in a thread."""


class CgroupTree(Protocol):
    """Makes control groups below the platform's own directory."""

    def create(self, name: str) -> Cgroup: ...
    def close(self) -> None: ...


def owner_name(pid: int | None = None) -> str:
    """``<pid>-<start time in ticks>``: unique as long as the machine runs."""
    pid = os.getpid() if pid is None else pid
    stat = Path(f"/proc/{pid}/stat").read_text()
    return f"{pid}-{stat.rpartition(')')[2].split()[19]}"


def cpu_quota_us(vcpus: float) -> int:
    """Microseconds of CPU per period for this many vCPUs."""
    return max(limits.CPU_QUOTA_MIN_US, round(vcpus * limits.CPU_PERIOD_US))


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _read_int(fd: int) -> int:
    return int(os.pread(fd, 32, 0))


class _V1Cgroup:
    def __init__(self, directories: dict[str, Path], *, counts_swap: bool) -> None:
        self._directories = directories
        self._counts_swap = counts_swap
        for path in directories.values():
            path.mkdir()
        self.procs_fds = [
            # Not cgroup.procs: to move all threads of a process, as that does, the kernel waits
            # until no process on the machine is forking or ending. Who joins here has one thread.
            os.open(f"{path}/tasks", os.O_WRONLY | os.O_CLOEXEC)
            for path in directories.values()
        ]
        memory = directories["memory"]
        self._peak = os.open(f"{memory}/memory.max_usage_in_bytes", os.O_RDONLY | os.O_CLOEXEC)
        self._oom = os.open(f"{memory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        self._freezer = directories["freezer"] / "freezer.state"
        self._is_frozen = False
        self._vcpus: float | None = None  # as the kernel makes it
        self._pids = limits.PIDS_MAX

    def set_limits(self, wanted: Limits) -> None:
        memory = self._directories["memory"]
        size = str(wanted.memory_mib * limits.MIB)
        _write(memory / "memory.limit_in_bytes", size)
        if self._counts_swap:
            _write(memory / "memory.memsw.limit_in_bytes", size)
        self._pids = wanted.pids
        self.allow_forks()
        self.set_vcpus(wanted.vcpus)

    def set_vcpus(self, vcpus: float | None) -> None:
        if vcpus == self._vcpus:
            return
        cpu = self._directories["cpu"]
        if vcpus is None:
            _write(cpu / "cpu.cfs_quota_us", "-1")
        else:
            _write(cpu / "cpu.cfs_period_us", str(limits.CPU_PERIOD_US))
            _write(cpu / "cpu.cfs_quota_us", str(cpu_quota_us(vcpus)))
        self._vcpus = vcpus

    def freeze(self) -> None:
        self._is_frozen = True
        _write(self._freezer, "FROZEN")

    def thaw(self) -> None:
        _write(self._freezer, "THAWED")
        self._is_frozen = False

    def end_all_but(self, pid: int) -> None:
        pids = self._directories["pids"]
        _write(pids / "pids.max", "0")
        _end_processes(pids, spared=pid)

    def allow_forks(self) -> None:
        _write(self._directories["pids"] / "pids.max", str(self._pids))

    def memory_peak_bytes(self) -> int:
        return _read_int(self._peak)

    def memory_bytes(self) -> int:
        # Asked for once in a while: not worth a descriptor for each sandbox.
        return int((self._directories["memory"] / "memory.usage_in_bytes").read_text())

    def oom_kills(self) -> int:
        for line in os.pread(self._oom, 256, 0).splitlines():
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
        return 0

    def close_procs(self) -> None:
        for fd in self.procs_fds:
            os.close(fd)
        self.procs_fds = []

    def remove(self) -> None:
        self.close_procs()
        os.close(self._peak)
        os.close(self._oom)
        # The freezer first: what is frozen does not die.
        remove_directory(self._directories["freezer"])
        for path in self._directories.values():
            remove_directory(path)


class V1Tree:
    """Version 1: one directory per hierarchy."""

    def __init__(self, root: Path = _ROOT, owner: str | None = None, branch: str = "") -> None:
        owner = owner or owner_name()
        self._homes = {name: root / name / "firelet" / owner / branch for name in _V1_CONTROLLERS}
        self._is_branch = bool(branch)
        for home in self._homes.values():
            home.mkdir(parents=True, exist_ok=True)
        # Only there when the kernel counts swap; without swap there is nothing to limit.
        self._counts_swap = (self._homes["memory"] / "memory.memsw.limit_in_bytes").exists()

    def create(self, name: str) -> Cgroup:
        return _V1Cgroup(
            {key: home / name for key, home in self._homes.items()},
            counts_swap=self._counts_swap,
        )

    def close(self) -> None:
        remove_tree(self._homes["freezer"])
        for home in self._homes.values():
            remove_tree(home)
            if self._is_branch:
                _remove_if_empty(home.parent)


class _V2Cgroup:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pids = limits.PIDS_MAX
        directory.mkdir()
        self.procs_fds = [os.open(directory / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)]
        self._events = os.open(directory / "memory.events", os.O_RDONLY | os.O_CLOEXEC)
        # memory.peak came with Linux 5.19; the present use is the best there is before.
        peak = directory / "memory.peak"
        self._peak = os.open(
            peak if peak.exists() else directory / "memory.current", os.O_RDONLY | os.O_CLOEXEC
        )

    def set_limits(self, wanted: Limits) -> None:
        _write(self._directory / "memory.max", str(wanted.memory_mib * limits.MIB))
        with contextlib.suppress(FileNotFoundError):
            _write(self._directory / "memory.swap.max", "0")
        self._pids = wanted.pids
        self.allow_forks()
        self.set_vcpus(wanted.vcpus)

    def set_vcpus(self, vcpus: float | None) -> None:
        quota = "max" if vcpus is None else str(cpu_quota_us(vcpus))
        _write(self._directory / "cpu.max", f"{quota} {limits.CPU_PERIOD_US}")

    def freeze(self) -> None:
        _write(self._directory / "cgroup.freeze", "1")

    def thaw(self) -> None:
        _write(self._directory / "cgroup.freeze", "0")

    def end_all_but(self, pid: int) -> None:
        _write(self._directory / "pids.max", "0")
        _end_processes(self._directory, spared=pid)

    def allow_forks(self) -> None:
        _write(self._directory / "pids.max", str(self._pids))

    def memory_peak_bytes(self) -> int:
        return _read_int(self._peak)

    def memory_bytes(self) -> int:
        # Asked for once in a while: not worth a descriptor for each sandbox.
        return int((self._directory / "memory.current").read_text())

    def oom_kills(self) -> int:
        for line in os.pread(self._events, 512, 0).splitlines():
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
        return 0

    def close_procs(self) -> None:
        for fd in self.procs_fds:
            os.close(fd)
        self.procs_fds = []

    def remove(self) -> None:
        self.close_procs()
        os.close(self._events)
        os.close(self._peak)
        remove_directory(self._directory)


class V2Tree:
    """Version 2: one directory, controllers handed down from the root by subtree_control."""

    def __init__(self, root: Path = _ROOT, owner: str | None = None, branch: str = "") -> None:
        owned = root / "firelet" / (owner or owner_name())
        self._home = owned / branch
        self._is_branch = bool(branch)
        self._home.mkdir(parents=True, exist_ok=True)
        enabled = " ".join(f"+{name}" for name in _V2_CONTROLLERS)
        for directory in dict.fromkeys((root, root / "firelet", owned, self._home)):
            _write(directory / "cgroup.subtree_control", enabled)

    def create(self, name: str) -> Cgroup:
        return _V2Cgroup(self._home / name)

    def close(self) -> None:
        remove_tree(self._home)
        if self._is_branch:
            _remove_if_empty(self._home.parent)


def find_version(root: Path = _ROOT) -> int | None:
    """2, 1 or None: which version has every controller that firelet needs, and may be written."""
    controllers = root / "cgroup.controllers"
    if controllers.exists():
        offered = controllers.read_text().split()
        if set(_V2_CONTROLLERS) <= set(offered) and os.access(root, os.W_OK):
            return 2
    if all((root / name / "cgroup.procs").exists() for name in _V1_CONTROLLERS) and all(
        os.access(root / name, os.W_OK) for name in _V1_CONTROLLERS
    ):
        return 1
    return None


def open_tree(version: int, root: Path = _ROOT, branch: str = "") -> CgroupTree:
    """The tree of this process for the version that ``find_version`` named; with ``branch`` a part
    of it that is closed by itself."""
    return V2Tree(root, branch=branch) if version == 2 else V1Tree(root, branch=branch)


def sweep(root: Path = _ROOT, ended: str | None = None) -> list[str]:
    """Ends and removes what dead owners left in any hierarchy; returns their names.

    ``ended`` is an owner known to have ended, even if its process can still be seen (as a zombie,
    or on its way out). Another process may be at it as well: the janitor of a platform that was
    killed, and the next start of that platform.
    """
    # The freezer first: a frozen process of version 1 does not die before it is thawed, and the
    # other hierarchies cannot thaw it.
    controllers = sorted(_V1_CONTROLLERS, key=lambda name: name != "freezer")
    homes = [root / "firelet", *(root / name / "firelet" for name in controllers)]
    swept: set[str] = set()
    for home in homes:
        if not home.is_dir():
            continue
        for child in home.iterdir():
            if child.is_dir() and (child.name == ended or not _is_alive(child.name)):
                remove_tree(child)
                swept.add(child.name)
    return sorted(swept)


def _is_alive(owner: str) -> bool:
    pid, _, _ = owner.partition("-")
    try:
        return owner_name(int(pid)) == owner
    except (OSError, ValueError, IndexError):
        return False


def remove_tree(home: Path) -> None:
    """Removes a directory of control groups with everything below it."""
    try:
        children = list(home.iterdir())
    except FileNotFoundError:
        return
    for child in children:
        if child.is_dir():
            remove_tree(child)
    remove_directory(home)


def _remove_if_empty(path: Path) -> None:
    """What else is in there has an owner of its own."""
    try:
        path.rmdir()
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY, errno.ENOENT):
            raise


def remove_directory(path: Path) -> None:
    """Thaws and ends the processes inside, then removes the directory.

    A process leaves its group only when it has been reaped, hence the attempts.
    """
    for _ in range(_REMOVE_ATTEMPTS):
        try:
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise
            _end_processes(path)
            time.sleep(_REMOVE_WAIT_S)
        else:
            return
    raise OSError(errno.EBUSY, "the control group still has processes", str(path))


def _end_processes(path: Path, spared: int = 0) -> None:
    """Of a group that somebody else may remove meanwhile."""
    try:
        for name, text in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            if (path / name).exists():
                _write(path / name, text)
        processes = (path / "cgroup.procs").read_text().split()
    except OSError as error:
        if error.errno not in _REMOVED:
            raise
        return
    for line in processes:
        if int(line) != spared:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line), signal.SIGKILL)
