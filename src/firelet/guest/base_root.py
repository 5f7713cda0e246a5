"""Builds the base root of one runtime from a plan. The plan is data; here is its execution.

The plan (made by ``sandbox.rootfs`` on the host side) lists directories, files, symbolic links,
read-only bind mounts and device nodes, all by their path below the new root. Needs a mount
namespace of its own and the right to mount in it.
"""

from __future__ import annotations

import os
import stat
from typing import Any

from firelet.linux import mount

_STAGE = "/tmp"  # noqa: S108 - any directory serves: the mount is seen by us alone


def build(plan: dict[str, Any]) -> None:
    """Carries the plan out and makes its root the root directory of this process."""
    mount.make_private("/")
    # Opened before the new root covers the directory that it is built on: a source may be there.
    sources = [(path, os.open(source, os.O_PATH)) for path, source in plan["binds"]]
    mount.mount("firelet", _STAGE, "tmpfs", mount.MS_NOSUID | mount.MS_NODEV, "mode=755,size=16m")
    for path, mode in plan["directories"]:
        _make_directory(path, mode)
    # A mount of its own, so that a sandbox can let go of everything below it at once.
    mount.mount("firelet", _STAGE + plan["hidden"], "tmpfs", 0, "mode=700,size=1m")
    for path, text in plan["files"]:
        _write_file(path, text.encode())
    for path, target in plan["links"]:
        _make_directory(os.path.dirname(path), 0o755)
        os.symlink(target, _STAGE + path)
    for path, fd in sources:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            _make_directory(path, 0o755)
        else:
            _write_file(path, b"")
        mount.bind(f"/proc/self/fd/{fd}", _STAGE + path)
        os.close(fd)
    for path in plan["covers"]:
        mount.mount("firelet", _STAGE + path, "tmpfs", mount.MS_RDONLY, "mode=755,size=4k")
    for name in plan["devices"]:
        _write_file("/dev/" + name, b"")
    _make_directory(plan["proc"], 0o755)
    mount.set_attributes(
        _STAGE,
        mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV,
        recursive=True,
    )
    for name in plan["devices"]:
        # After the recursive step, since a device node on a "nodev" mount cannot be opened.
        mount.bind("/dev/" + name, _STAGE + "/dev/" + name)
        mount.set_attributes(
            _STAGE + "/dev/" + name,
            mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NOEXEC,
        )
    # The zygote's own /proc. Sandboxes cannot mount theirs without it when rootless: a user
    # namespace may mount a new one only while it can see an old one in full.
    mount.mount("proc", _STAGE + plan["proc"], "proc", mount.MS_NOSUID | mount.MS_NODEV)
    mount.pivot_into(_STAGE)


def _make_directory(path: str, mode: int) -> None:
    """Makes a directory and its parents; an existing one keeps its mode."""
    full = _STAGE
    for part in path.strip("/").split("/"):
        full = full + "/" + part
        if not os.path.isdir(full):
            os.mkdir(full)
            os.chmod(full, mode)


def _write_file(path: str, data: bytes) -> None:
    _make_directory(os.path.dirname(path), 0o755)
    fd = os.open(_STAGE + path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
