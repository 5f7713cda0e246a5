"""Target tracking: how much provisioned concurrency keeps a metric near its target.

Pure: ``decide(view, now)``. Out as soon as the metric has been above the target for three seconds,
by as much as brings it back; in only when it has been clearly below for long, by its highest value
in that time. What it is not: the reading of metrics or the change of anything.
Source: Application Auto Scaling guide, "Target tracking scaling policies": out after 3 datapoints
above the target, in after 15 below 90 % of it; ours are seconds apart on the way out, where AWS's
are minutes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from firelet.model import limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracker:
    """What one policy says, and how its metric stands. ``value`` is None without data."""

    name: str
    value: float | None
    target: float
    out_cooldown_s: float = 0.0
    in_cooldown_s: float = 0.0
    can_scale_in: bool = True


@dataclass(frozen=True, slots=True)
class Trend:
    """How long a metric has been on one side of its target. ``peak`` is its highest value since
    ``low_since``."""

    high_since: float | None = None
    low_since: float | None = None
    peak: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a decision leaves to the next one: the trend of each policy, and when the last changes
    were made. Times are those of ``now``."""

    trends: Mapping[str, Trend] = field(default_factory=dict)
    out_at: float = -math.inf
    in_at: float = -math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingView:
    """One scalable target. ``is_settled`` says that it has got all that was asked for."""

    capacity: int
    minimum: int
    maximum: int
    trackers: Sequence[Tracker]
    memory: Memory = field(default_factory=Memory)
    is_settled: bool = True
    can_scale_out: bool = True
    can_scale_in: bool = True
    in_after_s: float = limits.SCALE_IN_AFTER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingDecision:
    """The capacity to have; ``policy`` is why, None when only the bounds are."""

    capacity: int
    memory: Memory
    policy: str | None = None


def decide(view: TrackingView, now: float) -> TrackingDecision:
    """The most that any policy asks for; less than now only if all agree. Within the bounds."""
    trends = {
        tracker.name: _follow(view.memory.trends.get(tracker.name, Trend()), tracker, now)
        for tracker in view.trackers
    }
    memory = Memory(trends=trends, out_at=view.memory.out_at, in_at=view.memory.in_at)
    wishes = [
        (_wish(view, tracker, trends[tracker.name], now), tracker.name) for tracker in view.trackers
    ]
    wanted, policy = max(wishes, default=(view.capacity, ""))
    if not view.is_settled:
        wanted = view.capacity
    capacity = max(view.minimum, min(view.maximum, wanted))
    if capacity == view.capacity:
        return TrackingDecision(capacity=capacity, memory=memory)
    is_out = capacity > view.capacity
    if not (view.can_scale_out if is_out else view.can_scale_in):
        return TrackingDecision(capacity=view.capacity, memory=memory)
    # Whatever was seen so far was seen of another capacity.
    after = Memory(
        out_at=now if is_out else view.memory.out_at, in_at=view.memory.in_at if is_out else now
    )
    return TrackingDecision(
        capacity=capacity, memory=after, policy=None if wanted == view.capacity else policy
    )


def _follow(trend: Trend, tracker: Tracker, now: float) -> Trend:
    value = tracker.value
    if value is None:
        return Trend()
    if value > tracker.target:
        return Trend(high_since=now if trend.high_since is None else trend.high_since)
    if value < tracker.target * limits.SCALE_IN_BELOW:
        if trend.low_since is None:
            return Trend(low_since=now, peak=value)
        return Trend(low_since=trend.low_since, peak=max(trend.peak, value))
    return Trend()


def _wish(view: TrackingView, tracker: Tracker, trend: Trend, now: float) -> int:
    memory = view.memory
    if trend.high_since is not None and tracker.value is not None:
        is_ripe = now - trend.high_since >= limits.SCALE_OUT_AFTER_S
        if is_ripe and now - memory.out_at >= tracker.out_cooldown_s:
            return math.ceil(view.capacity * tracker.value / tracker.target)
    if trend.low_since is not None and tracker.can_scale_in:
        is_ripe = now - trend.low_since >= view.in_after_s
        is_cool = now - max(memory.in_at, memory.out_at) >= tracker.in_cooldown_s
        if is_ripe and is_cool:
            return math.ceil(view.capacity * trend.peak / tracker.target)
    return view.capacity
