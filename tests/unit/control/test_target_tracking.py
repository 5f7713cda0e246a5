"""How the floor follows a metric: out quickly, in slowly, never beyond its bounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from firelet.control.target_tracking import (
    Memory,
    Tracker,
    TrackingDecision,
    TrackingView,
    decide,
)
from firelet.model import limits

IN_AFTER_S = 60.0


class Run:
    """A target under one policy, second by second; the test says what the metric is."""

    def __init__(self, capacity: int, **changes: Any) -> None:
        tracker = {
            name: changes.pop(name)
            for name in ("out_cooldown_s", "in_cooldown_s", "can_scale_in")
            if name in changes
        }
        self.tracker = Tracker(name="follow", value=None, target=0.7, **tracker)
        self.view = TrackingView(
            capacity=capacity,
            **{"minimum": 1, "maximum": 100, "trackers": (), "in_after_s": IN_AFTER_S} | changes,
        )
        self.now = 1_000.0

    def second(self, value: float | None) -> TrackingDecision:
        trackers = (replace(self.tracker, value=value),)
        decision = decide(replace(self.view, trackers=trackers), self.now)
        self.view = replace(self.view, capacity=decision.capacity, memory=decision.memory)
        self.now += 1
        return decision

    def seconds(self, count: int, value: float | None) -> int:
        for _ in range(count):
            self.second(value)
        return self.view.capacity


OUT = int(limits.SCALE_OUT_AFTER_S) + 1
IN = int(IN_AFTER_S) + 1


def test_a_metric_above_its_target_for_seconds_scales_out_in_proportion() -> None:
    run = Run(10)
    assert run.seconds(OUT - 1, 1.0) == 10
    decision = run.second(1.0)
    assert (decision.capacity, decision.policy) == (15, "follow")


def test_a_peak_of_one_second_changes_nothing() -> None:
    run = Run(10)
    for _ in range(20):
        run.second(1.0)
        run.second(0.65)
    assert run.view.capacity == 10


def test_near_the_target_nothing_changes() -> None:
    assert Run(10).seconds(3 * IN, 0.65) == 10


def test_a_metric_clearly_below_for_long_scales_in_by_its_peak() -> None:
    run = Run(10)
    run.second(0.35)
    assert run.seconds(IN - 2, 0.1) == 10
    assert run.second(0.1).capacity == 5


def test_the_time_of_little_load_begins_anew_after_each_peak() -> None:
    run = Run(10)
    run.seconds(IN - 1, 0.1)
    run.second(0.7)
    assert run.seconds(IN - 1, 0.1) == 10


def test_without_data_nothing_changes() -> None:
    assert Run(10).seconds(3 * IN, None) == 10


def test_a_policy_may_never_scale_in() -> None:
    assert Run(10, can_scale_in=False).seconds(2 * IN, 0.0) == 10


def test_cooldowns_keep_changes_apart() -> None:
    run = Run(10, out_cooldown_s=30.0)
    assert run.seconds(OUT, 1.0) == 15
    assert run.seconds(29, 1.0) == 15
    assert run.seconds(OUT, 1.0) == 22

    run = Run(10, in_cooldown_s=300.0)
    assert run.seconds(IN, 0.35) == 5
    assert run.seconds(299, 0.35) == 5
    assert run.seconds(IN, 0.35) == 3


def test_bounds_hold_without_any_metric() -> None:
    assert Run(0, minimum=2).second(None).capacity == 2
    assert Run(9, maximum=4).second(None).capacity == 4
    assert Run(0, minimum=2).second(None).policy is None


def test_nothing_more_is_asked_for_until_what_was_asked_for_is_there() -> None:
    assert Run(10, is_settled=False).seconds(3 * OUT, 1.0) == 10


def test_what_is_suspended_does_not_happen() -> None:
    assert Run(10, can_scale_out=False).seconds(3 * OUT, 1.0) == 10


def test_several_policies_scale_out_for_any_and_in_only_together() -> None:
    calm = Tracker(name="calm", value=0.0, target=0.5)
    busy = Tracker(name="busy", value=0.45, target=0.5)
    view = TrackingView(capacity=8, minimum=0, maximum=99, trackers=(calm, busy), in_after_s=1.0)
    now, memory = 0.0, Memory()
    for _ in range(10):
        decision = decide(replace(view, memory=memory), now)
        assert decision.capacity == 8
        memory, now = decision.memory, now + 1
    loud = replace(view, trackers=(calm, replace(busy, value=1.0)), memory=memory)
    memory = decide(loud, now).memory
    assert decide(replace(loud, memory=memory), now + OUT).capacity == 16


values = st.one_of(st.none(), st.floats(0, 1))


@given(
    trace=st.lists(values, max_size=200),
    capacity=st.integers(0, 50),
    bounds=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_the_capacity_never_leaves_its_bounds(
    trace: list[float | None], capacity: int, bounds: tuple[int, int]
) -> None:
    low, high = min(bounds), max(bounds)
    run = Run(capacity, minimum=low, maximum=high, in_after_s=5.0)
    for value in trace:
        before = run.view.capacity
        after = run.second(value).capacity
        assert low <= after <= high
        if value is not None and value < 0.7 and low <= before:
            assert after <= before
