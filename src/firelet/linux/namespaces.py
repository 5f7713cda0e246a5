"""Namespaces: unshare(2), setns(2), and the maps of a user namespace.

Source: namespaces(7), user_namespaces(7).
"""

from __future__ import annotations

import ctypes
import os

from firelet.linux.libc import LIBC, check

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

LIBC.unshare.argtypes = [ctypes.c_int]
LIBC.setns.argtypes = [ctypes.c_int, ctypes.c_int]
LIBC.sethostname.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def unshare(flags: int) -> None:
    """Moves this process (its later children, for CLONE_NEWPID) into new namespaces."""
    check(LIBC.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Joins the namespace that ``fd`` stands for."""
    check(LIBC.setns(fd, kind), "setns")


def set_hostname(name: str) -> None:
    data = name.encode()
    check(LIBC.sethostname(data, len(data)), "sethostname")


def map_single_user(inside_uid: int, outside_uid: int, inside_gid: int, outside_gid: int) -> None:
    """Writes the maps of the user namespace that this process has just made: one uid, one gid.

    ``setgroups`` must say deny before an unprivileged process may write gid_map. Raw
    descriptors on purpose: a buffered file reports the kernel's EPERM only when it is closed.
    """
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside_uid} {outside_uid} 1"),
        ("gid_map", f"{inside_gid} {outside_gid} 1"),
    ):
        fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
