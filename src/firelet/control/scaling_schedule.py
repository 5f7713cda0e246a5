"""Which scheduled actions are due, and what they make of the bounds of a scalable target.

Pure: ``decide(target, now)``. What was missed while the platform was down is made up for, once:
the bounds are a state, and the last action says what it should be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from firelet.control.cron import parse_schedule
from firelet.control.scaling_records import ScalableTarget, ScheduledAction


@dataclass(frozen=True, slots=True)
class ScheduleDecision:
    """The target as it is to be kept, and the name of the last action that has run."""

    target: ScalableTarget
    action: str | None


def decide(target: ScalableTarget, now: float) -> ScheduleDecision:
    """All that is due, in its order; nothing while scheduled scaling is suspended."""
    if "ScheduledScalingSuspended" in target.suspended:
        return ScheduleDecision(target, None)
    due = sorted(
        (moment, action.name)
        for action in target.actions.values()
        if (moment := next_run(action)) is not None and moment <= now
    )
    actions: Mapping[str, ScheduledAction] = target.actions
    for _, name in due:
        action = target.actions[name]
        # The bound that is not given gives way to the one that is.
        minimum, maximum = target.minimum, target.maximum
        if action.minimum is not None:
            minimum = action.minimum
            maximum = max(maximum, minimum)
        if action.maximum is not None:
            maximum = action.maximum
            minimum = min(minimum, maximum)
        actions = {**actions, name: replace(action, done_until=now)}
        target = replace(target, minimum=minimum, maximum=maximum, actions=actions)
    return ScheduleDecision(target, due[-1][1] if due else None)


@lru_cache(maxsize=4_096)
def next_run(action: ScheduledAction) -> float | None:
    """The first moment after ``done_until`` at which it is due; None if there is none."""
    after = action.done_until
    if action.start is not None:
        after = max(after, action.start - 1e-6)
    base = datetime.fromtimestamp(action.created if action.start is None else action.start, UTC)
    zone = ZoneInfo(action.timezone or "UTC")
    schedule = parse_schedule(action.schedule)
    moment = schedule.next_after(datetime.fromtimestamp(after, UTC), zone, base)
    if moment is None:
        return None
    epoch_s = moment.timestamp()
    return None if action.end is not None and epoch_s > action.end else epoch_s
