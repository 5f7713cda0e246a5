"""The control group of the sandbox in a microVM's guest: what it may use, and what it has used.

Always of version 2: the guest's kernel is ours. Its pid 1 is outside, so that it gets its turn
though the sandbox may be full of processes that never wait.
Called by ``vm_sandbox``. Source: Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os
import signal

from firelet.linux import mount

_ROOT = "/sys/fs/cgroup"
_GROUP = _ROOT + "/sandbox"


class Group:
    """Made once. Without limits until ``limit``."""

    def __init__(self) -> None:
        flags = mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC
        mount.mount("cgroup2", _ROOT, "cgroup2", flags)
        _write(_ROOT + "/cgroup.subtree_control", "+cpu +memory +pids")
        os.mkdir(_GROUP)
        self._pids = "max"
        self._peak = os.open(_GROUP + "/memory.peak", os.O_RDONLY | os.O_CLOEXEC)
        self._events = os.open(_GROUP + "/memory.events", os.O_RDONLY | os.O_CLOEXEC)

    def open_procs(self) -> int:
        """Who writes 0 to it joins."""
        return os.open(_GROUP + "/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def limit(self, memory_bytes: int, pids: int) -> None:
        _write(_GROUP + "/memory.max", str(memory_bytes))
        self._pids = str(pids)
        self.allow_forks()

    def allow_forks(self) -> None:
        _write(_GROUP + "/pids.max", self._pids)

    def end_all_but(self, pid: int) -> None:
        """Ends every other process; none can fork any more, until ``allow_forks``."""
        _write(_GROUP + "/pids.max", "0")
        with open(_GROUP + "/cgroup.procs") as procs:
            members = [int(line) for line in procs]
        for member in members:
            if member != pid:
                try:
                    os.kill(member, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def hold(self, is_held: bool) -> None:
        """Whether its processes stand still. Those outside of it go on."""
        _write(_GROUP + "/cgroup.freeze", str(int(is_held)))

    def peak_bytes(self) -> int:
        return int(os.pread(self._peak, 32, 0))

    def out_of_memory_kills(self) -> int:
        for line in os.pread(self._events, 512, 0).splitlines():
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
        return 0


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
