"""The operations of Lambda without HTTP: parameters checked as the router does, answers too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from firelet.control.registry import Registry
from firelet.frontend.operations import Operations, Reply
from firelet.wire.aws.model import Shape, load_services
from firelet.wire.aws.validate import Validator
from registry_parts import make_call

_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "long": int,
    "boolean": bool,
    "double": (int, float),
    "timestamp": datetime,
}
(_MODEL,) = load_services(["lambda"])


class LambdaApi:
    """Some families over one registry. ``call`` is about the function ``greeter`` unless told."""

    def __init__(self, registry: Registry, *families: Callable[[Registry], Any]) -> None:
        self.registry = registry
        self._operations = Operations()
        self._validator = Validator()
        for family in families:
            family(registry).register(self._operations)

    async def call(self, operation: str, **params: Any) -> Any:
        """The members of the answer; for a ``Reply`` without any, its status."""
        handler = self._operations.find("lambda", operation)
        assert handler is not None, operation
        model = _MODEL.operations[operation]
        assert model.input is not None
        if "FunctionName" in model.input.members:
            params.setdefault("FunctionName", "greeter")
        self._validator.check(model, params)
        answer = await handler(make_call(operation, **params))
        if isinstance(answer, Reply):
            return answer.status
        assert model.output is not None
        check_shape(answer, model.output)
        return answer

    async def pages(self, operation: str, member: str, **params: Any) -> list[list[Any]]:
        """Every page of a list, by its markers."""
        pages, marker = [], {}
        while True:
            answer = await self.call(operation, **params, **marker)
            pages.append(answer[member])
            if "NextMarker" not in answer:
                return pages
            marker = {"Marker": answer["NextMarker"]}


def check_shape(value: Any, shape: Shape) -> None:
    """Every member is one of the model and of its type, and what the model requires is there."""
    if shape.type == "structure":
        assert isinstance(value, Mapping)
        assert not set(shape.required) - set(value)
        for name, inner in value.items():
            check_shape(inner, shape.members[name].shape)
    elif shape.type == "list":
        for inner in value:
            check_shape(inner, shape.element.shape)
    elif shape.type == "map":
        for inner in value.values():
            check_shape(inner, shape.value.shape)
    else:
        assert isinstance(value, _TYPES[shape.type])
        assert not shape.enum or value in shape.enum
