"""Owns an invocation from admission to answer: version, lease, environment, outcome."""

from __future__ import annotations

from typing import Protocol

from firelet.control.counting import Counting, FunctionKey
from firelet.control.manager import Manager
from firelet.model.errors import InvalidRuntime, ResourceConflict
from firelet.model.function import FunctionVersion, State
from firelet.model.invocation import Invocation, Outcome


class Reservations(Protocol):
    """What the registry knows about reserved concurrency."""

    def reserved_total(self, account: str, region: str) -> int:
        """Sum of all reservations of an account in a region."""


class Invoker:
    """One call per invocation; see ``invoke``."""

    def __init__(self, manager: Manager, counting: Counting, reservations: Reservations) -> None:
        self._manager = manager
        self._counting = counting
        self._reservations = reservations

    async def invoke(
        self, invocation: Invocation, function_key: FunctionKey, reserved: int | None
    ) -> Outcome:
        """Runs it. ResourceConflict unless the version is active, TooManyRequests when no
        concurrency is left, PlatformError when no environment can be had."""
        version = invocation.function
        if version.state is not State.ACTIVE:
            raise _not_active(version)
        total = self._reservations.reserved_total(version.account, version.region)
        with self._counting.acquire(function_key, reserved, total):
            environment = await self._manager.acquire(version)
            try:
                return await environment.invoke(invocation)
            finally:
                self._manager.release(environment)


def _not_active(version: FunctionVersion) -> InvalidRuntime | ResourceConflict:
    if version.state is State.FAILED and version.state_reason_code == "InvalidRuntime":
        return InvalidRuntime(version.state_reason or "The runtime is not available.")
    return ResourceConflict(
        "The operation cannot be performed at this time. The function is currently in the"
        f" following state: {version.state}"
    )
