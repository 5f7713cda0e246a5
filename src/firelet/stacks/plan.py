"""What a deployment is going to do, and whether it can: made before anything is changed. Pure.

Everything that the template alone can have wrong is found here: types, properties, attributes,
functions and references that are not supported or not there. What depends on a resource that is
still to be made counts as changed.
``firelet deploy --dry-run`` shows the plan; the engine decides again when the values are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from firelet.stacks.errors import StackError
from firelet.stacks.intrinsics import Evaluator, NotYetKnown
from firelet.stacks.references import check_references, order_resources
from firelet.stacks.schemas import Schema
from firelet.stacks.state import ResourceState, StackState
from firelet.stacks.template import Resource, Template

Properties = Mapping[str, Any]


class Action(StrEnum):
    """What is done to a resource. ``revert`` is an update on the way back."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    KEEP = "keep"
    DELETE = "delete"
    RETAIN = "retain"
    REVERT = "revert"


@dataclass(frozen=True, slots=True)
class Change:
    """One resource, and what is done to it. ``properties`` are those that differ."""

    action: Action
    logical_id: str
    type: str
    physical_id: str = ""
    properties: tuple[str, ...] = ()


class _Unknown:
    """A value that is not known before its resource is made; equal to nothing."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


def make_plan(
    template: Template,
    known: Mapping[str, Any],
    exports: Mapping[str, str],
    state: StackState,
    schemas: Mapping[str, Schema],
) -> list[Change]:
    """The changes in their order, deletions last. StackError for whatever cannot work."""
    check_types(template, schemas)
    check_references(template, known)
    promised: dict[str, frozenset[str]] = {}
    evaluator = Evaluator(template, known, state.resources, exports, promised)
    order = order_resources(template)
    wanted = [template.resources[name] for name in order if evaluator.is_wanted(name)]
    changes = []
    for resource in wanted:
        change = _plan_one(resource, evaluator, state, schemas[resource.type])
        changes.append(change)
        if change.action in (Action.CREATE, Action.REPLACE):
            promised[resource.logical_id] = schemas[resource.type].attributes
    for name, output in template.outputs.items():
        if "Condition" not in output or evaluator.condition(output["Condition"]):
            _evaluate(evaluator, output, f"the output {name}")
    names = {resource.logical_id for resource in wanted}
    return [*changes, *_plan_rest(state, names)]


def check_types(template: Template, schemas: Mapping[str, Schema]) -> None:
    """Names each type that is not supported."""
    unknown = sorted(
        f"{resource.logical_id} ({resource.type})"
        for resource in template.resources.values()
        if resource.type not in schemas
    )
    if unknown:
        raise StackError(
            f"not supported, and so nothing was changed: {', '.join(unknown)}."
            f" The supported types are {', '.join(sorted(schemas))}"
        )


def decide(
    before: ResourceState | None, type_name: str, properties: Properties, schema: Schema
) -> Action:
    """What has to be done so that a resource has these properties."""
    if before is None:
        return Action.CREATE
    if before.type != type_name:
        return Action.REPLACE
    changed = find_changed(before.properties, properties)
    if not changed:
        return Action.KEEP
    moved = before.properties.keys() ^ properties.keys()
    if changed & schema.fixed or moved & schema.given:
        return Action.REPLACE
    return Action.UPDATE


def find_changed(before: Properties, after: Properties) -> set[str]:
    """The names of the properties that differ."""
    names = before.keys() | after.keys()
    return {
        name
        for name in names
        if (name in before) != (name in after) or before.get(name) != after.get(name)
    }


def check_properties(resource: Resource, properties: Properties, schema: Schema) -> None:
    """StackError names a property that is not supported, or one that is required and missing."""
    place = f"{resource.logical_id} ({resource.type})"
    unknown = sorted(properties.keys() - schema.properties)
    if unknown:
        raise StackError(f"{place}: the property {unknown[0]} is not supported")
    missing = sorted(schema.required - properties.keys())
    if missing:
        raise StackError(f"{place}: the property {missing[0]} is required")


def check_replacement(
    resource: Resource, before: ResourceState, properties: Properties, schema: Schema
) -> None:
    """StackError when the new one would have the name that the old one still has. Source:
    CloudFormation's answer to an update that has to replace a resource with a custom name."""
    if schema.named_by is None or before.type != resource.type:
        return
    name = properties.get(schema.named_by)
    if name is not None and name == before.properties.get(schema.named_by, before.physical_id):
        raise StackError(
            "CloudFormation cannot update a stack when a custom-named resource requires"
            f" replacing. Rename {name} and update the stack again."
        )


def _plan_one(
    resource: Resource, evaluator: Evaluator, state: StackState, schema: Schema
) -> Change:
    name = resource.logical_id
    place = f"{name} ({resource.type})"
    if not isinstance(resource.properties, Mapping):
        raise StackError(f"{place}: Properties is a map")
    properties = {
        key: value
        for key, value in _evaluate_each(evaluator, resource.properties, place)
        if value is not None
    }
    check_properties(resource, properties, schema)
    before = state.resources.get(name)
    action = decide(before, resource.type, properties, schema)
    if before is None:
        return Change(action, name, resource.type)
    if action is Action.REPLACE:
        check_replacement(resource, before, properties, schema)
    changed = tuple(sorted(find_changed(before.properties, properties)))
    return Change(action, name, resource.type, before.physical_id, changed)


def _evaluate_each(
    evaluator: Evaluator, properties: Properties, place: str
) -> Iterator[tuple[str, Any]]:
    if any(name.startswith("Fn::") for name in properties):
        yield from _evaluate(evaluator, properties, place).items()
        return
    for name, expression in properties.items():
        yield name, _evaluate(evaluator, expression, place)


def _evaluate(evaluator: Evaluator, expression: Any, place: str) -> Any:
    try:
        return evaluator.value(expression)
    except NotYetKnown:
        return _Unknown()
    except StackError as error:
        raise StackError(f"{place}: {error}") from None


def _plan_rest(state: StackState, wanted: set[str]) -> Iterator[Change]:
    for name, resource in reversed(state.resources.items()):
        if name not in wanted:
            action = Action.RETAIN if resource.is_retained else Action.DELETE
            yield Change(action, name, resource.type, resource.physical_id)
