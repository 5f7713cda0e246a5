"""The tables of the metric store: series, and one row per series and minute.

What it is: every SQL statement over metrics, as functions on a connection; they run in the thread
of the database and inside its transaction. What it is not: a decision about when to write or how
long to keep. Called by ``MetricStore`` only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import orjson

from firelet.observe.metric_summary import Summary

MINUTE_S = 60

METRIC_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE series (id INTEGER PRIMARY KEY, account TEXT NOT NULL, region TEXT NOT NULL,"
        " namespace TEXT NOT NULL, name TEXT NOT NULL, dimensions TEXT NOT NULL,"
        " unit TEXT NOT NULL, last_s INTEGER NOT NULL,"
        " UNIQUE (account, region, namespace, name, dimensions, unit))",
        "CREATE TABLE points (series_id INTEGER NOT NULL REFERENCES series ON DELETE CASCADE,"
        " minute_s INTEGER NOT NULL, count REAL NOT NULL, total REAL NOT NULL,"
        " minimum REAL NOT NULL, maximum REAL NOT NULL, buckets TEXT NOT NULL,"
        " PRIMARY KEY (series_id, minute_s)) WITHOUT ROWID",
        "CREATE INDEX points_by_time ON points (minute_s)",
    ),
)

Dimensions = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a caller of CloudWatch calls a metric. ``dimensions`` are sorted by name."""

    account: str
    region: str
    namespace: str
    name: str
    dimensions: Dimensions = ()


@dataclass(frozen=True, slots=True)
class Series:
    """A metric in one unit: values in another one are never added to these."""

    metric: Metric
    unit: str = "None"


Point = tuple[Series, int]  # and the minute, as the epoch second at which it begins


def add_points(connection: sqlite3.Connection, points: Iterable[tuple[Point, Summary]]) -> None:
    """Merges with what the same minutes hold already."""
    for (series, minute_s), summary in points:
        series_id = _enter_series(connection, series, minute_s)
        stored = connection.execute(
            "SELECT count, total, minimum, maximum, buckets FROM points"
            " WHERE series_id = ? AND minute_s = ?",
            (series_id, minute_s),
        ).fetchone()
        whole = Summary() if stored is None else _read_summary(stored)
        whole.merge(summary)
        connection.execute(
            "INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                series_id,
                minute_s,
                whole.count,
                whole.total,
                whole.minimum,
                whole.maximum,
                orjson.dumps(list(whole.buckets.items())).decode(),
            ),
        )


def find_points(
    connection: sqlite3.Connection, metric: Metric, unit: str | None, start_s: int, end_s: int
) -> list[tuple[str, int, Summary]]:
    """Unit, minute and summary of the minutes from ``start_s`` until before ``end_s``, in order."""
    rows = connection.execute(
        "SELECT s.unit, p.minute_s, p.count, p.total, p.minimum, p.maximum, p.buckets"
        " FROM series s JOIN points p ON p.series_id = s.id"
        " WHERE s.account = ? AND s.region = ? AND s.namespace = ? AND s.name = ?"
        " AND s.dimensions = ? AND (? IS NULL OR s.unit = ?)"
        " AND p.minute_s >= ? AND p.minute_s < ? ORDER BY p.minute_s",
        (
            metric.account,
            metric.region,
            metric.namespace,
            metric.name,
            _format_dimensions(metric.dimensions),
            unit,
            unit,
            start_s,
            end_s,
        ),
    )
    return [(row[0], row[1], _read_summary(row[2:])) for row in rows]


def find_metrics(
    connection: sqlite3.Connection, account: str, region: str, since_s: int
) -> Iterator[Metric]:
    """Those of a world that have got a value since then, each once, in order."""
    rows = connection.execute(
        "SELECT DISTINCT namespace, name, dimensions FROM series"
        " WHERE account = ? AND region = ? AND last_s >= ? ORDER BY namespace, name, dimensions",
        (account, region, since_s),
    )
    for namespace, name, dimensions in rows:
        pairs = tuple((key, value) for key, value in orjson.loads(dimensions))
        yield Metric(account, region, namespace, name, pairs)


def remove_before(connection: sqlite3.Connection, minute_s: int) -> None:
    """Forgets minutes, and series that have none any more."""
    connection.execute("DELETE FROM points WHERE minute_s < ?", (minute_s,))
    connection.execute("DELETE FROM series WHERE last_s < ?", (minute_s,))


def _enter_series(connection: sqlite3.Connection, series: Series, minute_s: int) -> int:
    metric = series.metric
    (series_id,) = connection.execute(
        "INSERT INTO series (account, region, namespace, name, dimensions, unit, last_s)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET last_s = max(last_s, ?)"
        " RETURNING id",
        (
            metric.account,
            metric.region,
            metric.namespace,
            metric.name,
            _format_dimensions(metric.dimensions),
            series.unit,
            minute_s,
            minute_s,
        ),
    ).fetchone()
    return int(series_id)


def _format_dimensions(dimensions: Dimensions) -> str:
    return orjson.dumps(dimensions).decode()


def _read_summary(row: tuple[float, float, float, float, str]) -> Summary:
    count, total, minimum, maximum, buckets = row
    return Summary(count, total, minimum, maximum, dict(orjson.loads(buckets)))
