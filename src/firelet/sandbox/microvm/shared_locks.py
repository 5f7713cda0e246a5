"""Locks on the files of a shared directory: a guest's are held on the host, where others meet them.

A lock of flock(2) belongs to an open file, which is open here too. A lock of fcntl(2) belongs to a
file and an owner (a process of the guest): each pair has the file open once more, and holds its
locks on that (open file description locks), so that owners are to each other what they are in the
guest. Nothing here waits: whoever asks to wait is answered when a later attempt has succeeded.
Called by ``shared_directory``, and by ``shared_files`` when something is closed.
Source: fcntl(2), "Open file description locks (non-POSIX)"; flock(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from firelet.sandbox.microvm import fuse_protocol as fuse
from firelet.sandbox.microvm.fuse_protocol import Fields, Operation, Operations
from firelet.sandbox.microvm.shared_nodes import Handles, Nodes, error

_REQUEST = struct.Struct("<QQQQI4xI4x")  # handle, owner, start, end, kind, flags
_LOCK_OUT = struct.Struct("<QQI4x")
_IS_FLOCK = 1

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64 bits: type, whence, start, length, pid
_TO_THE_END = 2**63 - 1
_FLOCK_OPERATIONS = {
    fcntl.F_RDLCK: fcntl.LOCK_SH,
    fcntl.F_WRLCK: fcntl.LOCK_EX,
    fcntl.F_UNLCK: fcntl.LOCK_UN,
}


class Lock(NamedTuple):
    """``end`` is the last byte, ``kind`` F_RDLCK, F_WRLCK or F_UNLCK."""

    start: int
    end: int
    kind: int

    def pack(self) -> bytes:
        """OSError EINVAL for no such kind, or no range."""
        if self.kind not in _FLOCK_OPERATIONS or not self.start <= self.end <= _TO_THE_END:
            raise error(errno.EINVAL)
        length = 0 if self.end == _TO_THE_END else self.end - self.start + 1
        return _FLOCK.pack(self.kind, os.SEEK_SET, self.start, length, 0)


class Locks:
    """Owns the descriptors on which locks of fcntl(2) are held, until ``close``; ``nodes`` and
    ``handles`` are their owner's. ``most`` bounds how many owners may have locks, and how many
    requests may wait for one."""

    def __init__(self, nodes: Nodes, handles: Handles, most: int) -> None:
        self._nodes = nodes
        self._handles = handles
        self._most = most
        self._held: dict[int, dict[int, int]] = {}  # by node and owner
        self._count = 0
        # By the request's number: tries, and whether it has got it.
        self._waiting: dict[int, Callable[[], bool]] = {}
        self.operations: Operations = {
            Operation.GETLK: self._find,
            Operation.SETLK: self._set,
        }

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for one, and ``retry`` is to be called now and then."""
        return bool(self._waiting)

    def wait(self, unique: int, number: int, fields: Fields) -> bytes | None:
        """SETLKW: the answer, or None when it has to wait. Everybody else is served meanwhile."""
        wanted = fields.take(_REQUEST)
        answer = self._try(unique, lambda: self._is_set(number, wanted))
        if answer is None:
            if len(self._waiting) >= self._most:
                return fuse.refusal(unique, errno.ENOLCK)
            self._waiting[unique] = lambda: self._is_set(number, wanted)
        return answer

    def interrupt(self, unique: int) -> bytes | None:
        """Whoever waits gives up."""
        if self._waiting.pop(unique, None) is None:
            return None
        return fuse.refusal(unique, errno.EINTR)

    def retry(self) -> Iterator[bytes]:
        """The answers to those that have waited and need not any more."""
        for unique, attempt in list(self._waiting.items()):
            answer = self._try(unique, attempt)
            if answer is not None:
                del self._waiting[unique]
                yield answer

    def release(self, number: int, owner: int) -> None:
        """All that this owner has on the file."""
        owners = self._held.get(number, {})
        if owner in owners:
            os.close(owners.pop(owner))
            self._count -= 1

    def release_all(self, number: int) -> None:
        """The guest has the file open no more."""
        for fd in self._held.pop(number, {}).values():
            os.close(fd)
            self._count -= 1

    def close(self) -> None:
        for number in list(self._held):
            self.release_all(number)

    def _find(self, number: int, fields: Fields) -> bytes:
        """The first one that is in the way, or else F_UNLCK. Whose it is cannot be told here."""
        _, owner, start, end, kind, _ = fields.take(_REQUEST)
        lock = Lock(start, end, kind).pack()
        found = fcntl.fcntl(self._fd(number, owner), fcntl.F_OFD_GETLK, lock)
        kind, _, start, length, _ = _FLOCK.unpack(found)
        return _LOCK_OUT.pack(start, start + length - 1 if length else _TO_THE_END, kind)

    def _set(self, number: int, fields: Fields) -> bytes:
        if not self._is_set(number, fields.take(_REQUEST)):
            raise error(errno.EAGAIN)
        return b""

    def _is_set(self, number: int, wanted: tuple[int, ...]) -> bool:
        """Whether it could be: nobody else has one that is in the way."""
        handle, owner, start, end, kind, flags = wanted
        try:
            if flags & _IS_FLOCK:
                _set_flock(self._handles.get(handle), kind)
            else:
                lock = Lock(start, end, kind).pack()
                fcntl.fcntl(self._fd(number, owner), fcntl.F_OFD_SETLK, lock)
        except BlockingIOError:
            return False
        return True

    def _try(self, unique: int, attempt: Callable[[], bool]) -> bytes | None:
        try:
            return fuse.answer(unique) if attempt() else None
        except OSError as failure:
            return fuse.refusal(unique, failure.errno or errno.EIO)

    def _fd(self, number: int, owner: int) -> int:
        owners = self._held.setdefault(number, {})
        if owner not in owners:
            if self._count >= self._most:
                raise error(errno.ENOLCK)
            owners[owner] = self._open(number)
            self._count += 1
        return owners[owner]

    def _open(self, number: int) -> int:
        """A lock for writing needs a file that is open for that, one for reading the same."""
        for flags in (os.O_RDWR, os.O_RDONLY):
            try:
                return self._nodes.reopen(number, flags)
            except PermissionError:
                continue
        return self._nodes.reopen(number, os.O_WRONLY)


def _set_flock(fd: int, kind: int) -> None:
    operation = _FLOCK_OPERATIONS.get(kind)
    if operation is None:
        raise error(errno.EINVAL)
    fcntl.flock(fd, operation | fcntl.LOCK_NB)
