"""Threads that start the programs which run machines, without what machines must not have.

A filter of system calls and a namespace, once a thread has it, is that of every program that the
thread starts; so nothing has to be run between such a program and us, which would take longer than
the program itself. Each thread lives as long as this process: the kernel kills what it has started
when it ends (``vmm_process``).
Called by ``vmm_process``. Source: seccomp(2), unshare(2), mount_namespaces(7).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from firelet.linux import mount, namespaces, process, seccomp
from firelet.sandbox.microvm.vmm import VmmError

# Programs, their libraries and firmware, devices, and what the kernel tells. What else is at the
# top is hidden: the directories of users and of the platform, and the sockets of services.
_SEEN = frozenset(
    ("bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "opt", "proc", "sbin", "sys", "usr")
)
_SHARED = ("/dev/shm", "/dev/mqueue")  # noqa: S108 - to be hidden
_HIDDEN = mount.MS_RDONLY | mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC

T = TypeVar("T")


class Starter:
    """One such thread. ``run`` waits for what it does there."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self._pool = ThreadPoolExecutor(1, "vmm-starter")
        try:
            self.run(begin)
        except BaseException:
            self._pool.shutdown()
            raise

    def run(self, function: Callable[[], T]) -> T:
        return self._pool.submit(function).result()


def find_starter(program: Path, *, shares_memory: bool) -> Starter:
    """The thread for a ``program`` of the host: in namespaces of its own, if we are root. The first
    takes some milliseconds. ``shares_memory``: see ``_without_holes``. VmmError."""
    try:
        return _starter(program.resolve().parts[1], shares_memory, os.geteuid() == 0)
    except OSError as error:
        raise VmmError(f"What runs machines cannot be shut in: {error}.") from error


@functools.cache
def _starter(top: str, shares_memory: bool, is_root: bool) -> Starter:
    program = _without_holes() if shares_memory else None

    def begin() -> None:
        if is_root:
            _leave_host(_SEEN | {top})
        if program is not None:
            process.set_no_new_privileges()
            seccomp.install_filter(program)

    return Starter(begin)


def _leave_host(seen: frozenset[str]) -> None:
    """A network without devices, and of the directories at the top those that are ``seen``."""
    namespaces.unshare(
        namespaces.CLONE_NEWNS
        | namespaces.CLONE_NEWNET
        | namespaces.CLONE_NEWIPC
        | namespaces.CLONE_NEWUTS
    )
    os.chdir("/")
    mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
    with os.scandir("/") as entries:
        tops = [each.path for each in entries if each.is_dir(follow_symlinks=False)]
    hidden = [path for path in tops if path.removeprefix("/") not in seen]
    for path in (*hidden, *filter(os.path.isdir, _SHARED)):
        mount.mount("tmpfs", path, "tmpfs", _HIDDEN)


def _without_holes() -> bytes:
    """A filter by which ``fallocate`` does nothing, and says that it has.

    QEMU gives a page of a machine back by a hole in the file that it maps, and only then by
    dropping its own copy (``ram_block_discard_range``). The file of clones is sealed: without the
    hole the copy is dropped all the same, which is all that a private mapping holds.
    """
    rules: list[seccomp.Rule] = [(seccomp.errno_action(0), "fallocate", [])]
    return seccomp.compile_filter(seccomp.ACT_ALLOW, rules)
