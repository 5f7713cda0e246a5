"""AWS's schedules: what they mean, next to the calendar itself."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.control.cron import Cron, ScheduleError, parse_schedule

BASE = datetime(2026, 1, 1, tzinfo=UTC)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


def due_after(text: str, moment: datetime, zone: str = "UTC", count: int = 1) -> list[str]:
    found = []
    for _ in range(count):
        due = parse_schedule(text).next_after(moment, ZoneInfo(zone), BASE)
        if due is None:
            break
        found.append(f"{due:%Y-%m-%dT%H:%M}")
        moment = due
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cron(0 10 * * ? *)", ["2026-03-04T10:00", "2026-03-05T10:00"]),
        ("cron(15/20 8 ? * MON-WED *)", ["2026-03-04T08:15", "2026-03-04T08:35"]),
        ("cron(0 8 1 * ? *)", ["2026-04-01T08:00", "2026-05-01T08:00"]),
        ("cron(0 8 L * ? *)", ["2026-03-31T08:00", "2026-04-30T08:00"]),
        ("cron(0 8 LW * ? *)", ["2026-03-31T08:00", "2026-04-30T08:00", "2026-05-29T08:00"]),
        ("cron(0 8 15W * ? *)", ["2026-03-16T08:00", "2026-04-15T08:00"]),
        ("cron(0 8 1W * ? *)", ["2026-04-01T08:00", "2026-05-01T08:00", "2026-06-01T08:00"]),
        ("cron(0 8 ? * 6L *)", ["2026-03-27T08:00", "2026-04-24T08:00"]),
        ("cron(0 8 ? * 2#1 *)", ["2026-04-06T08:00", "2026-05-04T08:00"]),
        ("cron(0 8 ? * FRI-SUN *)", ["2026-03-06T08:00", "2026-03-07T08:00", "2026-03-08T08:00"]),
        ("cron(0 0 29 FEB ? *)", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("cron(0 0 1 1 ? 2027)", ["2027-01-01T00:00"]),
        ("cron(0 0 30 2 ? *)", []),
        ("rate(1 day)", ["2026-03-05T00:00"]),
        ("rate(90 minutes)", ["2026-03-04T01:30", "2026-03-04T03:00"]),
        ("at(2026-05-01T12:30:00)", ["2026-05-01T12:30"]),
        ("at(2025-05-01T12:30:00)", []),
    ],
)
def test_a_schedule_is_due_when_the_calendar_says(text: str, expected: list[str]) -> None:
    moment = datetime(2026, 3, 4, tzinfo=UTC)  # a Wednesday
    assert due_after(text, moment, count=max(len(expected), 1)) == expected


def test_a_schedule_follows_the_clocks_of_its_zone() -> None:
    before = datetime(2026, 3, 27, 12, tzinfo=UTC)
    times = due_after("cron(30 2 * * ? *)", before, "Europe/Berlin", 3)
    # On the 29th there is no 02:30: it comes at 03:30, when the summer has begun.
    assert times == ["2026-03-28T01:30", "2026-03-29T01:30", "2026-03-30T00:30"]
    autumn = due_after(
        "cron(30 2 * * ? *)", datetime(2026, 10, 24, 12, tzinfo=UTC), "Europe/Berlin", 2
    )
    # On the 25th it comes twice and counts once.
    assert autumn == ["2026-10-25T00:30", "2026-10-26T01:30"]
    assert due_after("at(2026-07-01T10:00:00)", before, "America/New_York") == ["2026-07-01T14:00"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "every day",
        "cron(0 10 * * *)",
        "cron(0 10 * * * *)",
        "cron(0 10 ? * ? *)",
        "cron(60 10 * * ? *)",
        "cron(0 24 * * ? *)",
        "cron(0 10 32 * ? *)",
        "cron(0 10 ? * 8 *)",
        "cron(0 10 ? * MON#6 *)",
        "cron(0/0 10 * * ? *)",
        "cron(0 10 * XXX ? *)",
        "cron(0 10 * * ? 1969)",
        "cron(0 10 W * ? *)",
        "rate(0 minutes)",
        "rate(1 minutes)",
        "rate(2 minute)",
        "rate(5 weeks)",
        "at(2026-13-01T00:00:00)",
        "at(tomorrow)",
    ],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ScheduleError):
        parse_schedule(text)


@given(text=st.text("cronrateat()0123456789*?/-,#LW MONFRI:T", max_size=40))
def test_any_text_is_a_schedule_or_refused(text: str) -> None:
    try:
        parse_schedule(text)
    except ScheduleError:
        return


fields = st.integers(0, 59), st.integers(0, 23), st.integers(1, 12), st.integers(1, 7)


@given(moment=moments, minute=fields[0], hour=fields[1], month=fields[2], weekday=fields[3])
def test_what_comes_next_matches_every_field_and_nothing_before_it_does(
    moment: datetime, minute: int, hour: int, month: int, weekday: int
) -> None:
    schedule = parse_schedule(f"cron({minute} {hour} ? {month} {weekday} *)")
    assert isinstance(schedule, Cron)
    due = schedule.next_after(moment, UTC, BASE)
    assert due is not None
    assert due > moment
    assert (due.minute, due.hour, due.month, due.second) == (minute, hour, month, 0)
    assert due.weekday() == (weekday - 2) % 7
    earlier = due - timedelta(days=7)
    if earlier.month == month:
        assert earlier <= moment


@given(moment=moments, number=st.integers(1, 31))
def test_the_nearest_weekday_is_a_weekday_of_the_same_month(moment: datetime, number: int) -> None:
    due = parse_schedule(f"cron(0 0 {number}W * ? *)").next_after(moment, UTC, BASE)
    assert due is not None
    assert due.weekday() < 5
    assert abs(due.day - number) <= 2
    assert number <= calendar.monthrange(due.year, due.month)[1]


@given(moment=moments, count=st.integers(2, 500))
def test_a_rate_keeps_its_distance_from_its_base(moment: datetime, count: int) -> None:
    due = parse_schedule(f"rate({count} minutes)").next_after(moment, UTC, BASE)
    assert due is not None
    assert due > moment
    assert (due - BASE) % timedelta(minutes=count) == timedelta(0)
    assert due <= max(moment, BASE) + timedelta(minutes=count)
