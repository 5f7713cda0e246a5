"""What is measured, in which order, and how much of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.burst import Burst, measure_burst
from bench.clones import Clones, measure_clones
from bench.cold import Cold, measure_cold, measure_emulator_cold
from bench.control import MANY, ControlPlane, measure_control_plane
from bench.first import First, measure_first
from bench.floors import Floors, measure_floors
from bench.functions import (
    ECHO_EVENT,
    NO_OP_EVENT,
    NODE_SOURCE,
    PYTHON,
    PYTHON_SOURCE,
)
from bench.held import Held, measure_held
from bench.load import Load, has_wrk, run_load, run_wrk
from bench.memory import Footprint, measure_footprint
from bench.platforms import (
    Firelet,
    emulator_call,
    has_emulator,
    running_emulator,
    running_firelet,
)
from bench.starts import Starts, measure_starts

CLIENTS = (1, 16)
_EVENTS = {"no_op": NO_OP_EVENT, "echo": ECHO_EVENT}


@dataclass(frozen=True, slots=True)
class Size:
    """How long each load runs, how many cold calls and bursts are made, how many idle
    environments are held (none: that part is left out), with how many functions the control plane
    is measured, and in how many rounds."""

    load_s: float
    cold_samples: int
    burst_rounds: int
    idle: int
    functions: int
    control_rounds: int


FULL = Size(
    load_s=8, cold_samples=50, burst_rounds=5, idle=1_000, functions=MANY, control_rounds=40
)
QUICK = Size(
    load_s=2, cold_samples=20, burst_rounds=2, idle=100, functions=1_000, control_rounds=10
)


@dataclass(frozen=True, slots=True)
class FireletResults:
    """Loads by handler and number of clients. ``wrk_per_second`` is None without wrk;
    ``cold_node`` is a sentence when there is no Node.js to measure, ``clones`` without a Python
    that has SnapStart."""

    warm: dict[tuple[str, int], Load]
    wrk_per_second: float | None
    cold_python: Cold
    cold_node: Cold | str
    clones: Clones | str
    first: First
    burst: Burst
    starts: Starts
    footprint: Footprint
    held: Held | None


@dataclass(frozen=True, slots=True)
class EmulatorResults:
    """It takes one call at a time, hence one client."""

    warm: dict[str, Load]
    cold_python: Cold


@dataclass(frozen=True, slots=True)
class Results:
    """One run of everything; ``emulator`` is None when it is not installed."""

    floors: Floors
    firelet: FireletResults
    emulator: EmulatorResults | None
    control: ControlPlane


def run_suite(size: Size, scratch: Path, on_step: Callable[[str], None]) -> Results:
    """Floors, firelet, emulator, the control plane: never two of them at the same time."""
    on_step("the floors of this machine")
    floors = measure_floors(CLIENTS, size.load_s / 2, scratch)
    # Ten requests a second for each unit of concurrency are the limit: it shall not be what is
    # measured.
    with running_firelet(scratch, FIRELET_ACCOUNT_CONCURRENCY="10000") as firelet:
        results = _measure_firelet(firelet, size, scratch, on_step)
    emulator = _measure_emulator(size, scratch, on_step) if has_emulator() else None
    home = scratch / "control"
    home.mkdir()
    control = measure_control_plane(home, size.functions, size.control_rounds, on_step)
    return Results(floors, results, emulator, control)


def _measure_firelet(
    firelet: Firelet, size: Size, scratch: Path, on_step: Callable[[str], None]
) -> FireletResults:
    on_step("firelet: cold Python")
    cold_python = measure_cold(firelet, PYTHON, PYTHON_SOURCE, size.cold_samples)
    on_step("firelet: cold Node.js")
    cold_node = _measure_cold_node(firelet, size.cold_samples)
    on_step("firelet: cold with much to import")
    clones = measure_clones(firelet, size.cold_samples)
    on_step("firelet: first calls of functions")
    first = measure_first(firelet, size.cold_samples)
    on_step("firelet: bursts")
    burst = measure_burst(firelet, size.burst_rounds)
    on_step("firelet: memory of idle sandboxes")
    footprint = measure_footprint(firelet)
    warm = {}
    wrk_per_second = None
    for handler, event in _EVENTS.items():
        name = f"warm-{handler}"
        firelet.create(name, PYTHON, PYTHON_SOURCE, handler)
        call = firelet.call(name, event)
        for clients in CLIENTS:
            on_step(f"firelet: warm {handler}, {clients} clients")
            warm[handler, clients] = run_load(call, clients, size.load_s)
        if handler == "no_op" and has_wrk():
            on_step("firelet: warm no_op, wrk")
            wrk_per_second = run_wrk(call, max(CLIENTS), size.load_s)
        firelet.delete(name)
    held = None
    if size.idle:
        on_step(f"firelet: {size.idle:,} idle environments held")
        held = measure_held(firelet, size.idle, size.load_s)
    # Beside the other platform, which is at rest.
    on_step("firelet: sustained starts")
    starts = measure_starts(scratch, size.load_s)
    return FireletResults(
        warm=warm,
        wrk_per_second=wrk_per_second,
        cold_python=cold_python,
        cold_node=cold_node,
        clones=clones,
        first=first,
        burst=burst,
        starts=starts,
        footprint=footprint,
        held=held,
    )


def _measure_cold_node(firelet: Firelet, samples: int) -> Cold | str:
    node = shutil.which("node")
    if node is None:
        return "no Node.js on this host"
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
    found = re.match(r"v(\d+)", said.stdout)
    assert found is not None, said.stdout
    return measure_cold(firelet, f"nodejs{found[1]}.x", NODE_SOURCE, samples)


def _measure_emulator(size: Size, scratch: Path, on_step: Callable[[str], None]) -> EmulatorResults:
    on_step("emulator: cold Python")
    cold_python = measure_emulator_cold(scratch, size.cold_samples)
    warm = {}
    for handler, event in _EVENTS.items():
        on_step(f"emulator: warm {handler}")
        with running_emulator(scratch, handler) as port:
            warm[handler] = run_load(emulator_call(port, event), 1, size.load_s)
    return EmulatorResults(warm, cold_python)
