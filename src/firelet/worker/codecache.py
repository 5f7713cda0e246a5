"""Extracted deployment packages and layers of images, by the digest of their zip or of their
blob; mounted into sandboxes.

Content-addressed: all functions and versions with the same code share one directory, and it is
extracted once however many want it at the same time. A directory that exists is complete, since
it was renamed into place; what a crash left half extracted is swept at the next start.
Called by the worker when a version is activated and before a sandbox is started.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from firelet.model.errors import PlatformError
from firelet.worker.archive import extract_archive
from firelet.worker.images.layer import extract_layer

log = logging.getLogger(__name__)

_DIGEST = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = ".unfinished-"
# They may take a minute each, and the threads are everybody's.
_LAYERS_AT_ONCE = 2


class ZipFiles(Protocol):
    """Where the zips are; ``store.blobs.BlobStore`` is one."""

    def path(self, digest: str) -> Path: ...


class Copies(Protocol):
    """What is made of extracted packages; ``sandbox.microvm.disk_store.DiskStore`` is one."""

    def discard(self, digest: str) -> None:
        """Removes all that has something of this package in it. Blocks."""


class CodeCache:
    """Owns ``root``. ``open`` first. ``layers`` is where the blobs of image layers are; ``copies``
    of a package go with it."""

    def __init__(
        self,
        root: Path,
        zips: ZipFiles,
        layers: ZipFiles | None = None,
        copies: Copies | None = None,
    ) -> None:
        self._root = root
        self._zips = zips
        self._layers = layers
        self._copies = copies
        self._turns = asyncio.Semaphore(_LAYERS_AT_ONCE)
        self._extracting: dict[str, asyncio.Task[Path]] = {}
        self._removing: dict[str, asyncio.Task[None]] = {}

    async def open(self) -> None:
        """Makes the directory and removes what an earlier process left unfinished."""
        await asyncio.to_thread(self._clear_unfinished)

    async def close(self) -> None:
        """Waits for what is under way."""
        while self._extracting or self._removing:
            await asyncio.wait([*self._extracting.values(), *self._removing.values()])

    def path(self, digest: str) -> Path:
        """Where the code of that digest is, or will be."""
        if _DIGEST.fullmatch(digest) is None:
            raise ValueError(f"not a digest: {digest!r}")
        return self._root / digest

    async def ensure(self, digest: str) -> Path:
        """The directory with the code, extracted by now.

        InvalidParameterValue for a zip that is refused, BadImage for a layer, PlatformError when
        there is no such thing or no room for it. A caller that is cancelled leaves the extraction
        to the others.
        """
        path = self.path(digest)
        while digest in self._removing:
            await asyncio.wait([self._removing[digest]])
        task = self._extracting.get(digest)
        if task is None:
            # One stat call: the answer is in the kernel's memory.
            if path.is_dir():
                return path
            task = asyncio.create_task(self._extract_in_turn(digest))
            self._extracting[digest] = task
            task.add_done_callback(lambda _: self._extracting.pop(digest, None))
        return await asyncio.shield(task)

    async def sweep(self, is_needed: Callable[[str], bool]) -> None:
        """Removes the code that no version needs any more. At start-up, before any sandbox."""
        for name in await asyncio.to_thread(os.listdir, self._root):
            if _DIGEST.fullmatch(name) and not is_needed(name):
                await self.discard(name)

    async def discard(self, digest: str) -> None:
        """Removes the code and its copies. No sandbox may be using them. Whoever wants it from here
        on waits for the removal and has it extracted again."""
        path = self.path(digest)
        earlier = self._removing.get(digest)
        if earlier is None:
            earlier = asyncio.create_task(self._discard(path, self._extracting.get(digest)))
            self._removing[digest] = earlier
            earlier.add_done_callback(lambda _: self._removing.pop(digest, None))
        await asyncio.shield(earlier)

    async def _discard(self, path: Path, extracting: asyncio.Task[Path] | None) -> None:
        if extracting is not None:
            await asyncio.wait([extracting])
        await asyncio.to_thread(self._remove, path)

    def _clear_unfinished(self) -> None:
        self._root.mkdir(mode=0o755, parents=True, exist_ok=True)
        for path in self._root.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(path)

    async def _extract_in_turn(self, digest: str) -> Path:
        if not self._is_layer(digest):
            return await asyncio.to_thread(self._extract, digest)
        async with self._turns:
            return await asyncio.to_thread(self._extract, digest)

    def _is_layer(self, digest: str) -> bool:
        return self._layers is not None and self._layers.path(digest).is_file()

    def _extract(self, digest: str) -> Path:
        path = self.path(digest)
        scratch = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._root))
        try:
            self._unpack(digest, scratch)
            scratch.rename(path)
        except OSError as error:
            shutil.rmtree(scratch)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and path.is_dir():
                return path  # somebody else was faster
            log.exception("code not extracted digest=%s", digest)
            raise PlatformError(
                f"The code could not be extracted: {error.strerror or error}."
            ) from error
        except BaseException:
            shutil.rmtree(scratch)
            raise
        return path

    def _unpack(self, digest: str, scratch: Path) -> None:
        if self._layers is not None and self._is_layer(digest):
            with self._layers.path(digest).open("rb") as source:
                extract_layer(source, scratch)
            return
        with self._zips.path(digest).open("rb") as source:
            extract_archive(source, scratch)

    def _remove(self, path: Path) -> None:
        """By way of a rename, so that a directory under its digest is never half there. Copies
        first: what is left by a crash in between is removed by the sweep of the next start."""
        if self._copies is not None:
            self._copies.discard(path.name)
        scratch = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._root))
        try:
            os.rename(path, scratch)
        except FileNotFoundError:
            log.debug("nothing to discard path=%s", path)
        shutil.rmtree(scratch)
