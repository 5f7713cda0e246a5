"""Looking into disks of guests from outside: ``debugfs`` and ``e2fsck``, which need no rights."""

from __future__ import annotations

import subprocess
from pathlib import Path

from firelet.sandbox.microvm.host_tools import find_tool

_MISSING = [name for name in ("mke2fs", "debugfs", "e2fsck") if find_tool(name) is None]
MISSING = f"{', '.join(_MISSING)} missing: the package is e2fsprogs" if _MISSING else None


def unpack(disk: Path, target: Path) -> Path:
    """A directory with all files of a disk; it is made now."""
    target.mkdir()
    _run("debugfs", "-R", f"rdump / {target}", str(disk))
    return target


def stat(disk: Path, path: str) -> str:
    """What ``debugfs`` says of a file."""
    return _run("debugfs", "-R", f'stat "{path}"', str(disk))


def listing(disk: Path, path: str = "/") -> dict[str, tuple[str, str, str]]:
    """Mode, user and group, all as text, of what is in a directory."""
    found = {}
    for line in _run("debugfs", "-R", f'ls -p "{path}"', str(disk)).splitlines():
        parts = line.split("/")
        if len(parts) > 5 and parts[5] not in (".", ".."):
            found[parts[5]] = (parts[2], parts[3], parts[4])
    return found


def check(disk: Path) -> None:
    """AssertionError for a file system that is not in order."""
    program = find_tool("e2fsck")
    assert program is not None
    answer = subprocess.run([program, "-fn", str(disk)], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def _run(name: str, *arguments: str) -> str:
    program = find_tool(name)
    assert program is not None
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=True).stdout
