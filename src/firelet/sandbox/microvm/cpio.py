"""Archives in the form that Linux unpacks as its initial file system: cpio "newc".

Everything belongs to root and bears the same time, so that the same files give the same bytes.
Source: the kernel's document "initramfs buffer format".
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_ALIGNMENT = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """``mode`` holds the type too; ``data`` is a file's content or a link's target; ``device`` are
    a device's numbers. ``path`` has no slash at its start."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def file(path: str, data: bytes, mode: int = 0o644) -> Entry:
    return Entry(path, stat.S_IFREG | mode, data)


def directory(path: str) -> Entry:
    return Entry(path, stat.S_IFDIR | 0o755)


def link(path: str, target: str) -> Entry:
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int) -> Entry:
    return Entry(path, stat.S_IFCHR | 0o600, device=(major, minor))


def write(entries: Iterable[Entry], out: BinaryIO) -> None:
    """Writes them in the order in which they come, which must put directories first."""
    number = 0
    for number, entry in enumerate(entries, 1):
        _write_one(out, number, entry)
    _write_one(out, number + 1, Entry(_TRAILER, 0))


def _write_one(out: BinaryIO, number: int, entry: Entry) -> None:
    name = entry.path.encode() + b"\0"
    # inode, mode, user, group, links, time, size, major and minor of the file system and of the
    # device, length of the name, checksum (of another form)
    fields = (number, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    header = _MAGIC + b"".join(b"%08X" % field for field in fields)
    for part in (header + name, entry.data):
        out.write(part + b"\0" * (-len(part) % _ALIGNMENT))
