"""Deployment packages in the blob store: put once for all functions, removed with the last user.

What it is not: the check of what is inside a zip; ``worker.archive`` has done that before.
Called by ``control.functions``, ``control.layers`` and after every commit that let go of code.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from firelet.model.function import Code, S3Object
from firelet.store.blobs import BlobStore


class Packages:
    """``is_referenced`` tells whether a stored version needs a digest."""

    def __init__(self, blobs: BlobStore, is_referenced: Callable[[str], bool]) -> None:
        self._blobs = blobs
        self._is_referenced = is_referenced
        self._held: Counter[str] = Counter()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, package: bytes, reference: S3Object | None = None) -> AsyncIterator[Code]:
        """Stores a zip, and keeps it until the block ends whatever else is deleted meanwhile.
        A block that leaves no reference to it leaves no blob either."""
        code = await asyncio.to_thread(describe_package, package, reference)
        async with self.keep([code.digest]):
            async with self._lock(code.digest):
                await self._blobs.put(package)
            yield code

    @asynccontextmanager
    async def keep(self, digests: Collection[str]) -> AsyncIterator[None]:
        """Keeps what is stored under these digests until the block ends."""
        self._held.update(digests)
        try:
            for digest in digests:
                async with self._lock(digest):
                    pass  # what is being removed is gone, and nothing else will be
            yield
        finally:
            self._held.subtract(digests)
            for digest in set(digests):
                if not self._held[digest]:
                    del self._held[digest]
            await self.release(set(digests))

    def path(self, digest: str) -> Path:
        """Where a package is that somebody keeps."""
        return self._blobs.path(digest)

    async def unzipped_bytes(self, digests: Iterable[str]) -> int:
        """The size of these packages together when they are unpacked."""
        paths = [self._blobs.path(digest) for digest in digests]
        return await asyncio.to_thread(lambda: sum(map(_unzipped_bytes, paths)))

    async def release(self, digests: Iterable[str]) -> None:
        """Removes those of the blobs that nobody needs."""
        for digest in digests:
            # Under the lock: the same zip may be on its way in again.
            async with self._lock(digest):
                if not self._held[digest] and not self._is_referenced(digest):
                    await self._blobs.delete(digest)

    def _lock(self, digest: str) -> asyncio.Lock:
        lock = self._locks.get(digest)
        if lock is None:
            lock = self._locks[digest] = asyncio.Lock()
        return lock


def describe_package(package: bytes, reference: S3Object | None = None) -> Code:
    """Digest and size of a zip. Takes some 20 ms for a large one: not on the event loop."""
    digest = hashlib.sha256(package)
    return Code(
        digest=digest.hexdigest(),
        sha256=base64.b64encode(digest.digest()).decode(),
        size=len(package),
        reference=reference,
    )


def _unzipped_bytes(path: Path) -> int:
    """From the zip's directory, which was compared with the contents before it was accepted."""
    with zipfile.ZipFile(path) as archive:
        return sum(info.file_size for info in archive.infolist())
