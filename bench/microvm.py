"""MicroVMs: ``python -m bench.microvm [--images DIR]``. Needs what ``firelet up`` needs, a program
that runs machines and a guest image with a base system (``firelet image build``).

How long machines take to boot, to be restored, to answer; what they hold; all of it below the HTTP
API, beside sandboxes of namespaces of the same run. What runs the machines, with or without KVM,
and why, is said first. Times of emulated machines are the CPU's alone: what else the host does is
in all of them, so that its load is told before and after.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import uvloop
from rich.console import Console

from bench import machine_memory, machines
from bench.machine_host import Found, Host, make_version, open_host
from bench.machine_rows import Measured, make_kvm_rows, make_rows
from bench.report import machine_facts, print_rows
from firelet.app.config import load_config
from firelet.linux.kvm import probe_kvm
from firelet.model.errors import PlatformError
from firelet.sandbox.host import probe_host
from firelet.sandbox.microvm.config import MicrovmConfig
from firelet.sandbox.microvm.offer import find_offer

_WIDTH = 150  # of what is no terminal
_OTHER_FAMILIES = ("nodejs", "provided")
_ROOMY_MIB = 256  # for a function that uses memory


def look(images: Path | None) -> Found:
    """At this host; ``images`` None: those of the configuration's data directory."""
    config = load_config().microvms
    if images is not None:
        config = MicrovmConfig(images=images)
    verdict = probe_kvm()
    return Found(find_offer(config, verdict), verdict, config, probe_host())


def describe(found: Found) -> str:
    """What runs the machines, with which accelerator, and why that one."""
    choice = found.offer.choice
    assert choice.kind is not None
    assert choice.program is not None
    said = subprocess.run([choice.program, "--version"], capture_output=True, text=True, check=True)
    version = said.stdout.splitlines()[0].removeprefix("QEMU emulator version ")
    return f"{choice.kind.value} (version {version}): {choice.reason}"


async def measure(host: Host) -> Measured:
    """Everything, one after the other."""
    found = Measured()
    own = f"python3.{sys.version_info.minor}"
    others = [_newest(host, family) for family in _OTHER_FAMILIES]
    version = make_version(own)
    await host.node.activate(version)
    found.boots = await machines.measure_boots(host, version)
    found.first_ms = await machines.measure_first(host.node, version)
    found.embryos[own] = await machines.measure_starts(host.node, host.noting, version)
    found.ping_ms = await machines.measure_pings(host, version)
    found.calls = await machines.measure_calls(host.node, version)
    found.namespaces = await machines.measure_calls(host.namespaces, version)
    working = make_version(own, handler="app.work")
    found.work_ms = await machines.measure_work(host.node, working)
    found.work_in_namespaces_ms = await machines.measure_work(host.namespaces, working)
    streaming = make_version(own, handler="app.bulk")
    found.streams = await machines.measure_streams(host.node, streaming)
    found.starts_per_s = await machines.measure_sustained(host.node, version)
    for runtime in (own, *(other for other in others if other is not None)):
        clone = make_version(runtime, has_snap_start=True)
        await host.node.activate(clone)
        found.clones[runtime] = await machines.measure_starts(host.node, host.noting, clone)
    clone = make_version(own, has_snap_start=True)
    found.clones_per_s = await machines.measure_sustained(host.node, clone)
    found.held = await machine_memory.measure_clones(host, clone)
    using = replace(make_version(own, handler="app.use"), memory_mib=_ROOMY_MIB)
    found.given_back = await machine_memory.measure_given_back(host, using)
    return found


def _newest(host: Host, family: str) -> str | None:
    runtimes = host.found.facts.interpreters
    return max((name for name in runtimes if name.startswith(family)), default=None)


async def _run(found: Found) -> Measured:
    with tempfile.TemporaryDirectory(prefix="firelet-bench-") as scratch:
        async with open_host(found, Path(scratch)) as host:
            return await measure(host)


def begin(program: str, description: str | None, subject: str) -> tuple[Console, Found] | None:
    """Parses the command line of a ``program`` that measures ``subject`` with machines, and says
    where, or why there can be none."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.add_argument("--images", type=Path, help="guest images [DATA_DIR/guest-images]")
    found = look(parser.parse_args().images)
    if found.offer.missing:
        print(f"{subject}: nothing is measured. {' '.join(found.offer.missing)}")
        return None
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    facts = machine_facts()
    console.print("  ".join(f"{name}: {value}" for name, value in facts.items()), highlight=False)
    console.print(f"machines by {describe(found)}", highlight=False)
    return console, found


def main() -> None:
    """Parses the command line, measures, reports."""
    begun = begin("bench.microvm", __doc__, "microVMs")
    if begun is None:
        return
    console, found = begun
    try:
        measured = uvloop.run(_run(found))
    except PlatformError as error:
        sys.exit(f"microVMs: {error.message}")
    kind = found.offer.choice.kind
    assert kind is not None
    rows = make_rows(measured)
    print_rows(console, kind.value, [rows, make_kvm_rows(measured, found.verdict)])
    console.print(f"load average at the end: {os.getloadavg()[0]:.2f}", highlight=False)


if __name__ == "__main__":
    main()
