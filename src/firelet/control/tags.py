"""Tags: the rules about them, and the tags of functions. Called by ``frontend.tags``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from firelet.control.activation import Activations, new_revision_id
from firelet.control.catalog import Catalog
from firelet.control.mutations import Mutations
from firelet.model import limits
from firelet.model.errors import InvalidParameterValue
from firelet.model.function import FunctionKey, FunctionVersion, with_tags

RESERVED_PREFIX = "aws:"


def check_tags(tags: Mapping[str, str]) -> None:
    """The rules about all tags of one resource together."""
    if any(key.lower().startswith(RESERVED_PREFIX) for key in tags):
        raise InvalidParameterValue(
            f"{RESERVED_PREFIX} prefixed tag key names are not allowed for external use."
        )
    if len(tags) > limits.TAGS_MAX:
        raise InvalidParameterValue("Number of tags exceeds resource tag limit.")


def check_added(tags: Mapping[str, str]) -> None:
    """AWS takes a request without tags for broken."""
    if not tags:
        raise InvalidParameterValue("An error occurred and the request cannot be processed.")


def change_tags(
    tags: Mapping[str, str], added: Mapping[str, str], removed: Iterable[str]
) -> dict[str, str]:
    """The tags of a resource after a change; InvalidParameterValue when that may not be."""
    gone = set(removed)
    after = {name: value for name, value in tags.items() if name not in gone} | dict(added)
    check_tags(after)
    return after


class Tags:
    """The operations on tags. A change gives ``$LATEST`` a new RevisionId, as on AWS. One that asks
    for another isolation replaces what runs."""

    def __init__(self, catalog: Catalog, mutations: Mutations, activations: Activations) -> None:
        self._catalog = catalog
        self._mutations = mutations
        self._activations = activations

    def all(self, key: FunctionKey) -> Mapping[str, str]:
        return self._catalog.get(key).tags

    async def add(self, key: FunctionKey, tags: Mapping[str, str]) -> None:
        """Sets tags; those of other names stay."""
        check_added(tags)
        await self._carry_out(key, tags, ())

    async def remove(self, key: FunctionKey, names: Iterable[str]) -> None:
        """Removes tags by name; names that are not there do not matter."""
        await self._carry_out(key, {}, tuple(names))

    async def _carry_out(
        self, key: FunctionKey, added: Mapping[str, str], removed: tuple[str, ...]
    ) -> None:
        restarted = await self._mutations.carry_out(self._change(key, added, removed))
        if restarted is not None:
            await self._activations.before_answer(restarted)

    async def _change(
        self, key: FunctionKey, added: Mapping[str, str], removed: tuple[str, ...]
    ) -> FunctionVersion | None:
        """``$LATEST`` if it is made ready anew."""
        async with self._mutations.lock(key):
            function = self._catalog.get(key)
            after = with_tags(function, change_tags(function.tags, added, removed))
            after = replace(after, latest=replace(after.latest, revision_id=new_revision_id()))
            await self._catalog.commit(function, after)
            if after.latest.isolation is function.latest.isolation:
                return None
            await self._activations.restart(after)
            return after.latest
