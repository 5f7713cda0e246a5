"""One process against several worker processes: the same loads, taken in turns.

The two platforms run side by side and only one is under load at a time, so that what else the
machine does meets both. ``python -m bench --workers N``.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bench.functions import NO_OP_EVENT, PYTHON, PYTHON_SOURCE
from bench.load import WARM_UP_REQUESTS, run_load
from bench.platforms import Firelet, running_firelet
from bench.rows import percentile
from bench.starts import measure_starts

MANY = 16
_HANDLER = "no_op"
_FUNCTION = "warm-workers"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure in every round, by one process and by several."""

    label: str
    unit: str
    one: list[float]
    several: list[float]

    @property
    def ratio(self) -> float:
        """Median of the rounds' ratios, several to one."""
        return statistics.median(b / a for a, b in zip(self.one, self.several, strict=True))


def compare_workers(
    workers: int, load_s: float, rounds: int, scratch: Path, on_step: Callable[[str], None]
) -> list[Comparison]:
    """Warm calls and starts; each round measures both, one after the other."""
    homes = [scratch / "one", scratch / "several"]
    variables = [{"FIRELET_WORKERS": "0"}, {"FIRELET_WORKERS": str(workers)}]
    for home in homes:
        home.mkdir()
    p50: list[list[float]] = [[], []]
    many: list[list[float]] = [[], []]
    cpu: list[list[float]] = [[], []]
    starts: list[list[float]] = [[], []]
    with (
        running_firelet(homes[0], **variables[0]) as one,
        running_firelet(homes[1], **variables[1]) as several,
    ):
        for platform in (one, several):
            platform.create(_FUNCTION, PYTHON, PYTHON_SOURCE, _HANDLER)
        for number in range(rounds):
            on_step(f"warm calls, round {number + 1} of {rounds}")
            for kind, platform in enumerate((one, several)):
                p50[kind].append(_warm_p50_ms(platform, load_s))
                before_s = _cpu_s(platform.pid)
                load = run_load(platform.call(_FUNCTION, NO_OP_EVENT), MANY, load_s)
                spent_s = _cpu_s(platform.pid) - before_s
                many[kind].append(load.per_second)
                calls = len(load.latencies_ms) + WARM_UP_REQUESTS
                cpu[kind].append(spent_s / calls * 1e6)
    for number in range(rounds):
        on_step(f"starts, round {number + 1} of {rounds}")
        for kind, home in enumerate(homes):
            place = home / f"starts-{number}"
            place.mkdir()
            starts[kind].append(measure_starts(place, load_s, **variables[kind]).per_second)
    return [
        Comparison("warm no-op, 1 client, p50", "ms", *p50),
        Comparison(f"warm no-op, {MANY} clients", "/s", *many),
        Comparison(f"CPU of firelet for one of {MANY} clients' calls", "µs", *cpu),
        Comparison("starts, sustained", "/s", *starts),
    ]


def print_comparison(
    console: Console, facts: dict[str, str], workers: int, rows: list[Comparison]
) -> None:
    """One table: medians, the ratio, and every round."""
    console.print(", ".join(f"{name} {value}" for name, value in facts.items()), highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("measure", no_wrap=True)
    for heading in ("one process", f"{workers} workers", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("rounds, one process | workers", style="dim")
    for row in rows:
        medians = [statistics.median(row.one), statistics.median(row.several)]
        table.add_row(
            row.label,
            *(f"{_format(value)} {row.unit}" for value in medians),
            f"{row.ratio:.2f}",
            " | ".join(" ".join(map(_format, values)) for values in (row.one, row.several)),
        )
    console.print(table)


def _format(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:,.0f}"


def _warm_p50_ms(platform: Firelet, load_s: float) -> float:
    load = run_load(platform.call(_FUNCTION, NO_OP_EVENT), 1, load_s)
    return percentile(load.latencies_ms, 0.5) or 0.0


def _cpu_s(pid: int) -> float:
    """CPU time of the platform's process and of its children, the workers among them; not of
    sandboxes, which are nobody's children."""
    ticks = 0.0
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(entry.parent.name) == pid or int(fields[1]) == pid:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
