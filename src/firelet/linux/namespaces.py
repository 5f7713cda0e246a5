"""Namespaces: unshare(2), setns(2), and the maps of a user namespace.

Source: namespaces(7), user_namespaces(7).
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Callable, NoReturn, TypeVar

from firelet.linux.libc import LIBC, check

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

T = TypeVar("T")

LIBC.unshare.argtypes = [ctypes.c_int]
LIBC.setns.argtypes = [ctypes.c_int, ctypes.c_int]
LIBC.sethostname.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def unshare(flags: int) -> None:
    """Moves this process (its later children, for CLONE_NEWPID) into new namespaces."""
    check(LIBC.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Joins the namespace that ``fd`` stands for."""
    check(LIBC.setns(fd, kind), "setns")


def run_in_new_network(function: Callable[[int], T]) -> T:
    """What ``function`` returns in a network namespace that is made for it, of which it gets a
    descriptor. That is open for the time of the call: who wants to keep the namespace duplicates
    it. Needs CAP_SYS_ADMIN."""

    def enter_and_run() -> T:
        unshare(CLONE_NEWNET)
        fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return function(fd)
        finally:
            os.close(fd)

    return _run_in_own_thread(enter_and_run)


def run_in_network(namespace: int, function: Callable[[], T]) -> T:
    """What ``function`` returns in the network namespace that the descriptor stands for. A socket
    that it makes belongs there for good. Needs CAP_SYS_ADMIN over both."""

    def enter_and_run() -> T:
        setns(namespace, CLONE_NEWNET)
        return function()

    return _run_in_own_thread(enter_and_run)


def _run_in_own_thread(function: Callable[[], T]) -> T:
    """A thread that has changed its namespace ends with its work: given back to a pool, or back to
    an event loop after a return that failed, it would do everything that follows elsewhere."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="namespace")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def set_hostname(name: str) -> None:
    data = name.encode()
    check(LIBC.sethostname(data, len(data)), "sethostname")


def map_single_user(inside_uid: int, outside_uid: int, inside_gid: int, outside_gid: int) -> None:
    """Writes the maps of the user namespace that this process has just made: one uid, one gid.

    ``setgroups`` must say deny before an unprivileged process may write gid_map. Raw
    descriptors on purpose: a buffered file reports the kernel's EPERM only when it is closed.
    """
    _write_maps("self", "deny", inside_uid, outside_uid, inside_gid, outside_gid)


def open_mapped_namespace(
    inside_uid: int, outside_uid: int, inside_gid: int, outside_gid: int
) -> int:
    """A descriptor of a new user namespace with these maps, which nobody is in. Needs root.

    A child makes it and lives until the namespace is held open; ``/proc`` must be that of the
    pid namespace of this process.
    """
    ready, made = os.pipe()
    held, end = os.pipe()
    child = os.fork()
    if child == 0:
        _make_namespace_and_wait(made, held, end)
    os.close(made)
    os.close(held)
    try:
        if not os.read(ready, 1):
            raise OSError("no user namespace could be made")
        _write_maps(str(child), "allow", inside_uid, outside_uid, inside_gid, outside_gid)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.close(end)
        os.waitpid(child, 0)


def _make_namespace_and_wait(made: int, held: int, end: int) -> NoReturn:
    """The child's part; it must never return into its parent's code."""
    try:
        os.close(end)
        unshare(CLONE_NEWUSER)
        os.write(made, b"1")
        os.read(held, 1)
    finally:
        os._exit(0)


def _write_maps(
    process: str,
    setgroups: str,
    inside_uid: int,
    outside_uid: int,
    inside_gid: int,
    outside_gid: int,
) -> None:
    for name, text in (
        ("setgroups", setgroups),
        ("uid_map", f"{inside_uid} {outside_uid} 1"),
        ("gid_map", f"{inside_gid} {outside_gid} 1"),
    ):
        fd = os.open(f"/proc/{process}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
