"""Eviction: idle ones only, the cheapest first, and no more than it takes."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from firelet.control.evict import (
    HIGH_SHARE,
    LOW_SHARE,
    Candidate,
    Standing,
    View,
    decide,
)

NOW = 1_000.0
MEMORY_MIB = 1_000.0
ONE = Candidate(id="one", memory_mib=50, start_s=0.5, idle_since=900.0)


def stopped(*candidates: Candidate, used_mib: float) -> tuple[str, ...]:
    view = View(used_mib=used_mib, memory_mib=MEMORY_MIB, candidates=candidates)
    return decide(view, NOW).stop


def candidate(name: str, **changes: object) -> Candidate:
    return replace(ONE, id=name, **changes)  # type: ignore[arg-type]


def test_nothing_goes_while_there_is_memory() -> None:
    assert stopped(ONE, used_mib=MEMORY_MIB * HIGH_SHARE) == ()


def test_just_enough_goes_to_come_down_to_the_low_mark() -> None:
    many = [candidate(f"{i:02}") for i in range(10)]
    assert stopped(*many, used_mib=MEMORY_MIB * LOW_SHARE + 140) == ("00", "01", "02")


def test_a_busy_one_never_goes() -> None:
    assert stopped(candidate("busy", idle_since=None), used_mib=1_000) == ()


def test_what_is_quick_to_make_for_its_memory_goes_first() -> None:
    slow = candidate("slow", start_s=5, memory_mib=200)
    quick = candidate("quick", start_s=0.5, memory_mib=200)
    assert stopped(slow, quick, used_mib=950) == ("quick",)


def test_a_large_one_goes_before_a_small_one_that_starts_as_fast() -> None:
    small = candidate("small", memory_mib=10)
    large = candidate("large", memory_mib=200)
    assert stopped(small, large, used_mib=950) == ("large",)


def test_the_longest_idle_of_equals_goes_first() -> None:
    young, old = candidate("a", idle_since=990.0), candidate("b", idle_since=10.0)
    assert stopped(young, old, used_mib=910)[0] == "b"


def test_provisioned_ones_and_snapshots_go_last() -> None:
    everything = [
        candidate("snapshot", standing=Standing.SNAPSHOT, start_s=0.001),
        candidate("provisioned", standing=Standing.PROVISIONED, start_s=0.01),
        candidate("plain", start_s=9.0),
    ]
    assert stopped(*everything, used_mib=1_000) == ("plain", "provisioned", "snapshot")
    assert stopped(*everything, used_mib=MEMORY_MIB * HIGH_SHARE + 1)[0] == "plain"


def test_small_ones_are_spared_when_a_later_large_one_is_enough() -> None:
    small = candidate("small", memory_mib=20, start_s=0.1)
    large = candidate("large", memory_mib=500, start_s=5)
    assert stopped(small, large, used_mib=950) == ("large",)


candidates = st.lists(
    st.builds(
        Candidate,
        id=st.uuids().map(str),
        memory_mib=st.integers(0, 300).map(float),
        start_s=st.floats(0, 10),
        idle_since=st.none() | st.floats(0, NOW),
        standing=st.sampled_from(Standing),
    ),
    max_size=12,
    unique_by=lambda each: each.id,
)


@given(candidates, st.integers(0, 1_000))
def test_what_goes_is_idle_and_enough_and_none_of_it_needless(
    present: list[Candidate], used_mib: int
) -> None:
    by_id = {each.id: each for each in present}
    chosen = [by_id[name] for name in stopped(*present, used_mib=used_mib)]
    assert len(set(chosen)) == len(chosen)
    assert all(each.idle_since is not None for each in chosen)
    if used_mib <= MEMORY_MIB * HIGH_SHARE:
        assert not chosen
        return
    excess = used_mib - MEMORY_MIB * LOW_SHARE
    freed = sum(each.memory_mib for each in chosen)
    possible = sum(each.memory_mib for each in present if each.idle_since is not None)
    assert freed >= min(excess, possible)
    assert all(freed - each.memory_mib < excess for each in chosen)


@given(candidates)
def test_a_provisioned_one_goes_only_when_the_others_are_not_enough(
    present: list[Candidate],
) -> None:
    by_id = {each.id: each for each in present}
    used_mib = MEMORY_MIB * HIGH_SHARE + 10
    standings = {by_id[name].standing for name in stopped(*present, used_mib=used_mib)}
    for standing in standings - {Standing.ON_DEMAND}:
        cheaper = [
            each.memory_mib
            for each in present
            if each.idle_since is not None and each.standing < standing
        ]
        assert sum(cheaper) < used_mib - MEMORY_MIB * LOW_SHARE
