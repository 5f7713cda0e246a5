"""The pool of one function version: its environments, and the invocations that wait for one.

State only; what happens to it is decided by ``control.manager``, its only user.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from firelet.control.capacity import Decision
from firelet.control.evict import Candidate, Standing
from firelet.control.floor import Floor
from firelet.control.upkeep import Upkeep
from firelet.model.function import FunctionVersion
from firelet.model.invocation import Invocation, Outcome
from firelet.model.isolation import Isolation

# Account, region, name and version; and the tenant, where tenants are kept apart.
VersionKey = tuple[str, str, str, str] | tuple[str, str, str, str, str]


class Environment(Protocol):
    """One execution environment, as ``worker.slots.Slot`` offers it. ``idle_mib`` is the memory
    that it held when it was frozen last; 0 if that is not known."""

    idle_since: float

    @property
    def id(self) -> str: ...
    @property
    def idle_mib(self) -> float: ...
    @property
    def version(self) -> FunctionVersion: ...
    @property
    def is_usable(self) -> bool: ...
    @property
    def is_initialised(self) -> bool: ...
    @property
    def is_frozen(self) -> bool: ...
    async def invoke(self, invocation: Invocation) -> Outcome: ...
    def when_free(self, callback: Callable[[Environment], None]) -> None: ...
    def freeze(self) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class PoolView:
    """One function version as ``firelet top`` shows it. ``started``, ``invocations`` and ``cold``
    (invocations that found no idle environment) count since the first invocation. ``wanted`` is
    how many environments the capacity policy would have, in use or not. ``provisioned``
    environments are there of the ``floor`` that is to be kept; ``provisioned_invocations`` were
    served by those, and ``spilled`` by others while there was a floor. ``isolations`` are those of
    the environments and of the next one; None is the platform's own."""

    key: VersionKey
    starting: int
    busy: int
    idle: int
    frozen: int
    waiting: int
    started: int
    invocations: int
    cold: int
    wanted: int = 0
    floor: int = 0
    provisioned: int = 0
    provisioned_invocations: int = 0
    spilled: int = 0
    isolations: frozenset[Isolation | None] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Waiter:
    """An invocation that waits for an environment of ``version``."""

    version: FunctionVersion
    environment: asyncio.Future[Environment]


@dataclass(slots=True)
class Pool:
    """The environments of one function version. ``idle`` is a stack: the last used serves first,
    so that the others grow old and stop; those that were made ahead and never used are below all
    others, so that calls one after another stay with one environment. ``settling`` have answered
    and cannot take another invocation yet: their extensions are at work. ``generation`` grows when
    the configuration changes. ``version`` is the record that was asked for last; None when there is
    no such version any more. None is started ahead of demand before ``ahead_from``. ``tenants_max``
    is how many all tenants of the function may have; None in the pool of no tenant."""

    upkeep: Upkeep
    version: FunctionVersion | None = None
    wanted: int = 0
    ahead_from: float = -math.inf
    idle: list[Environment] = field(default_factory=list)
    waiting: deque[Waiter] = field(default_factory=deque)
    starting: int = 0
    busy: int = 0
    settling: int = 0
    generation: int = 0
    started: int = 0
    invocations: int = 0
    cold: int = 0
    provisioned_invocations: int = 0
    spilled: int = 0
    floor: Floor[Environment] | None = None
    tenants_max: int | None = None

    @property
    def idle_stacks(self) -> tuple[list[Environment], ...]:
        """The one that serves first comes first."""
        return (self.idle,) if self.floor is None else (self.floor.idle, self.idle)

    @property
    def starts(self) -> int:
        """How many environments are being made, for whoever waits or for the floor."""
        return self.starting + (0 if self.floor is None else self.floor.starting)

    @property
    def is_empty(self) -> bool:
        return not (self.idle or self.waiting or self.starting or self.busy or self.floor)

    def decide(self, now: float, pressure: float, keep_max_s: float) -> Decision:
        """What the capacity policy says. Provisioned environments serve, and are not its to stop:
        to it they are as if they were in use."""
        floor = self.floor
        in_use = self.busy + self.settling + (0 if floor is None else len(floor.idle))
        decision = self.upkeep.decide(
            now,
            starting=self.starts,
            busy=in_use,
            idle=sorted(environment.idle_since for environment in self.idle),
            pressure=pressure,
            keep_max_s=keep_max_s,
        )
        have = self.starts + in_use + len(self.idle)
        self.wanted = have + decision.start - decision.stop
        return decision

    def pop_oldest(self, count: int) -> list[Environment]:
        """The on-demand ones that have been idle for longest."""
        oldest = sorted(self.idle, key=lambda environment: environment.idle_since)[:count]
        for environment in oldest:
            self.idle.remove(environment)
        return oldest

    def candidate(self, environment: Environment, memory_mib: float) -> Candidate:
        """An idle one as ``control.evict`` sees it."""
        is_provisioned = self.floor is not None and environment in self.floor.members
        return Candidate(
            id=environment.id,
            memory_mib=memory_mib,
            start_s=self.upkeep.start_s,
            idle_since=environment.idle_since,
            standing=Standing.PROVISIONED if is_provisioned else Standing.ON_DEMAND,
        )

    def pop_idle(self) -> Environment | None:
        for stack in self.idle_stacks:
            if stack:
                return stack.pop()
        return None

    def stack_of(self, environment: Environment) -> list[Environment]:
        """Where it waits while it is idle."""
        floor = self.floor
        return self.idle if floor is None or environment not in floor.members else floor.idle

    def wants(self, environment: Environment) -> bool:
        """Whether it may go on. A provisioned one that has lost its runtime is to be replaced
        and not, like others, to run INIT again while an invocation waits."""
        if not environment.is_usable:
            return False
        floor = self.floor
        if floor is None or environment not in floor.members:
            return True
        return environment.is_initialised and not floor.excess

    def count_served_by(self, environment: Environment) -> None:
        """An invocation that a provisioned one serves, or that had to be served by another."""
        floor = self.floor
        if floor is not None:
            if environment in floor.members:
                self.provisioned_invocations += 1
            elif floor.target:
                self.spilled += 1

    def view(self, key: VersionKey, isolations: Collection[Isolation | None] = ()) -> PoolView:
        """``isolations`` of its environments, those in use included."""
        following = () if self.version is None else (self.version.isolation,)
        idle = [environment for stack in self.idle_stacks for environment in stack]
        floor = self.floor
        return PoolView(
            key=key,
            starting=self.starts,
            busy=self.busy,
            idle=len(idle),
            frozen=sum(environment.is_frozen for environment in idle),
            waiting=len(self.waiting),
            started=self.started,
            invocations=self.invocations,
            cold=self.cold,
            wanted=self.wanted,
            floor=0 if floor is None else floor.target,
            provisioned=0 if floor is None else len(floor.members),
            provisioned_invocations=self.provisioned_invocations,
            spilled=self.spilled,
            isolations=frozenset((*isolations, *following)),
        )
