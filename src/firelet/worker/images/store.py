"""The images of functions: found in their sources, checked, and their layers kept as blobs.

A tag is looked up once, by ``resolve``; ``fetch`` then takes the layers by their digests, so that a
function keeps its image whatever becomes of the tag. Each layer is stored once for all images. What
nobody uses any more is removed by who counts the uses (``control.packages``), layer by layer.
Blocks in threads of its own: a slow registry keeps nobody else waiting.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Protocol, TypeVar

from firelet.model import limits
from firelet.model.errors import ImageFault, PlatformError, Stopping
from firelet.model.image import Image, ImageLayer, ImageName, parse_image_name
from firelet.store.blobs import BlobStore
from firelet.worker.images.errors import BadImage, RegistryFailed
from firelet.worker.images.interrupts import Interrupts
from firelet.worker.images.manifest import (
    Blob,
    check_machine,
    choose_manifest,
    join_layers,
    parse_configuration,
    parse_document,
    parse_manifest,
)
from firelet.worker.images.source import ImageSource, check_digest
from firelet.worker.images.stream import Inflater

log = logging.getLogger(__name__)

T = TypeVar("T")

_INDEX_DEPTH = 2
_AT_ONCE = 4


class ImageNameInvalid(ImageFault):
    """The text names no image that this platform could find. AWS has a sentence for it."""


class Sources(Protocol):
    """What knows where the images of a registry are; ``interrupts`` end what they are doing."""

    interrupts: Interrupts

    def find(self, name: ImageName) -> ImageSource | None:
        """None when nothing is configured for that registry."""


class ImageStore:
    """Owns the directory ``images`` of ``data_dir``. ``open`` first; ``close`` breaks
    off what is under way."""

    def __init__(self, data_dir: Path, sources: Sources) -> None:
        self.blobs = BlobStore(image_blobs(data_dir))
        self._pulls = data_dir / "images" / "pulls"
        self._sources = sources
        self._threads = ThreadPoolExecutor(_AT_ONCE, "images")
        self._is_stopping = False
        self._fetching: dict[str, asyncio.Task[None]] = {}

    async def open(self) -> None:
        """Removes what an earlier process left half fetched."""
        await self._run(self._sweep)

    def interrupt(self) -> None:
        """Breaks off what is under way, with Stopping for who waits for it."""
        self._is_stopping = True
        self._sources.interrupts.interrupt()

    async def close(self) -> None:
        self.interrupt()
        await asyncio.to_thread(self._threads.shutdown)

    async def resolve(self, uri: str, architecture: str) -> Image:
        """What a name stands for now. ImageFault."""
        return await self._run(lambda: self._resolve(uri, architecture))

    async def fetch(self, image: Image) -> None:
        """Its layers are stored and checked when this returns. Who wants an image that is being
        fetched waits for that. ImageFault; PlatformError when the host has no room for them."""
        task = self._fetching.get(image.digest)
        if task is None:
            task = asyncio.create_task(self._run(lambda: self._fetch(image)))
            self._fetching[image.digest] = task
            task.add_done_callback(lambda _: self._fetching.pop(image.digest, None))
        await asyncio.shield(task)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except ImageFault:
            if self._is_stopping:
                raise Stopping("firelet stops.") from None
            raise

    def _sweep(self) -> None:
        shutil.rmtree(self._pulls, ignore_errors=True)
        self._pulls.mkdir(parents=True)

    def _source(self, uri: str) -> tuple[ImageName, ImageSource]:
        name = parse_image_name(uri)
        if name is None:
            raise ImageNameInvalid(f"{uri} names no image")
        source = self._sources.find(name)
        if source is None:
            raise ImageNameInvalid(f"no source is configured for the images of {name.registry}")
        return name, source

    def _resolve(self, uri: str, architecture: str) -> Image:
        name, source = self._source(uri)
        data = source.manifest(name.wanted)
        if name.digest is not None:
            check_digest(data, name.digest)
        digest = hashlib.sha256(data).hexdigest()
        document = parse_document(data)
        for _ in range(_INDEX_DEPTH):
            chosen = choose_manifest(document, architecture)
            if chosen is None:
                break
            data, digest = source.manifest(f"sha256:{chosen}"), chosen
            check_digest(data, digest)
            document = parse_document(data)
        manifest = parse_manifest(document)
        config = source.config(digest, manifest.config)
        check_digest(config, manifest.config.digest)
        configuration = parse_configuration(parse_document(config))
        check_machine(configuration, architecture)
        return Image(
            uri=uri,
            resolved_uri=name.resolved(digest),
            digest=digest,
            layers=join_layers(manifest, configuration),
            entry_point=configuration.entry_point,
            command=configuration.command,
            working_directory=configuration.working_directory,
            environment=configuration.environment,
        )

    def _fetch(self, image: Image) -> None:
        missing = [
            layer for layer in dict.fromkeys(image.layers) if not self.blobs.contains(layer.digest)
        ]
        if not missing:
            return
        _, source = self._source(image.resolved_uri)
        blobs = [Blob(layer.digest, layer.size) for layer in missing]
        budget = limits.IMAGE_UNPACKED_MAX_BYTES
        with closing(source.layers(image.digest, blobs, self._pulls)) as layers:
            for layer, chunks in zip(missing, layers, strict=True):
                budget -= self._store(layer, self._until_stopped(chunks), budget)

    def _until_stopped(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """What comes from this host's own disk cannot be interrupted otherwise."""
        for chunk in chunks:
            if self._is_stopping:
                raise RegistryFailed("firelet stops")
            yield chunk

    def _store(self, layer: ImageLayer, chunks: Iterator[bytes], budget: int) -> int:
        """Stores one layer; its size unpacked."""
        try:
            fd, name = tempfile.mkstemp(dir=self._pulls)
            try:
                with os.fdopen(fd, "wb") as file:
                    unpacked = _copy_checked(layer, chunks, file.write, budget)
                self.blobs.adopt(Path(name), layer.digest)
            finally:
                Path(name).unlink(missing_ok=True)
        except OSError as error:
            raise PlatformError(f"The image cannot be stored: {error.strerror}.") from error
        log.info("layer stored digest=%s bytes=%d", layer.digest, layer.size)
        return unpacked


def image_blobs(data_dir: Path) -> Path:
    """Where the blobs of layers are. Worker processes read there."""
    return data_dir / "images" / "blobs"


def _copy_checked(
    layer: ImageLayer, chunks: Iterator[bytes], write: Callable[[bytes], object], budget: int
) -> int:
    """Copies a blob while it checks its size, its digest, and the size and digest of the tar in
    it. Nothing is read past the size that the manifest has promised."""
    packed, tar, inflater = hashlib.sha256(), hashlib.sha256(), Inflater()
    size = unpacked = 0
    for chunk in chunks:
        size += len(chunk)
        if size > layer.size:
            raise BadImage(f"the layer sha256:{layer.digest} is longer than its manifest says")
        packed.update(chunk)
        write(chunk)
        for part in inflater.feed(chunk):
            unpacked += len(part)
            if unpacked > budget:
                raise BadImage("the image is larger than 10 GB unpacked")
            tar.update(part)
    if size < layer.size:
        raise BadImage(f"the layer sha256:{layer.digest} is cut short")
    if packed.hexdigest() != layer.digest:
        raise BadImage(f"what was sent as sha256:{layer.digest} has another digest")
    inflater.finish()
    if tar.hexdigest() != layer.diff:
        raise BadImage(f"the layer sha256:{layer.digest} is not what the configuration says")
    return unpacked
