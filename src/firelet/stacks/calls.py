"""Clients that take a template's values: texts for numbers and the other way round.

Parameters are texts and YAML guesses, so that ``Timeout`` may be ``"5"`` and a tag's value ``5``.
CloudFormation turns each into what the API wants; so does this, by botocore's model of the call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_TRUTHS = {"true": True, "false": False}


class LenientClient:
    """A botocore client whose operations convert scalars; all else is the client's own."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        operation = self._client.meta.method_to_api_mapping.get(name)
        if operation is None:
            return found
        model = self._client.meta.service_model.operation_model(operation)
        return _converting(found, model.input_shape)


def convert(shape: Any, value: Any) -> Any:
    """``value`` with every scalar as the shape wants it; what does not fit stays, and is refused
    by botocore in its own words."""
    match shape.type_name, value:
        case "structure", Mapping():
            members = shape.members
            return {
                name: convert(members[name], item) if name in members else item
                for name, item in value.items()
            }
        case "list", list():
            return [convert(shape.member, item) for item in value]
        case "map", Mapping():
            return {str(key): convert(shape.value, item) for key, item in value.items()}
        case "string", bool():
            return str(value).lower()
        case "string", int() | float():
            return str(value)
        case (("integer" | "long"), str()) if value.removeprefix("-").isdigit():
            return int(value)
        case (("float" | "double"), str()):
            return float(value)
        case "boolean", str():
            return _TRUTHS.get(value.lower(), value)
    return value


def _number(kind: type[int] | type[float], text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        return text


def _converting(call: Callable[..., Any], shape: Any) -> Callable[..., Any]:
    def converted(**params: Any) -> Any:
        return call(**(params if shape is None else convert(shape, params)))

    return converted
