"""Qualifiers: what a version or an alias has of its own, and what goes with it. Pure.

``$LATEST`` stands for the function without a qualifier here. Called by the nouns of the registry
that keep something for each qualifier (``policies``, ``urls``, ``event_invoke`` …).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from firelet.control.activation import new_revision_id
from firelet.control.targets import not_found
from firelet.model.arn import LATEST, format_function_arn
from firelet.model.errors import ResourceNotFound
from firelet.model.function import Function, FunctionKey

T = TypeVar("T")

_ALIAS = re.compile(r"(?!\d+$)[a-zA-Z0-9_-]+")


def qualified_arn(key: FunctionKey, qualifier: str | None) -> str:
    """The ARN of a function, or of what its qualifier names."""
    return format_function_arn(key[1], key[0], key[2], qualifier)


def has_qualifier(function: Function, qualifier: str) -> bool:
    """Whether the function has such a version or alias."""
    return qualifier == LATEST or qualifier in function.versions or qualifier in function.aliases


def missing_qualifier(key: FunctionKey, qualifier: str) -> ResourceNotFound:
    """AWS's sentence for a version or alias that is not there."""
    if _ALIAS.fullmatch(qualifier):
        return ResourceNotFound(f"Cannot find alias arn: {qualified_arn(key, qualifier)}")
    return not_found(key, qualifier)


def revision_of(function: Function, qualifier: str) -> str:
    """The RevisionId of what a qualifier names."""
    if qualifier == LATEST:
        return function.latest.revision_id
    alias = function.aliases.get(qualifier)
    return function.versions[qualifier].revision_id if alias is None else alias.revision_id


def with_new_revision(function: Function, qualifier: str) -> Function:
    """The same function, of which what a qualifier names has changed."""
    fresh = new_revision_id()
    if qualifier == LATEST:
        return replace(function, latest=replace(function.latest, revision_id=fresh))
    alias = function.aliases.get(qualifier)
    if alias is not None:
        changed = replace(alias, revision_id=fresh)
        return replace(function, aliases={**function.aliases, qualifier: changed})
    version = replace(function.versions[qualifier], revision_id=fresh)
    return replace(function, versions={**function.versions, qualifier: version})


def without_qualifier(function: Function, qualifier: str) -> Function:
    """The same function without a version or alias and everything that is kept for it."""

    return replace(
        function,
        versions=without(function.versions, qualifier),
        aliases=without(function.aliases, qualifier),
        provisioned=without(function.provisioned, qualifier),
        policies=without(function.policies, qualifier),
        urls=without(function.urls, qualifier),
        event_invoke=without(function.event_invoke, qualifier),
        runtime_management=without(function.runtime_management, qualifier),
    )


def without(kept: Mapping[str, T], qualifier: str) -> dict[str, T]:
    """What is kept by qualifier, less one of them."""
    return {name: value for name, value in kept.items() if name != qualifier}
