"""Media types as ``binaryMediaTypes`` and templates name them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

JSON = "application/json"


def matches(patterns: Iterable[str], header: str) -> bool:
    """Whether the type of a Content-Type header, or the first of an Accept header, is one of
    ``patterns``, which may be ``*/*`` or ``image/*``. ``*/*`` is also what has no type."""
    kind = first_type(header)
    main = kind.partition("/")[0]
    return any(
        pattern == "*/*"
        or pattern.lower() == kind
        or (pattern.endswith("/*") and pattern[:-2].lower() == main)
        for pattern in patterns
    )


def first_type(header: str) -> str:
    """The first type of a header without its parameters, in lower case."""
    return header.split(",", 1)[0].split(";", 1)[0].strip().lower()


def choose(by_type: Mapping[str, T], header: str) -> tuple[str, T] | None:
    """The entry for the type of ``header``; JSON when it names none."""
    kind = first_type(header) or JSON
    found = by_type.get(kind)
    return None if found is None else (kind, found)
