"""Opening files below a directory that may hold hostile links: openat2(2).

Source: openat2(2), RESOLVE_IN_ROOT, RESOLVE_BENEATH; struct open_how from linux/openat2.h.
"""

from __future__ import annotations

import ctypes
import os

from firelet.linux.libc import OPENAT2, syscall

_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
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
    return _open(root, path or b".", how)


def open_beneath(directory: int, name: bytes, flags: int, mode: int = 0) -> int:
    """open(2) of what ``directory`` holds under ``name``, closed on exec. No link is followed; a
    link itself is opened with O_PATH and O_NOFOLLOW."""
    how = _OpenHow(
        flags=flags | os.O_CLOEXEC,
        mode=mode,
        resolve=_RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_XDEV,
    )
    return _open(directory, name, how)


def _open(directory: int, path: bytes, how: _OpenHow) -> int:
    return syscall(
        "openat2",
        OPENAT2,
        directory,
        ctypes.c_char_p(path),
        ctypes.byref(how),
        ctypes.sizeof(how),
        path=os.fsdecode(path),
    )
