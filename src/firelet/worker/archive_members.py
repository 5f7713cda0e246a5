"""The entries of a zip archive from a customer: name, type, mode and time, each checked. Pure.

What it is not: a reader of their contents (``archive``, which calls this), or a writer of files
(``code_tree``).
Source: the ZIP file format, .ZIP File Format Specification 6.3.10 (APPNOTE), sections 4.4 and 4.5;
Info-ZIP's extended timestamp.
"""

from __future__ import annotations

import calendar
import stat
import struct
import zipfile
from dataclasses import dataclass
from enum import Enum, auto

from firelet.model import limits
from firelet.model.errors import InvalidParameterValue

_UNIX = 3  # "version made by": the upper half of the attributes is st_mode
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # traditional, strong, masked headers
_EXTENDED_TIMESTAMP = 0x5455
_DOS_EPOCH = 315_532_800  # 1980-01-01, for dates that are none


class BadArchive(InvalidParameterValue):
    """The archive is refused. ``reason`` is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            "Could not unzip uploaded file. Please check your file, then try to upload again."
        )
        self.reason = reason


class Kind(Enum):
    FILE = auto()
    DIRECTORY = auto()
    LINK = auto()


@dataclass(frozen=True, slots=True)
class Member:
    """One entry whose name and type are in order. ``parts`` is its path."""

    parts: tuple[bytes, ...]
    kind: Kind
    info: zipfile.ZipInfo


def list_members(archive: zipfile.ZipFile) -> list[Member]:
    """The entries, checked against each other: every path once, and no path through a file."""
    members: list[Member] = []
    leaves: set[tuple[bytes, ...]] = set()
    directories: set[tuple[bytes, ...]] = {()}
    for info in archive.infolist():
        member = _member(info)
        if member is None:
            continue  # "./", the root itself
        parts = member.parts
        if member.kind is not Kind.DIRECTORY:
            if parts in leaves:
                raise BadArchive(f"{info.filename!r} is there twice")
            leaves.add(parts)
            parts = parts[:-1]
        # Once a directory is known, all those above it are.
        while parts not in directories:
            directories.add(parts)
            parts = parts[:-1]
        members.append(member)
    both = leaves & directories
    if both:
        raise BadArchive(f"{b'/'.join(both.pop())!r} is a directory and something else")
    return members


def _member(info: zipfile.ZipInfo) -> Member | None:
    name = info.orig_filename
    if "\0" in name:
        raise BadArchive("a name contains NUL")
    if info.flag_bits & _ENCRYPTED:
        raise BadArchive(f"{name!r} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadArchive(f"{name!r} is compressed by method {info.compress_type}")
    parts = _parse_path(name)
    kind = _parse_kind(info)
    if kind is Kind.LINK and info.file_size > limits.ARCHIVE_LINK_MAX_BYTES:
        raise BadArchive(f"the target of {name!r} is too long")
    if not parts:
        if kind is Kind.DIRECTORY:
            return None
        raise BadArchive("a file has no name")
    return Member(parts, kind, info)


def _parse_path(name: str) -> tuple[bytes, ...]:
    path = name.encode()
    if path.startswith(b"/"):
        raise BadArchive(f"{name!r} is absolute")
    parts = tuple(part for part in path.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise BadArchive(f"{name!r} leaves the tree")
    if (
        len(path) > limits.ARCHIVE_PATH_MAX_BYTES
        or len(parts) > limits.ARCHIVE_DEPTH_MAX
        or any(len(part) > limits.ARCHIVE_NAME_MAX_BYTES for part in parts)
    ):
        raise BadArchive("a name is too long or too deep")
    return parts


def _parse_kind(info: zipfile.ZipInfo) -> Kind:
    named_directory = info.orig_filename.endswith("/")
    if info.create_system != _UNIX:
        return Kind.DIRECTORY if named_directory else Kind.FILE
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFDIR or (named_directory and kind in (0, stat.S_IFREG)):
        return Kind.DIRECTORY
    if kind == stat.S_IFLNK and not named_directory:
        return Kind.LINK
    if kind in (0, stat.S_IFREG):
        return Kind.FILE
    raise BadArchive(f"{info.orig_filename!r} is of a type that code cannot have")


def check_link(parts: tuple[bytes, ...], target: bytes) -> None:
    """See ``archive`` for why this is enough."""
    if not target or target.startswith(b"/") or b"\0" in target:
        raise BadArchive(f"link {b'/'.join(parts)!r} does not stay in the tree")
    steps = [step for step in target.split(b"/") if step not in (b"", b".")]
    up = 0
    while up < len(steps) and steps[up] == b"..":
        up += 1
    if up > len(parts) - 1 or b".." in steps[up:]:
        raise BadArchive(f"link {b'/'.join(parts)!r} does not stay in the tree")


def file_mode(info: zipfile.ZipInfo) -> int:
    """Readable for all, writable for the owner only, executable for all if for anyone."""
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    executable = 0o111 if mode & 0o111 else 0
    return (mode & 0o700) | 0o444 | 0o200 | executable


def modified(info: zipfile.ZipInfo) -> int:
    """Seconds since the epoch: the extended timestamp if there is one, else the DOS time as UTC."""
    extra = info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if kind == _EXTENDED_TIMESTAMP and size >= 5 and len(extra) >= 9 and extra[4] & 1:
            (seconds,) = struct.unpack_from("<I", extra, 5)
            return int(seconds)
        extra = extra[4 + size :]
    try:
        return calendar.timegm((*info.date_time, 0, 0, 0))
    except ValueError:
        return _DOS_EPOCH
