"""Counts and quotas of usage plans, on a clock of their own."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from firelet.gateway.usage import UsageCounts
from firelet.store.documents import MemoryDocuments


class Clock:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def set(self, day: str) -> None:
        self.now = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("quota", "days"),
    [
        # When the quota of 1 is there again; 2026-11-25 is a Wednesday.
        ({"period": "DAY"}, {"2026-11-25": True, "2026-11-26": True}),
        (
            {"period": "WEEK"},
            {"2026-11-25": True, "2026-11-28": False, "2026-11-29": True, "2026-11-30": False},
        ),
        (
            {"period": "WEEK", "offset": 3},
            {"2026-11-24": True, "2026-11-25": True, "2026-12-01": False, "2026-12-02": True},
        ),
        ({"period": "MONTH"}, {"2026-11-25": True, "2026-11-30": False, "2026-12-01": True}),
        (
            {"period": "MONTH", "offset": 27},
            {"2026-01-27": True, "2026-01-28": True, "2026-02-27": False, "2026-02-28": True},
        ),
    ],
)
def test_a_quota_is_of_its_period(quota: dict[str, object], days: dict[str, bool]) -> None:
    clock = Clock()
    counts = UsageCounts(MemoryDocuments(), clock)
    taken = {}
    for day in days:
        clock.set(day)
        taken[day] = counts.take("plan", "key", {"limit": 1, **quota})

    assert taken == days


async def test_counts_outlive_the_process_once_they_are_written() -> None:
    clock, documents = Clock(), MemoryDocuments()
    clock.set("2026-11-25")
    counts = UsageCounts(documents, clock)
    for _ in range(3):
        counts.take("plan", "key", None)
    await counts.flush()
    again = UsageCounts(documents, clock)
    again.load()
    quota = {"limit": 5, "period": "MONTH"}

    days = again.daily("plan", "key", date(2026, 11, 24), date(2026, 11, 26), quota)

    assert days == [(0, 5), (3, 2), (0, 2)]
    assert [again.take("plan", "key", quota) for _ in range(3)] == [True, True, False]


async def test_days_are_forgotten_after_three_months() -> None:
    clock, documents = Clock(), MemoryDocuments()
    clock.set("2026-01-01")
    counts = UsageCounts(documents, clock)
    counts.take("plan", "key", None)
    clock.set("2026-05-01")
    counts.take("plan", "key", None)
    await counts.flush()

    ((_, body),) = documents.load("api-usage")
    assert b"2026-01-01" not in body
    assert b"2026-05-01" in body
