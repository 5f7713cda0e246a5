"""How many embryos should wait: pure, with numbers for the clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.sandbox.embryos import MEMORY_S, Bounds, Takings, decide

BOUNDS = Bounds(least=2, most=16)


def taken(per_s: float, *, make_s: float, for_s: float = 10.0) -> Takings:
    """After starts at a steady rate, up to the moment 0."""
    takings = Takings(at=-for_s).after_making(make_s)
    for number in range(round(per_s * for_s)):
        takings = takings.after_start(-for_s + (number + 1) / per_s)
    return takings


def test_at_rest_the_least_wait() -> None:
    assert decide(Takings(), 0.0, BOUNDS) == 2


def test_the_rate_of_steady_starts_is_found() -> None:
    assert taken(50, make_s=0.02).rate(0.0) == pytest.approx(50, rel=0.05)


def test_as_many_more_wait_as_are_taken_while_one_is_made() -> None:
    assert decide(taken(100, make_s=0.05), 0.0, BOUNDS) in (7, 8)


def test_a_single_start_asks_for_one_more() -> None:
    assert decide(Takings(make_s=0.02).after_start(0.0), 0.0, BOUNDS) == 3


def test_slow_making_asks_for_more() -> None:
    quick, slow = (taken(40, make_s=make_s) for make_s in (0.01, 0.2))
    assert decide(quick, 0.0, BOUNDS) < decide(slow, 0.0, BOUNDS)


def test_a_burst_is_forgotten() -> None:
    burst = taken(100, make_s=0.1)
    assert decide(burst, 0.0, BOUNDS) > 10
    assert decide(burst, 15 * MEMORY_S, BOUNDS) == 3
    assert decide(burst, 30 * MEMORY_S, BOUNDS) == 2


def test_the_time_to_make_one_follows_slowly() -> None:
    takings = Takings().after_making(0.01).after_making(0.11)
    assert takings.make_s == pytest.approx(0.03)


def test_none_at_all_may_be_asked_for() -> None:
    assert decide(taken(100, make_s=0.1), 0.0, Bounds(0, 0)) == 0


@given(
    per_s=st.floats(0, 1e6),
    make_s=st.floats(0, 100),
    later_s=st.floats(0, 1e6),
    least=st.integers(0, 50),
    more=st.integers(0, 50),
)
def test_it_stays_within_its_bounds(
    per_s: float, make_s: float, later_s: float, least: int, more: int
) -> None:
    wanted = decide(Takings(per_s, 0.0, make_s), later_s, Bounds(least, least + more))
    assert least <= wanted <= least + more
