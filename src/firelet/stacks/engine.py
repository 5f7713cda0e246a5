"""A template becomes what it says: resources made, changed, replaced and deleted.

By difference with the state of the last deployment: the properties that a resource was given, and
those that the template gives it now. Everything that can be checked is checked before the first
change. There is no way back: when a change fails, the state holds what has been made so far, and
the next deployment goes on from there.
Called by ``firelet deploy`` and ``firelet delete``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from firelet.stacks.errors import StackError
from firelet.stacks.intrinsics import Evaluator
from firelet.stacks.references import order_resources
from firelet.stacks.resource_types import Made, Properties, ResourceType, is_missing
from firelet.stacks.state import ResourceState, StackState
from firelet.stacks.template import Resource, Template

_NAME_MAX = 64
_SUFFIX = 12


class Action(StrEnum):
    """What is done to a resource."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    KEEP = "keep"
    DELETE = "delete"
    RETAIN = "retain"


@dataclass(frozen=True, slots=True)
class Change:
    """One resource and what was done to it."""

    action: Action
    logical_id: str
    type: str
    physical_id: str


class Engine:
    """``types`` are the supported ones by name; ``save`` is called after each change of the state;
    ``report`` hears of each change once it is made."""

    def __init__(
        self,
        types: Mapping[str, ResourceType],
        save: Callable[[StackState], None],
        report: Callable[[Change], None],
    ) -> None:
        self._types = types
        self._save = save
        self._report = report

    def deploy(self, template: Template, known: Mapping[str, Any], state: StackState) -> None:
        """Makes ``state`` what the template says. ``known`` has the values of parameters and
        pseudo parameters. StackError before any change for what is not supported."""
        self.check(template)
        order = order_resources(template)
        evaluator = Evaluator(template, known, state.resources)
        wanted = [
            template.resources[name]
            for name in order
            if _is_wanted(template.resources[name], evaluator)
        ]
        for resource in wanted:
            self._bring_about(resource, evaluator, state)
        names = {resource.logical_id for resource in wanted}
        self._delete_rest(state, names)
        state.outputs = {
            name: evaluator.value(output["Value"])
            for name, output in template.outputs.items()
            if "Condition" not in output or evaluator.condition(output["Condition"])
        }
        self._save(state)

    def delete(self, state: StackState) -> None:
        """Deletes everything, last made first."""
        self._delete_rest(state, set())

    def check(self, template: Template) -> None:
        """Names each type that is not supported."""
        unknown = sorted(
            f"{resource.logical_id} ({resource.type})"
            for resource in template.resources.values()
            if resource.type not in self._types
        )
        if unknown:
            raise StackError(
                f"not supported, and so nothing was changed: {', '.join(unknown)}."
                f" The supported types are {', '.join(sorted(self._types))}"
            )

    def _bring_about(self, resource: Resource, evaluator: Evaluator, state: StackState) -> None:
        kind, name = self._types[resource.type], resource.logical_id
        properties: Properties = evaluator.value(resource.properties)
        before = state.resources.get(name)
        action = decide(before, resource.type, properties, kind.immutable)
        if before is not None and action is Action.KEEP:
            made = Made(before.physical_id, before.attributes)
        elif before is not None and action is Action.UPDATE:
            made = self._update(kind, name, before, properties, state)
        else:
            made = kind.create(_make_name(state.name, name), properties)
            if before is not None and not before.is_kept_when_replaced:
                state.replaced.append(before)
        # In the order of this deployment: deletion goes backwards.
        state.resources.pop(name, None)
        state.resources[name] = ResourceState(
            type=resource.type,
            physical_id=made.physical_id,
            properties=properties,
            attributes=made.attributes,
            is_retained=resource.is_retained,
            is_kept_when_replaced=resource.is_kept_when_replaced,
        )
        self._save(state)
        self._report(Change(action, name, resource.type, made.physical_id))

    def _update(
        self,
        kind: ResourceType,
        name: str,
        before: ResourceState,
        properties: Properties,
        state: StackState,
    ) -> Made:
        """A resource that somebody has deleted meanwhile is made anew."""
        try:
            return kind.update(before.physical_id, before.properties, properties)
        except Exception as error:
            if not is_missing(error):
                raise
            return kind.create(_make_name(state.name, name), properties)

    def _delete_rest(self, state: StackState, wanted: set[str]) -> None:
        """What was replaced, then what the template no longer has, last made first."""
        for old in reversed(list(state.replaced)):
            self._delete("(replaced)", old)
            state.replaced.remove(old)
            self._save(state)
        for name in [name for name in reversed(state.resources) if name not in wanted]:
            self._delete(name, state.resources[name])
            del state.resources[name]
            self._save(state)

    def _delete(self, name: str, old: ResourceState) -> None:
        action = Action.RETAIN if old.is_retained else Action.DELETE
        if action is Action.DELETE:
            try:
                self._types[old.type].delete(old.physical_id, old.properties)
            except Exception as error:
                if not is_missing(error):
                    raise
        self._report(Change(action, name, old.type, old.physical_id))


def decide(
    before: ResourceState | None,
    type_name: str,
    properties: Properties,
    immutable: frozenset[str] | None,
) -> Action:
    """What has to be done so that a resource has these properties. Pure."""
    if before is None:
        return Action.CREATE
    if before.type != type_name:
        return Action.REPLACE
    names = before.properties.keys() | properties.keys()
    changed = {name for name in names if before.properties.get(name) != properties.get(name)}
    if not changed:
        return Action.KEEP
    if immutable is None or changed & immutable:
        return Action.REPLACE
    return Action.UPDATE


def _is_wanted(resource: Resource, evaluator: Evaluator) -> bool:
    return resource.condition is None or evaluator.condition(resource.condition)


def _make_name(stack: str, logical_id: str) -> str:
    """``stack-logical-AB12…``, as CloudFormation names things; within Lambda's and IAM's limit."""
    suffix = uuid.uuid4().hex[:_SUFFIX].upper()
    return f"{f'{stack}-{logical_id}'[: _NAME_MAX - _SUFFIX - 1]}-{suffix}"
