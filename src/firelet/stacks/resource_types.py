"""What a type of resource is to the engine: how it is found, made, changed and deleted.

The port that ``function_types``, ``access_types``, ``iam_types`` and ``logs_types`` implement with
AWS API calls; ``schemas`` says what each type takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from firelet.stacks.errors import is_missing
from firelet.stacks.schemas import Schema

Properties = Mapping[str, Any]
# Makes a client of a service; botocore's clients have no static types.
Clients = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Made:
    """A resource that exists now: what Ref and what Fn::GetAtt give."""

    physical_id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


class ResourceType(Protocol):
    """One type. Properties are evaluated. What the API refuses is raised as it comes.

    An update or a deletion may find the work half done, by a deployment that was killed: a part
    that is already as it should be is no error.
    """

    @property
    def schema(self) -> Schema: ...

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        """Physical ids of those things, of what exists now, that a creation with this name and
        these properties could have made."""

    def create(self, name: str, properties: Properties) -> Made:
        """``name`` is for what the template leaves unnamed."""

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        """Changes what differs."""

    def delete(self, physical_id: str, properties: Properties) -> None:
        """Deletes it. What is not there is no error."""


def unless_missing(call: Callable[..., Any], **params: Any) -> Any:
    """The answer of a call; None when there is no such thing."""
    try:
        return call(**params)
    except Exception as error:
        if not is_missing(error):
            raise
        return None


def map_tags(properties: Properties) -> dict[str, str]:
    """CloudFormation's list of tags as the map that most APIs take."""
    tags = properties.get("Tags") or []
    if isinstance(tags, Mapping):
        return dict(tags)
    return {tag["Key"]: tag["Value"] for tag in tags}


def without(properties: Properties, names: Sequence[str] | frozenset[str]) -> dict[str, Any]:
    """The properties but for some."""
    return {name: value for name, value in properties.items() if name not in names}


def format_document(document: Any) -> str:
    """A policy document as the text that APIs take."""
    return document if isinstance(document, str) else json.dumps(document)
