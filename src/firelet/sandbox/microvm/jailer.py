"""The jail of one Firecracker: its command line, its files, and what ends it as a whole.

Firecracker's own ``jailer`` makes the jail: a copy of the program, device files, ``pivot_root``, a
network namespace, resource limits, another user. It is started inside namespaces of ours:

    unshare     new mount and pid namespaces; with the platform the kernel ends it and the next
      init      pid 1 of those: a shell, which binds the jail's files into place, and waits
        jailer  becomes Firecracker

Files are bound, not linked: they may be on any file system and stay whose they are. The mounts are
in the new mount namespace alone, so that none is left, however the processes end. The jailer's own
``--new-pid-ns`` is not used: then the jailer ends at once, nobody waits for Firecracker, and as it
changes its user the kernel forgets that it shall end with its parent (prctl(2), PR_SET_PDEATHSIG).
Source: Firecracker's ``docs/jailer.md``; it has not met a real jailer (``docs/firecracker.md``).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

PROGRAM = "jailer"

_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_SHELL = "/bin/sh"
# $1: where the number of this shell's process is written, as the host counts. Then pairs of a file
# and its place, "--", and the command. The shell must stay: it ends what is left when it ends.
_INIT = """
read -r pid rest </proc/self/stat && echo "$pid" >"$1" || exit 125
shift
while [ "$1" != -- ]; do
    mount -n -o bind,ro "$1" "$2" || exit 125
    shift 2
done
shift
"$@"
exit $?
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class JailPolicy:
    """Who a jailed Firecracker is and what it may use. Each machine should have a ``uid`` of its
    own; the files of its disks and snapshots must be readable to ``uid`` or ``gid``.

    ``network`` is the path of a network namespace. ``limits`` are values of control group files
    (``memory.max``) below ``parent_cgroup``, for those whom ``VmSpec.cgroup_files`` does not serve.
    """

    uid: int
    gid: int
    network: Path | None = None
    cgroup_version: int = 2
    parent_cgroup: str | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    open_files_max: int | None = None
    file_size_max_bytes: int | None = None

    def __post_init__(self) -> None:
        """ValueError for what the jailer refuses, and for a jail that would hold nothing."""
        if self.cgroup_version not in (1, 2):
            raise ValueError(f"there is no version {self.cgroup_version} of control groups")
        if self.uid == 0 or self.gid == 0:
            raise ValueError("a jailed process is not root")
        if self.parent_cgroup is not None:
            parent = PurePosixPath(self.parent_cgroup)
            if parent.is_absolute() or {".", ".."} & set(self.parent_cgroup.split("/")):
                raise ValueError(f"a parent control group is a relative path: {parent}")
        if self.limits and self.parent_cgroup is None:
            raise ValueError("limits need a parent control group")


@dataclass(frozen=True, slots=True, kw_only=True)
class Jail:
    """``base`` belongs to this machine alone. A parent of the jail's files has no others."""

    id: str
    firecracker: Path
    base: Path
    policy: JailPolicy
    jailer: str = PROGRAM

    def __post_init__(self) -> None:
        """ValueError for what the jailer refuses."""
        if _ID.fullmatch(self.id) is None:
            raise ValueError(f"an id is 1 to 64 letters, digits and hyphens, not {self.id!r}")
        if "firecracker" not in self.firecracker.name:
            raise ValueError(f"the program's name must contain firecracker: {self.firecracker}")

    @property
    def root(self) -> Path:
        """What the jailed process sees as ``/``, and where it starts."""
        return self.base / self.firecracker.name / self.id / "root"

    @property
    def init_file(self) -> Path:
        """Has the number of pid 1 of the jail's pid namespace, as soon as there is one."""
        return self.base / "init"


def build_command(jail: Jail, arguments: Sequence[str]) -> list[str]:
    """The jailer's. It runs in the foreground. ``arguments`` are Firecracker's."""
    policy = jail.policy
    command = [jail.jailer, "--id", jail.id, "--exec-file", str(jail.firecracker)]
    command += ["--uid", str(policy.uid), "--gid", str(policy.gid)]
    command += ["--chroot-base-dir", str(jail.base)]
    if policy.limits:
        command += ["--cgroup-version", str(policy.cgroup_version)]
        command += ["--parent-cgroup", str(policy.parent_cgroup)]
    for name, value in policy.limits.items():
        command += ["--cgroup", f"{name}={value}"]
    if policy.network is not None:
        command += ["--netns", str(policy.network)]
    if policy.open_files_max is not None:
        command += ["--resource-limit", f"no-file={policy.open_files_max}"]
    if policy.file_size_max_bytes is not None:
        command += ["--resource-limit", f"fsize={policy.file_size_max_bytes}"]
    return [*command, "--", *arguments]


def wrap_command(jail: Jail, files: Mapping[str, Path], command: Sequence[str]) -> list[str]:
    """``command`` inside namespaces in which ``files`` are in the jail, by their names there."""
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--"]
    places = [str(part) for name, path in files.items() for part in (path, jail.root / name)]
    return [*unshare, _SHELL, "-c", _INIT, _SHELL, str(jail.init_file), *places, "--", *command]


def control_groups(jail: Jail, mounts: str) -> list[Path]:
    """The directories that the jailer makes for ``limits``. ``mounts`` is /proc/mounts. The jailer
    leaves them to whoever started it."""
    policy = jail.policy
    if not policy.limits or policy.parent_cgroup is None:
        return []
    controllers = {name.partition(".")[0] for name in policy.limits}
    found = []
    for line in mounts.splitlines():
        _, place, kind, options, *_ = line.split()
        is_wanted = kind == "cgroup2" if policy.cgroup_version == 2 else kind == "cgroup"
        if is_wanted and (policy.cgroup_version == 2 or controllers & set(options.split(","))):
            found.append(Path(place) / policy.parent_cgroup / jail.id)
    return found


def is_readable(found: os.stat_result, uid: int, gid: int) -> bool:
    """Whether that user, who is in that group alone, may read the file. Source:
    path_resolution(7), "Permissions"."""
    if found.st_uid == uid:
        return bool(found.st_mode & stat.S_IRUSR)
    if found.st_gid == gid:
        return bool(found.st_mode & stat.S_IRGRP)
    return bool(found.st_mode & stat.S_IROTH)
