"""``python -m bench.controlplane``: the control plane alone, with its floors and its growth."""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bench.control import FEW, MANY, VERSIONS, ControlPlane, Figures, measure_control_plane
from bench.control_rows import GROWTH_GOAL, READ_GOAL_MS, START_GOAL_S, WRITE_GOAL_MS
from bench.report import machine_facts
from bench.rows import Limit, percentile

_ROUNDS = 60
_PLAIN_WIDTH = 160  # of a log or a pipe, which has none


def print_control_plane(console: Console, measured: ControlPlane) -> None:
    """Two tables: operations, and start-up."""
    many = f"{measured.many:,}"
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("operation, p50", no_wrap=True)
    growth = f"{many}/{FEW}"
    for heading in (f"{FEW}", many, "p99", "floor", "goal", "", growth, "", "x floor"):
        table.add_column(heading, justify="right", no_wrap=True)
    for figures, goal in ((measured.reads, READ_GOAL_MS), (measured.writes, WRITE_GOAL_MS)):
        for name, found in figures.items():
            table.add_row(name, *_cells(found, goal))
        table.add_section()
    console.print(table)
    for count, samples in measured.starts_s.items():
        verdict = _verdict(START_GOAL_S, statistics.median(samples))
        console.print(
            f"start-up with {count:,} functions, to the first answer:"
            f" {statistics.median(samples):.2f} s"
            f" (worst of {len(samples)}: {max(samples):.2f} s), goal {START_GOAL_S.limit} s:"
            f" {verdict}"
        )
    console.print(
        f"one update and publication with {VERSIONS:,} versions / the first:"
        f" {measured.version_growth:.2f}, goal {GROWTH_GOAL.limit}:"
        f" {_verdict(GROWTH_GOAL, measured.version_growth)}"
    )
    console.print(
        f"of start-up, reading {many} functions: {statistics.median(measured.loads_s):.2f} s"
    )
    console.print(
        "Floors: a bare HTTP request for reads, a bare commit to SQLite for writes; the columns"
        f" {FEW} and {many} are platforms with so many functions, asked in turn.",
        style="dim",
    )


def _cells(figures: Figures, goal: Limit) -> list[str]:
    median = statistics.median(figures.many_ms)
    worst = percentile(sorted(figures.many_ms), 0.99)
    return [
        f"{statistics.median(figures.few_ms):.3f} ms",
        f"{median:.3f} ms",
        f"{worst:.2f} ms",
        f"{statistics.median(figures.floor_ms):.3f} ms",
        f"≤ {goal.limit:g} ms",
        _verdict(goal, median),
        f"{figures.growth:.2f}",
        _verdict(GROWTH_GOAL, figures.growth),
        f"{figures.floors:.1f}",
    ]


def _verdict(limit: Limit, value: float) -> str:
    return "ok" if limit.is_met(value) else "MISSED"


def main() -> None:
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(prog="python -m bench.controlplane", description=__doc__)
    parser.add_argument("--functions", type=int, default=MANY, metavar="N", help="[10000]")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, metavar="N", help=f"[{_ROUNDS}]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the samples there too")
    options = parser.parse_args()
    console = Console()
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    facts = machine_facts()
    with (
        tempfile.TemporaryDirectory(prefix="firelet-bench-") as scratch,
        Console(stderr=True).status("starting") as status,
    ):

        def on_step(step: str) -> None:
            status.update(f"measuring {step}")

        gc.disable()
        measured = measure_control_plane(Path(scratch), options.functions, options.rounds, on_step)
    console.print(", ".join(f"{name} {value}" for name, value in facts.items()), highlight=False)
    print_control_plane(console, measured)
    if options.json is not None:
        document = {"machine": facts, **asdict(measured)}
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
