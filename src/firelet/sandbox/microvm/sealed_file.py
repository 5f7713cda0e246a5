"""Memory files that become unchangeable, and their content as files on a disk.

A clone maps the memory of its snapshot privately, but QEMU before version 8.2 opens that file for
writing: a balloon that inflates would punch holes into what all clones share, and so would a QEMU
that a guest has taken over. No mode of a file stops root, and QEMU refuses what it cannot open for
writing. A seal holds for everyone and every way to open it.
Source: memfd_create(2), fcntl(2) "File Sealing", lseek(2) "SEEK_HOLE". Everything here blocks.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
SEAL_PATIENCE_S = 2.0
_SEAL_PAUSE_S = 0.005
_BLOCK_BYTES = 16 * 1024
_ZEROS = bytes(_BLOCK_BYTES)
_OFFSET_BYTES = 8


def create(name: str, size: int = 0) -> int:
    """A new memory file, closed on exec, that can be sealed."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    return fd


def seal(fd: int, patience_s: float = SEAL_PATIENCE_S) -> None:
    """From now on nobody can change it. OSError with EBUSY if somebody maps it shared all the time:
    the memory of a process that has ended is there as long as another looks at it in /proc."""
    end = time.monotonic() + patience_s
    while True:
        try:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > end:
                raise
            time.sleep(_SEAL_PAUSE_S)
        else:
            return


def reopen(fd: int) -> int:
    """The same file, read from its beginning: what a duplicate reads, the others have not got."""
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)


def copy(source: int, target: int) -> str:
    """Makes ``target``, which is empty, the same without what is zero. The digest of what was
    copied: SHA-256 of every block that is not zero, with its offset before it; so it does not
    depend on where the file has holes."""
    digest = hashlib.sha256()
    for offset, block in _blocks(source):
        digest.update(offset.to_bytes(_OFFSET_BYTES, "little"))
        digest.update(block)
        written = os.pwrite(target, block, offset)
        if written != len(block):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(target, os.fstat(source).st_size)
    return digest.hexdigest()


def copy_to(source: int, path: Path) -> str:
    """The same into a new file that only its owner may read."""
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
    try:
        return copy(source, target)
    finally:
        os.close(target)


def load(path: Path, name: str) -> tuple[int, str]:
    """A sealed memory file of that content, which the caller owns, and the digest of ``copy``."""
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fd = create(name)
        try:
            digest = copy(source, fd)
            seal(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd, digest
    finally:
        os.close(source)


def _blocks(fd: int) -> Iterator[tuple[int, bytes]]:
    """Those that are not zero, with their offsets."""
    end = 0
    while True:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        start -= start % _BLOCK_BYTES
        end = max(os.lseek(fd, start, os.SEEK_HOLE), start + 1)
        for offset in range(start, end, _BLOCK_BYTES):
            block = os.pread(fd, _BLOCK_BYTES, offset)
            if block != _ZEROS[: len(block)]:
                yield offset, block
            end = max(end, offset + len(block))
