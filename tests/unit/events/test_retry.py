"""The table of retries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.events.retry import (
    AGE_DEFAULT_MS,
    BACKOFF_MAX_MS,
    Again,
    Attempt,
    Condition,
    Discard,
    Ending,
    decide,
    is_too_old,
)


def attempt(ending: Ending, failures: int = 0, postponements: int = 0) -> Attempt:
    return Attempt(ending=ending, enqueued_ms=0, failures=failures, postponements=postponements)


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        (0, Again(60_000, is_failure=True)),
        (1, Again(120_000, is_failure=True)),
        (2, Discard(Condition.RETRIES_EXHAUSTED)),
    ],
)
def test_a_function_error_is_retried_after_one_minute_and_after_two(
    failures: int, expected: Again | Discard
) -> None:
    assert decide(attempt(Ending.FUNCTION_ERROR, failures), 0) == expected


def test_throttles_before_it_do_not_use_up_the_retries_of_a_function_error() -> None:
    assert decide(attempt(Ending.FUNCTION_ERROR, 0, postponements=30), 0) == Again(60_000, True)


@pytest.mark.parametrize(
    ("postponements", "delay_ms"),
    [(0, 1_000), (1, 2_000), (8, 256_000), (9, 300_000), (10_000, 300_000)],
)
def test_a_throttle_backs_off_from_a_second_to_five_minutes(
    postponements: int, delay_ms: int
) -> None:
    decision = decide(attempt(Ending.POSTPONED, postponements=postponements), 5)
    assert decision == Again(5 + delay_ms, is_failure=False)


def test_success_and_rejection_are_final() -> None:
    assert decide(attempt(Ending.SUCCESS), 0) == Discard(Condition.SUCCESS)
    assert decide(attempt(Ending.REJECTED), 0) == Discard(Condition.REJECTED)


def test_a_configuration_may_forbid_retries() -> None:
    strict = Attempt(ending=Ending.FUNCTION_ERROR, enqueued_ms=0, retries_max=0)
    assert decide(strict, 0) == Discard(Condition.RETRIES_EXHAUSTED)


@given(
    st.sampled_from(Ending),
    st.integers(0, 5),
    st.integers(0, 200),
    st.integers(0, 2 * AGE_DEFAULT_MS),
)
def test_nothing_is_tried_again_when_it_will_be_too_old(
    ending: Ending, failures: int, postponements: int, now_ms: int
) -> None:
    decision = decide(attempt(ending, failures, postponements), now_ms)
    if isinstance(decision, Again):
        assert now_ms < decision.due_ms <= AGE_DEFAULT_MS
        assert decision.due_ms <= now_ms + BACKOFF_MAX_MS
        assert not is_too_old(0, decision.due_ms)


@pytest.mark.parametrize(
    ("ending", "condition"),
    [
        (Ending.SUCCESS, Condition.SUCCESS),
        (Ending.SWITCHED_OFF, Condition.ZERO_RESERVED_CONCURRENCY),
        (Ending.LOOPED, Condition.RECURSIVE_INVOCATION),
        (Ending.REJECTED, Condition.REJECTED),
    ],
)
def test_what_cannot_end_otherwise_is_not_tried_again(ending: Ending, condition: Condition) -> None:
    assert decide(attempt(ending), 0) == Discard(condition)
