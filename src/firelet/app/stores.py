"""Everything that a platform keeps in its data directory, opened in the order of dependence.

What it is not: the records of one family, which are loaded by whoever owns them, or the metrics and
the queue of events, which belong to ``measuring`` and ``standalone``. Called by ``standalone``.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from firelet.app.config import PlatformConfig
from firelet.app.microvm import open_disks, tidy_disks
from firelet.control import records
from firelet.observe.log_tables import LOG_MIGRATIONS
from firelet.observe.logs import LogStore
from firelet.sandbox.microvm.disk_store import DiskStore
from firelet.store.blobs import BlobStore
from firelet.store.documents import SqliteDocuments
from firelet.store.keyfile import load_key
from firelet.store.sealed import SealedDocuments
from firelet.store.sqlite import Database
from firelet.worker.codecache import CodeCache
from firelet.worker.images.sources import ConfiguredSources
from firelet.worker.images.store import ImageStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """Metadata, packages, logs, images, code as sandboxes see it, and as machines do."""

    documents: SealedDocuments
    blobs: BlobStore
    logs: LogStore
    images: ImageStore
    code: CodeCache
    disks: DiskStore


async def open_stores(stack: AsyncExitStack, config: PlatformConfig) -> Stores:
    """``stack`` closes them in reverse."""
    data = config.data_dir
    documents = await _open_documents(data)
    stack.push_async_callback(documents.close)
    blobs = BlobStore(data / "blobs")
    logs = LogStore(Database(data / "logs.db", "logs", LOG_MIGRATIONS))
    await logs.start()
    stack.push_async_callback(logs.close)
    sources = ConfiguredSources(config.images, config.registry_credentials, config.image_client)
    images = ImageStore(data, sources)
    await images.open()
    stack.push_async_callback(images.close)
    disks = open_disks(data)
    await asyncio.to_thread(tidy_disks, disks)
    code = CodeCache(data / "code", blobs, images.blobs, disks)
    await code.open()
    stack.push_async_callback(code.close)
    return Stores(
        documents=documents, blobs=blobs, logs=logs, images=images, code=code, disks=disks
    )


async def _open_documents(data: Path) -> SealedDocuments:
    """Metadata. The records of functions are sealed, since they hold environment variables."""
    key = await asyncio.to_thread(load_key, data / "environment.key")
    plain = SqliteDocuments(data / "metadata.db")
    documents = SealedDocuments(plain, key, (records.FUNCTION, records.VERSION))
    try:
        await documents.seal_old()
    except BaseException:
        await documents.close()
        raise
    return documents
