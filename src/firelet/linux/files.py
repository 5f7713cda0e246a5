"""Files by the descriptor of their directory: getdents64(2), renameat2(2), utimensat(2).

What the standard library has is not here. Called by ``sandbox/microvm/shared_directory``.
Source: the manual pages of the same names; struct linux_dirent64 from linux/dirent.h.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Iterator, NamedTuple

from firelet.linux.libc import LIBC, check, machine_syscall, syscall

UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2

_GETDENTS64 = {"x86_64": 217, "aarch64": 61}
_RENAMEAT2 = {"x86_64": 316, "aarch64": 276}
_ENTRY = struct.Struct("=QqHB")  # ino, position after it, length, type; then the name


class Entry(NamedTuple):
    """``position`` is that of what follows it: ``lseek`` to it goes on there."""

    inode: int
    position: int
    kind: int
    name: bytes


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


LIBC.utimensat.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_Timespec), ctypes.c_int]


def read_entries(directory: int, size: int) -> list[Entry]:
    """What follows in an open directory, as much as ``size`` bytes of the kernel's hold; nothing at
    its end. EINVAL when they hold not even one."""
    buffer = ctypes.create_string_buffer(size)
    number = machine_syscall(_GETDENTS64)
    count = syscall("getdents64", number, directory, ctypes.byref(buffer), size)
    return list(_parse_entries(buffer.raw[:count]))


def _parse_entries(data: bytes) -> Iterator[Entry]:
    start = 0
    while start < len(data):
        inode, position, length, kind = _ENTRY.unpack_from(data, start)
        name, _, _ = data[start + _ENTRY.size : start + length].partition(b"\0")
        yield Entry(inode, position, kind, name)
        start += length


def rename(source: int, name: bytes, target: int, new_name: bytes, flags: int) -> None:
    """``flags`` are RENAME_NOREPLACE and RENAME_EXCHANGE of linux/fs.h."""
    number = machine_syscall(_RENAMEAT2)
    old, new = ctypes.c_char_p(name), ctypes.c_char_p(new_name)
    syscall("renameat2", number, source, old, target, new, flags)


def set_times(
    directory: int, name: str, accessed: tuple[int, int], modified: tuple[int, int]
) -> None:
    """Seconds and nanoseconds each; UTIME_NOW and UTIME_OMIT stand for the latter. Links are
    followed."""
    times = (_Timespec * 2)(_Timespec(*accessed), _Timespec(*modified))
    check(LIBC.utimensat(directory, os.fsencode(name), times, 0), "utimensat", name)
