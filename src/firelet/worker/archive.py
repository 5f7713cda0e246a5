"""Zip archives from customers: checked as hostile input, and extracted so that nothing escapes.

What it is not: the place where code is kept (``worker.codecache``). ``check_archive`` is called
before a function is accepted, ``extract_archive`` when a version is made ready; both block and
belong in a thread.

Whatever is refused gets AWS's one sentence, and the log says why. Extraction walks directories by
descriptor, follows no link, and makes links last. A link may begin with any number of ``..`` that
its own depth allows and may not contain ``..`` later: since the directories of the archive are
never links themselves, each step of resolving such a link stays inside the tree, through other
links too. (Lexical normalisation alone would not do: ``link/..`` is not where ``link`` is.)
"""

from __future__ import annotations

import calendar
import logging
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from firelet.model import limits
from firelet.model.errors import InvalidParameterValue

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_UNIX = 3  # "version made by": the upper half of the attributes is st_mode
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # traditional, strong, masked headers
_EXTENDED_TIMESTAMP = 0x5455
_DOS_EPOCH = 315_532_800  # 1980-01-01, for dates that are none
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_LOCAL_SIGNATURE = b"PK\x03\x04"
_CENTRAL_SIGNATURE = b"PK\x01\x02"
_END_SIGNATURE = b"PK\x05\x06"
_END_MAX = 22 + 65_535  # end record with the longest comment
_ZIP64 = 0xFFFF_FFFF

# What zipfile and zlib raise on archives that are not in order.
_FOREIGN = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
    OverflowError,
    LookupError,
    struct.error,
    zlib.error,
)


class BadArchive(InvalidParameterValue):
    """The archive is refused. ``reason`` is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            "Could not unzip uploaded file. Please check your file, then try to upload again."
        )
        self.reason = reason


class _Kind(Enum):
    FILE = auto()
    DIRECTORY = auto()
    LINK = auto()


@dataclass(frozen=True, slots=True)
class _Member:
    """One entry whose name and type are in order. ``parts`` is its path."""

    parts: tuple[bytes, ...]
    kind: _Kind
    info: zipfile.ZipInfo


class _Budget:
    """Bytes that may still come out of the archive."""

    def __init__(self) -> None:
        self.left = limits.CODE_UNZIPPED_MAX_BYTES

    def spend(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise _too_large()


def check_archive(source: BinaryIO) -> int:
    """Reads everything once and returns the unzipped size in bytes. InvalidParameterValue."""
    with _opened(source) as archive:
        return _walk(archive, None)


def extract_archive(source: BinaryIO, destination: Path) -> None:
    """Writes the tree into ``destination``, an empty directory. InvalidParameterValue, OSError.

    Directories are 755; files keep their permissions but are readable for all, executable for all
    if for anyone, and writable for the owner only. Times are kept: compiled Python is valid only
    beside a source of the same age.
    """
    root = os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    tree = _Tree(root)
    try:
        os.fchmod(root, 0o755)
        with _opened(source) as archive:
            _walk(archive, tree)
    finally:
        tree.close()
        os.close(root)


@contextmanager
def _opened(source: BinaryIO) -> Iterator[zipfile.ZipFile]:
    """The archive; what zipfile raises while it is read becomes ours."""
    try:
        _check_entry_count(source)
        with _open_zip(source) as archive:
            if not archive.infolist():
                raise InvalidParameterValue("Uploaded file must be a non-empty zip")
            yield archive
    except BadArchive as error:
        log.warning("archive refused: %s", error.reason)
        raise
    except _FOREIGN as error:
        log.warning("archive refused: %s", error)
        raise BadArchive(str(error)) from error


def _open_zip(source: BinaryIO) -> zipfile.ZipFile:
    """Names are UTF-8, whether flagged so or not, if they can be; else code page 437."""
    try:
        return zipfile.ZipFile(source, metadata_encoding="utf-8")
    except UnicodeDecodeError:
        return zipfile.ZipFile(source)


def _check_entry_count(source: BinaryIO) -> None:
    """Before zipfile makes an object of each entry: 50 MB can hold a million of them."""
    size = source.seek(0, os.SEEK_END)
    if size == 0:
        raise InvalidParameterValue("Uploaded file must be a non-empty zip")
    source.seek(max(0, size - _END_MAX))
    tail = source.read()
    at = tail.rfind(_END_SIGNATURE)
    if at < 0 or at + 22 > len(tail):
        raise BadArchive("no end record")
    end = size - len(tail) + at
    (directory,) = struct.unpack_from("<I", tail, at + 12)
    begin = 0 if directory == _ZIP64 else max(0, end - directory)
    source.seek(begin)
    count = 0
    rest = b""
    while begin < end and count <= limits.ARCHIVE_ENTRIES_MAX:
        chunk = source.read(min(_CHUNK, end - begin))
        if not chunk:
            break
        begin += len(chunk)
        window = rest + chunk
        count += window.count(_CENTRAL_SIGNATURE)
        rest = window[-3:]
    if count > limits.ARCHIVE_ENTRIES_MAX:
        raise BadArchive(f"more than {limits.ARCHIVE_ENTRIES_MAX} entries")


def _walk(archive: zipfile.ZipFile, tree: _Tree | None) -> int:
    """Reads every entry, into ``tree`` if there is one. Returns the bytes read."""
    if sum(info.file_size for info in archive.infolist()) > limits.CODE_UNZIPPED_MAX_BYTES:
        raise _too_large()
    _check_overlap(archive)
    members = _members(archive)
    budget = _Budget()
    links: list[tuple[tuple[bytes, ...], bytes]] = []
    for member in members:
        chunks = _contents(archive, member.info, budget)
        if member.kind is _Kind.LINK:
            target = b"".join(chunks)
            _check_link(member.parts, target)
            links.append((member.parts, target))
        elif member.kind is _Kind.FILE and tree is not None:
            tree.write(member.parts, chunks, _file_mode(member.info), _modified(member.info))
        else:
            for _ in chunks:
                pass
            if tree is not None:
                tree.enter(member.parts)
    if tree is not None:
        for parts, target in links:
            tree.link(parts, target)
    return limits.CODE_UNZIPPED_MAX_BYTES - budget.left


def _contents(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: _Budget) -> Iterator[bytes]:
    """The entry's bytes, counted as they come out. Its header must have told the truth."""
    count = 0
    with archive.open(info) as stream:
        while chunk := stream.read(_CHUNK):
            count += len(chunk)
            budget.spend(len(chunk))
            yield chunk
    if count != info.file_size:
        raise BadArchive(f"{info.filename!r} is not as long as it says")


def _members(archive: zipfile.ZipFile) -> list[_Member]:
    """The entries, checked against each other: every path once, and no path through a file."""
    members: list[_Member] = []
    leaves: set[tuple[bytes, ...]] = set()
    directories: set[tuple[bytes, ...]] = {()}
    for info in archive.infolist():
        member = _member(info)
        if member is None:
            continue  # "./", the root itself
        parts = member.parts
        if member.kind is not _Kind.DIRECTORY:
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


def _member(info: zipfile.ZipInfo) -> _Member | None:
    name = info.orig_filename
    if "\0" in name:
        raise BadArchive("a name contains NUL")
    if info.flag_bits & _ENCRYPTED:
        raise BadArchive(f"{name!r} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadArchive(f"{name!r} is compressed by method {info.compress_type}")
    parts = _parse_path(name)
    kind = _parse_kind(info)
    if kind is _Kind.LINK and info.file_size > limits.ARCHIVE_LINK_MAX_BYTES:
        raise BadArchive(f"the target of {name!r} is too long")
    if not parts:
        if kind is _Kind.DIRECTORY:
            return None
        raise BadArchive("a file has no name")
    return _Member(parts, kind, info)


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


def _parse_kind(info: zipfile.ZipInfo) -> _Kind:
    named_directory = info.orig_filename.endswith("/")
    if info.create_system != _UNIX:
        return _Kind.DIRECTORY if named_directory else _Kind.FILE
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFDIR or (named_directory and kind in (0, stat.S_IFREG)):
        return _Kind.DIRECTORY
    if kind == stat.S_IFLNK and not named_directory:
        return _Kind.LINK
    if kind in (0, stat.S_IFREG):
        return _Kind.FILE
    raise BadArchive(f"{info.orig_filename!r} is of a type that code cannot have")


def _check_link(parts: tuple[bytes, ...], target: bytes) -> None:
    """See the module's description for why this is enough."""
    if not target or target.startswith(b"/") or b"\0" in target:
        raise BadArchive(f"link {b'/'.join(parts)!r} does not stay in the tree")
    steps = [step for step in target.split(b"/") if step not in (b"", b".")]
    up = 0
    while up < len(steps) and steps[up] == b"..":
        up += 1
    if up > len(parts) - 1 or b".." in steps[up:]:
        raise BadArchive(f"link {b'/'.join(parts)!r} does not stay in the tree")


def _check_overlap(archive: zipfile.ZipFile) -> None:
    """Entries that share bytes are how a small archive becomes a large tree."""
    source = archive.fp
    assert source is not None, "the archive is open"
    ranges: list[tuple[int, int]] = []
    for info in archive.infolist():
        source.seek(info.header_offset)
        header = source.read(_LOCAL_HEADER.size)
        signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
        if signature != _LOCAL_SIGNATURE:
            raise BadArchive(f"{info.filename!r} has no local header")
        begin = info.header_offset
        end = begin + _LOCAL_HEADER.size + name_bytes + extra_bytes + info.compress_size
        ranges.append((begin, end))
    ranges.sort()
    ranges.append((archive.start_dir, archive.start_dir))
    for (_, end), (begin, _) in pairwise(ranges):
        if end > begin:
            raise BadArchive("entries overlap")


def _file_mode(info: zipfile.ZipInfo) -> int:
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    executable = 0o111 if mode & 0o111 else 0
    return (mode & 0o700) | 0o444 | 0o200 | executable


def _modified(info: zipfile.ZipInfo) -> int:
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


def _too_large() -> InvalidParameterValue:
    return InvalidParameterValue(
        f"Unzipped size must be smaller than {limits.CODE_UNZIPPED_MAX_BYTES} bytes"
    )


class _Tree:
    """Writes below ``root``, a directory's descriptor. Keeps the directories that lead to the
    last entry open, because the next entry is most often beside it."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._open: list[tuple[bytes, int]] = []
        self._made: set[tuple[bytes, ...]] = set()

    def enter(self, parts: tuple[bytes, ...]) -> int:
        """Makes the directory and what leads to it. The descriptor stays the tree's."""
        common = 0
        for (name, _), wanted in zip(self._open, parts, strict=False):
            if name != wanted:
                break
            common += 1
        self._leave(common)
        for depth in range(common, len(parts)):
            above = self._open[-1][1] if self._open else self._root
            is_new = parts[: depth + 1] not in self._made
            if is_new:
                os.mkdir(parts[depth], dir_fd=above)
            fd = os.open(
                parts[depth],
                os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                dir_fd=above,
            )
            self._open.append((parts[depth], fd))
            if is_new:
                os.fchmod(fd, 0o755)  # whatever the umask
                self._made.add(parts[: depth + 1])
        return self._open[-1][1] if self._open else self._root

    def write(
        self, parts: tuple[bytes, ...], chunks: Iterator[bytes], mode: int, modified: int
    ) -> None:
        above = self.enter(parts[:-1])
        fd = os.open(
            parts[-1],
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
            dir_fd=above,
        )
        with open(fd, "wb", buffering=0) as file:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
            os.fchmod(fd, mode)
            os.utime(fd, (modified, modified))

    def link(self, parts: tuple[bytes, ...], target: bytes) -> None:
        os.symlink(target, parts[-1], dir_fd=self.enter(parts[:-1]))

    def close(self) -> None:
        self._leave(0)

    def _leave(self, depth: int) -> None:
        while len(self._open) > depth:
            os.close(self._open.pop()[1])
