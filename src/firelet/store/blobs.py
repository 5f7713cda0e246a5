"""Blobs: immutable files by the SHA-256 of their content.

What it is: where deployment packages and layers are kept, two directories deep. What it is not: a
cache or an owner of their lifetime; the registry says which blobs are still needed.
Called by the registry (put, delete) and by the code cache (path, read).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
import threading
from pathlib import Path

from firelet.model.errors import PlatformError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_INCOMING = "incoming"


class BlobStore:
    """Content-addressed files under ``root``, which belongs to this object alone. A blob is whole
    and on the disk, or not there."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._is_swept = False
        # No thread may write before the sweep is over, or use a directory that another one has
        # made and not yet synced.
        self._preparing = threading.Lock()

    async def put(self, data: bytes) -> str:
        """Keeps ``data`` and returns its digest (hex SHA-256) once it is durable."""
        return await asyncio.to_thread(self._put, data)

    def adopt(self, file: Path, digest: str) -> None:
        """Takes a complete file of this file system, whose digest the caller has checked, as a
        blob: durable when this returns. Blocks; OSError."""
        path = self.path(digest)
        with self._preparing:
            _make_directory(path.parent)
        with file.open("rb") as source:
            os.fsync(source.fileno())
        os.replace(file, path)
        _sync_directory(path.parent)

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        if _DIGEST.fullmatch(digest) is None:
            raise ValueError(f"not a SHA-256 in hex: {digest!r}")
        return self._root / digest[:2] / digest[2:4] / digest

    async def read(self, digest: str) -> bytes:
        """The blob's content. PlatformError when it is missing or no longer what it was."""
        return await asyncio.to_thread(self._read, digest)

    def contains(self, digest: str) -> bool:
        return self.path(digest).is_file()

    async def delete(self, digest: str) -> None:
        """Removes a blob; one that is not there is no error."""
        await asyncio.to_thread(self.path(digest).unlink, missing_ok=True)

    def _put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        try:
            # A file of the right name and size was renamed into place whole, but the directory may
            # not have reached the disk before a crash: it is synced either way.
            if not (path.is_file() and path.stat().st_size == len(data)):
                self._write(path, data)
            _sync_directory(path.parent)
        except OSError as error:
            raise PlatformError(f"The blob {digest} cannot be stored: {error}.") from error
        return digest

    def _write(self, path: Path, data: bytes) -> None:
        incoming = self._root / _INCOMING
        with self._preparing:
            _make_directory(incoming)
            _make_directory(path.parent)
            self._sweep(incoming)
        descriptor, name = tempfile.mkstemp(dir=incoming)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)  # sandboxes read their code under other uids
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _sweep(self, incoming: Path) -> None:
        """Removes what a crash left half written. Once, before this process writes there."""
        if not self._is_swept:
            self._is_swept = True
            for leftover in incoming.iterdir():
                leftover.unlink(missing_ok=True)

    def _read(self, digest: str) -> bytes:
        try:
            data = self.path(digest).read_bytes()
        except OSError as error:
            raise PlatformError(f"The blob {digest} cannot be read: {error}.") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise PlatformError(f"The blob {digest} is damaged.")
        return data


def _make_directory(path: Path) -> None:
    """mkdir -p whose new entries are on the disk: a lost directory would lose the blob in it."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True)
        _sync_directory(directory.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
