"""Page faults of another process, answered from here: userfaultfd(2), ioctl_userfaultfd(2).

Whoever has the descriptor reads what happens to the memory that was registered with it, and puts
pages there. Making and registering one is the other process's part.
Source: include/uapi/linux/userfaultfd.h; Documentation/admin-guide/mm/userfaultfd.rst.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import NamedTuple

PAGE_FAULT = 0x12
REMOVED = 0x15

# Request numbers: _IOWR(0xAA, number, size of the structure).
_COPY = 0xC028AA03
_ZERO_PAGE = 0xC020AA04
_WAKE = 0x8010AA02

_MESSAGE = struct.Struct("=BxHIQQQ")  # event, and what depends on it
_MESSAGES_AT_ONCE = 64
_COPY_FIELDS = struct.Struct("=QQQQq")  # target, source, length, mode, copied
_ZERO_FIELDS = struct.Struct("=QQQq")  # target, length, mode, zeroed
_RANGE = struct.Struct("=QQ")


class Event(NamedTuple):
    """``kind`` PAGE_FAULT: at ``start``. REMOVED: from ``start`` to before ``end``."""

    kind: int
    start: int
    end: int


class RangeBusy(Exception):
    """The memory is being changed: read the events first, then try again."""


def read_events(fd: int) -> list[Event]:
    """What has happened since, at most some; empty if nothing has. ``fd`` is non-blocking."""
    try:
        data = os.read(fd, _MESSAGE.size * _MESSAGES_AT_ONCE)
    except BlockingIOError:
        return []
    events = []
    for kind, _, _, first, second, _ in _MESSAGE.iter_unpack(data):
        if kind == PAGE_FAULT:  # flags, then the address
            events.append(Event(kind, second, second))
        else:
            events.append(Event(kind, first, second))
    return events


def copy(fd: int, target: int, source: int, length: int) -> None:
    """Puts ``length`` bytes at the address ``source`` of this process at ``target`` of the other,
    which had nothing there, and wakes who waits for them. FileExistsError if something is there;
    RangeBusy; ProcessLookupError and FileNotFoundError if the process or that memory is gone."""
    _change(fd, _COPY, _COPY_FIELDS, (target, source, length, 0, 0))


def put_zeros(fd: int, target: int, length: int) -> None:
    """The same with zeros, which take no memory until they are written to."""
    _change(fd, _ZERO_PAGE, _ZERO_FIELDS, (target, length, 0, 0))


def wake(fd: int, target: int, length: int) -> None:
    """Has who waits there look again."""
    fcntl.ioctl(fd, _WAKE, _RANGE.pack(target, length))


def _change(fd: int, request: int, fields: struct.Struct, values: tuple[int, ...]) -> None:
    try:
        fcntl.ioctl(fd, request, fields.pack(*values))
    except OSError as error:
        if error.errno == errno.EAGAIN:
            raise RangeBusy from None
        raise
