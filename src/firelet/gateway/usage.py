"""How often the keys of usage plans have been used, and what their quotas leave.

What it is: counts by day that are written every few seconds: a crash can lose that much of them.
What it is not: the plans (``control.usage_plans``), or throttles (``control.rates``). Called by
``gateway.rest_api_guard``; counts are shown by ``frontend.apigateway_keys``.

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-api-usage-plans
.html. That a week begins on Sunday is firelet's own; all days are those of UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from firelet.store.documents import DocumentStore
from firelet.store.records import Records

_DAYS_KEPT = 92  # as long as GetUsage can be asked about, and a day


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Requests of one key under one plan by day (ISO), kept for three months."""

    days: Mapping[str, int] = field(default_factory=dict)


class UsageCounts:
    """``load`` first; ``flush`` from time to time and at the end. ``clock``: epoch seconds."""

    def __init__(self, documents: DocumentStore, clock: Callable[[], float]) -> None:
        self._records = Records(documents, "api-usage", Usage)
        self._clock = clock
        self._days: dict[str, dict[str, int]] = {}
        self._changed: set[str] = set()

    def load(self) -> None:
        """Blocking: at start-up only."""
        self._records.load()

    def take(self, plan_id: str, key_id: str, quota: Mapping[str, Any] | None) -> bool:
        """Counts one request. False when the quota of the period is used up: it is not counted."""
        today = self._today()
        days = self._of(plan_id, key_id)
        if quota and _used(days, _period_start(quota, today), today) >= quota["limit"]:
            return False
        days[today.isoformat()] = days.get(today.isoformat(), 0) + 1
        self._changed.add(_key(plan_id, key_id))
        return True

    def daily(
        self, plan_id: str, key_id: str, start: date, end: date, quota: Mapping[str, Any] | None
    ) -> list[tuple[int, int]]:
        """Used and remaining of each day, both days included. Without a quota nothing remains."""
        days, shown = self._of(plan_id, key_id), []
        for number in range((end - start).days + 1):
            day = start + timedelta(days=number)
            left = 0
            if quota:
                left = max(0, quota["limit"] - _used(days, _period_start(quota, day), day))
            shown.append((days.get(day.isoformat(), 0), left))
        return shown

    async def flush(self) -> None:
        """Writes what has been counted since the last time."""
        oldest = (self._today() - timedelta(days=_DAYS_KEPT)).isoformat()
        changed, self._changed = self._changed, set()
        while changed:
            key = changed.pop()
            days = self._days[key]
            for day in [day for day in days if day < oldest]:
                del days[day]
            try:
                await self._records.put(key, Usage(days=dict(days)))
            except BaseException:
                self._changed |= changed | {key}
                raise

    def _of(self, plan_id: str, key_id: str) -> dict[str, int]:
        key = _key(plan_id, key_id)
        days = self._days.get(key)
        if days is None:
            stored = self._records.get(key)
            days = self._days[key] = {} if stored is None else dict(stored.days)
        return days

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock(), UTC).date()


def _key(plan_id: str, key_id: str) -> str:
    return f"{plan_id}/{key_id}"


def _used(days: Mapping[str, int], start: date, end: date) -> int:
    return sum(n for day, n in days.items() if start.isoformat() <= day <= end.isoformat())


def _period_start(quota: Mapping[str, Any], day: date) -> date:
    """The first day of the period that ``day`` is in; ``offset`` is in days."""
    offset = quota.get("offset", 0)
    match quota["period"]:
        case "WEEK":
            return day - timedelta(days=(day.isoweekday() - offset) % 7)
        case "MONTH":
            first = day.replace(day=1 + offset)
            if first <= day:
                return first
            return (day.replace(day=1) - timedelta(days=1)).replace(day=1 + offset)
    return day
