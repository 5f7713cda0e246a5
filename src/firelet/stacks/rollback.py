"""The way back: what a deployment has done so far is undone, the last step first.

Everything it needs is in the state, so that the next process can do it for one that was killed.
A created resource is deleted, also one with DeletionPolicy Retain: nothing has used it yet, and
a version of a function that stayed would be in the way of the next deployment.
Called by ``stacks.engine``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from firelet.stacks.errors import StackError, format_failure, is_missing
from firelet.stacks.plan import Action, Change
from firelet.stacks.resource_types import ResourceType
from firelet.stacks.state import Attempt, ResourceState, StackState, Status, Step

_FIRST = (Status.CREATE_IN_PROGRESS, Status.ROLLBACK_IN_PROGRESS, Status.ROLLBACK_FAILED)


class Rollback:
    """The collaborators are those of the engine."""

    def __init__(
        self,
        types: Mapping[str, ResourceType],
        save: Callable[[StackState], None],
        report: Callable[[Change], None],
    ) -> None:
        self._types = types
        self._save = save
        self._report = report

    def run(self, state: StackState) -> None:
        """The stack is as it was before the deployment. StackError when a step cannot be undone:
        the state holds what is left to do."""
        is_first = state.status in _FIRST
        state.status = (
            Status.ROLLBACK_IN_PROGRESS if is_first else Status.UPDATE_ROLLBACK_IN_PROGRESS
        )
        self._save(state)
        place = ""
        try:
            if state.attempt is not None:
                place = state.attempt.logical_id
                self._undo_attempt(state.attempt)
                state.attempt = None
                self._save(state)
            while state.steps:
                place = state.steps[-1].logical_id
                self._undo(state.steps[-1], state)
                state.steps.pop()
                self._save(state)
        except Exception as error:
            state.status = Status.ROLLBACK_FAILED if is_first else Status.UPDATE_ROLLBACK_FAILED
            self._save(state)
            raise StackError(
                f"the way back failed at {place}: {format_failure(error)};"
                f" deploy or delete the stack again ({state.status})"
            ) from error
        state.resources = {name: state.resources[name] for name in state.order}
        state.order = []
        state.status = Status.ROLLBACK_COMPLETE if is_first else Status.UPDATE_ROLLBACK_COMPLETE
        self._save(state)

    def abandon_attempt(self, state: StackState) -> None:
        """For the deletion of a stack: whatever the step under way has done is deleted."""
        attempt = state.attempt
        if attempt is None:
            return
        if attempt.before is None:
            self._undo_attempt(attempt)
        elif not attempt.before.is_retained:
            kind = self._types[attempt.type]
            kind.delete(attempt.before.physical_id, attempt.properties)
        state.attempt = None
        self._save(state)

    def _undo_attempt(self, attempt: Attempt) -> None:
        kind = self._types[attempt.type]
        if attempt.before is not None:
            before = attempt.before
            self._revert(kind, attempt.logical_id, before, attempt.properties)
            return
        for physical_id in kind.find(attempt.name, attempt.properties):
            if physical_id not in attempt.known:
                kind.delete(physical_id, attempt.properties)
                self._report(Change(Action.DELETE, attempt.logical_id, attempt.type, physical_id))

    def _undo(self, step: Step, state: StackState) -> None:
        name, before = step.logical_id, step.before
        # A process that was killed may have done all but taking the step from the list.
        current = state.resources.get(name)
        if current is None or current == before:
            return
        kind = self._types[current.type]
        if before is not None and _is_same(before, current):
            if before.properties != current.properties:
                self._revert(kind, name, before, current.properties)
        else:
            kind.delete(current.physical_id, current.properties)
            self._report(Change(Action.DELETE, name, current.type, current.physical_id))
        if before is None:
            del state.resources[name]
            return
        state.resources[name] = before
        state.retired = [item for item in state.retired if item.resource != before]

    def _revert(
        self,
        kind: ResourceType,
        name: str,
        before: ResourceState,
        attempted: Mapping[str, object],
    ) -> None:
        try:
            kind.update(before.physical_id, attempted, before.properties)
        except Exception as error:
            # What somebody has deleted meanwhile was not there before either.
            if not is_missing(error) or kind.find(before.name, before.properties):
                raise
        self._report(Change(Action.REVERT, name, before.type, before.physical_id))


def _is_same(before: ResourceState, current: ResourceState) -> bool:
    return (before.type, before.physical_id) == (current.type, current.physical_id)
