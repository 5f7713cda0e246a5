"""The report: one table and one JSON document."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bench.control_rows import make_control_rows
from bench.load import WARM_UP_REQUESTS
from bench.rows import Limit, Row, make_floor_rows, make_rows
from bench.suite import Results

NO_EMULATOR = "emulator: not installed (make bench-deps)"
_VERDICTS = {"ok": "[green]ok[/]", "MISSED": "[bold red]MISSED[/]"}


def machine_facts() -> dict[str, str]:
    """What the figures were got on. The load average says whether others were at work too."""
    model = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": f"{os.cpu_count()} x {model}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "uvloop": version("uvloop"),
        "load average at start": f"{os.getloadavg()[0]:.2f}",
    }


def print_report(console: Console, facts: dict[str, str], results: Results) -> None:
    """One table, with what is to be known about it above and below."""
    console.print(", ".join(f"{name} {value}" for name, value in facts.items()), highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("measure", no_wrap=True)
    for heading in ("firelet", "emulator", "times better"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("promised", "goal"):
        table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
    table.add_column("samples", style="dim")
    for row in make_rows(results):
        table.add_row(*_cells(row))
    table.add_section()
    for row in make_control_rows(results.control):
        table.add_row(*_cells(row))
    table.add_section()
    for row in make_floor_rows(results):
        label, value, *_ = _cells(row)
        table.add_row(f"floor: {label}", value)
    console.print(table)
    if results.emulator is None:
        console.print(NO_EMULATOR)
    console.print(
        f"Each load drops its first {WARM_UP_REQUESTS} requests as warm-up; percentiles are over"
        " every sample after that. A cold call has a new"
        " environment made, while the only other one is busy.",
        style="dim",
    )


def print_rows(console: Console, heading: str, sections: Sequence[Sequence[Row]]) -> None:
    """A table of one column of figures, which ``heading`` names, without an emulator beside it."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("measure", no_wrap=True)
    table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("goal", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("samples", style="dim")
    for rows in sections:
        for row in rows:
            value = _format_value(row.value, row.unit)
            table.add_row(row.label, value, *_limit_cells(row, row.goal), row.note)
        table.add_section()
    console.print(table)


def _cells(row: Row) -> list[str]:
    return [
        row.label,
        _format_value(row.value, row.unit),
        _format_value(row.emulator, row.unit),
        "" if row.ratio is None else f"{row.ratio:.1f}x",
        *_limit_cells(row, row.promise),
        *_limit_cells(row, row.goal),
        row.note,
    ]


def _limit_cells(row: Row, limit: Limit | None) -> tuple[str, str]:
    if limit is None:
        return "", ""
    verdict = row.verdict(limit)
    sign = "≤" if limit.is_at_most else "≥"
    return f"{sign} {limit.limit:,g} {row.unit}".rstrip(), _VERDICTS.get(verdict, verdict)


def _format_value(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit in ("/s", ""):
        return f"{value:,.0f} {unit}".rstrip()
    return f"{value:.3f} {unit}" if value < 10 else f"{value:.1f} {unit}"


def save_json(path: Path, facts: dict[str, str], results: Results) -> None:
    """The same rows for programs."""
    rows = [
        {
            "measure": row.label,
            "unit": row.unit,
            "firelet": row.value,
            "emulator": row.emulator,
            "times_better": row.ratio,
            "promised": row.promise and row.promise.limit,
            "verdict": row.verdict(row.promise) or None,
            "goal": row.goal and row.goal.limit,
            "goal_verdict": row.verdict(row.goal) or None,
            "note": row.note,
        }
        for row in (*make_rows(results), *make_control_rows(results.control))
    ]
    floors = [
        {"measure": row.label, "unit": row.unit, "value": row.value}
        for row in make_floor_rows(results)
    ]
    document = {"machine": facts, "rows": rows, "floors": floors}
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
