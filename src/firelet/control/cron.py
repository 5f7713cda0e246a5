"""Schedules in AWS's three forms: ``at(…)``, ``rate(…)`` and ``cron(…)``.

What it is: text to a value that says when it is due next. What it is not: a clock or a timer.
Pure. No library reads this dialect: six fields with the year, days of the week from 1 for Sunday,
``?`` in one of the two day fields, and ``L``, ``W`` and ``#``.

A local time that a change of the clocks skips comes as much later; one that comes twice counts
once.
Source: Application Auto Scaling guide, "Schedule recurring scaling actions using cron expressions";
EventBridge guide, "Cron expressions reference".
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

_FORM = re.compile(r"(at|rate|cron)\((.*)\)", re.DOTALL)
_RATE = re.compile(r"(\d{1,9}) (minute|hour|day)(s?)")
_YEARS = range(1970, 2200)
_MONTH_NAMES = (
    *("JAN", "FEB", "MAR", "APR", "MAY", "JUN"),
    *("JUL", "AUG", "SEP", "OCT", "NOV", "DEC"),
)
_DAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_WEEKDAYS = {name: number for number, name in enumerate(_DAY_NAMES, 1)}
_UNITS = {"minute": 60, "hour": 3_600, "day": 86_400}


class ScheduleError(ValueError):
    """A schedule that cannot be read."""


@dataclass(frozen=True, slots=True)
class At:
    """Once. ``local`` has no time zone: that is the schedule's."""

    local: datetime

    def next_after(self, moment: datetime, zone: tzinfo, base: datetime) -> datetime | None:
        due = self.local.replace(tzinfo=zone).astimezone(UTC)
        return due if due > moment else None


@dataclass(frozen=True, slots=True)
class Rate:
    """Every so many seconds, counted from ``base``."""

    seconds: int

    def next_after(self, moment: datetime, zone: tzinfo, base: datetime) -> datetime | None:
        every = timedelta(seconds=self.seconds)
        passed = max((moment - base) // every, 0)
        return base + every * (passed + 1)


@dataclass(frozen=True, slots=True)
class MonthDays:
    """Days of the month; ``nearest`` are those that move to the nearest weekday."""

    days: frozenset[int] = frozenset()
    nearest: frozenset[int] = frozenset()
    has_last: bool = False
    has_last_weekday: bool = False

    def has(self, day: date) -> bool:
        last = calendar.monthrange(day.year, day.month)[1]
        if day.day in self.days or (self.has_last and day.day == last):
            return True
        if self.has_last_weekday and day == _nearest_weekday(day.year, day.month, last):
            return True
        return any(
            number <= last and day == _nearest_weekday(day.year, day.month, number)
            for number in self.nearest
        )


@dataclass(frozen=True, slots=True)
class WeekDays:
    """Days of the week from 1 for Sunday; ``last`` and ``numbered`` are one of them in a month."""

    days: frozenset[int] = frozenset()
    last: frozenset[int] = frozenset()
    numbered: frozenset[tuple[int, int]] = frozenset()

    def has(self, day: date) -> bool:
        number = day.isoweekday() % 7 + 1
        if number in self.days or (number, (day.day + 6) // 7) in self.numbered:
            return True
        return number in self.last and (day + timedelta(days=7)).month != day.month


@dataclass(frozen=True, slots=True)
class Cron:
    """Every minute that all fields name."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: MonthDays | WeekDays
    months: frozenset[int]
    years: frozenset[int]

    def next_after(self, moment: datetime, zone: tzinfo, base: datetime) -> datetime | None:
        first = moment.astimezone(zone).date() - timedelta(days=1)
        for day in self._dates(first):
            due = [found for found in self._moments(day, zone) if found > moment]
            if due:
                return min(due)
        return None

    def _dates(self, first: date) -> Iterator[date]:
        for year in sorted(year for year in self.years if year >= first.year):
            for month in sorted(self.months):
                for number in range(1, calendar.monthrange(year, month)[1] + 1):
                    day = date(year, month, number)
                    if day >= first and self.days.has(day):
                        yield day

    def _moments(self, day: date, zone: tzinfo) -> Iterator[datetime]:
        for hour in self.hours:
            for minute in self.minutes:
                yield datetime.combine(day, time(hour, minute), zone).astimezone(UTC)


Schedule = At | Rate | Cron


def parse_schedule(text: str) -> Schedule:
    """The schedule that ``text`` stands for. ScheduleError."""
    form = _FORM.fullmatch(text.strip())
    if form is None:
        raise ScheduleError(text)
    kind, inner = form.groups()
    if kind == "at":
        return At(_parse_local(inner))
    if kind == "rate":
        return Rate(_parse_rate(inner))
    return _parse_cron(inner)


def _parse_local(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        raise ScheduleError(text) from None


def _parse_rate(text: str) -> int:
    found = _RATE.fullmatch(text.strip())
    if found is None or not int(found[1]) or (int(found[1]) == 1) == bool(found[3]):
        raise ScheduleError(text)
    return int(found[1]) * _UNITS[found[2]]


def _parse_cron(text: str) -> Cron:
    fields = text.upper().split()
    if len(fields) != 6 or (fields[2] == "?") == (fields[4] == "?"):
        raise ScheduleError(text)
    minutes, hours, month_days, months, week_days, years = fields
    days = _parse_week_days(week_days) if month_days == "?" else _parse_month_days(month_days)
    return Cron(
        minutes=_parse_field(minutes, range(60)),
        hours=_parse_field(hours, range(24)),
        days=days,
        months=_parse_field(months, range(1, 13), _MONTHS),
        years=_parse_field(years, _YEARS),
    )


def _parse_month_days(text: str) -> MonthDays:
    days: set[int] = set()
    nearest: set[int] = set()
    allowed = range(1, 32)
    parts = text.split(",")
    for part in parts:
        if part.endswith("W") and part != "LW":
            nearest.add(_parse_number(part[:-1], allowed, {}))
        elif part not in ("L", "LW"):
            days |= _parse_part(part, allowed, {})
    return MonthDays(frozenset(days), frozenset(nearest), "L" in parts, "LW" in parts)


def _parse_week_days(text: str) -> WeekDays:
    days: set[int] = set()
    last: set[int] = set()
    numbered: set[tuple[int, int]] = set()
    allowed = range(1, 8)
    for part in text.split(","):
        if part == "L":
            days.add(7)
        elif part.endswith("L"):
            last.add(_parse_number(part[:-1], allowed, _WEEKDAYS))
        elif "#" in part:
            name, _, which = part.partition("#")
            day = _parse_number(name, allowed, _WEEKDAYS)
            numbered.add((day, _parse_number(which, range(1, 6), {})))
        else:
            days |= _parse_part(part, allowed, _WEEKDAYS)
    return WeekDays(frozenset(days), frozenset(last), frozenset(numbered))


def _parse_field(
    text: str, allowed: range, names: Mapping[str, int] | None = None
) -> frozenset[int]:
    numbers: set[int] = set()
    for part in text.split(","):
        numbers |= _parse_part(part, allowed, names or {})
    return frozenset(numbers)


def _parse_part(part: str, allowed: range, names: Mapping[str, int]) -> set[int]:
    """One of ``*``, ``5``, ``5-9``, ``FRI-MON``, ``*/5``, ``5/5``, ``5-59/5``."""
    span, slash, step_text = part.partition("/")
    step = _parse_number(step_text, range(1, len(allowed) + 1), {}) if slash else 1
    first, dash, last = span.partition("-")
    if span == "*":
        numbers = list(allowed)
    elif dash:
        begin, end = (_parse_number(number, allowed, names) for number in (first, last))
        numbers = list(range(begin, end + 1))
        if end < begin:
            numbers = [*range(begin, allowed.stop), *range(allowed.start, end + 1)]
    else:
        begin = _parse_number(span, allowed, names)
        numbers = list(range(begin, allowed.stop)) if slash else [begin]
    return set(numbers[::step])


def _parse_number(text: str, allowed: range, names: Mapping[str, int]) -> int:
    number = names.get(text, -1)
    if text.isascii() and text.isdigit() and len(text) <= 4:
        number = int(text)
    if number not in allowed:
        raise ScheduleError(text)
    return number


def _nearest_weekday(year: int, month: int, number: int) -> date:
    """That day, or the Friday before or the Monday after it within the month."""
    day = date(year, month, number)
    last = calendar.monthrange(year, month)[1]
    match day.isoweekday():
        case 6:
            return day + timedelta(days=2 if number == 1 else -1)
        case 7:
            return day + timedelta(days=-2 if number == last else 1)
    return day
