"""Reads one day of the Azure Functions trace of 2019.

Source: AzureFunctionsDataset2019.md in the repository Azure/AzurePublicDataset, revision 2. Its
invocation file counts by minute; when in the minute they came is drawn here, at one steady second
for timers. Start-up costs are not in it and memory is there by application only: both are drawn as
for made-up functions.
"""

from __future__ import annotations

import csv
import random
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.simulate.generate import draw_costs, draw_durations
from bench.simulate.trace import DAY_S, Function, Trace

_MINUTES = 1_440
_KEY = ["HashOwner", "HashApp", "HashFunction"]
_COUNTS_HEADER = [*_KEY, "Trigger", *(str(minute) for minute in range(1, _MINUTES + 1))]
_QUANTILES = (0, 1, 25, 50, 75, 99, 100)
_QUANTILE_COLUMNS = [f"percentile_Average_{quantile}" for quantile in _QUANTILES]

# The busiest functions make most of a day's hundreds of millions of calls and are warm under any
# policy: more than two a second are left out, and the report says how many.
_INVOCATIONS_MAX = 172_800
_TIMER_JITTER_S = 0.2

Key = tuple[str, ...]


def read_trace(counts: Path, durations: Path | None, sample: int, seed: int) -> Trace:
    """A trace of ``sample`` functions drawn from the file. ValueError if it has another format."""
    source = random.Random(seed)
    rows, total = _draw_rows(counts, sample, source)
    quantiles = {} if durations is None else _read_durations(durations, {key for key, _, _ in rows})
    functions: list[Function] = []
    too_busy = 0
    for key, trigger, per_minute in rows:
        if sum(per_minute) > _INVOCATIONS_MAX:
            too_busy += 1
            continue
        functions.append(_make(key, trigger, per_minute, quantiles.get(key), source))
    text = f"{counts.name}: {len(functions)} of {total} functions, seed {seed}"
    if too_busy:
        text += f", {too_busy} left out with more than {_INVOCATIONS_MAX:,} calls a day"
    return Trace(text, DAY_S, functions)


def _draw_rows(
    path: Path, sample: int, source: random.Random
) -> tuple[list[tuple[Key, str, array[int]]], int]:
    """A uniform sample in one pass, and how many there were."""
    kept: list[tuple[Key, str, array[int]]] = []
    total = 0
    with path.open(newline="") as file:
        reader = csv.reader(file)
        if next(reader, None) != _COUNTS_HEADER:
            raise ValueError(f"{path}: not an invocations_per_function file of the 2019 trace")
        for row in reader:
            total += 1
            place = total - 1 if total <= sample else source.randrange(total)
            if place >= sample:
                continue
            parsed = _parse_counts(path, reader.line_num, row)
            if place == len(kept):
                kept.append(parsed)
            else:
                kept[place] = parsed
    return kept, total


def _parse_counts(path: Path, line: int, row: list[str]) -> tuple[Key, str, array[int]]:
    where = f"{path}:{line}"
    if len(row) != len(_COUNTS_HEADER):
        raise ValueError(f"{where}: {len(row)} columns instead of {len(_COUNTS_HEADER)}")
    key, trigger, counts = tuple(row[:3]), row[3], row[4:]
    try:
        return key, trigger, array("L", map(int, counts))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{where}: a count that is none: {error}") from error


def _read_durations(path: Path, wanted: set[Key]) -> dict[Key, list[float]]:
    """The quantiles of a function's duration, in seconds. Negative ones occur; they count as 0."""
    found: dict[Key, list[float]] = {}
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = {*_KEY, *_QUANTILE_COLUMNS} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path}: columns missing: {', '.join(sorted(missing))}")
        for row in reader:
            key = tuple(row[column] for column in _KEY)
            if key not in wanted:
                continue
            try:
                quantiles = [max(float(row[column]) / 1_000, 0.0) for column in _QUANTILE_COLUMNS]
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}:{reader.line_num}: {error}") from error
            found[key] = quantiles
    return found


def _make(
    key: Key,
    trigger: str,
    per_minute: Sequence[int],
    quantiles: list[float] | None,
    source: random.Random,
) -> Function:
    arrivals = _timer if trigger == "timer" else _by_chance
    arrivals_s = array("d", sorted(arrivals(per_minute, source)))
    if quantiles is None:
        durations_s = draw_durations(len(arrivals_s), source)
    else:
        durations_s = array("d", (_draw_between(quantiles, source) for _ in arrivals_s))
    start_s, memory_mib = draw_costs(source)
    return Function(
        name=key[2],
        start_s=start_s,
        memory_mib=memory_mib,
        arrivals_s=arrivals_s,
        durations_s=durations_s,
    )


def _timer(per_minute: Sequence[int], source: random.Random) -> Iterator[float]:
    second = source.uniform(0, 59)
    for minute, count in enumerate(per_minute):
        for turn in range(count):
            in_minute_s = (second + 60 * turn / count) % 60
            yield minute * 60 + min(in_minute_s + source.uniform(0, _TIMER_JITTER_S), 60.0)


def _by_chance(per_minute: Sequence[int], source: random.Random) -> Iterator[float]:
    for minute, count in enumerate(per_minute):
        for _ in range(count):
            yield (minute + source.random()) * 60


def _draw_between(quantiles: Sequence[float], source: random.Random) -> float:
    """From the distribution that is linear between its known quantiles."""
    share = source.random() * 100
    upper = bisect_right(_QUANTILES, share)
    low, high = _QUANTILES[upper - 1], _QUANTILES[upper]
    step = (share - low) / (high - low)
    return quantiles[upper - 1] + step * (quantiles[upper] - quantiles[upper - 1])
