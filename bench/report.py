"""From results to rows, from rows to one table and one JSON document."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bench.cold import Cold
from bench.load import WARM_UP_REQUESTS, Load
from bench.suite import CLIENTS, EmulatorResults, Results

NO_EMULATOR = "emulator: not installed (make bench-deps)"
_HANDLERS = {"no_op": "no-op", "echo": "echo 1 KB"}
_ONE, _MANY = CLIENTS


@dataclass(frozen=True, slots=True)
class Promise:
    """A figure that firelet answers for."""

    limit: float
    is_at_most: bool

    def is_kept(self, value: float) -> bool:
        return value <= self.limit if self.is_at_most else value >= self.limit


WARM_P50_MS = Promise(0.6, is_at_most=True)
PER_SECOND = Promise(2_500, is_at_most=False)
COLD_P50_MS = Promise(40, is_at_most=True)
IDLE_USS_MIB = Promise(12, is_at_most=True)


@dataclass(frozen=True, slots=True)
class Row:
    """One measure. ``note`` stands where there is no value, or says how it was got."""

    label: str
    unit: str
    value: float | None
    emulator: float | None = None
    promise: Promise | None = None
    note: str = ""
    is_less_better: bool = True

    @property
    def ratio(self) -> float | None:
        """How many times better than the emulator."""
        if not self.value or not self.emulator:
            return None
        better, worse = (
            (self.emulator, self.value)
            if self.is_less_better
            else (
                self.value,
                self.emulator,
            )
        )
        return better / worse

    @property
    def verdict(self) -> str:
        if self.promise is None:
            return ""
        if self.value is None:
            return "not measured"
        return "ok" if self.promise.is_kept(self.value) else "MISSED"


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile of sorted samples: always one of them. None without samples."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def make_rows(results: Results) -> list[Row]:
    """firelet's figures, beside the emulator's where it has them."""
    return [
        *_warm_rows(results),
        *_throughput_rows(results),
        *_cold_rows(results),
        *_memory_rows(results),
    ]


def make_floor_rows(results: Results) -> list[Row]:
    """What the machine itself asks for."""
    floors = results.floors
    rows = []
    for label, loads in (
        ("bare HTTP server", floors.http),
        ("bare asyncio Protocol", floors.protocol),
    ):
        one, many = loads[_ONE], loads[_MANY]
        rows += [
            Row(f"{label}, 1 client, p50", "ms", percentile(one.latencies_ms, 0.5)),
            Row(f"{label}, {_MANY} clients", "/s", many.per_second),
        ]
    return [
        *rows,
        Row("fork + exit, p50", "ms", percentile(floors.fork_ms, 0.5)),
        Row("python -SI -c pass, p50", "ms", percentile(floors.interpreter_ms, 0.5)),
    ]


def _warm_rows(results: Results) -> list[Row]:
    rows = []
    for (handler, clients), load in results.firelet.warm.items():
        emulator = _emulator_load(results.emulator, handler) if clients == 1 else None
        for share in (0.5, 0.99):
            rows.append(
                Row(
                    f"warm {_HANDLERS[handler]}, {_clients(clients)}, p{share * 100:.0f}",
                    "ms",
                    percentile(load.latencies_ms, share),
                    percentile(emulator.latencies_ms, share) if emulator else None,
                    promise=WARM_P50_MS if (clients, share) == (1, 0.5) else None,
                    note=f"{len(load.latencies_ms):,} calls",
                )
            )
    return rows


def _throughput_rows(results: Results) -> list[Row]:
    firelet = results.firelet
    rows = []
    for (handler, clients), load in firelet.warm.items():
        emulator = _emulator_load(results.emulator, handler) if clients == 1 else None
        value, note = load.per_second, "built-in client"
        if (handler, clients) == ("no_op", _MANY) and firelet.wrk_per_second is not None:
            value, note = firelet.wrk_per_second, "wrk"
        rows.append(
            Row(
                f"requests, {_HANDLERS[handler]}, {_clients(clients)}",
                "/s",
                value,
                emulator.per_second if emulator else None,
                promise=PER_SECOND if clients == _MANY else None,
                note=note,
                is_less_better=False,
            )
        )
    return rows


def _cold_rows(results: Results) -> list[Row]:
    python, node = results.firelet.cold_python, results.firelet.cold_node
    emulator = results.emulator.cold_python.cold_ms if results.emulator else []
    rows = [
        Row(
            f"cold Python, p{share * 100:.0f}",
            "ms",
            percentile(python.cold_ms, share),
            percentile(emulator, share),
            promise=COLD_P50_MS if share == 0.5 else None,
            note=_cold_note(python),
        )
        for share in (0.5, 0.99)
    ]
    rows.append(_first_row("Python", python))
    if isinstance(node, str):
        return [*rows, Row("cold Node.js, p50", "ms", None, note=node)]
    value = percentile(node.cold_ms, 0.5)
    cold = Row("cold Node.js, p50", "ms", value, note=_cold_note(node))
    return [*rows, cold, _first_row("Node.js", node)]


def _first_row(language: str, measured: Cold) -> Row:
    label = f"first call after deployment, {language}, p50"
    note = f"{len(measured.first_ms)} calls"
    return Row(label, "ms", percentile(measured.first_ms, 0.5), note=note)


def _memory_rows(results: Results) -> list[Row]:
    footprint = results.firelet.footprint
    note = f"{footprint.sandboxes} sandboxes of {footprint.processes:.0f} processes"
    return [
        Row("idle Python sandbox, PSS", "MiB", footprint.pss_mib, note=note),
        Row(
            "idle Python sandbox, private",
            "MiB",
            footprint.uss_mib,
            promise=IDLE_USS_MIB,
            note=note,
        ),
    ]


def _emulator_load(emulator: EmulatorResults | None, handler: str) -> Load | None:
    return emulator.warm[handler] if emulator else None


def _clients(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"


def _cold_note(measured: Cold) -> str:
    note = f"{len(measured.cold_ms)} calls"
    return f"{note}; {measured.warm} more met a warm one" if measured.warm else note


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
    for heading in ("firelet", "emulator", "times better", "promised"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("samples", style="dim")
    for row in make_rows(results):
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


def _cells(row: Row) -> list[str]:
    verdict = {"ok": "[green]ok[/]", "MISSED": "[bold red]MISSED[/]"}
    promised = ""
    if row.promise is not None:
        promised = f"{'≤' if row.promise.is_at_most else '≥'} {row.promise.limit:,g} {row.unit}"
    return [
        row.label,
        _format_value(row.value, row.unit),
        _format_value(row.emulator, row.unit),
        "" if row.ratio is None else f"{row.ratio:.1f}x",
        promised,
        verdict.get(row.verdict, row.verdict),
        row.note,
    ]


def _format_value(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "/s":
        return f"{value:,.0f} /s"
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
            "verdict": row.verdict or None,
            "note": row.note,
        }
        for row in make_rows(results)
    ]
    floors = [
        {"measure": row.label, "unit": row.unit, "value": row.value}
        for row in make_floor_rows(results)
    ]
    document = {"machine": facts, "rows": rows, "floors": floors}
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
