"""Mounting: mount(2), umount2(2), pivot_root(2), mount_setattr(2), open_tree(2) and move_mount(2),
one function each.

Source: the manual pages of the same names; struct mount_attr from linux/mount.h.
"""

from __future__ import annotations

import ctypes
import os

from firelet.linux.libc import (
    LIBC,
    MOUNT_SETATTR,
    MOVE_MOUNT,
    OPEN_TREE,
    check,
    pivot_root_number,
    syscall,
)

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_PRIVATE = 1 << 18

MNT_DETACH = 2

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8

_MOUNT_ATTR_IDMAP = 0x00100000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000

LIBC.mount.argtypes = [
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
]
LIBC.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]


class _MountAttr(ctypes.Structure):
    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


def mount(
    source: str | None, target: str, kind: str | None, flags: int, data: str | None = None
) -> None:
    """mount(2). ``kind`` is the file system type, None for a bind or a change of propagation."""
    check(
        LIBC.mount(
            None if source is None else os.fsencode(source),
            os.fsencode(target),
            None if kind is None else kind.encode(),
            flags,
            None if data is None else data.encode(),
        ),
        f"mount {kind or 'bind'}",
        target,
    )


def bind(source: str, target: str, recursive: bool = False) -> None:
    """Makes ``source`` visible at ``target``; the flags of the source's mount come along."""
    mount(source, target, None, MS_BIND | (MS_REC if recursive else 0))


def make_private(path: str) -> None:
    """Stops propagation of mounts below ``path`` in both directions."""
    mount(None, path, None, MS_REC | MS_PRIVATE)


def set_attributes(path: str, attributes: int, recursive: bool = False) -> None:
    """mount_setattr(2): the only read-only that holds for submounts too (Linux 5.12)."""
    _change_attributes(path, _MountAttr(attr_set=attributes), recursive)


def clear_attributes(path: str, attributes: int) -> None:
    """The opposite, for this mount alone."""
    _change_attributes(path, _MountAttr(attr_clr=attributes), recursive=False)


def _change_attributes(path: str, attr: _MountAttr, recursive: bool) -> None:
    syscall(
        "mount_setattr",
        MOUNT_SETATTR,
        _AT_FDCWD,
        ctypes.c_char_p(os.fsencode(path)),
        _AT_RECURSIVE if recursive else 0,
        ctypes.byref(attr),
        ctypes.sizeof(attr),
        path=path,
    )


def open_copy(path: str) -> int:
    """A descriptor, closed on exec, of a copy of the mount that shows ``path``: a mount that is in
    no namespace yet, and has the flags of the first (Linux 5.2)."""
    return syscall(
        "open_tree",
        OPEN_TREE,
        _AT_FDCWD,
        ctypes.c_char_p(os.fsencode(path)),
        _OPEN_TREE_CLONE | os.O_CLOEXEC,
        path=path,
    )


def attach(tree: int, target: str) -> None:
    """Puts a mount that ``open_copy`` made into the namespace of this process."""
    syscall(
        "move_mount",
        MOVE_MOUNT,
        tree,
        ctypes.c_char_p(b""),
        _AT_FDCWD,
        ctypes.c_char_p(os.fsencode(target)),
        _MOVE_MOUNT_F_EMPTY_PATH,
        path=target,
    )


def make_writable(tree: int) -> None:
    """Takes "read-only" from what ``open_copy`` made; the file system itself may still be so."""
    _change_copy(tree, _MountAttr(attr_clr=MOUNT_ATTR_RDONLY))


def map_owners(tree: int, user_namespace: int) -> None:
    """Shows the owners of files through what ``open_copy`` made as the maps of a user namespace
    say. EINVAL where the file system cannot do that.

    Source: mount_setattr(2), "ID-mapped mounts".
    """
    _change_copy(tree, _MountAttr(attr_set=_MOUNT_ATTR_IDMAP, userns_fd=user_namespace))


def _change_copy(tree: int, attr: _MountAttr) -> None:
    syscall(
        "mount_setattr",
        MOUNT_SETATTR,
        tree,
        ctypes.c_char_p(b""),
        _AT_EMPTY_PATH,
        ctypes.byref(attr),
        ctypes.sizeof(attr),
    )


def detach(path: str) -> None:
    """Removes the mount from the tree; it goes away when nothing uses it any more."""
    check(LIBC.umount2(os.fsencode(path), MNT_DETACH), "umount", path)


def pivot_into(root: str) -> None:
    """Makes ``root``, which must be a mount point, the root directory and drops the old one.

    The old root is made private before it is detached: else its unmounting would propagate.
    Source: pivot_root(2), "pivot_root(".", ".")".
    """
    os.chdir(root)
    here = ctypes.c_char_p(b".")
    syscall("pivot_root", pivot_root_number(), here, here, path=root)
    make_private(".")
    detach(".")
    os.chdir("/")
