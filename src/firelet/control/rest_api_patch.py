"""PATCH as API Gateway knows it: a list of operations, each with a path into a setting.

What it is: pure, from settings and operations to settings, by a schema that says which paths a
kind of resource has. What it is not: RFC 6902, which it looks like: values are always text, maps
are changed key by key, and a list by its items. Called by the ``frontend.apigateway*`` families.

Source: https://docs.aws.amazon.com/apigateway/latest/api/patch-operations.html
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from firelet.control.api_errors import BadRequest

Operation = Mapping[str, str]
Scalar = Callable[[str, str], Any]


class Entries:
    """A map of text: ``/variables/colour``. ``flag``: its values are booleans."""

    def __init__(self, parse: Scalar | None = None) -> None:
        self.parse = parse or text


class Items:
    """A list of text: by item, ``/binaryMediaTypes/image~1png``, or by number, ``/types/0``."""


Schema: TypeAlias = Mapping[str, "Scalar | Entries | Items | Schema"]


def text(value: str, path: str) -> str:
    return value


def flag(value: str, path: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise BadRequest(f"Invalid value specified for patch path '{path}': {value}")
    return value.lower() == "true"


def integer(value: str, path: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise BadRequest(f"Invalid value specified for patch path '{path}': {value}") from None


def number(value: str, path: str) -> float:
    try:
        parsed = float(value)
    except ValueError:
        parsed = math.nan
    if not math.isfinite(parsed):
        raise BadRequest(f"Invalid value specified for patch path '{path}': {value}")
    return parsed


def apply_patch(
    schema: Schema, settings: Mapping[str, Any], operations: Sequence[Operation]
) -> dict[str, Any]:
    """The settings after all operations, in their order. BadRequest, and then nothing is changed.
    Settings are not changed in place."""
    patched = dict(settings)
    for operation in operations:
        tokens = split_path(operation.get("path", ""))
        _apply(schema, patched, tokens, operation, schema)
    return patched


def split_path(path: str) -> list[str]:
    """Tokens of a JSON pointer (RFC 6901)."""
    if not path.startswith("/"):
        raise BadRequest(f"Invalid patch path '{path}'")
    return [token.replace("~1", "/").replace("~0", "~") for token in path[1:].split("/")]


def refuse(operation: Operation, allowed: Schema) -> BadRequest:
    """AWS's sentence for a path that a resource does not have."""
    paths = ", ".join(f"/{name}" for name in sorted(allowed))
    return BadRequest(
        f"Invalid patch path '{operation.get('path')}' specified for op"
        f" '{operation.get('op')}'. Must be one of: [{paths}]"
    )


def _apply(
    schema: Schema, at: dict[str, Any], tokens: list[str], operation: Operation, top: Schema
) -> None:
    name, rest = tokens[0], tokens[1:]
    kind = schema.get(name)
    if kind is None:
        raise refuse(operation, top)
    if isinstance(kind, Entries):
        _apply_entry(kind, at, name, rest, operation, top)
    elif isinstance(kind, Items):
        _apply_item(at, name, rest, operation)
    elif isinstance(kind, Mapping):
        _apply_structure(kind, at, name, rest, operation, top)
    elif rest:
        raise refuse(operation, top)
    elif _op(operation) == "remove":
        at.pop(name, None)
    else:
        at[name] = kind(_value(operation), operation["path"])


def _apply_structure(
    schema: Schema,
    at: dict[str, Any],
    name: str,
    rest: list[str],
    operation: Operation,
    top: Schema,
) -> None:
    if not rest:
        if _op(operation) != "remove":
            raise refuse(operation, top)
        at.pop(name, None)
        return
    inner = dict(at.get(name) or {})
    _apply(schema, inner, rest, operation, top)
    at[name] = inner


def _apply_entry(
    kind: Entries,
    at: dict[str, Any],
    name: str,
    rest: list[str],
    operation: Operation,
    top: Schema,
) -> None:
    entries = dict(at.get(name) or {})
    if not rest:
        if _op(operation) != "remove":
            raise refuse(operation, top)
        entries = {}
    elif _op(operation) == "remove":
        entries.pop("/".join(rest), None)
    else:
        # Of an empty value AWS keeps the key: an integration's templates have such.
        entries["/".join(rest)] = kind.parse(operation.get("value", ""), operation["path"])
    at[name] = entries


def _apply_item(at: dict[str, Any], name: str, rest: list[str], operation: Operation) -> None:
    items = list(at.get(name) or ())
    op = _op(operation)
    given = "/".join(rest) if rest else operation.get("value", "")
    if rest and given.isascii() and given.isdigit():
        _apply_number(items, int(given), operation)
    elif op == "remove":
        items = [item for item in items if item != given]
    elif op == "replace" and not rest:
        items = [given]
    elif op == "replace":
        items = [_value(operation) if item == given else item for item in items]
    elif given not in items:
        items.append(given)
    at[name] = items


def _apply_number(items: list[str], index: int, operation: Operation) -> None:
    if index > len(items) or (index == len(items) and _op(operation) == "remove"):
        raise BadRequest(f"Invalid patch path '{operation['path']}': there is no such item")
    items[index : index + 1] = [] if _op(operation) == "remove" else [_value(operation)]


def _op(operation: Operation) -> str:
    op = operation.get("op", "")
    if op not in ("add", "remove", "replace"):
        raise BadRequest(f"Patch operation '{op}' is not supported here")
    return op


def _value(operation: Operation) -> str:
    value = operation.get("value")
    if value is None:
        raise BadRequest(f"Patch operation on '{operation['path']}' needs a value")
    return value
