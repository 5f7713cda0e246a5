"""Operations on aliases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.control.aliases import AliasChange, alias_arn
from firelet.control.registry import Registry
from firelet.frontend.function_names import parse_function_name
from firelet.frontend.markers import cut_page
from firelet.frontend.operations import Call, Operations, Reply
from firelet.model import limits
from firelet.model.function import Alias, FunctionKey


class AliasOperations:
    """The family of aliases."""

    def __init__(self, registry: Registry) -> None:
        self._aliases = registry.aliases

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("CreateAlias", self.create_alias),
            ("GetAlias", self.get_alias),
            ("UpdateAlias", self.update_alias),
            ("ListAliases", self.list_aliases),
        ):
            operations.add("lambda", name, handler)
        operations.add("lambda", "DeleteAlias", self.delete_alias)

    async def create_alias(self, call: Call) -> Mapping[str, Any]:
        key = parse_function_name(call)
        alias = await self._aliases.create(
            key,
            call.params["Name"],
            call.params["FunctionVersion"],
            call.params.get("Description") or "",
            _parse_weights(call.params),
        )
        return format_alias(key, alias)

    async def get_alias(self, call: Call) -> Mapping[str, Any]:
        key = parse_function_name(call)
        return format_alias(key, self._aliases.get(key, call.params["Name"]))

    async def update_alias(self, call: Call) -> Mapping[str, Any]:
        key = parse_function_name(call)
        change = AliasChange(
            version=call.params.get("FunctionVersion"),
            description=call.params.get("Description"),
            weights=_parse_weights(call.params),
            revision_id=call.params.get("RevisionId"),
        )
        return format_alias(key, await self._aliases.update(key, call.params["Name"], change))

    async def list_aliases(self, call: Call) -> Mapping[str, Any]:
        key = parse_function_name(call)
        aliases = self._aliases.all(key, call.params.get("FunctionVersion"))
        page, marker = cut_page(
            aliases, lambda alias: (alias.name,), call.params, limits.ALIASES_PER_PAGE
        )
        return {"Aliases": [format_alias(key, alias) for alias in page], **marker}

    async def delete_alias(self, call: Call) -> Reply:
        await self._aliases.delete(parse_function_name(call), call.params["Name"])
        return Reply(status=204)


def format_alias(key: FunctionKey, alias: Alias) -> dict[str, Any]:
    """AliasConfiguration."""
    shape: dict[str, Any] = {
        "AliasArn": alias_arn(key, alias.name),
        "Name": alias.name,
        "FunctionVersion": alias.version,
        "Description": alias.description,
        "RevisionId": alias.revision_id,
    }
    if alias.weights:
        shape["RoutingConfig"] = {"AdditionalVersionWeights": dict(alias.weights)}
    return shape


def _parse_weights(params: Mapping[str, Any]) -> Mapping[str, float] | None:
    """None when the routing was not mentioned; an empty one takes the routing away."""
    routing = params.get("RoutingConfig")
    return None if routing is None else routing.get("AdditionalVersionWeights") or {}
