"""Every event source mapping of every account and region, in memory and on disk.

A change is in the store before it is in memory. What it is not: the rules, which are with
``control.mappings``; it calls ``commit`` with the mapping's lock held.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec

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
        # Mappings by what they read from, so that no operation looks at all of them; those that
        # are on their way to the disk included.
        self._by_source: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
        # What a change under way makes of a mapping.
        self._claims: dict[MappingKey, EventSourceMapping] = {}

    def load(self) -> None:
        """Reads the store. Blocking: at start-up, in a thread."""
        for _, body in self._documents.load(KIND):
            self._enter(msgspec.json.decode(body, type=EventSourceMapping))

    def find(self, key: MappingKey) -> EventSourceMapping | None:
        return self._mappings.get(key)

    def everything(self) -> Iterator[EventSourceMapping]:
        """All mappings of all accounts and regions."""
        return iter(self._mappings.values())

    def all(self, account: str, region: str) -> Iterator[EventSourceMapping]:
        """The mappings of one account and region, by UUID. Not to be kept over an ``await``."""
        uuids = self._uuids.get((account, region), ())
        return (self._mappings[account, region, uuid] for uuid in uuids)

    def reading(self, account: str, region: str, source: str) -> list[EventSourceMapping]:
        """Those that read from an ARN or a broker, by UUID."""
        keys = self._keys_by_source(account, region, [source])
        return [self._mappings[key] for key in keys if key in self._mappings]

    def rivals(self, mapping: EventSourceMapping) -> list[EventSourceMapping]:
        """Others that read from a source of ``mapping``, as they are or are about to be: what is
        checked against them just before ``commit`` cannot be passed by two commits at once."""
        keys = self._keys_by_source(mapping.account, mapping.region, mapping.sources)
        return [self._claims.get(key) or self._mappings[key] for key in keys if key != mapping.key]

    async def commit(
        self, before: EventSourceMapping | None, after: EventSourceMapping | None
    ) -> None:
        """Makes one change durable, then visible."""
        if after is None:
            assert before is not None
            await self._documents.apply([Delete(KIND, "/".join(before.key))])
            self._leave(before)
            return
        self._claims[after.key] = after
        self._index(after)
        try:
            await self._documents.apply(
                [Put(KIND, "/".join(after.key), msgspec.json.encode(after))]
            )
        except BaseException:
            if before is None:
                self._unindex(after)
            raise
        finally:
            del self._claims[after.key]
        if before is not None:
            self._leave(before)
        self._enter(after)

    def _enter(self, mapping: EventSourceMapping) -> None:
        account, region, uuid = mapping.key
        self._mappings[mapping.key] = mapping
        insort(self._uuids[account, region], uuid)
        self._index(mapping)

    def _leave(self, mapping: EventSourceMapping) -> None:
        account, region, uuid = mapping.key
        del self._mappings[mapping.key]
        uuids = self._uuids[account, region]
        del uuids[bisect_left(uuids, uuid)]
        self._unindex(mapping)

    def _index(self, mapping: EventSourceMapping) -> None:
        for source in mapping.sources:
            self._by_source[mapping.account, mapping.region, source].add(mapping.uuid)

    def _unindex(self, mapping: EventSourceMapping) -> None:
        for source in mapping.sources:
            self._by_source[mapping.account, mapping.region, source].discard(mapping.uuid)

    def _keys_by_source(
        self, account: str, region: str, sources: Iterable[str]
    ) -> list[MappingKey]:
        found: set[str] = set()
        for source in sources:
            found |= self._by_source.get((account, region, source), set())
        return [(account, region, uuid) for uuid in sorted(found)]
