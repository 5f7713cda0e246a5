"""From results to rows: every measure with what is promised of it and what is aimed at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.burst import CALLS, Burst
from bench.clones import PACKAGES, Clones
from bench.cold import Cold
from bench.first import First
from bench.held import Held
from bench.load import Load
from bench.starts import CLIENTS as START_CLIENTS
from bench.starts import Starts
from bench.suite import CLIENTS, EmulatorResults, Results

_HANDLERS = {"no_op": "no-op", "echo": "echo 1 KB"}
_ONE, _MANY = CLIENTS


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure that firelet answers for (promised), or that it is being built for (goal)."""

    limit: float
    is_at_most: bool

    def is_met(self, value: float) -> bool:
        return value <= self.limit if self.is_at_most else value >= self.limit


WARM_P50_MS = Limit(0.6, is_at_most=True)
PER_SECOND = Limit(2_500, is_at_most=False)
COLD_P50_MS = Limit(40, is_at_most=True)
IDLE_USS_MIB = Limit(12, is_at_most=True)

EMULATOR_GOAL_RATIO = Limit(2, is_at_most=False)
WARM_P50_GOAL_MS = Limit(0.3, is_at_most=True)
MANY_P99_GOAL_MS = Limit(15, is_at_most=True)
PER_SECOND_GOAL = Limit(4_500, is_at_most=False)
COLD_GOALS_MS = {0.5: Limit(8, is_at_most=True), 0.99: Limit(40, is_at_most=True)}
COLD_NODE_P50_GOAL_MS = Limit(20, is_at_most=True)
CLONE_P50_GOAL_MS = Limit(25, is_at_most=True)
CLONE_GOAL_RATIO = Limit(30, is_at_most=False)
FIRST_GOAL_RATIO = Limit(1.5, is_at_most=True)
BURST_GOAL_S = Limit(3, is_at_most=True)
BURST_FAILURES_GOAL = Limit(0, is_at_most=True)
STARTS_GOAL_PER_S = Limit(150, is_at_most=False)
IDLE_PSS_GOAL_MIB = Limit(5, is_at_most=True)
HELD_GOAL_RATIO = Limit(1.3, is_at_most=True)
_WARM_GOALS = {(_ONE, 0.5): WARM_P50_GOAL_MS, (_MANY, 0.99): MANY_P99_GOAL_MS}


@dataclass(frozen=True, slots=True)
class Row:
    """One measure. ``note`` stands where there is no value, or says how it was got."""

    label: str
    unit: str
    value: float | None
    emulator: float | None = None
    promise: Limit | None = None
    goal: Limit | None = None
    note: str = ""
    is_less_better: bool = True

    @property
    def ratio(self) -> float | None:
        """How many times better than the emulator."""
        if not self.value or not self.emulator:
            return None
        if self.is_less_better:
            return self.emulator / self.value
        return self.value / self.emulator

    def verdict(self, limit: Limit | None) -> str:
        """On one of its limits; empty without one."""
        if limit is None:
            return ""
        if self.value is None:
            return "not measured"
        return "ok" if limit.is_met(self.value) else "MISSED"


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
        *_clone_rows(results.firelet.clones),
        *_ratio_rows(results),
        *_burst_rows(results.firelet.burst),
        *_start_rows(results.firelet.starts),
        *_memory_rows(results),
        *_held_rows(results.firelet.held),
    ]


def _clone_rows(clones: Clones | str) -> list[Row]:
    label = f"cold with {', '.join(PACKAGES)}"
    if isinstance(clones, str):
        return [Row(f"{label}, SnapStart, p50", "ms", None, goal=CLONE_P50_GOAL_MS, note=clones)]
    clone, plain = (percentile(found, 0.5) for found in (clones.clone_ms, clones.plain_ms))
    ratio = plain / clone if plain and clone else None
    return [
        Row(f"{label}, SnapStart, p50", "ms", clone, goal=CLONE_P50_GOAL_MS),
        Row(f"{label}, plain INIT, p50", "ms", plain),
        Row(
            "SnapStart against plain INIT", "x", ratio, goal=CLONE_GOAL_RATIO, is_less_better=False
        ),
        Row("idle Python clone, private (USS)", "MiB", clones.footprint.uss_mib),
        Row("idle Python clone, PSS", "MiB", clones.footprint.pss_mib, goal=IDLE_PSS_GOAL_MIB),
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
        Row("bare HTTP server, 1 call after a pause, p50", "ms", percentile(floors.paused_ms, 0.5)),
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
                    promise=WARM_P50_MS if (clients, share) == (_ONE, 0.5) else None,
                    goal=_WARM_GOALS.get((clients, share)),
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
                goal=PER_SECOND_GOAL if clients == _MANY else None,
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
            goal=COLD_GOALS_MS[share],
            note=_cold_note(python),
        )
        for share in (0.5, 0.99)
    ]
    rows.append(_first_row("Python", python))
    if isinstance(node, str):
        missing = Row("cold Node.js, p50", "ms", None, goal=COLD_NODE_P50_GOAL_MS, note=node)
        return [*rows, missing]
    value, note = percentile(node.cold_ms, 0.5), _cold_note(node)
    cold = Row("cold Node.js, p50", "ms", value, goal=COLD_NODE_P50_GOAL_MS, note=note)
    worst = Row("cold Node.js, p99", "ms", percentile(node.cold_ms, 0.99), note=note)
    return [*rows, cold, worst, _first_row("Node.js", node)]


def _first_row(language: str, measured: Cold) -> Row:
    label = f"first call after deployment, {language}, p50"
    note = f"{len(measured.first_ms)} calls"
    return Row(label, "ms", percentile(measured.first_ms, 0.5), note=note)


def _ratio_rows(results: Results) -> list[Row]:
    first: First = results.firelet.first
    first_ms = percentile(first.first_ms, 0.5) or 0.0
    rows = []
    if results.emulator is not None:
        ours, theirs = (
            percentile(warm.latencies_ms, 0.5)
            for warm in (results.firelet.warm["no_op", _ONE], results.emulator.warm["no_op"])
        )
        times = theirs / ours if ours and theirs else None
        label = "emulator / firelet, warm no-op, p50"
        rows.append(Row(label, "x", times, goal=EMULATOR_GOAL_RATIO, is_less_better=False))
    for label, samples, goal in (
        ("first call / warm call", first.warm_ms, FIRST_GOAL_RATIO),
        ("first call / warm call after a pause", first.paused_ms, None),
    ):
        warm_ms = percentile(samples, 0.5) or math.inf
        note = f"{first_ms:.2f} ms / {warm_ms:.2f} ms; {len(first.first_ms)} functions"
        rows.append(Row(f"{label}, p50", "x", first_ms / warm_ms, goal=goal, note=note))
    return rows


def _burst_rows(burst: Burst) -> list[Row]:
    label = f"{CALLS} calls of 200 ms at once, cold"
    note = f"the slowest of {len(burst.rounds_s)} rounds"
    return [
        Row(f"{label}: all answered", "s", burst.rounds_s[-1], goal=BURST_GOAL_S, note=note),
        Row(f"{label}: failed", "", burst.failures, goal=BURST_FAILURES_GOAL),
    ]


def _start_rows(starts: Starts) -> list[Row]:
    note = f"start, one call, stop; {START_CLIENTS} clients; {len(starts.cold_ms):,} cold calls"
    if starts.warm:
        note += f"; {starts.warm:,} more met a warm one"
    return [
        Row(
            "starts, sustained",
            "/s",
            starts.per_second,
            goal=STARTS_GOAL_PER_S,
            note=note,
            is_less_better=False,
        ),
        Row("cold Python while so many start, p50", "ms", percentile(starts.cold_ms, 0.5)),
    ]


def _held_rows(held: Held | None) -> list[Row]:
    if held is None:
        return []
    kept = held.footprint
    without = percentile(held.without.latencies_ms, 0.5)
    beside = percentile(held.beside.latencies_ms, 0.5)
    ratio = beside / without if without and beside else None
    label, count = "held idle Python sandbox", f"{held.count:,}"
    note = f"{count} of {kept.processes:.0f} processes, made ahead, never called"
    return [
        Row(f"{label}, PSS", "MiB", kept.pss_mib, goal=IDLE_PSS_GOAL_MIB, note=note),
        Row(f"{label}, private", "MiB", kept.uss_mib),
        Row(f"{label}, lost to the host", "MiB", held.host_mib, note="by MemAvailable"),
        Row(f"{label}, growth of firelet", "MiB", held.platform_mib),
        Row(
            f"{count} held, PSS of all with firelet's growth",
            "MiB",
            (kept.pss_mib + held.platform_mib) * held.count,
            note=f"made at {held.made_per_second:,.0f} /s",
        ),
        Row(f"warm no-op beside {count} held, p50", "ms", beside),
        Row(
            f"warm no-op beside {count} held / without",
            "x",
            ratio,
            goal=HELD_GOAL_RATIO,
            note="" if without is None else f"without: {without:.3f} ms",
        ),
    ]


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
