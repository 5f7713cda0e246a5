"""What a stack has made: kept in a file beside others of the same endpoint and region.

The next deployment compares the template with it. It is saved before and after each change, so
that a deployment that was killed at any point can be taken back by the next one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from firelet.stacks.errors import StackError


class Status(StrEnum):
    """CloudFormation's words. Source: docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/
    view-stack-events.html, stack status codes."""

    CREATE_IN_PROGRESS = "CREATE_IN_PROGRESS"
    CREATE_COMPLETE = "CREATE_COMPLETE"
    ROLLBACK_IN_PROGRESS = "ROLLBACK_IN_PROGRESS"
    ROLLBACK_COMPLETE = "ROLLBACK_COMPLETE"
    ROLLBACK_FAILED = "ROLLBACK_FAILED"
    UPDATE_IN_PROGRESS = "UPDATE_IN_PROGRESS"
    UPDATE_CLEANUP = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
    UPDATE_COMPLETE = "UPDATE_COMPLETE"
    UPDATE_ROLLBACK_IN_PROGRESS = "UPDATE_ROLLBACK_IN_PROGRESS"
    UPDATE_ROLLBACK_COMPLETE = "UPDATE_ROLLBACK_COMPLETE"
    UPDATE_ROLLBACK_FAILED = "UPDATE_ROLLBACK_FAILED"
    DELETE_IN_PROGRESS = "DELETE_IN_PROGRESS"
    DELETE_FAILED = "DELETE_FAILED"


# A deployment stood in the middle of its changes, or of taking them back.
UNFINISHED = frozenset(
    {
        Status.CREATE_IN_PROGRESS,
        Status.ROLLBACK_IN_PROGRESS,
        Status.ROLLBACK_FAILED,
        Status.UPDATE_IN_PROGRESS,
        Status.UPDATE_ROLLBACK_IN_PROGRESS,
        Status.UPDATE_ROLLBACK_FAILED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceState:
    """A resource that exists. ``physical_id`` is what Ref gives, ``attributes`` what GetAtt does;
    ``properties`` are those it was last given, evaluated; ``name`` is what it was offered for want
    of one in the template."""

    type: str
    physical_id: str
    name: str = ""
    properties: Mapping[str, Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    is_retained: bool = False
    is_kept_when_replaced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The step that is under way. A creation has the ``known`` ids of what was there before it;
    an update has the resource as it was ``before``."""

    logical_id: str
    type: str
    name: str
    properties: Mapping[str, Any]
    known: tuple[str, ...] = ()
    before: ResourceState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A finished step of the deployment under way, and what the resource was before: None when
    there was none."""

    logical_id: str
    before: ResourceState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """A resource that was replaced, or that the template no longer has: to be deleted, or in the
    second case to be left alone when its DeletionPolicy says so."""

    logical_id: str
    resource: ResourceState
    is_replaced: bool = False


@dataclass(slots=True, kw_only=True)
class StackState:
    """A stack. ``resources`` is in the order in which they were made. ``attempt``, ``steps`` and
    ``order`` (that of the resources before) are of a deployment under way."""

    name: str
    status: Status | None = None
    reason: str = ""
    resources: dict[str, ResourceState] = field(default_factory=dict)
    retired: list[Retired] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    exports: dict[str, str] = field(default_factory=dict)
    imports: list[str] = field(default_factory=list)
    attempt: Attempt | None = None
    steps: list[Step] = field(default_factory=list)
    order: list[str] = field(default_factory=list)


class StateFile:
    """The state of one stack on disk."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.json"

    def load(self) -> StackState | None:
        """None when there is no such stack."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=StackState)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise StackError(f"{self._path} is not a stack's state: {error}") from None

    def save(self, state: StackState) -> None:
        """Whole or not at all. It may hold secrets of the template, hence for its owner only."""
        encoded = msgspec.json.format(msgspec.json.encode(state))
        write_durably(self._path, encoded)

    def delete(self) -> None:
        """And what a process that was killed while it saved has left."""
        for left in self._path.parent.glob(f".{self._path.name}*"):
            left.unlink()
        self._path.unlink(missing_ok=True)


def load_others(folder: Path, name: str) -> list[StackState]:
    """The states of all stacks in a folder but one."""
    paths = sorted(path for path in folder.glob("*.json") if path.stem != name)
    found = (StateFile(folder, path.stem).load() for path in paths)
    return [state for state in found if state is not None]


def write_durably(path: Path, content: bytes) -> None:
    """Writes a file of the owner's, whole or not at all, and on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # the new name too
    finally:
        os.close(folder)
