"""Concurrency: how many invocations run at a time, per account and per function.

A lease is taken before a sandbox is looked for and given back when the invocation is over.
Source: docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html; the Reasons are those of
TooManyRequestsException. Called by ``control.invoke`` only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType

from firelet.model import limits
from firelet.model.errors import TooManyRequests

FunctionKey = tuple[str, str, str]
_World = tuple[str, str]


@dataclass(slots=True)
class _Running:
    """What runs in one account and region. ``reserved`` is what reservations set aside."""

    unreserved: int = 0
    functions: dict[FunctionKey, int] = field(default_factory=dict)


class Lease:
    """One running invocation; a context manager."""

    __slots__ = ("_counting", "_is_reserved", "_key")

    def __init__(self, counting: Counting, key: FunctionKey, is_reserved: bool) -> None:
        self._counting = counting
        self._key = key
        self._is_reserved = is_reserved

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._counting.release(self._key, self._is_reserved)


class Counting:
    """Counts in memory: after a restart nothing runs."""

    def __init__(self, account_limit: int = limits.ACCOUNT_CONCURRENCY) -> None:
        self._account_limit = account_limit
        self._worlds: dict[_World, _Running] = {}

    def acquire(self, key: FunctionKey, reserved: int | None, reserved_total: int) -> Lease:
        """A lease, or TooManyRequests with AWS's Reason.

        ``reserved`` is the function's own reservation, ``reserved_total`` the sum of all of its
        account and region: what is reserved is not there for the others, used or not.
        """
        world = self._worlds.setdefault(key[:2], _Running())
        running = world.functions.get(key, 0)
        if reserved is not None:
            if running >= reserved:
                raise TooManyRequests("ReservedFunctionConcurrentInvocationLimitExceeded")
        elif world.unreserved >= self._account_limit - reserved_total:
            raise TooManyRequests("ConcurrentInvocationLimitExceeded")
        else:
            world.unreserved += 1
        world.functions[key] = running + 1
        return Lease(self, key, reserved is not None)

    def release(self, key: FunctionKey, is_reserved: bool) -> None:
        world = self._worlds[key[:2]]
        if not is_reserved:
            world.unreserved -= 1
        left = world.functions[key] - 1
        if left:
            world.functions[key] = left
        else:
            del world.functions[key]

    def running(self, key: FunctionKey) -> int:
        """Invocations of this function that run now."""
        world = self._worlds.get(key[:2])
        return 0 if world is None else world.functions.get(key, 0)
