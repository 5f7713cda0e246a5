"""The floor of one function version: environments that are kept initialised, and never stop.

Provisioned concurrency as the worker manager sees it. What it is not: the making and ending of
environments, which is the manager's. It says how many starts are due, holds those that are
idle, and remembers a failed INIT, which is reported and tried again ever more seldom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

from firelet.model import limits
from firelet.model.errors import FunctionError, InvalidRuntime, IsolationMissing
from firelet.model.function import FunctionVersion

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class FloorView:
    """``ready`` environments of a version are initialised, in use or not. ``failure`` is a
    StatusReason, of the last start if that failed."""

    ready: int = 0
    failure: str | None = None


class Floor(Generic[E]):
    """``members`` are the environments that count towards ``target``; ``idle`` is a stack."""

    def __init__(self, version: FunctionVersion) -> None:
        self.version = version
        self.target = 0
        self.members: set[E] = set()
        self.idle: list[E] = []
        self.starting = 0
        self._failure: str | None = None
        self._failures = 0
        self._retry_at = -math.inf

    @property
    def view(self) -> FloorView:
        return FloorView(len(self.members), self._failure)

    @property
    def excess(self) -> int:
        """How many members are too many."""
        return max(0, len(self.members) - self.target)

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left."""
        return not (self.target or self.members or self.starting)

    def raise_to(self, version: FunctionVersion, target: int) -> None:
        """Another target, which may be lower; what failed before is tried again at once."""
        self.version = version
        self.target = target
        self.on_started()

    def due(self, now: float) -> int:
        """How many starts should begin now. After a failure one at a time, and not before long."""
        missing = self.target - len(self.members) - self.starting
        if self._failures:
            return int(missing > 0 and self.starting == 0 and now >= self._retry_at)
        return max(0, min(missing, limits.PROVISIONED_STARTS_AT_ONCE - self.starting))

    def on_started(self) -> None:
        """A start went well."""
        self._failure = None
        self._failures = 0
        self._retry_at = -math.inf

    def on_failed(self, error: Exception, now: float) -> None:
        """A start went wrong. Those that were begun together count as one."""
        self._failure = describe_failure(error)
        if now < self._retry_at:
            return
        pause_s = limits.PROVISIONED_RETRY_MIN_S * 2**self._failures
        self._failures += 1
        self._retry_at = now + min(pause_s, limits.PROVISIONED_RETRY_MAX_S)


def describe_failure(error: Exception) -> str:
    """StatusReason. Source: the first is what AWS reports; the others are the service model's
    words for the same failures of a function."""
    if isinstance(error, FunctionError):
        return "FUNCTION_ERROR_INIT_FAILURE"
    if isinstance(error, InvalidRuntime):
        return "InvalidRuntime"
    if isinstance(error, IsolationMissing):
        return "InvalidConfiguration"
    return "InternalError"
