"""A template becomes what it says: resources made, changed and replaced, or all taken back.

By difference with the state of the last deployment: the properties that a resource was given, and
those that the template gives it now. The state is saved before and after each step. When a step
fails, the steps before it are taken back (``stacks.rollback``); what was replaced, or is no longer
in the template, is deleted once all else is done, when there is no way back any more.
Called by ``stacks.stack``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from firelet.stacks.errors import StackError, format_failure, is_missing
from firelet.stacks.exports import read_exports
from firelet.stacks.intrinsics import Evaluator
from firelet.stacks.plan import (
    Action,
    Change,
    check_properties,
    check_replacement,
    decide,
    find_changed,
)
from firelet.stacks.references import order_resources
from firelet.stacks.resource_types import Made, Properties, ResourceType
from firelet.stacks.rollback import Rollback
from firelet.stacks.state import (
    UNFINISHED,
    Attempt,
    ResourceState,
    Retired,
    StackState,
    Status,
    Step,
)
from firelet.stacks.template import Resource, Template

_NAME_MAX = 64
_SUFFIX = 12
_FRESH = (None, Status.ROLLBACK_COMPLETE)


class Engine:
    """``types`` are the supported ones by name; ``save`` is called with each change of the state;
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
        self._rollback = Rollback(types, save, report)

    def recover(self, state: StackState) -> None:
        """Takes back what a deployment that was cut short has done, and deletes what one before
        it should have deleted. StackError when the first of these fails."""
        if state.status in UNFINISHED:
            self._rollback.run(state)
        if state.retired and state.status is not None:
            is_cut_short = state.status is Status.UPDATE_CLEANUP
            self.clean_up(state, Status.UPDATE_COMPLETE if is_cut_short else state.status)

    def deploy(
        self,
        template: Template,
        known: Mapping[str, Any],
        state: StackState,
        others: Mapping[str, str] | None = None,
        check_exports: Callable[[Mapping[str, str]], None] = lambda exports: None,
    ) -> None:
        """Makes ``state`` what the template says. ``known`` has the values of parameters and
        pseudo parameters, ``others`` what other stacks export; ``check_exports`` refuses exports
        of this one. StackError says what failed, and what became of the rest."""
        is_first = state.status in _FRESH
        state.status = Status.CREATE_IN_PROGRESS if is_first else Status.UPDATE_IN_PROGRESS
        state.order, state.steps, state.reason = list(state.resources), [], ""
        self._save(state)
        evaluator = Evaluator(template, known, state.resources, others)
        try:
            for name in order_resources(template):
                if evaluator.is_wanted(name):
                    self._bring_about(template.resources[name], evaluator, state)
            outputs = _evaluate_outputs(template, evaluator)
            exports = read_exports(template, outputs, evaluator)
            check_exports(exports)
        except StackError as error:
            raise self._go_back(state, str(error)) from None
        state.outputs, state.exports = outputs, exports
        state.imports = sorted(evaluator.imported)
        self._commit(state, {name for name in template.resources if evaluator.is_wanted(name)})
        self.clean_up(state, Status.CREATE_COMPLETE if is_first else Status.UPDATE_COMPLETE)

    def delete(self, state: StackState) -> None:
        """Deletes everything, last made first. StackError says what could not be."""
        state.status = Status.DELETE_IN_PROGRESS
        self._save(state)
        self._rollback.abandon_attempt(state)
        state.retired += [Retired(logical_id=k, resource=v) for k, v in state.resources.items()]
        state.resources, state.steps = {}, []
        self._save(state)
        self.clean_up(state, Status.DELETE_IN_PROGRESS)
        if state.retired:
            state.status = Status.DELETE_FAILED
            self._save(state)
            raise StackError(f"{state.reason}; delete the stack again ({state.status})")

    def clean_up(self, state: StackState, status: Status) -> None:
        """Deletes what is retired, the last made first; what cannot be deleted stays retired, and
        the reason says why."""
        failures = []
        for item in reversed(list(state.retired)):
            try:
                self._delete(item)
            except Exception as error:
                failures.append(
                    f"{item.logical_id} ({item.resource.type}) could not be deleted:"
                    f" {format_failure(error)}"
                )
                continue
            state.retired.remove(item)
            self._save(state)
        state.status, state.reason = status, "; ".join(failures)
        self._save(state)

    def _delete(self, item: Retired) -> None:
        old = item.resource
        is_kept = old.is_retained and not item.is_replaced
        action = Action.RETAIN if is_kept else Action.DELETE
        if not is_kept:
            self._types[old.type].delete(old.physical_id, old.properties)
        self._report(Change(action, item.logical_id, old.type, old.physical_id))

    def _go_back(self, state: StackState, reason: str) -> StackError:
        state.reason = reason
        try:
            self._rollback.run(state)
        except StackError as error:
            return StackError(f"{reason}; {error}")
        return StackError(f"{reason}; the stack is as it was before ({state.status})")

    def _commit(self, state: StackState, wanted: set[str]) -> None:
        """From here on there is no way back."""
        for name in [name for name in state.resources if name not in wanted]:
            state.retired.append(Retired(logical_id=name, resource=state.resources.pop(name)))
        # Those of now in the order in which they were made, after what was left from before.
        place = {name: index for index, name in enumerate(state.order)}
        state.retired.sort(key=lambda item: place.get(item.logical_id, -1))
        state.steps, state.order, state.status = [], [], Status.UPDATE_CLEANUP
        self._save(state)

    def _bring_about(self, resource: Resource, evaluator: Evaluator, state: StackState) -> None:
        kind, name = self._types[resource.type], resource.logical_id
        before = state.resources.get(name)
        place = f"{name} ({resource.type})"
        try:
            properties: Properties = evaluator.value(resource.properties)
            check_properties(resource, properties, kind.schema)
            action = decide(before, resource.type, properties, kind.schema)
            if before is not None and action is Action.REPLACE:
                check_replacement(resource, before, properties, kind.schema)
        except StackError as error:
            raise StackError(f"{place}: {error}") from None
        try:
            made, given = self._take_step(kind, resource, properties, action, state)
        except Exception as error:
            raise StackError(f"{place} could not be {action}d: {format_failure(error)}") from error
        self._finish_step(resource, made, given, properties, action, state)
        changed = () if before is None else find_changed(before.properties, properties)
        self._report(Change(action, name, resource.type, made.physical_id, tuple(sorted(changed))))

    def _take_step(
        self,
        kind: ResourceType,
        resource: Resource,
        properties: Properties,
        action: Action,
        state: StackState,
    ) -> tuple[Made, str]:
        """What was made, and the name that it was offered."""
        before = state.resources.get(resource.logical_id)
        if before is not None and action is Action.KEEP:
            return Made(before.physical_id, before.attributes), before.name
        if before is not None and action is Action.UPDATE:
            made = self._update(kind, resource, before, properties, state)
            if made is not None:
                return made, before.name
        name = make_name(state.name, resource.logical_id)
        known = tuple(kind.find(name, properties))
        self._begin(resource, name, properties, state, known=known)
        return kind.create(name, properties), name

    def _update(
        self,
        kind: ResourceType,
        resource: Resource,
        before: ResourceState,
        properties: Properties,
        state: StackState,
    ) -> Made | None:
        """None for a resource that somebody has deleted meanwhile: it is to be made anew."""
        self._begin(resource, before.name, properties, state, before=before)
        try:
            return kind.update(before.physical_id, before.properties, properties)
        except Exception as error:
            known = is_missing(error) and kind.find(before.name, before.properties)
            if not is_missing(error) or known:
                raise
            return None

    def _begin(
        self,
        resource: Resource,
        name: str,
        properties: Properties,
        state: StackState,
        *,
        known: tuple[str, ...] = (),
        before: ResourceState | None = None,
    ) -> None:
        state.attempt = Attempt(
            logical_id=resource.logical_id,
            type=resource.type,
            name=name,
            properties=properties,
            known=known,
            before=before,
        )
        self._save(state)

    def _finish_step(
        self,
        resource: Resource,
        made: Made,
        given: str,
        properties: Properties,
        action: Action,
        state: StackState,
    ) -> None:
        name = resource.logical_id
        # In the order of this deployment: deletion goes backwards.
        before = state.resources.pop(name, None)
        after = ResourceState(
            type=resource.type,
            physical_id=made.physical_id,
            name=given,
            properties=properties,
            attributes=made.attributes,
            is_retained=resource.is_retained,
            is_kept_when_replaced=resource.is_kept_when_replaced,
        )
        state.resources[name] = after
        state.attempt = None
        if before != after:
            state.steps.append(Step(logical_id=name, before=before))
            is_replaced = action is Action.REPLACE and not resource.is_kept_when_replaced
            if before is not None and is_replaced:
                old = Retired(logical_id=name, resource=before, is_replaced=True)
                state.retired.append(old)
            self._save(state)


def _evaluate_outputs(template: Template, evaluator: Evaluator) -> dict[str, Any]:
    return {
        name: evaluator.value(output["Value"])
        for name, output in template.outputs.items()
        if "Condition" not in output or evaluator.condition(output["Condition"])
    }


def make_name(stack: str, logical_id: str) -> str:
    """``stack-logical-AB12…``, as CloudFormation names things; within Lambda's and IAM's limit."""
    suffix = uuid.uuid4().hex[:_SUFFIX].upper()
    return f"{f'{stack}-{logical_id}'[: _NAME_MAX - _SUFFIX - 1]}-{suffix}"
