"""Operations on tags, of functions. Other resources have no tags here yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.control.registry import Registry
from firelet.control.targets import function_key
from firelet.frontend.operations import Call, Operations, Reply
from firelet.model.arn import parse_function_ref
from firelet.model.errors import InvalidParameterValue, ResourceNotFound
from firelet.model.function import FunctionKey

# What AWS says of resources that are not there. Source: recorded messages.
_MISSING = {
    "event-source-mapping": "Event source mapping not found: {arn}",
    "code-signing-config": "The Lambda code signing configuration {arn} can not be found.",
    "capacity-provider": "Capacity provider not found: {arn}",
}


class TagOperations:
    """The family of tags."""

    def __init__(self, registry: Registry) -> None:
        self._tags = registry.tags

    def register(self, operations: Operations) -> None:
        operations.add("lambda", "TagResource", self.tag_resource)
        operations.add("lambda", "UntagResource", self.untag_resource)
        operations.add("lambda", "ListTags", self.list_tags)

    async def tag_resource(self, call: Call) -> Reply:
        await self._tags.add(_parse_resource(call), call.params["Tags"])
        return Reply(status=204)

    async def untag_resource(self, call: Call) -> Reply:
        await self._tags.remove(_parse_resource(call), call.params["TagKeys"])
        return Reply(status=204)

    async def list_tags(self, call: Call) -> Mapping[str, Any]:
        return {"Tags": dict(self._tags.all(_parse_resource(call)))}


def _parse_resource(call: Call) -> FunctionKey:
    """The function that ``Resource``, an ARN, names."""
    arn: str = call.params["Resource"]
    kind = arn.split(":")[5]
    if kind != "function":
        sentence = _MISSING.get(kind, "The resource you requested does not exist.")
        raise ResourceNotFound(sentence.format(arn=arn))
    ref = parse_function_ref(arn)
    if ref.qualifier is not None:
        raise InvalidParameterValue(
            "Tags on function aliases and versions are not supported. Please specify a function"
            " ARN."
        )
    return function_key(call.account, call.region, ref, call.operation)
