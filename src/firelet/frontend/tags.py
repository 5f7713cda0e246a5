"""Operations on tags, of every kind of resource that has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from firelet.control.registry import Registry
from firelet.control.targets import function_key
from firelet.frontend.operations import Call, Operations, Reply
from firelet.model.arn import parse_function_ref
from firelet.model.errors import InvalidParameterValue, ResourceNotFound

# What AWS says of resources that are not there. Source: recorded messages.
_MISSING = {
    "event-source-mapping": "Event source mapping not found: {arn}",
    "code-signing-config": "The Lambda code signing configuration {arn} can not be found.",
    "capacity-provider": "Capacity provider not found: {arn}",
}

# Account, region and name of a resource, as its ARN has them.
ResourceKey = tuple[str, str, str]


class Tagged(Protocol):
    """The resources of one kind. A key that is not there is ResourceNotFound."""

    def all(self, key: ResourceKey) -> Mapping[str, str]: ...

    async def add(self, key: ResourceKey, tags: Mapping[str, str]) -> None: ...

    async def remove(self, key: ResourceKey, names: Iterable[str]) -> None: ...


class TaggedResources:
    """Whose tags an ARN means."""

    def __init__(self, registry: Registry) -> None:
        # By the kind that an ARN names.
        self._resources: Mapping[str, Tagged] = {
            "function": registry.tags,
            "event-source-mapping": registry.mappings.tags,
            "code-signing-config": registry.code_signing.tags,
        }

    def find(self, call: Call, arn: str) -> tuple[Tagged, ResourceKey]:
        """The resource that ``arn``, of the service ``lambda``, names; ResourceNotFound."""
        _, _, _, region, account, kind, name = arn.split(":", 6)
        resources = self._resources.get(kind)
        if resources is not None and kind == "function":
            return resources, _parse_function(call, arn)
        if resources is None or (account, region) != (call.account, call.region):
            sentence = _MISSING.get(kind, "The resource you requested does not exist.")
            raise ResourceNotFound(sentence.format(arn=arn))
        return resources, (account, region, name)


class TagOperations:
    """The family of tags."""

    def __init__(self, registry: Registry) -> None:
        self._resources = TaggedResources(registry)

    def register(self, operations: Operations) -> None:
        operations.add("lambda", "TagResource", self.tag_resource)
        operations.add("lambda", "UntagResource", self.untag_resource)
        operations.add("lambda", "ListTags", self.list_tags)

    async def tag_resource(self, call: Call) -> Reply:
        resources, key = self._find(call)
        await resources.add(key, call.params["Tags"])
        return Reply(status=204)

    async def untag_resource(self, call: Call) -> Reply:
        resources, key = self._find(call)
        await resources.remove(key, call.params["TagKeys"])
        return Reply(status=204)

    async def list_tags(self, call: Call) -> Mapping[str, Any]:
        resources, key = self._find(call)
        return {"Tags": dict(resources.all(key))}

    def _find(self, call: Call) -> tuple[Tagged, ResourceKey]:
        return self._resources.find(call, call.params["Resource"])


def _parse_function(call: Call, arn: str) -> ResourceKey:
    ref = parse_function_ref(arn)
    if ref.qualifier is not None:
        raise InvalidParameterValue(
            "Tags on function aliases and versions are not supported. Please specify a function"
            " ARN."
        )
    return function_key(call.account, call.region, ref, call.operation)
