"""What a stack has made: kept in a file beside others of the same endpoint and region.

The next deployment compares the template with it. It is saved after each change, so that a
deployment that was cut short goes on where it ended.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from firelet.stacks.errors import StackError


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceState:
    """A resource that exists. ``physical_id`` is what Ref gives, ``attributes`` what GetAtt does;
    ``properties`` are those it was last given, evaluated."""

    type: str
    physical_id: str
    properties: Mapping[str, Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    is_retained: bool = False
    is_kept_when_replaced: bool = False


@dataclass(slots=True, kw_only=True)
class StackState:
    """A stack. ``resources`` is in the order in which they were made; ``replaced`` are those that
    have a successor and are to be deleted."""

    name: str
    resources: dict[str, ResourceState] = field(default_factory=dict)
    replaced: list[ResourceState] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)


class StateFile:
    """The state of one stack on disk."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.json"
        self._name = name

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
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(state)))
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self._path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def delete(self) -> None:
        self._path.unlink(missing_ok=True)
