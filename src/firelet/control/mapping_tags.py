"""The tags of event source mappings. Called by ``frontend.tags``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from firelet.control.mapping_catalog import MappingCatalog
from firelet.control.mutations import Mutations
from firelet.control.tags import change_tags, check_added
from firelet.model.errors import ResourceNotFound
from firelet.model.mapping import EventSourceMapping, MappingKey, format_mapping_arn


class MappingTags:
    """The operations on tags. They are no part of the configuration: a change of them leaves the
    state of the mapping alone."""

    def __init__(self, mappings: MappingCatalog, mutations: Mutations) -> None:
        self._mappings = mappings
        self._mutations = mutations

    def all(self, key: MappingKey) -> Mapping[str, str]:
        return self._get(key).tags

    async def add(self, key: MappingKey, tags: Mapping[str, str]) -> None:
        """Sets tags; those of other names stay."""
        check_added(tags)
        await self._mutations.carry_out(self._change(key, tags, ()))

    async def remove(self, key: MappingKey, names: Iterable[str]) -> None:
        """Removes tags by name; names that are not there do not matter."""
        await self._mutations.carry_out(self._change(key, {}, tuple(names)))

    async def _change(
        self, key: MappingKey, added: Mapping[str, str], removed: tuple[str, ...]
    ) -> None:
        async with self._mutations.lock(key):
            before = self._get(key)
            tags = change_tags(before.tags, added, removed)
            await self._mappings.commit(before, replace(before, tags=tags))

    def _get(self, key: MappingKey) -> EventSourceMapping:
        mapping = self._mappings.find(key)
        if mapping is None:
            raise ResourceNotFound(f"Event source mapping not found: {format_mapping_arn(key)}")
        return mapping
