"""The kernel of a guest, as far as a file system hears of it: requests of FUSE, made by a test."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from firelet.sandbox.microvm.fuse_protocol import Operation

ROOT = 1
HEADER = struct.Struct("<IIQQIIII")
_ANSWER = struct.Struct("<IiQ")
_ENTRY = struct.Struct("<QQQQII")
_ATTRIBUTES = struct.Struct("<6Q10I")
_DIRENT = struct.Struct("<QQII")


@dataclass(frozen=True)
class Attributes:
    """Those that tests look at."""

    inode: int
    size: int
    mtime: int
    mode: int
    links: int
    uid: int
    gid: int


def request(operation: int, unique: int, node: int, body: bytes = b"") -> bytes:
    return HEADER.pack(HEADER.size + len(body), operation, unique, node, 0, 0, 0, 0) + body


def init_body(minor: int = 37, flags: int = 0xFFFF_FFFF) -> bytes:
    return struct.pack("<IIII48x", 7, minor, 128 * 1024, flags)


def lock_body(handle: int, owner: int, kind: int, **more: int) -> bytes:
    """Of GETLK, SETLK and SETLKW. ``flags`` 1 is for flock(2)."""
    start, end = more.get("start", 0), more.get("end", 2**63 - 1)
    return struct.pack("<QQQQIIII", handle, owner, start, end, kind, 0, more.get("flags", 0), 0)


class FuseKernel:
    """``exchange`` takes a request and returns its answer, empty if there is none. What is refused
    raises the OSError."""

    def __init__(self, exchange: Callable[[bytes], bytes]) -> None:
        self._exchange = exchange
        self._numbers = itertools.count(2, 2)

    def ask(self, operation: int, node: int = ROOT, body: bytes = b"") -> bytes:
        unique = next(self._numbers)
        answer = self._exchange(request(operation, unique, node, body))
        length, number, answered = _ANSWER.unpack_from(answer)
        assert (length, answered) == (len(answer), unique)
        if number:
            raise OSError(-number, os.strerror(-number))
        return answer[_ANSWER.size :]

    def say(self, operation: int, node: int = ROOT, body: bytes = b"") -> None:
        """Something that has no answer."""
        assert self._exchange(request(operation, next(self._numbers), node, body)) == b""

    def begin(self) -> tuple[int, ...]:
        answer = self.ask(Operation.INIT, 0, init_body())
        return struct.unpack_from("<IIIIHHII", answer)

    def lookup(self, name: str, parent: int = ROOT) -> tuple[int, Attributes]:
        return parse_entry(self.ask(Operation.LOOKUP, parent, named(name)))

    def getattr(self, node: int) -> Attributes:
        return _attributes(self.ask(Operation.GETATTR, node, bytes(16))[16:])

    def setattr(self, node: int, what: int, **values: int) -> Attributes:
        names = ("fh", "size", "owner", "atime", "mtime", "ctime")
        wide = [values.get(name, 0) for name in names]
        names = ("atime_ns", "mtime_ns", "ctime_ns", "mode", "_", "uid", "gid", "_")
        narrow = [values.get(name, 0) for name in names]
        body = struct.pack("<II6Q8I", what, 0, *wide, *narrow)
        return _attributes(self.ask(Operation.SETATTR, node, body)[16:])

    def open(self, node: int, flags: int = os.O_RDWR) -> int:
        answer = self.ask(Operation.OPEN, node, struct.pack("<II", flags, 0))
        return int(struct.unpack_from("<Q", answer)[0])

    def create(
        self, name: str, mode: int = 0o644, flags: int = os.O_RDWR, parent: int = ROOT
    ) -> tuple[int, int]:
        """Node and handle."""
        body = struct.pack("<IIII", flags | os.O_CREAT, mode, 0o22, 0) + named(name)
        answer = self.ask(Operation.CREATE, parent, body)
        return parse_entry(answer)[0], int(struct.unpack_from("<Q", answer, 128)[0])

    def read(self, handle: int, size: int, offset: int = 0) -> bytes:
        body = struct.pack("<QQIIQII", handle, offset, size, 0, 0, 0, 0)
        return self.ask(Operation.READ, ROOT, body)

    def write(self, handle: int, data: bytes, offset: int = 0) -> int:
        head = struct.pack("<QQIIQII", handle, offset, len(data), 0, 0, 0, 0)
        return int(struct.unpack_from("<I", self.ask(Operation.WRITE, ROOT, head + data))[0])

    def flush(self, node: int, handle: int, owner: int = 0) -> None:
        self.ask(Operation.FLUSH, node, struct.pack("<QIIQ", handle, 0, 0, owner))

    def release(self, node: int, handle: int) -> None:
        self.ask(Operation.RELEASE, node, struct.pack("<QIIQ", handle, 0, 0, 0))

    def mkdir(self, name: str, mode: int = 0o755, parent: int = ROOT) -> int:
        body = struct.pack("<II", mode, 0) + named(name)
        return parse_entry(self.ask(Operation.MKDIR, parent, body))[0]

    def rename(self, name: str, new: str, target: int = ROOT, flags: int = 0) -> None:
        body = struct.pack("<QII", target, flags, 0) + named(name) + named(new)
        self.ask(Operation.RENAME2, ROOT, body)

    def names(self, node: int, piece: int = 4096) -> list[bytes]:
        """All that a directory holds, read in pieces of that size."""
        answer = self.ask(Operation.OPENDIR, node, bytes(8))
        (handle,) = struct.unpack_from("<Q", answer)
        found: list[bytes] = []
        offset = 0
        while True:
            body = struct.pack("<QQIIQII", handle, offset, piece, 0, 0, 0, 0)
            data = self.ask(Operation.READDIR, node, body)
            if not data:
                break
            while data:
                _, offset, length, _ = _DIRENT.unpack_from(data)
                found.append(data[_DIRENT.size : _DIRENT.size + length])
                data = data[-(-(_DIRENT.size + length) // 8) * 8 :]
        self.ask(Operation.RELEASEDIR, node, struct.pack("<QIIQ", handle, 0, 0, 0))
        return found

    def refuses(self, number: int, operation: int, node: int = ROOT, body: bytes = b"") -> None:
        """Fails unless it is refused with that errno."""
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is looked at
            self.ask(operation, node, body)
        assert caught.value.errno == number


def named(name: str) -> bytes:
    return os.fsencode(name) + b"\0"


def parse_entry(answer: bytes) -> tuple[int, Attributes]:
    node, *_ = _ENTRY.unpack_from(answer)
    return node, _attributes(answer[_ENTRY.size :])


def _attributes(data: bytes) -> Attributes:
    inode, size, _, _, mtime, _, _, _, _, mode, links, uid, gid, _, _, _ = _ATTRIBUTES.unpack_from(
        data
    )
    return Attributes(inode, size, mtime, mode, links, uid, gid)
