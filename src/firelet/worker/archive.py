"""Zip archives from customers: checked as hostile input, and extracted so that nothing escapes.

What it is not: the rules for single entries (``archive_members``), or the place where code is kept
(``codecache``). ``check_archive`` is called before a function is accepted, ``extract_archive`` when
a version is made ready; both block and belong in a thread.

Whatever is refused gets AWS's one sentence, and the log says why. Extraction walks directories by
descriptor, follows no link, and makes links last. A link may begin with any number of ``..`` that
its own depth allows and may not contain ``..`` later: since the directories of the archive are
never links themselves, each step of resolving such a link stays inside the tree, through other
links too. (Lexical normalisation alone would not do: ``link/..`` is not where ``link`` is.)
"""

from __future__ import annotations

import logging
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from firelet.model import limits
from firelet.model.errors import InvalidParameterValue
from firelet.worker.archive_members import (
    BadArchive,
    Kind,
    check_link,
    file_mode,
    list_members,
    modified,
)
from firelet.worker.code_tree import CodeTree

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
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
    tree = CodeTree(root)
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


def _walk(archive: zipfile.ZipFile, tree: CodeTree | None) -> int:
    """Reads every entry, into ``tree`` if there is one. Returns the bytes read."""
    if sum(info.file_size for info in archive.infolist()) > limits.CODE_UNZIPPED_MAX_BYTES:
        raise _too_large()
    _check_overlap(archive)
    members = list_members(archive)
    budget = _Budget()
    links: list[tuple[tuple[bytes, ...], bytes]] = []
    for member in members:
        chunks = _contents(archive, member.info, budget)
        if member.kind is Kind.LINK:
            target = b"".join(chunks)
            check_link(member.parts, target)
            links.append((member.parts, target))
        elif member.kind is Kind.FILE and tree is not None:
            tree.write(member.parts, chunks, file_mode(member.info), modified(member.info))
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


def _too_large() -> InvalidParameterValue:
    return InvalidParameterValue(
        f"Unzipped size must be smaller than {limits.CODE_UNZIPPED_MAX_BYTES} bytes"
    )
