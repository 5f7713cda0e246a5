"""``python -m bench.controlplane``: what the control plane's operations cost, and with how many
functions.

Two platforms run beside each other, one with few functions and one with many, with a bare HTTP
server and a bare SQLite file. The same client asks each of them in turn, one request at a time, so
that whatever else this machine does meets all of them: trust the ratios. Durability is on, as
always. What a write starts (an environment that is initialised ahead) is part of what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bench.operations import Operation, Probe, prepare
from bench.platforms import firelet_command
from bench.processes import REPOSITORY, Server, ready_server
from bench.report import machine_facts
from bench.rows import Limit, percentile
from bench.stock import fill
from bench.wire import Call, Line, call_once, operation

FEW = 100
MANY = 10_000
READ_GOAL_MS = Limit(1, is_at_most=True)
WRITE_GOAL_MS = Limit(10, is_at_most=True)
GROWTH_GOAL = Limit(1.5, is_at_most=True)
START_GOAL_S = Limit(2, is_at_most=True)

_ROUNDS = 60
_WARM_UP_ROUNDS = 5
_READS_EACH = 5  # of each operation in a round
_STARTS = 5
_COMMIT_BYTES = 1_200  # about a function's record
_TIMEOUT_S = 60.0
_PLAIN_WIDTH = 120  # of a log or a pipe, which has none


@dataclass(slots=True)
class Figures:
    """One operation: milliseconds with few functions and with many, and of the floor, which was
    measured between them."""

    few_ms: list[float] = field(default_factory=list)
    many_ms: list[float] = field(default_factory=list)
    floor_ms: list[float] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """How many times as long it takes with many functions."""
        return _median(self.many_ms) / _median(self.few_ms)

    @property
    def floors(self) -> float:
        """How many floors it takes with many functions."""
        return _median(self.many_ms) / _median(self.floor_ms)


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """``starts_s`` by number of functions: seconds from the start of the process to its first
    answer. ``loads_s``: seconds that the registry alone takes to read the many."""

    many: int
    reads: dict[str, Figures]
    writes: dict[str, Figures]
    starts_s: dict[int, list[float]]
    loads_s: list[float]


def measure_control_plane(
    scratch: Path, many: int, rounds: int, on_step: Callable[[str], None]
) -> ControlPlane:
    """``scratch`` is a directory on the disk whose durability counts."""
    data = {FEW: scratch / "few", many: scratch / "many"}
    for count, directory in data.items():
        on_step(f"filling: {count:,} functions")
        asyncio.run(fill(directory, count))
    starts_s: dict[int, list[float]] = {count: [] for count in data}
    loads_s = []
    for number in range(_STARTS):
        on_step(f"start-up, {number + 1} of {_STARTS}")
        for count, directory in data.items():
            starts_s[count].append(_measure_start(directory, scratch / "start.log"))
        loads_s.append(_measure_load(data[many]))
    floor = [sys.executable, "-m", "bench.floors", "http"]
    with (
        ready_server(floor, scratch / "floor.log") as bare,
        ready_server(firelet_command(data[FEW]), scratch / "few.log") as small,
        ready_server(firelet_command(data[many]), scratch / "many.log") as large,
        _bare_commits(scratch / "bare.db") as commit,
    ):
        reads, writes = _measure_operations(bare, small, large, commit, rounds, on_step)
    return ControlPlane(many, reads, writes, starts_s, loads_s)


def _measure_start(data: Path, log: Path) -> float:
    began = time.perf_counter()
    with ready_server(firelet_command(data), log) as server:
        path = "/2015-03-31/functions/stock-00000/configuration"
        call_once(operation(server.host, server.port, "GET", path), _TIMEOUT_S)
        return time.perf_counter() - began


def _measure_load(data: Path) -> float:
    command = [sys.executable, "-m", "bench.stock", str(data)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return float(done.stdout)


@contextlib.contextmanager
def _bare_commits(path: Path) -> Iterator[Callable[[], float]]:
    """The least that a durable write asks for: one row, one commit, as the stores make it.
    Yields a function that makes one and returns its milliseconds."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE documents (key TEXT PRIMARY KEY, body BLOB)")
        body = bytes(_COMMIT_BYTES)

        def commit() -> float:
            began = time.perf_counter()
            connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", ("key", body))
            return (time.perf_counter() - began) * 1000

        yield commit


def _measure_operations(
    bare: Server,
    small: Server,
    large: Server,
    commit: Callable[[], float],
    rounds: int,
    on_step: Callable[[str], None],
) -> tuple[dict[str, Figures], dict[str, Figures]]:
    few, many = (prepare(server.host, server.port) for server in (small, large))
    empty = operation(bare.host, bare.port, "GET", "/")
    reads = {item.name: Figures() for item in few.reads}
    writes = {item.name: Figures() for item in few.writes}
    with few.line, many.line, Line(bare.host, bare.port, _TIMEOUT_S) as line:

        def request() -> float:
            return line.ask(empty)[1]

        for number in range(-_WARM_UP_ROUNDS, rounds):
            on_step(f"round {number + 1} of {rounds}")
            if number == 0:
                for figures in (*reads.values(), *writes.values()):
                    figures.few_ms.clear()
                    figures.many_ms.clear()
                    figures.floor_ms.clear()
            turn = number + _WARM_UP_ROUNDS
            for _ in range(_READS_EACH):
                _ask_all(few, many, few.reads, many.reads, request, reads, turn)
            _ask_all(few, many, few.writes, many.writes, commit, writes, turn)
    return reads, writes


def _ask_all(
    few: Probe,
    many: Probe,
    few_operations: Sequence[Operation],
    many_operations: Sequence[Operation],
    floor: Callable[[], float],
    figures: dict[str, Figures],
    turn: int,
) -> None:
    """Each operation once: of the floor, of the one and of the other."""
    for one, other in zip(few_operations, many_operations, strict=True):
        into = figures[one.name]
        into.floor_ms.append(floor())
        into.few_ms.append(few.line.ask(one.make(turn))[1])
        into.many_ms.append(many.line.ask(other.make(turn))[1])


def _median(samples: list[float]) -> float:
    found = percentile(sorted(samples), 0.5)
    assert found is not None, "every operation is measured in each round"
    return found


def print_control_plane(console: Console, measured: ControlPlane) -> None:
    """Two tables: operations, and start-up."""
    many = f"{measured.many:,}"
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("operation, p50", no_wrap=True)
    for heading in (f"{FEW}", many, "p99", "floor", "goal", "", f"{many}/{FEW}", "", "x floor"):
        table.add_column(heading, justify="right", no_wrap=True)
    for figures, goal in ((measured.reads, READ_GOAL_MS), (measured.writes, WRITE_GOAL_MS)):
        for name, found in figures.items():
            table.add_row(name, *_cells(found, goal))
        table.add_section()
    console.print(table)
    for count, samples in measured.starts_s.items():
        verdict = _verdict(START_GOAL_S, _median(samples))
        console.print(
            f"start-up with {count:,} functions, to the first answer: {_median(samples):.2f} s"
            f" (worst of {len(samples)}: {max(samples):.2f} s), goal {START_GOAL_S.limit} s:"
            f" {verdict}"
        )
    console.print(f"of it, reading {many} functions: {_median(measured.loads_s):.2f} s")
    console.print(
        "Floors: a bare HTTP request for reads, a bare commit to SQLite for writes; the columns"
        f" {FEW} and {many} are platforms with so many functions, asked in turn.",
        style="dim",
    )


def _cells(figures: Figures, goal: Limit) -> list[str]:
    median = _median(figures.many_ms)
    worst = percentile(sorted(figures.many_ms), 0.99)
    return [
        f"{_median(figures.few_ms):.3f} ms",
        f"{median:.3f} ms",
        f"{worst:.2f} ms",
        f"{_median(figures.floor_ms):.3f} ms",
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
