"""How fast things may come: requests per second, new environments in ten seconds.

A rule, without a clock of its own: the caller says what time it is. It is AWS's: ten requests a
second for each unit of concurrency, and 1,000 new environments of a function in ten seconds.
Source: docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html, "Requests per second" and
"Concurrency scaling rate". Used by ``control.counting`` and ``control.manager``.
"""

from __future__ import annotations

from firelet.model.function import FunctionKey

_ROUNDING_S = 1e-9


class RateLimit:
    """A token bucket, kept as the time at which it will be full again (the virtual scheduling of
    ITU-T I.371): one float, and another rate from one call to the next is no matter."""

    __slots__ = ("_full_at",)

    def __init__(self) -> None:
        self._full_at = 0.0

    def admits(self, now: float, rate_per_s: float, burst_s: float) -> bool:
        """Whether one more may come at ``now``, which is then counted. Never more than
        ``rate_per_s * burst_s`` at once, nor on average more than the rate."""
        full_at = self._full_at if self._full_at > now else now
        full_at += 1 / rate_per_s
        if full_at - now > burst_s + _ROUNDING_S:
            return False
        self._full_at = full_at
        return True

    def is_full(self, now: float) -> bool:
        """Whether it is as a new one."""
        return self._full_at <= now


class RateLimits:
    """One for each function. Those that would not refuse anything are forgotten in time."""

    def __init__(self) -> None:
        self._limits: dict[FunctionKey, RateLimit] = {}

    def admits(self, key: FunctionKey, now: float, rate_per_s: float, burst_s: float) -> bool:
        """As ``RateLimit.admits``."""
        limit = self._limits.get(key)
        if limit is None:
            self._limits = {
                other: limit for other, limit in self._limits.items() if not limit.is_full(now)
            }
            limit = self._limits[key] = RateLimit()
        return limit.admits(now, rate_per_s, burst_s)
