"""What is kept of many values of one metric: count, sum, extremes and a bounded sketch.

What it is: a value that can be added to and merged, so that a minute of measurements takes the same
room however many there were. Percentiles come from buckets whose bounds grow by 2 %, so that they
are within 1 % of the truth. What it is not: a series or a clock.

Source: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees"
(VLDB 2019); statistics and their names: CloudWatch user guide, "CloudWatch statistics definitions".
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

BUCKETS_MAX = 512  # bounds that grow by 2 % over 512 buckets span a factor of 25,000
STATISTICS = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")

_GROWTH = 1.02
_PER_LOG = 1 / math.log(_GROWTH)
_MIDDLE = 2 / (1 + _GROWTH)
_ZERO = -(1 << 31)  # the bucket of values that have no logarithm
_PERCENTILE = re.compile(r"p(100|\d{1,2}(\.\d{1,10})?)")


@dataclass(slots=True)
class Summary:
    """Values of one metric within some time. ``buckets`` maps a bucket to how many are in it."""

    count: float = 0.0
    total: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf
    buckets: dict[int, float] = field(default_factory=dict)

    def add(self, value: float, count: float = 1.0) -> None:
        """``count`` measurements that all gave ``value``."""
        self.count += count
        self.total += value * count
        if value < self.minimum:
            self.minimum = value
        if value > self.maximum:
            self.maximum = value
        bucket = math.ceil(math.log(value) * _PER_LOG) if value > 0 else _ZERO
        buckets = self.buckets
        buckets[bucket] = buckets.get(bucket, 0.0) + count
        if len(buckets) > BUCKETS_MAX:
            self._shrink()

    def merge(self, other: Summary) -> None:
        self.count += other.count
        self.total += other.total
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0.0) + count
        if len(self.buckets) > BUCKETS_MAX:
            self._shrink()

    def statistic(self, name: str) -> float | None:
        """One of ``STATISTICS`` or a percentile (``p99.9``); None when it cannot be told: of
        statistics that somebody else made, and of negative values, as on AWS."""
        if not self.count:
            return None
        match name:
            case "SampleCount":
                return self.count
            case "Average":
                return self.total / self.count
            case "Sum":
                return self.total
            case "Minimum":
                return self.minimum
            case "Maximum":
                return self.maximum
        return self._percentile(float(name[1:]))

    def _percentile(self, percent: float) -> float | None:
        held = sum(self.buckets.values())
        if self.minimum < 0 or held < self.count:
            return None
        if percent == 100:
            return self.maximum
        rank, passed = percent / 100 * held, 0.0
        for bucket in sorted(self.buckets):
            passed += self.buckets[bucket]
            if passed >= rank:
                value = 0.0 if bucket == _ZERO else _GROWTH**bucket * _MIDDLE
                return min(max(value, self.minimum), self.maximum)
        return self.maximum

    def _shrink(self) -> None:
        """The smallest values lose their resolution first: few ask for low percentiles."""
        order = sorted(self.buckets)
        for bucket in order[: len(order) - BUCKETS_MAX]:
            into = order[len(order) - BUCKETS_MAX]
            self.buckets[into] += self.buckets.pop(bucket)


def is_statistic(name: str) -> bool:
    """Whether ``Summary.statistic`` knows it."""
    return name in STATISTICS or is_percentile(name)


def is_percentile(name: str) -> bool:
    return _PERCENTILE.fullmatch(name) is not None
