"""Opening files below a directory that may hold hostile links: openat2(2).

Source: openat2(2), RESOLVE_IN_ROOT; struct open_how from linux/openat2.h.
"""

from __future__ import annotations

import ctypes
import os

from firelet.linux.libc import OPENAT2, syscall

_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10


class _OpenHow(ctypes.Structure):
    _fields_ = [
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    ]


def open_directory_in(root: int, path: bytes) -> int:
    """A descriptor of a directory below ``root``, to be used as ``dir_fd``. Links are followed as
    if ``root`` were the root directory: none leads out of it (Linux 5.6)."""
    how = _OpenHow(
        flags=os.O_DIRECTORY | os.O_RDONLY | os.O_CLOEXEC,
        resolve=_RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_XDEV,
    )
    return syscall(
        "openat2",
        OPENAT2,
        root,
        ctypes.c_char_p(path or b"."),
        ctypes.byref(how),
        ctypes.sizeof(how),
        path=os.fsdecode(path),
    )
