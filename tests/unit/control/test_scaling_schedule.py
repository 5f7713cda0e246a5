"""What scheduled actions make of the bounds of a target, and when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from firelet.control.scaling_records import ScalableTarget, ScheduledAction
from firelet.control.scaling_schedule import decide, next_run

CREATED = datetime(2026, 3, 4, tzinfo=UTC).timestamp()
HOUR = 3_600.0


def make_action(name: str = "daily", **changes: Any) -> ScheduledAction:
    fields: dict[str, Any] = {"schedule": "rate(1 hour)", "minimum": 5}
    return ScheduledAction(
        name=name, arn=name, created=CREATED, **{"done_until": CREATED} | fields | changes
    )


def make_target(*actions: ScheduledAction, **changes: Any) -> ScalableTarget:
    fields: dict[str, Any] = {"minimum": 1, "maximum": 10}
    return ScalableTarget(
        account="123456789012",
        region="eu-central-1",
        function="greeter",
        qualifier="live",
        arn="arn",
        created=CREATED,
        actions={action.name: action for action in actions},
        **fields | changes,
    )


def test_an_action_changes_the_bounds_when_it_is_due_and_not_before() -> None:
    target = make_target(make_action())
    assert decide(target, CREATED + HOUR - 1) == decide(target, CREATED)
    decision = decide(target, CREATED + HOUR)
    assert (decision.target.minimum, decision.target.maximum) == (5, 10)
    assert decision.action == "daily"
    assert decide(decision.target, CREATED + HOUR + 1).action is None


def test_what_was_missed_is_made_up_for_once() -> None:
    decision = decide(make_target(make_action()), CREATED + 50.5 * HOUR)
    assert decision.action == "daily"
    assert next_run(decision.target.actions["daily"]) == CREATED + 51 * HOUR


def test_the_last_of_several_actions_wins() -> None:
    late = make_action("a", schedule="rate(2 hours)", minimum=2)
    early = make_action("b", minimum=7)
    decision = decide(make_target(late, early), CREATED + 2 * HOUR)
    assert (decision.target.minimum, decision.action) == (2, "a")


@pytest.mark.parametrize(
    ("given_bounds", "expected"),
    [
        ({"minimum": 20, "maximum": None}, (20, 20)),
        ({"minimum": None, "maximum": 0}, (0, 0)),
        ({"minimum": 3, "maximum": 4}, (3, 4)),
    ],
)
def test_the_bound_that_is_not_given_gives_way(
    given_bounds: dict[str, Any], expected: tuple[int, int]
) -> None:
    target = decide(make_target(make_action(**given_bounds)), CREATED + HOUR).target
    assert (target.minimum, target.maximum) == expected


def test_an_action_runs_between_its_start_and_its_end_only() -> None:
    action = make_action(start=CREATED + 5 * HOUR, end=CREATED + 6.5 * HOUR)
    assert next_run(action) == CREATED + 6 * HOUR
    done = make_action(start=action.start, end=action.end, done_until=CREATED + 6 * HOUR)
    assert next_run(done) is None


def test_suspended_schedules_wait() -> None:
    target = make_target(make_action(), suspended=frozenset({"ScheduledScalingSuspended"}))
    assert decide(target, CREATED + HOUR).action is None
