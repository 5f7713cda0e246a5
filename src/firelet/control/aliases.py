"""Create, read, update and delete aliases.

An alias names one version, or two by weight. Called by ``frontend.aliases``.
Source: docs.aws.amazon.com/lambda/latest/dg/configuring-alias-routing.html; recorded messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from firelet.control.activation import new_revision_id
from firelet.control.catalog import Catalog
from firelet.control.mutations import Mutations
from firelet.control.provisioned import check_alias
from firelet.control.qualifiers import without_qualifier
from firelet.control.targets import not_found
from firelet.control.versions import check_revision
from firelet.model import limits
from firelet.model.arn import LATEST, format_function_arn
from firelet.model.errors import InvalidParameterValue, ResourceConflict, ResourceNotFound
from firelet.model.function import Alias, Function, FunctionKey, FunctionVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasChange:
    """What UpdateAlias sets. None: as it was; empty weights remove the routing."""

    version: str | None = None
    description: str | None = None
    weights: Mapping[str, float] | None = None
    revision_id: str | None = None


class Aliases:
    """The operations on aliases."""

    def __init__(self, catalog: Catalog, mutations: Mutations) -> None:
        self._catalog = catalog
        self._mutations = mutations

    def get(self, key: FunctionKey, name: str) -> Alias:
        """ResourceNotFound when the function or the alias is not there."""
        alias = self._catalog.get(key).aliases.get(name)
        if alias is None:
            raise ResourceNotFound(f"Cannot find alias arn: {alias_arn(key, name)}")
        return alias

    def all(self, key: FunctionKey, version: str | None = None) -> list[Alias]:
        """The aliases of a function, or those that point to one of its versions, by name."""
        aliases = self._catalog.get(key).aliases
        return [
            aliases[name]
            for name in sorted(aliases)
            if version is None
            or version == aliases[name].version
            or version in aliases[name].weights
        ]

    async def create(
        self,
        key: FunctionKey,
        name: str,
        version: str,
        description: str = "",
        weights: Mapping[str, float] | None = None,
    ) -> Alias:
        """ResourceConflict when there is one of that name."""
        alias = Alias(
            name=name,
            version=version,
            description=description,
            weights=dict(weights or {}),
            revision_id=new_revision_id(),
        )
        return await self._mutations.carry_out(self._create(key, alias))

    async def update(self, key: FunctionKey, name: str, change: AliasChange) -> Alias:
        """PreconditionFailed when the alias has changed since the caller looked."""
        return await self._mutations.carry_out(self._update(key, name, change))

    async def delete(self, key: FunctionKey, name: str) -> None:
        """Deleting an alias that does not exist succeeds, as on AWS."""
        await self._mutations.carry_out(self._delete(key, name))

    async def _create(self, key: FunctionKey, alias: Alias) -> Alias:
        async with self._mutations.lock(key):
            function = self._catalog.get(key, alias.version)
            _check_target(function, alias)
            if alias.name in function.aliases:
                raise ResourceConflict(f"Alias already exists: {alias_arn(key, alias.name)}")
            _check_routing(function, alias)
            await self._put(function, alias)
            return alias

    async def _update(self, key: FunctionKey, name: str, change: AliasChange) -> Alias:
        async with self._mutations.lock(key):
            function = self._catalog.get(key)
            before = function.aliases.get(name)
            if before is None:
                raise ResourceNotFound(f"Alias not found: {alias_arn(key, name)}")
            check_revision(before.revision_id, change.revision_id)
            alias = replace(
                before,
                version=before.version if change.version is None else change.version,
                description=(
                    before.description if change.description is None else change.description
                ),
                weights=before.weights if change.weights is None else dict(change.weights),
                revision_id=new_revision_id(),
            )
            _check_target(function, alias)
            _check_routing(function, alias)
            if name in function.provisioned:
                check_alias(function, alias)
            await self._put(function, alias)
            return alias

    async def _delete(self, key: FunctionKey, name: str) -> None:
        async with self._mutations.lock(key):
            function = self._catalog.get(key)
            if name in function.aliases:
                await self._catalog.commit(function, without_qualifier(function, name))

    async def _put(self, function: Function, alias: Alias) -> None:
        aliases = {**function.aliases, alias.name: alias}
        await self._catalog.commit(function, replace(function, aliases=aliases))


def alias_arn(key: FunctionKey, name: str) -> str:
    """AliasArn."""
    return format_function_arn(key[1], key[0], key[2], name)


def _check_target(function: Function, alias: Alias) -> None:
    if alias.version != LATEST and alias.version not in function.versions:
        raise not_found(function.key, alias.version)


def _check_routing(function: Function, alias: Alias) -> None:
    if len(alias.weights) > limits.ROUTING_VERSIONS_MAX:
        raise InvalidParameterValue(
            "Number of items in AdditionalVersionWeights cannot be greater than"
            f" {limits.ROUTING_VERSIONS_MAX}"
        )
    for version in alias.weights:
        if LATEST in (alias.version, version):
            raise InvalidParameterValue(
                "$LATEST is not supported for an alias pointing to more than 1 version"
            )
        if version == alias.version:
            raise InvalidParameterValue(
                f"Invalid function version {version}. Function version {version} is already"
                " included in routing configuration."
            )
        if version not in function.versions:
            raise not_found(function.key, version)
        _check_alike(function.versions[alias.version], function.versions[version])


def _check_alike(first: FunctionVersion, second: FunctionVersion) -> None:
    """Source: the guide, rules for weighted aliases; the sentences are firelet's own."""
    if first.role != second.role:
        raise InvalidParameterValue(
            "The versions that a weighted alias points to must have the same execution role."
        )
    if first.extras.get("DeadLetterConfig") != second.extras.get("DeadLetterConfig"):
        raise InvalidParameterValue(
            "The versions that a weighted alias points to must have the same dead-letter queue"
            " configuration, or no dead-letter queue configuration."
        )
