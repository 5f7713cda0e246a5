"""Upkeep: costs as measured, and when a decision is due."""

from __future__ import annotations

import math

import pytest

from firelet.control.capacity import SETTLE_S, Decision
from firelet.control.demand import GAP_MAX_S
from firelet.control.upkeep import IDLE_ASSUMED_MIB, RISE_STEP_S, START_ASSUMED_S, Upkeep


def decide(upkeep: Upkeep, now: float, **counts: object) -> Decision:
    view = {"starting": 0, "busy": 0, "idle": (), **counts}
    return upkeep.decide(now, **view)  # type: ignore[arg-type]


def test_costs_come_near_to_what_is_measured() -> None:
    upkeep = Upkeep(0)
    assert (upkeep.start_s, upkeep.idle_mib) == (START_ASSUMED_S, IDLE_ASSUMED_MIB)
    for _ in range(30):
        upkeep.note_start(4.0)
        upkeep.note_idle(100.0)
    assert (upkeep.start_s, upkeep.idle_mib) == (pytest.approx(4, 0.01), pytest.approx(100, 0.01))


def test_one_slow_start_does_not_count_for_much() -> None:
    upkeep = Upkeep(0, start_s=0.1)
    upkeep.note_start(2.0)
    assert upkeep.start_s < 0.6


def test_memory_that_cannot_be_measured_is_not_noted() -> None:
    upkeep = Upkeep(0)
    upkeep.note_idle(0.0)
    assert upkeep.idle_mib == IDLE_ASSUMED_MIB


def test_a_request_by_itself_asks_for_no_decision_and_its_end_for_a_later_one() -> None:
    upkeep = Upkeep(0)
    assert upkeep.arrived(100) == math.inf
    assert upkeep.released(100.1) == 100.1 + SETTLE_S


def test_a_busy_function_asks_for_a_decision_once_and_not_each_time() -> None:
    upkeep = Upkeep(0)
    now = 1_000.0
    asked = []
    for _ in range(2_000):
        upkeep.arrived(now)
        asked.append(upkeep.released(now + 0.01))
        now += 1.0
        if asked[-1] < math.inf:
            due_at = asked[-1]
        if now > due_at:
            decision = decide(upkeep, now, idle=(now,))
            due_at = decision.again_at
    assert sum(at < math.inf for at in asked) < 2_000 / SETTLE_S


def test_in_a_rise_a_decision_is_due_at_once_but_not_with_every_request() -> None:
    upkeep = Upkeep(0)
    now = 1_000.0
    at = [upkeep.arrived(now + i / 1_000) for i in range(5)]
    assert at[2] == now + 0.002, "the third request in a moment is a rise"
    assert at[3:] == [math.inf] * 2, "one that is due is not asked for again"
    decided_at = now + 0.005
    assert decide(upkeep, decided_at, starting=5).start == 2
    assert upkeep.arrived(decided_at + 0.001) == decided_at + RISE_STEP_S
    decide(upkeep, decided_at + RISE_STEP_S, starting=7)
    assert upkeep.arrived(decided_at + 1.0) == decided_at + 1.0


def test_nothing_is_learnt_of_a_version_that_was_not_called_for_a_day() -> None:
    upkeep = Upkeep(0)
    assert upkeep.is_past(0), "it was never called"
    upkeep.arrived(10)
    assert not upkeep.is_past(10 + 2 * GAP_MAX_S), "a request is in flight"
    upkeep.released(20)
    assert not upkeep.is_past(20 + GAP_MAX_S)
    assert upkeep.is_past(21 + GAP_MAX_S)
