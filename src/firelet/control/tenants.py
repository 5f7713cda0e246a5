"""Tenants of a function that keeps them apart: how many environments all of them may have together.

An environment of a tenant counts from its start to its end, idle or in use, since no other tenant
can use it: 2,500 for each 1,000 of the function's concurrency, which is its reservation, or the
account's without one. Whoever needs one more is refused, though others be idle.
Source: docs.aws.amazon.com/lambda/latest/dg/tenant-isolation-troubleshooting.html, which has the
exception and no Reason: ConcurrentInvocationLimitExceeded is firelet's choice, because more
concurrency is what helps. Used by ``control.invoke`` and ``control.manager``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from firelet.model import limits
from firelet.model.errors import TooManyRequests
from firelet.model.function import FunctionKey


@dataclass(frozen=True, slots=True)
class Tenant:
    """For whom an environment is. ``environments_max`` is what all tenants of the function may
    have together."""

    id: str
    environments_max: int


def environments_max(concurrency: int) -> int:
    """Of all tenants of a function with this concurrency."""
    per_thousand = limits.TENANT_ENVIRONMENTS_PER_1000_CONCURRENCY
    return concurrency * per_thousand // 1_000


class TenantEnvironments:
    """Counts the environments of tenants, by function."""

    def __init__(self) -> None:
        self._counts: Counter[FunctionKey] = Counter()

    def count(self, function: FunctionKey) -> int:
        return self._counts[function]

    def add(self, function: FunctionKey) -> None:
        """One is about to be made."""
        self._counts[function] += 1

    def remove(self, function: FunctionKey) -> None:
        """One has ended, or came to nothing."""
        self._counts[function] -= 1
        if not self._counts[function]:
            del self._counts[function]


def too_many_environments() -> TooManyRequests:
    return TooManyRequests("ConcurrentInvocationLimitExceeded")
