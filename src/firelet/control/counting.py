"""Concurrency: how many invocations run at a time, per account and per function, and how fast they
may come.

A lease is taken before a sandbox is looked for and given back when the invocation is over. As many
invocations of a version as it has provisioned concurrency are never refused; in return they are
not there for others, be it for the account or for the other versions of the function. Of the rest
no more are taken in a second than ten times the account's concurrency, or the reservation's.
Source: docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html; the Reasons are those of
TooManyRequestsException. Called by ``control.invoke`` only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from firelet.control.rates import RateLimit, RateLimits
from firelet.model import limits
from firelet.model.errors import FunctionSwitchedOff, TooManyRequests

FunctionKey = tuple[str, str, str]
_World = tuple[str, str]
_BURST_S = limits.REQUESTS_BURST_S


@dataclass(slots=True)
class _Running:
    """What runs in one account and region, and how fast requests come: to functions without a
    reservation together, to each of the others by itself."""

    unreserved: int = 0
    functions: dict[FunctionKey, int] = field(default_factory=dict)
    rate: RateLimit = field(default_factory=RateLimit)
    reserved_rates: RateLimits = field(default_factory=RateLimits)


@dataclass(slots=True, eq=False)
class _Share:
    """Provisioned concurrency of one version."""

    amount: int
    running: int = 0


class Lease:
    """One running invocation; a context manager."""

    __slots__ = ("_counting", "_is_reserved", "_key", "_share")

    def __init__(
        self,
        counting: Counting,
        key: FunctionKey,
        is_reserved: bool,
        share: _Share | None = None,
    ) -> None:
        self._counting = counting
        self._key = key
        self._is_reserved = is_reserved
        self._share = share

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._share is not None:
            self._share.running -= 1
        self._counting.release(self._key, self._is_reserved)


class Counting:
    """Counts in memory: after a restart nothing runs."""

    def __init__(
        self,
        account_limit: int = limits.ACCOUNT_CONCURRENCY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._account_limit = account_limit
        self._clock = clock
        self._worlds: dict[_World, _Running] = {}
        self._shares: dict[FunctionKey, dict[str, _Share]] = {}

    def provide(self, key: FunctionKey, version: str, amount: int) -> None:
        """Sets the provisioned concurrency of a version from now on."""
        shares = self._shares.setdefault(key, {})
        if amount:
            shares.setdefault(version, _Share(amount)).amount = amount
        else:
            shares.pop(version, None)
        if not shares:
            del self._shares[key]

    def acquire(
        self,
        key: FunctionKey,
        reserved: int | None,
        reserved_total: int,
        version: str | None = None,
    ) -> Lease:
        """A lease, or TooManyRequests with AWS's Reason.

        ``reserved`` is the function's own reservation, ``reserved_total`` what is set aside in its
        account and region: that is not there for the others, used or not. ``version`` is what
        runs.
        """
        world = self._worlds.get(key[:2])
        if world is None:
            world = self._worlds[key[:2]] = _Running()
        running = world.functions.get(key, 0)
        shares = self._shares.get(key)
        if shares is not None:
            share = shares.get(version or "")
            if share is not None and share.running < share.amount:
                share.running += 1
                world.functions[key] = running + 1
                return Lease(self, key, True, share)
        if reserved == 0:
            raise FunctionSwitchedOff
        if reserved is not None:
            if running + _unused(shares) >= reserved:
                raise TooManyRequests("ReservedFunctionConcurrentInvocationLimitExceeded")
            if not world.reserved_rates.admits(key, self._clock(), _rate(reserved), _BURST_S):
                raise TooManyRequests("ReservedFunctionInvocationRateLimitExceeded")
        elif world.unreserved >= self._account_limit - reserved_total:
            raise TooManyRequests("ConcurrentInvocationLimitExceeded")
        elif not world.rate.admits(self._clock(), _rate(self._account_limit), _BURST_S):
            raise TooManyRequests("FunctionInvocationRateLimitExceeded")
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

    def concurrency_of(self, reserved: int | None) -> int:
        """What a function with this reservation has at most."""
        return self._account_limit if reserved is None else reserved

    def running(self, key: FunctionKey) -> int:
        """Invocations of this function that run now."""
        world = self._worlds.get(key[:2])
        return 0 if world is None else world.functions.get(key, 0)


def _rate(concurrency: int) -> float:
    """Requests a second."""
    return limits.REQUESTS_PER_S_AND_CONCURRENCY * concurrency


def _unused(shares: Mapping[str, _Share] | None) -> int:
    """What versions have provisioned and do not use: others cannot have it."""
    if shares is None:
        return 0
    return sum(max(0, share.amount - share.running) for share in shares.values())
