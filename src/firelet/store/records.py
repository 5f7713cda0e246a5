"""Durable records of one kind: read from memory, changed on disk first.

What it is: the read model that roles, policies, scalable targets, APIs and load balancers share. A
change is in the document store before it can be read here, so that no answer shows what a crash
could take back.
What it is not: a guard against two changes at once; its callers hold a lock of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Generic, TypeVar

import msgspec

from firelet.store.documents import Delete, DocumentStore, Put

Record = TypeVar("Record")


class Records(Generic[Record]):
    """Values of one dataclass by key, kept as JSON under ``kind``."""

    def __init__(self, documents: DocumentStore, kind: str, record: type[Record]) -> None:
        self._documents = documents
        self._kind = kind
        self._decoder = msgspec.json.Decoder(record)
        self._by_key: dict[str, Record] = {}

    def load(self) -> None:
        """Reads all records. Blocking: at start-up only."""
        loaded = self._documents.load(self._kind)
        self._by_key = {key: self._decoder.decode(body) for key, body in loaded}

    def get(self, key: str) -> Record | None:
        return self._by_key.get(key)

    def values(self) -> Iterable[Record]:
        return self._by_key.values()

    async def put(self, key: str, record: Record) -> None:
        """Stores a new record or replaces one."""
        await self._apply(Put(self._kind, key, msgspec.json.encode(record)))
        self._by_key[key] = record

    async def delete(self, key: str) -> None:
        await self._apply(Delete(self._kind, key))
        self._by_key.pop(key, None)

    async def _apply(self, change: Put | Delete) -> None:
        """Waits for the disk also when the caller goes away meanwhile, because a change that is
        on its way there cannot be taken back. The caller's cancellation follows once disk and
        memory agree again: at its next ``await``."""
        writing = asyncio.ensure_future(self._documents.apply([change]))
        is_cancelled = False
        while not writing.done():
            try:
                await asyncio.wait([writing])
            except asyncio.CancelledError:
                is_cancelled = True
        task = asyncio.current_task()
        if is_cancelled and task is not None:
            task.uncancel()
            task.cancel()
        writing.result()
