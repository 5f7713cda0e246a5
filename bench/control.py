"""What the control plane's operations cost, and how that grows with the number of functions.

Two platforms run beside each other, one with few functions and one with many, with a bare HTTP
server and a bare SQLite file. The same client asks each of them in turn, one request at a time, so
that whatever else this machine does meets all of them: trust the ratios. Durability is on, as
always. What a write starts (an environment that is initialised ahead) is part of what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.operations import Operation, Probe, prepare
from bench.platforms import firelet_command
from bench.processes import REPOSITORY, Server, ready_server
from bench.stock import add_versions, fill
from bench.wire import Line, call_once, operation

FEW = 100
MANY = 10_000
VERSIONS = 1_000
_TENTH = VERSIONS // 10
_WARM_UP_ROUNDS = 5
_READS_EACH = 5  # of each operation in a round
_STARTS = 5
_COMMIT_BYTES = 1_200  # about a function's record
_TIMEOUT_S = 60.0


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
        return statistics.median(self.many_ms) / statistics.median(self.few_ms)

    @property
    def floors(self) -> float:
        """How many floors it takes with many functions."""
        return statistics.median(self.many_ms) / statistics.median(self.floor_ms)


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """``starts_s`` by number of functions: seconds from the start of the process to its first
    answer. ``loads_s``: seconds that the registry alone takes to read the many. ``versions_s``:
    seconds of one update with one publication, for each of ``VERSIONS`` of one function in order,
    in a registry without workers."""

    many: int
    reads: dict[str, Figures]
    writes: dict[str, Figures]
    starts_s: dict[int, list[float]]
    loads_s: list[float]
    versions_s: list[float]

    @property
    def version_growth(self) -> float:
        """How many times as long the last tenth of the versions took as the first."""
        first, last = self.versions_s[:_TENTH], self.versions_s[-_TENTH:]
        return statistics.median(last) / statistics.median(first)


def measure_control_plane(
    scratch: Path, many: int, rounds: int, on_step: Callable[[str], None]
) -> ControlPlane:
    """``scratch`` is a directory on the disk whose durability counts."""
    data = {FEW: scratch / "few", many: scratch / "many"}
    for count, directory in data.items():
        on_step(f"filling: {count:,} functions")
        asyncio.run(fill(directory, count))
    on_step(f"{VERSIONS:,} versions of one function")
    versions_s = asyncio.run(add_versions(scratch / "versions", VERSIONS))
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
    return ControlPlane(many, reads, writes, starts_s, loads_s, versions_s)


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
            for again in range(_READS_EACH):
                _ask_all(few, many, few.reads, many.reads, request, reads, turn + again)
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
    """Each operation once: the floor, then one platform and the other, in turn who is first. What
    the first one has left to do in the background would otherwise always meet the second."""
    for one, other in zip(few_operations, many_operations, strict=True):
        into = figures[one.name]
        into.floor_ms.append(floor())
        asked = [(few.line, one, into.few_ms), (many.line, other, into.many_ms)]
        for line, item, samples in asked if turn % 2 else reversed(asked):
            samples.append(line.ask(item.make(turn))[1])
