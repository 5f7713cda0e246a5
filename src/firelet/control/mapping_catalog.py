"""Every event source mapping of every account and region, in memory and on disk.

A change is in the store before it is in memory. What it is not: the rules, which are with
``control.mappings``; it calls ``commit`` inside ``lock_world``.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from firelet.control.mutations import Mutations
from firelet.model.mapping import EventSourceMapping, MappingKey
from firelet.store.documents import Delete, DocumentStore, Put

KIND = "lambda.event-source-mapping.v1"

World = tuple[str, str]


class MappingCatalog:
    """All mappings. ``load`` first."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents
        self._mappings: dict[MappingKey, EventSourceMapping] = {}
        self._uuids: defaultdict[World, list[str]] = defaultdict(list)  # sorted
        # Mappings by what they read from, so that no operation looks at all of them.
        self._by_source: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)

    def load(self) -> None:
        """Reads the store. Blocking: at start-up, in a thread."""
        for _, body in self._documents.load(KIND):
            self._enter(msgspec.json.decode(body, type=EventSourceMapping))

    def find(self, key: MappingKey) -> EventSourceMapping | None:
        return self._mappings.get(key)

    def everything(self) -> Iterator[EventSourceMapping]:
        """All mappings of all accounts and regions."""
        return iter(self._mappings.values())

    def all(self, account: str, region: str) -> list[EventSourceMapping]:
        """The mappings of one account and region, by UUID."""
        uuids = self._uuids.get((account, region), ())
        return [self._mappings[account, region, uuid] for uuid in uuids]

    def reading(
        self, account: str, region: str, sources: Iterable[str]
    ) -> list[EventSourceMapping]:
        """Those that read from any of ``sources`` (ARNs, or addresses of brokers), by UUID."""
        found: set[str] = set()
        for source in sources:
            found |= self._by_source.get((account, region, source), set())
        return [self._mappings[account, region, uuid] for uuid in sorted(found)]

    async def commit(
        self, before: EventSourceMapping | None, after: EventSourceMapping | None
    ) -> None:
        """Makes one change durable, then visible."""
        if after is not None:
            change: Put | Delete = Put(KIND, "/".join(after.key), msgspec.json.encode(after))
        else:
            assert before is not None
            change = Delete(KIND, "/".join(before.key))
        await self._documents.apply([change])
        if before is not None:
            self._leave(before)
        if after is not None:
            self._enter(after)

    def _enter(self, mapping: EventSourceMapping) -> None:
        account, region, uuid = mapping.key
        self._mappings[mapping.key] = mapping
        insort(self._uuids[account, region], uuid)
        for source in mapping.sources:
            self._by_source[account, region, source].add(uuid)

    def _leave(self, mapping: EventSourceMapping) -> None:
        account, region, uuid = mapping.key
        del self._mappings[mapping.key]
        uuids = self._uuids[account, region]
        del uuids[bisect_left(uuids, uuid)]
        for source in mapping.sources:
            self._by_source[account, region, source].discard(uuid)


def lock_world(mutations: Mutations, key: MappingKey) -> asyncio.Lock:
    """The lock of all mappings of one account and region: a new one is compared with the others,
    which must not change meanwhile."""
    account, region, _ = key
    return mutations.lock((account, region, ""))
