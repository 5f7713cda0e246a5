"""A cgroup file system in a directory: files appear and vanish with their group, and processes
stay in it until they have been ended (in version 1: ended and thawed)."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from firelet.sandbox import cgroups

_V1_FILES = {
    "memory": {
        "memory.limit_in_bytes": "9223372036854771712\n",
        "memory.memsw.limit_in_bytes": "9223372036854771712\n",
        "memory.max_usage_in_bytes": "0\n",
        "memory.usage_in_bytes": "2048\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
    },
    "cpu": {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"},
    "pids": {"pids.max": "max\n"},
    "freezer": {"freezer.state": "THAWED\n"},
}
_V2_FILES = {
    "cgroup.controllers": "cpuset cpu io memory pids\n",
    "cgroup.subtree_control": "",
    "cgroup.freeze": "0\n",
    "memory.max": "max\n",
    "memory.swap.max": "max\n",
    "memory.current": "4096\n",
    "memory.peak": "8192\n",
    "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
    "pids.max": "max\n",
    "cpu.max": "max 100000\n",
}


class FakeCgroups:
    """The file system below ``root``. ``missing`` are files that this kernel does not have."""

    def __init__(self, root: Path, version: int, missing: frozenset[str] = frozenset()) -> None:
        self.root = root
        self.version = version
        self._missing = missing
        self._doomed: set[int] = set()
        if version == 2:
            self._populate(root)
        else:
            for controller in _V1_FILES:
                self.mkdir(root / controller)

    def mkdir(self, path: Path) -> None:
        os.mkdir(path)
        self._populate(path)

    def rmdir(self, path: Path) -> None:
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "no such group", str(path))
        children = list(path.iterdir())
        if any(child.is_dir() for child in children) or self.processes(path):
            raise OSError(errno.EBUSY, "busy", str(path))
        for child in children:
            child.unlink()
        os.rmdir(path)

    def write(self, path: Path, text: str) -> None:
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        path.write_text(text)
        if text == "THAWED":
            for pid in self.processes(path.parent) & self._doomed:
                self._end(pid)

    def processes(self, group: Path) -> set[int]:
        return {int(line) for line in (group / "cgroup.procs").read_text().split()}

    def join(self, pid: int, name: str) -> None:
        """Puts a process into every group that is called ``name``."""
        for group in self.groups(name):
            procs = group / "cgroup.procs"
            procs.write_text(procs.read_text() + f"{pid}\n")

    def groups(self, name: str) -> list[Path]:
        return [path for path in self.root.rglob(name) if path.is_dir()]

    def kill(self, pid: int, number: int) -> None:
        assert number == signal.SIGKILL
        holders = [procs for procs in self.root.rglob("cgroup.procs") if self._holds(procs, pid)]
        if not holders:
            raise ProcessLookupError(errno.ESRCH, "no such process")
        if any(
            (procs.parent / "freezer.state").exists()
            and (procs.parent / "freezer.state").read_text() == "FROZEN"
            for procs in holders
        ):
            # Source: cgroup-v1/freezer-subsystem.rst; a frozen task acts on no signal.
            self._doomed.add(pid)
        else:
            self._end(pid)

    def _populate(self, path: Path) -> None:
        hierarchy = path.relative_to(self.root).parts[:1]
        files = _V2_FILES if self.version == 2 else _V1_FILES[hierarchy[0]]
        join = {} if self.version == 2 else {"tasks": ""}
        for name, text in {"cgroup.procs": "", **join, **files}.items():
            if name not in self._missing:
                (path / name).write_text(text)

    def _end(self, pid: int) -> None:
        for procs in self.root.rglob("cgroup.procs"):
            left = [line for line in procs.read_text().split() if int(line) != pid]
            procs.write_text("".join(f"{line}\n" for line in left))

    def _holds(self, procs: Path, pid: int) -> bool:
        return str(pid) in procs.read_text().split()


def install(fake: FakeCgroups, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets ``firelet.sandbox.cgroups`` work on the fake, without waiting."""
    real_mkdir = Path.mkdir

    def mkdir(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        if not path.is_relative_to(fake.root):
            real_mkdir(path, mode, parents, exist_ok)
        elif not (exist_ok and path.is_dir()):
            if parents and not path.parent.is_dir():
                mkdir(path.parent, parents=True)
            fake.mkdir(path)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Path, "rmdir", lambda path: fake.rmdir(path))
    monkeypatch.setattr(cgroups, "_write", fake.write)
    monkeypatch.setattr("os.kill", fake.kill)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
