"""Rates: a burst at once, then no more than the rate, whatever the calls are spread like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.control.rates import RateLimit, RateLimits

ONE = ("123456789012", "us-east-1", "one")
TWO = ("123456789012", "us-east-1", "two")


def admitted(limit: RateLimit, now: float, rate_per_s: float, burst_s: float) -> int:
    count = 0
    while limit.admits(now, rate_per_s, burst_s):
        count += 1
    return count


@pytest.mark.parametrize("rate_per_s", [1, 3, 10, 70, 10_000])
@pytest.mark.parametrize("burst_s", [1, 10])
def test_a_whole_burst_is_there_at_first_and_not_one_more(rate_per_s: int, burst_s: int) -> None:
    assert admitted(RateLimit(), 1_000.0, rate_per_s, burst_s) == rate_per_s * burst_s


def test_then_it_comes_back_at_its_rate() -> None:
    limit = RateLimit()
    admitted(limit, 1_000.0, 100, 10)
    assert admitted(limit, 1_000.5, 100, 10) == 50
    assert admitted(limit, 1_100.0, 100, 10) == 1_000


def test_a_refusal_costs_nothing() -> None:
    limit = RateLimit()
    admitted(limit, 1_000.0, 10, 1)
    for _ in range(100):
        assert not limit.admits(1_000.05, 10, 1)
    assert limit.admits(1_000.1, 10, 1)


def test_another_rate_holds_from_now_on() -> None:
    limit = RateLimit()
    admitted(limit, 1_000.0, 10, 1)
    assert admitted(limit, 1_000.5, 100, 1) == 50


def test_it_is_as_new_when_all_has_come_back() -> None:
    limit = RateLimit()
    assert limit.is_full(0)
    limit.admits(1_000.0, 10, 1)
    assert not limit.is_full(1_000.05)
    assert limit.is_full(1_000.1)


def test_functions_have_limits_of_their_own() -> None:
    limits = RateLimits()
    assert limits.admits(ONE, 1_000.0, 1, 1)
    assert not limits.admits(ONE, 1_000.0, 1, 1)
    assert limits.admits(TWO, 1_000.0, 1, 1)
    assert not limits.admits(ONE, 1_000.9, 1, 1), "it was forgotten too early"


@given(
    st.lists(st.floats(0, 3), max_size=200),
    st.integers(1, 20),
    st.sampled_from([1.0, 10.0]),
)
def test_no_window_ever_has_more_than_a_burst_and_its_rate(
    gaps: list[float], rate_per_s: int, burst_s: float
) -> None:
    limit = RateLimit()
    now = 1_000.0
    admitted_at = []
    for gap in gaps:
        now += gap / rate_per_s
        if limit.admits(now, rate_per_s, burst_s):
            admitted_at.append(now)
    for first, begin in enumerate(admitted_at):
        for last, end in enumerate(admitted_at[first:], first):
            allowed = rate_per_s * (burst_s + end - begin)
            assert last - first + 1 <= allowed + 1e-6
