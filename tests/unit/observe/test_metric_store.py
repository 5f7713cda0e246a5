"""The metric store: minutes that add up, on the disk and before it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firelet.model.errors import PlatformError
from firelet.observe.metric_summary import Summary
from firelet.observe.metric_tables import METRIC_MIGRATIONS, Metric, Series
from firelet.observe.metrics import MetricLimits, MetricStore
from firelet.store.sqlite import Database

METRIC = Metric("1", "eu", "Shop", "orders", (("Till", "3"),))
SERIES = Series(METRIC, "Count")
START = 1_800_000_000 // 3_600 * 3_600


class Clock:
    def __init__(self) -> None:
        self.now = float(START)

    def __call__(self) -> float:
        return self.now


def one(value: float) -> Summary:
    summary = Summary()
    summary.add(value)
    return summary


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[MetricStore]:
    store = MetricStore(open_database(tmp_path), clock=clock)
    yield store
    await store.close()


def open_database(folder: Path) -> Database:
    return Database(folder / "metrics.db", "metrics", METRIC_MIGRATIONS)


async def sums(store: MetricStore, period_s: int = 60, unit: str | None = None) -> dict[int, float]:
    periods = await store.periods(METRIC, START, START + 7_200, period_s, unit)
    return {period.start_s - START: period.summary.total for period in periods}


async def test_values_add_up_by_minute_across_flushes(store: MetricStore, clock: Clock) -> None:
    store.record(SERIES, one(1))
    await store.flush()
    clock.now += 59
    store.record(SERIES, one(2))
    clock.now += 1
    store.record(SERIES, one(4))
    assert await sums(store) == {0: 3, 60: 4}
    assert await sums(store, 3_600) == {0: 7}


async def test_percentiles_survive_the_disk(store: MetricStore) -> None:
    for value in (1, 2, 100):
        store.record(SERIES, one(value))
        await store.flush()
    [period] = await store.periods(METRIC, START, START + 60, 60)
    assert period.summary.statistic("p99") == pytest.approx(100, rel=0.01)


async def test_units_are_kept_apart(store: MetricStore) -> None:
    store.record(SERIES, one(1))
    store.record(Series(METRIC, "Bytes"), one(50))
    assert await sums(store, unit="Bytes") == {0: 50}
    periods = await store.periods(METRIC, START, START + 60, 60)
    assert {period.unit for period in periods} == {"Count", "Bytes"}


async def test_what_is_recorded_is_a_copy(store: MetricStore) -> None:
    summary = one(1)
    store.record(SERIES, summary)
    summary.add(10)
    assert await sums(store) == {0: 1}


async def test_close_writes_what_waits(tmp_path: Path, clock: Clock) -> None:
    store = MetricStore(open_database(tmp_path), clock=clock)
    store.record(SERIES, one(1))
    await store.close()
    again = MetricStore(open_database(tmp_path), clock=clock)
    assert await sums(again) == {0: 1}
    await again.close()


async def test_metrics_are_listed_for_their_own_world_while_they_are_recent(
    store: MetricStore, clock: Clock
) -> None:
    store.record(SERIES, one(1))
    store.record(Series(Metric("2", "eu", "Shop", "orders")), one(1))
    assert await store.metrics("1", "eu", 3_600) == [METRIC]
    clock.now += 3_700
    assert await store.metrics("1", "eu", 3_600) == []


async def test_the_sweeper_forgets_old_minutes(store: MetricStore, clock: Clock) -> None:
    store.record(SERIES, one(1))
    await store.flush()
    clock.now += MetricLimits().kept_s + 60
    await store.sweep()
    assert await sums(store) == {}
    assert await store.metrics("1", "eu", 1 << 30) == []


async def test_what_the_disk_refuses_is_written_later(store: MetricStore) -> None:
    failing = FailingOnce(store._database)  # type: ignore[arg-type]
    store._database = failing
    store.record(SERIES, one(1))
    with pytest.raises(PlatformError):
        await store.flush()
    store.record(SERIES, one(2))
    assert await sums(store) == {0: 3}


class FailingOnce:
    """A database whose first commit fails."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._has_failed = False
        self.read = database.read
        self.close = database.close

    async def write(self, work):  # type: ignore[no-untyped-def]
        if not self._has_failed:
            self._has_failed = True
            raise PlatformError("The disk is full.")
        return await self._database.write(work)
