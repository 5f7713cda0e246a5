"""The command line of Firecracker's jailer. Pure: nothing is looked at and nothing is started.

Source: Firecracker's ``docs/jailer.md``. It has not been run yet (``docs/microvm.md``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

API_SOCKET = "/run/firecracker.socket"  # as the jailed process sees it

_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Jail:
    """``limits`` are values of control group files (``memory.max``); ``network`` is the path of a
    network namespace."""

    id: str
    firecracker: Path
    uid: int
    gid: int
    base: Path
    cgroup_version: int
    parent_cgroup: str | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    network: Path | None = None
    open_files_max: int | None = None

    def __post_init__(self) -> None:
        """ValueError for what the jailer refuses, and for a jail that would hold nothing."""
        if _ID.fullmatch(self.id) is None:
            raise ValueError(f"an id is 1 to 64 letters, digits and hyphens, not {self.id!r}")
        if "firecracker" not in self.firecracker.name:
            raise ValueError(f"the program's name must contain firecracker: {self.firecracker}")
        if self.cgroup_version not in (1, 2):
            raise ValueError(f"there is no version {self.cgroup_version} of control groups")
        if self.uid == 0 or self.gid == 0:
            raise ValueError("a jailed process is not root")
        if self.parent_cgroup is not None:
            parent = PurePosixPath(self.parent_cgroup)
            if parent.is_absolute() or ".." in parent.parts:
                raise ValueError(f"a parent control group is a relative path: {parent}")

    @property
    def root(self) -> Path:
        """What the jailed process sees as ``/``; its images must be put there."""
        return self.base / self.firecracker.name / self.id / "root"

    @property
    def socket(self) -> Path:
        """The API's socket as the host sees it."""
        return self.root / API_SOCKET[1:]


def build_command(jail: Jail, *, program: str = "jailer") -> list[str]:
    """It runs in the foreground and in a pid namespace of its own, so that it ends as a whole."""
    command = [program, "--id", jail.id, "--exec-file", str(jail.firecracker)]
    command += ["--uid", str(jail.uid), "--gid", str(jail.gid)]
    command += ["--chroot-base-dir", str(jail.base)]
    command += ["--cgroup-version", str(jail.cgroup_version)]
    if jail.parent_cgroup is not None:
        command += ["--parent-cgroup", jail.parent_cgroup]
    for name, value in jail.limits.items():
        command += ["--cgroup", f"{name}={value}"]
    if jail.network is not None:
        command += ["--netns", str(jail.network)]
    if jail.open_files_max is not None:
        command += ["--resource-limit", f"no-file={jail.open_files_max}"]
    return [*command, "--new-pid-ns", "--", "--api-sock", API_SOCKET]
