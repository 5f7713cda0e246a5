"""A fleet and its environments that do what the test says, a clock that stands still, and a manager
on them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

from firelet.control.manager import Manager
from firelet.model.function import FunctionVersion, InitializationType
from firelet.model.invocation import Invocation, Outcome
from unit.versions import make_version


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeEnvironment:
    """Answers with ``outcome``; free at once unless ``is_busy_after``; of no use any more when
    that it ``is_lost`` turns out in an invocation."""

    def __init__(self, version: FunctionVersion, number: int) -> None:
        self.version = version
        self.number = number
        self.id = str(number)
        self.idle_mib = 0.0
        self.idle_since = 0.0
        self.is_usable = True
        self.is_initialised = True
        self.is_frozen = False
        self.closes = 0
        self.invocations: list[Invocation] = []
        self.outcome: Outcome | BaseException = Outcome(payload=b"1", executed_version="$LATEST")
        self.gate: asyncio.Event | None = None
        self.is_busy_after = False
        self.is_usable_after = True
        self.is_lost = False
        self._on_free: Callable[[FakeEnvironment], None] | None = None

    def __repr__(self) -> str:
        return f"<environment {self.number}>"

    async def invoke(self, invocation: Invocation) -> Outcome:
        self.is_frozen = False
        self.invocations.append(invocation)
        if self.gate is not None:
            await self.gate.wait()
        self.is_usable = self.is_usable and self.is_usable_after
        if self.is_lost:
            self.is_usable = False
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def when_free(self, callback: Callable[[FakeEnvironment], None]) -> None:
        if self.is_busy_after and self.is_usable:
            self._on_free = callback
        else:
            callback(self)

    def become_free(self) -> None:
        """The runtime asks for its next event."""
        self.is_busy_after = False
        callback, self._on_free = self._on_free, None
        if callback is not None:
            callback(self)

    def freeze(self) -> None:
        self.is_frozen = True

    async def close(self) -> None:
        self.closes += 1
        self.is_usable = False
        self.become_free()


class FakeFleet:
    """Starts wait until the test lets them go, unless ``is_instant``."""

    def __init__(self, *, is_instant: bool = True) -> None:
        self.is_instant = is_instant
        self.made: list[FakeEnvironment] = []
        self.starts: list[tuple[FunctionVersion, asyncio.Future[None]]] = []
        self.initializations: list[InitializationType] = []

    @property
    def pending(self) -> list[asyncio.Future[None]]:
        return [gate for _, gate in self.starts if not gate.done()]

    async def start(
        self,
        version: FunctionVersion,
        initialization: InitializationType = InitializationType.ON_DEMAND,
    ) -> FakeEnvironment:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.starts.append((version, gate))
        self.initializations.append(initialization)
        if self.is_instant:
            gate.set_result(None)
        await gate
        environment = FakeEnvironment(version, len(self.made))
        self.made.append(environment)
        return environment


class ManagedFleet:
    """A manager on a fleet and a clock that the test drives, with room for ``memory_mib``. Starts
    are over at once if ``is_instant``, else when the test ends them."""

    version = make_version()  # what is meant where no other is named

    def __init__(self, memory_mib: float = math.inf, *, is_instant: bool = True) -> None:
        self.clock = FakeClock()
        self.fleet = FakeFleet(is_instant=is_instant)
        self.manager = Manager(self.fleet, self.clock, memory_mib)  # type: ignore[arg-type]

    async def acquire(self, version: FunctionVersion | None = None) -> FakeEnvironment:
        async with asyncio.timeout(30):
            environment: Any = await self.manager.acquire(version or self.version)
        return environment

    def ask(self, version: FunctionVersion | None = None) -> asyncio.Task[Any]:
        return asyncio.create_task(self.manager.acquire(version or self.version))


async def settle() -> None:
    """Lets every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)
