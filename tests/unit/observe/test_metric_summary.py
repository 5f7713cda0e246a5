"""Summaries of values: exact in what is counted, close in percentiles, bounded in size."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.observe.metric_summary import BUCKETS_MAX, Summary, is_statistic

values = st.lists(st.floats(0.001, 10_000), min_size=1, max_size=200)


def summary_of(numbers: list[float]) -> Summary:
    summary = Summary()
    for number in numbers:
        summary.add(number)
    return summary


@given(numbers=values, percent=st.integers(1, 100))
def test_percentiles_are_within_one_percent(numbers: list[float], percent: int) -> None:
    exact = sorted(numbers)[math.ceil(percent / 100 * len(numbers)) - 1]
    told = summary_of(numbers).statistic(f"p{percent}")
    assert told == pytest.approx(exact, rel=0.0101)


@given(left=values, right=values)
def test_merging_is_as_good_as_adding(left: list[float], right: list[float]) -> None:
    merged = summary_of(left)
    merged.merge(summary_of(right))
    whole = summary_of(left + right)
    assert merged.buckets == whole.buckets
    assert (merged.count, merged.minimum, merged.maximum) == (
        whole.count,
        whole.minimum,
        whole.maximum,
    )
    assert merged.total == pytest.approx(whole.total)


def test_the_plain_statistics_are_exact() -> None:
    summary = Summary()
    summary.add(2.0, count=3)
    summary.add(10.0)
    told = {name: summary.statistic(name) for name in ("SampleCount", "Sum", "Average", "Maximum")}
    assert told == {"SampleCount": 4, "Sum": 16, "Average": 4, "Maximum": 10}


def test_size_is_bounded_and_high_percentiles_survive() -> None:
    summary = summary_of([1.05**power for power in range(2_000)])
    assert len(summary.buckets) <= BUCKETS_MAX
    assert sum(summary.buckets.values()) == summary.count
    assert summary.statistic("p99") == pytest.approx(1.05**1_979, rel=0.0101)


def test_there_are_no_percentiles_of_negative_values_or_of_foreign_statistics() -> None:
    assert summary_of([-1.0, 5.0]).statistic("p50") is None
    assert Summary(10, 50, 1, 9).statistic("p50") is None
    assert Summary(10, 50, 1, 9).statistic("Average") == 5
    assert Summary().statistic("Sum") is None


def test_zeros_have_a_percentile() -> None:
    summary = Summary()
    summary.add(0.0, count=9)
    summary.add(100.0)
    assert summary.statistic("p50") == 0
    assert summary.statistic("p100") == 100


@pytest.mark.parametrize("name", ["p50", "p99.9", "p0.1", "p100", "Sum"])
def test_these_are_statistics(name: str) -> None:
    assert is_statistic(name)


@pytest.mark.parametrize("name", ["p101", "p", "99", "p1e2", "sum", "tm99"])
def test_these_are_none(name: str) -> None:
    assert not is_statistic(name)
