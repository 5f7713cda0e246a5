"""Demand: concurrency by levels, gaps between their uses, and whether requests get more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.control.demand import BINS, EDGES_S, GAP_MAX_S, Demand, Gaps


def bin_of(gap_s: float) -> int:
    return max(i for i, edge in enumerate(EDGES_S) if edge <= gap_s)


def test_a_level_counts_how_long_it_was_free_until_it_was_needed_again() -> None:
    demand = Demand(0)
    demand.arrived(0)
    demand.arrived(1)
    demand.released(2)  # the second level is free from here
    demand.arrived(302)
    assert demand.gaps(2).seen == 1
    weights = demand.gaps(2).weights()
    assert sum(weights[bin_of(300) - 1 : bin_of(300) + 2]) == pytest.approx(1)
    assert demand.gaps(1).seen == 0


def test_the_time_before_the_first_request_is_no_gap() -> None:
    demand = Demand(0)
    demand.arrived(50)
    assert demand.gaps(1).seen == 0


def test_free_levels_are_those_between_the_requests_in_flight_and_their_peak() -> None:
    demand = Demand(0)
    for _ in range(3):
        demand.arrived(1)
    demand.released(2)
    demand.released(5)
    assert demand.concurrency == 1
    assert [(level, demand.free_since(level)) for level in demand.free_levels()] == [(2, 5), (3, 2)]


def test_a_new_version_has_one_free_level() -> None:
    assert list(Demand(7).free_levels()) == [1]


def test_what_is_foreseen_is_as_if_it_had_just_been_answered() -> None:
    demand = Demand(0)
    for _ in range(3):
        demand.arrived(1)
    demand.released(2)
    demand.expect(2, 9)
    assert demand.concurrency == 2
    assert [(level, demand.free_since(level)) for level in demand.free_levels()] == [(3, 9), (4, 9)]
    demand.expect(1, 10)
    assert [demand.free_since(level) for level in demand.free_levels()] == [10, 9]


def test_a_level_that_was_not_needed_for_a_day_is_forgotten() -> None:
    demand = Demand(0)
    demand.arrived(0)
    demand.arrived(0)
    demand.released(1)
    demand.released(1)
    demand.arrived(GAP_MAX_S + 2)
    demand.released(GAP_MAX_S + 3)
    assert list(demand.free_levels()) == [1]
    assert demand.gaps(2).weights()[-1] == pytest.approx(1)


def test_requests_that_come_faster_and_faster_are_a_rise() -> None:
    demand = Demand(0)
    for i in range(5):
        demand.arrived(1 + i / 10)
    assert demand.is_rising


def test_a_rise_is_over_when_nothing_more_comes_in() -> None:
    demand = Demand(0)
    for i in range(20):
        demand.arrived(1 + i / 10)
    over_at = demand.rises_until()
    assert 2.9 < over_at < 60
    demand.released(over_at - 0.001)
    assert demand.is_rising
    demand.released(over_at + 0.001)
    assert not demand.is_rising
    assert demand.rises_until() == over_at + 0.001


def test_a_steady_stream_is_no_rise() -> None:
    demand = Demand(0)
    for i in range(600):
        demand.arrived(i / 2)
        demand.released(i / 2 + 0.1)
    assert not demand.is_rising


def test_one_request_after_a_pause_is_no_rise() -> None:
    demand = Demand(0)
    demand.arrived(1_000)
    assert not demand.is_rising


def test_old_gaps_fade_before_new_ones() -> None:
    gaps = Gaps()
    for _ in range(100):
        gaps.add(100)
    for _ in range(300):
        gaps.add(1_000)
    weights = gaps.weights()
    assert weights[bin_of(100)] < 0.05 * weights[bin_of(1_000)]


@given(st.lists(st.floats(0, 2 * GAP_MAX_S), max_size=60))
def test_every_gap_weighs_at_most_one_and_none_gets_lost(seen: list[float]) -> None:
    gaps = Gaps()
    for gap in seen:
        gaps.add(gap)
    weights = gaps.weights()
    assert len(weights) == BINS
    assert min(weights) >= 0
    total = sum((64 / 65) ** age for age in range(len(seen)))
    assert sum(weights) == pytest.approx(total)


def test_gaps_of_a_busy_function_count_one_by_one_or_together() -> None:
    mixed, apart = Gaps(), Gaps()
    for i in range(1_000):
        gap = 100 if i % 300 == 299 else 1
        mixed.add(gap)
        apart.add(gap)
        apart.weights()  # adds what has been counted so far
    assert mixed.weights() == pytest.approx(apart.weights())
    assert mixed.seen == apart.seen == 1_000


def test_weights_stay_right_over_very_many_gaps() -> None:
    gaps = Gaps()
    for _ in range(5_000):
        gaps.add(1)
    assert gaps.weights()[0] == pytest.approx(65)
