"""Placement: never where it may not be, always where it may, and the best of those."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.control.placement import (
    LOADED_PER_CORE,
    LOST_AFTER_S,
    Decision,
    View,
    Warmth,
    WorkerView,
    decide,
)

NOW = 1_000.0
WORKER = WorkerView(
    name="a",
    memory_mib=4_096,
    reserved_mib=0,
    cores=2,
    active=0,
    warmth=Warmth.NOTHING,
    seen_at=NOW,
)


def place(*workers: WorkerView, memory_mib: int = 512, overcommit: float = 1.0) -> Decision:
    return decide(View(workers=workers, memory_mib=memory_mib, overcommit=overcommit), NOW)


def worker(name: str, **changes: object) -> WorkerView:
    return replace(WORKER, name=name, **changes)  # type: ignore[arg-type]


def test_without_workers_there_is_no_place() -> None:
    assert place() == Decision(None, is_new=False)


def test_an_idle_environment_serves_before_a_new_one_is_made() -> None:
    busier = worker("b", warmth=Warmth.IDLE_ENVIRONMENT, active=1)
    assert place(worker("a"), busier) == Decision("b", is_new=False)


@pytest.mark.parametrize(
    ("better", "worse"), [(one, other) for one in Warmth for other in Warmth if one < other]
)
def test_what_is_warmer_comes_first(better: Warmth, worse: Warmth) -> None:
    assert place(worker("a", warmth=worse), worker("b", warmth=better)).worker == "b"


def test_a_loaded_worker_comes_after_a_free_one_however_warm_it_is() -> None:
    loaded = worker("a", warmth=Warmth.IDLE_ENVIRONMENT, active=int(2 * LOADED_PER_CORE))
    assert place(loaded, worker("b")) == Decision("b", is_new=True)


def test_when_all_are_loaded_the_warm_one_serves() -> None:
    active = int(2 * LOADED_PER_CORE)
    warm = worker("b", warmth=Warmth.IDLE_ENVIRONMENT, active=active + 1)
    assert place(worker("a", active=active), warm).worker == "b"


def test_load_is_counted_for_each_core() -> None:
    assert place(worker("a", active=2, cores=2), worker("b", active=3, cores=8)).worker == "b"


def test_equals_are_told_apart_by_reserved_memory_then_by_name() -> None:
    assert place(worker("a", reserved_mib=512), worker("b")).worker == "b"
    assert place(worker("b"), worker("a")).worker == "a"


def test_memory_is_admitted_up_to_the_ratio_and_not_beyond() -> None:
    full = worker("a", reserved_mib=4_096 - 511)
    assert place(full).worker is None
    assert place(full, overcommit=1.5).worker == "a"


def test_an_idle_environment_needs_no_memory_that_it_has_not_reserved() -> None:
    full = worker("a", reserved_mib=4_096, warmth=Warmth.IDLE_ENVIRONMENT)
    assert place(full) == Decision("a", is_new=False)


def test_a_worker_that_fell_silent_gets_nothing() -> None:
    assert place(worker("a", seen_at=NOW - LOST_AFTER_S - 1)).worker is None


workers = st.lists(
    st.builds(
        WorkerView,
        name=st.text("abcdef", min_size=1, max_size=3),
        memory_mib=st.integers(128, 8_192),
        reserved_mib=st.integers(0, 16_384),
        cores=st.integers(1, 8),
        active=st.integers(0, 20),
        warmth=st.sampled_from(Warmth),
        seen_at=st.floats(NOW - 2 * LOST_AFTER_S, NOW),
        is_draining=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda each: each.name,
)


@given(workers, st.integers(128, 10_240), st.floats(0.1, 4), st.randoms())
def test_a_place_is_always_allowed_and_found_whenever_there_is_one(
    present: list[WorkerView], memory_mib: int, overcommit: float, shuffler: object
) -> None:
    view = View(workers=present, memory_mib=memory_mib, overcommit=overcommit)
    decision = decide(view, NOW)

    def fits(each: WorkerView) -> bool:
        has_one = each.warmth is Warmth.IDLE_ENVIRONMENT
        after_mib = each.reserved_mib + (0 if has_one else memory_mib)
        is_there = not each.is_draining and NOW - each.seen_at <= LOST_AFTER_S
        return is_there and after_mib <= each.memory_mib * overcommit

    fitting = {each.name for each in present if fits(each)}
    assert (decision.worker in fitting) if fitting else decision.worker is None
    shuffled = list(present)
    shuffler.shuffle(shuffled)  # type: ignore[attr-defined]
    assert decide(replace(view, workers=shuffled), NOW) == decision
