"""The messages of FUSE between a guest's kernel and whoever serves a file system, as bytes. Pure.

What it is: the packing of the kernel's interface, of version 7.31 (Linux 5.4) on both sides, which
newer kernels speak too. What it is not: operations (``shared_directory``). What a kernel would
never send is a breach: the guest is not trusted, and its kernel is part of it.
Source: include/uapi/linux/fuse.h; Documentation/filesystems/fuse.rst.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import NamedTuple

from firelet.linux.files import Entry

MAJOR, MINOR = 7, 31
WRITE_MAX_BYTES = 128 * 1024  # what a request holds without a further word about pages
READ_MAX_BYTES = WRITE_MAX_BYTES
PATH_MAX_BYTES = 4096

_HEADER = struct.Struct("<IIQQIIII")  # length, operation, unique, node, uid, gid, pid, padding
_ANSWER = struct.Struct("<IiQ")
_INIT_IN = struct.Struct("<IIII")
_INIT_OUT = struct.Struct("<IIIIHHII36x")
_ATTRIBUTES = struct.Struct("<6Q10I")
_ENTRY_OUT = struct.Struct("<QQQQII")
_ATTRIBUTES_OUT = struct.Struct("<QII")
_STATFS = struct.Struct("<5Q4I24x")
_DIRENT = struct.Struct("<QQII")

HEADER_BYTES = _HEADER.size
REQUEST_MAX_BYTES = WRITE_MAX_BYTES + 4096

# Of INIT: reads may come together; locks are ours; truncation comes with the open; what is cached
# of a file is dropped when its size or time has changed; larger writes; lookups in one directory
# together.
_ASYNC_READ, _POSIX_LOCKS, _ATOMIC_O_TRUNC, _BIG_WRITES = 1 << 0, 1 << 1, 1 << 3, 1 << 5
_FLOCK_LOCKS, _AUTO_INVAL_DATA, _PARALLEL_DIROPS = 1 << 10, 1 << 12, 1 << 18
_WANTED = (
    *(_ASYNC_READ, _POSIX_LOCKS, _ATOMIC_O_TRUNC, _BIG_WRITES),
    *(_FLOCK_LOCKS, _AUTO_INVAL_DATA, _PARALLEL_DIROPS),
)
_BACKGROUND_MAX, _CONGESTION = 16, 12


class Breach(Exception):
    """Nothing that a kernel would send."""


class Operation(IntEnum):
    """Those that are served, and INTERRUPT, which is read."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    RENAME2 = 45
    LSEEK = 46


class Request(NamedTuple):
    """``operation`` is a number, which may be none that is known."""

    operation: int
    unique: int
    node: int
    body: memoryview


class Fields:
    """The parts of a request's body, one after the other. Breach when it has not got them."""

    def __init__(self, body: memoryview) -> None:
        self._body = body

    def take(self, form: struct.Struct) -> tuple[int, ...]:
        return form.unpack(self.data(form.size))

    def data(self, count: int) -> memoryview:
        if len(self._body) < count:
            raise Breach("a request is too short")
        data, self._body = self._body[:count], self._body[count:]
        return data

    def text(self) -> bytes:
        """Up to a byte that is 0, which is not part of it. What it says is not looked at."""
        found, end, _ = bytes(self._body[: PATH_MAX_BYTES + 1]).partition(b"\0")
        if not end:
            raise Breach("a text without an end")
        self._body = self._body[len(found) + 1 :]
        return found

    def name(self) -> bytes:
        """Of something in a directory."""
        found = self.text()
        if found in (b"", b".", b"..") or b"/" in found:
            raise Breach(f"{found!r} is no name")
        return found


Operations = dict[int, Callable[[int, Fields], bytes]]
"""Who serves which operation: gets the number of a node, returns the content of the answer."""


class Owners(NamedTuple):
    """Who is whom: ``uid`` and ``gid`` of the host are ``guest_id`` in the guest, all others are
    nobody there."""

    uid: int
    gid: int
    guest_id: int

    def shown(self, found: os.stat_result) -> tuple[int, int]:
        return (
            self.guest_id if found.st_uid == self.uid else _NOBODY,
            self.guest_id if found.st_gid == self.gid else _NOBODY,
        )


_NOBODY = 65_534


def split(buffer: bytearray) -> Iterator[Request]:
    """The requests that ``buffer`` begins with, which are taken out of it at the end. Breach for
    what is none: nothing that follows can be made sense of."""
    data = bytes(buffer)
    start = 0
    try:
        while len(data) - start >= HEADER_BYTES:
            length, operation, unique, node, _, _, _, _ = _HEADER.unpack_from(data, start)
            if not HEADER_BYTES <= length <= REQUEST_MAX_BYTES:
                raise Breach(f"a request of {length} bytes")
            if len(data) - start < length:
                return
            body = memoryview(data)[start + HEADER_BYTES : start + length]
            start += length
            yield Request(operation, unique, node, body)
    finally:
        del buffer[:start]


def answer(unique: int, content: bytes = b"") -> bytes:
    return _ANSWER.pack(_ANSWER.size + len(content), 0, unique) + content


def refusal(unique: int, number: int) -> bytes:
    """``number`` is an errno."""
    return _ANSWER.pack(_ANSWER.size, -number, unique)


def position(value: int) -> int:
    """In a file. OSError EINVAL for one that no file can have."""
    if value >= 2**63:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return value


def answer_init(body: memoryview) -> bytes:
    """What is agreed on. Breach for a kernel that is too old."""
    major, minor, readahead, flags = Fields(body).take(_INIT_IN)
    if major != MAJOR or minor < MINOR:
        raise Breach(f"FUSE {major}.{minor} is not {MAJOR}.{MINOR} or newer")
    return _INIT_OUT.pack(
        MAJOR,
        MINOR,
        min(readahead, READ_MAX_BYTES),
        flags & sum(_WANTED),
        _BACKGROUND_MAX,
        _CONGESTION,
        WRITE_MAX_BYTES,
        1,  # times are exact to the nanosecond
    )


def pack_entry(node: int, found: os.stat_result, owners: Owners) -> bytes:
    """The kernel is to keep neither the name nor the attributes: others change them too."""
    return _ENTRY_OUT.pack(node, 0, 0, 0, 0, 0) + _pack_attributes(found, owners)


def pack_attributes(found: os.stat_result, owners: Owners) -> bytes:
    return _ATTRIBUTES_OUT.pack(0, 0, 0) + _pack_attributes(found, owners)


def _pack_attributes(found: os.stat_result, owners: Owners) -> bytes:
    times = [divmod(ns, 10**9) for ns in (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)]
    return _ATTRIBUTES.pack(
        found.st_ino,
        found.st_size,
        found.st_blocks,
        *(seconds & 0xFFFF_FFFF_FFFF_FFFF for seconds, _ in times),
        *(nanoseconds for _, nanoseconds in times),
        found.st_mode,
        found.st_nlink & 0xFFFF_FFFF,
        *owners.shown(found),
        0,  # devices are of no use in a guest
        found.st_blksize,
        0,
    )


def pack_statfs(found: os.statvfs_result) -> bytes:
    return _STATFS.pack(
        *(found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree),
        *(found.f_bsize, found.f_namemax, found.f_frsize, 0),
    )


def pack_entries(entries: list[Entry], room: int) -> bytes:
    """As many as fit."""
    data = bytearray()
    for entry in entries:
        length = _DIRENT.size + len(entry.name)
        padded = -(-length // 8) * 8
        if len(data) + padded > room:
            break
        position = entry.position & 0xFFFF_FFFF_FFFF_FFFF
        data += _DIRENT.pack(entry.inode, position, len(entry.name), entry.kind)
        data += entry.name + bytes(padded - length)
    return bytes(data)
