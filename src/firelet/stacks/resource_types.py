"""What a type of resource is to the engine: how it is made, changed and deleted.

The port that ``lambda_types``, ``iam_types`` and ``logs_types`` implement with AWS API calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Properties = Mapping[str, Any]
# Makes a client of a service; botocore's clients have no static types.
Clients = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Made:
    """A resource that exists now: what Ref and what Fn::GetAtt give."""

    physical_id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


class ResourceType(Protocol):
    """One type. Properties are evaluated. What the API refuses is raised as it comes."""

    @property
    def immutable(self) -> frozenset[str] | None:
        """Properties whose change takes a new resource; None for all of them."""

    def create(self, name: str, properties: Properties) -> Made:
        """``name`` is for what the template leaves unnamed."""

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        """Changes what differs."""

    def delete(self, physical_id: str, properties: Properties) -> None:
        """Deletes it; one that is not there is no error."""


def map_tags(properties: Properties) -> dict[str, str]:
    """CloudFormation's list of tags as the map that most APIs take."""
    tags = properties.get("Tags") or []
    if isinstance(tags, Mapping):
        return dict(tags)
    return {tag["Key"]: tag["Value"] for tag in tags}


def without(properties: Properties, names: Sequence[str]) -> dict[str, Any]:
    """The properties but for some."""
    return {name: value for name, value in properties.items() if name not in names}


def format_document(document: Any) -> str:
    """A policy document as the text that APIs take."""
    return document if isinstance(document, str) else json.dumps(document)


def is_missing(error: Exception) -> bool:
    """Whether an API refused because there is no such thing."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    return code in ("ResourceNotFoundException", "NoSuchEntity")
