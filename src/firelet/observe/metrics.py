"""The metric store: the local CloudWatch metrics, at a resolution of one minute.

What it is: summaries by series and minute. What is recorded is merged in memory and written by a
task every few seconds; queries flush first, so that whoever asks sees all that was recorded. A
sweeper forgets minutes after 15 days. What it is not: the CloudWatch API (``frontend.cloudwatch``)
or a judge of what is worth measuring (``observe.invocation_meter``). Opened by ``app``.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from firelet.model.errors import PlatformError
from firelet.observe.metric_summary import Summary
from firelet.observe.metric_tables import (
    MINUTE_S,
    Metric,
    Point,
    Series,
    add_points,
    find_metrics,
    find_points,
    remove_before,
)

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]


class MetricDatabase(Protocol):
    """A SQLite file with the tables of ``METRIC_MIGRATIONS``: one thread, group commit."""

    async def read(self, work: Work[Result]) -> Result:
        """Runs ``work`` in the database's thread."""

    async def write(self, work: Work[Result]) -> Result:
        """Runs ``work`` in a commit and returns when that is on the disk."""

    async def close(self) -> None:
        """Waits for what was accepted and closes the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricLimits:
    """How much is kept where, and for how long."""

    kept_s: int = 15 * 86_400  # source: CloudWatch user guide, "metrics retention", 1 minute
    waiting_max: int = 100_000  # points in memory while the disk fails (firelet)
    flush_every_s: float = 10.0  # a crash can lose as much (firelet)
    sweep_every_s: float = 3_600.0


@dataclass(frozen=True, slots=True)
class Period:
    """The values of one metric within one period. ``start_s`` is its epoch second."""

    start_s: int
    unit: str
    summary: Summary


class MetricStore:
    """Owns ``database`` and closes it. ``start`` first; ``record`` never blocks."""

    def __init__(
        self,
        database: MetricDatabase,
        *,
        limits: MetricLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._limits = limits or MetricLimits()
        self._clock = clock
        self._waiting: dict[Point, Summary] = {}
        self._flushing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._repeat(self.flush, self._limits.flush_every_s)),
            asyncio.create_task(self._repeat(self.sweep, self._limits.sweep_every_s)),
        ]

    async def close(self) -> None:
        """Writes what waits; the store cannot be used afterwards."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self.flush()
        finally:
            await self._database.close()

    def record(self, series: Series, summary: Summary, at_s: float | None = None) -> None:
        """Adds to the minute of ``at_s``, which is now unless it is given."""
        moment = self._clock() if at_s is None else at_s
        point = (series, int(moment // MINUTE_S) * MINUTE_S)
        known = self._waiting.get(point)
        if known is not None:
            known.merge(summary)
        elif len(self._waiting) < self._limits.waiting_max:
            fresh = Summary()
            fresh.merge(summary)
            self._waiting[point] = fresh

    async def flush(self) -> None:
        """Returns when all that was recorded before is on the disk."""
        async with self._flushing:
            taken, self._waiting = self._waiting, {}
            if not taken:
                return
            try:
                await self._database.write(lambda connection: add_points(connection, taken.items()))
            except PlatformError:
                later, self._waiting = self._waiting, taken
                for (series, minute_s), summary in later.items():
                    self.record(series, summary, minute_s)
                raise

    async def periods(
        self, metric: Metric, start_s: int, end_s: int, period_s: int, unit: str | None = None
    ) -> list[Period]:
        """The periods that hold values, in order, by unit within a period. ``start_s`` is where
        the first period begins; ``period_s`` is a whole number of minutes."""
        await self.flush()
        points = await self._database.read(
            lambda connection: find_points(connection, metric, unit, start_s, end_s)
        )
        merged: dict[tuple[int, str], Summary] = {}
        for of_unit, minute_s, summary in points:
            begin = start_s + (minute_s - start_s) // period_s * period_s
            merged.setdefault((begin, of_unit), Summary()).merge(summary)
        return [Period(begin, of_unit, summary) for (begin, of_unit), summary in merged.items()]

    async def metrics(self, account: str, region: str, within_s: int) -> list[Metric]:
        """Those that have got a value lately, in order."""
        await self.flush()
        since = int(self._clock()) - within_s
        return await self._database.read(
            lambda connection: list(find_metrics(connection, account, region, since))
        )

    async def sweep(self) -> None:
        """Forgets what is too old."""
        before = int(self._clock()) - self._limits.kept_s
        await self._database.write(lambda connection: remove_before(connection, before))

    async def _repeat(self, chore: Callable[[], Awaitable[None]], every_s: float) -> None:
        """Supervises one chore: what fails is logged, and tried again the next time."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await chore()
            except PlatformError:
                log.exception("metrics not kept")
