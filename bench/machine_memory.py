"""What machines hold of their host, by what of the VMM holds it; and what they give back.

Source: Documentation/filesystems/proc.rst, smaps. A clone maps the memory of its snapshot
privately: what of the guest's memory is private to it, it has written since. Translated code is in
the one mapping that can be written and executed. Called by ``bench.microvm``.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.machine_host import Host, vmm_pid
from bench.machines import call
from firelet.model.function import FunctionVersion
from firelet.model.limits import MIB
from firelet.sandbox.microvm.idle_memory import FIRST_QUIET_S, IDLE_S
from firelet.worker.slots import Slot

CLONES = 20
_KIB_PER_MIB = 1024
_SETTLE_S = 1.0
_HEADER = re.compile(r"[0-9a-f]+-[0-9a-f]+ (\S{4}) \S+ \S+ \d+\s*(.*)")
_MEMORY_FILE = "/memfd:"
USED_MIB = 96
_PATIENCE_S = 2.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Held:
    """MiB of one process that runs a machine. Private: ``guest`` memory, ``translated`` code and
    the ``rest``; ``pss`` of all of it."""

    guest: float
    translated: float
    rest: float
    pss: float

    @property
    def private(self) -> float:
        return self.guest + self.translated + self.rest


@dataclass(frozen=True, slots=True)
class Clones:
    """MiB, the median of each over ``count`` clones. ``charged`` is what their control groups say;
    None without such groups."""

    count: int
    held: Held
    private: float
    charged: float | None


@dataclass(frozen=True, slots=True)
class GivenBack:
    """MiB that are charged to a machine: ``before`` and after (``used``) an invocation that has
    used ``USED_MIB`` and freed them, and once it has been ``idle`` for ``idle_s`` seconds."""

    before: float
    used: float
    idle: float
    idle_s: float


def parse_smaps(text: str) -> Held:
    """From the text of a process's smaps."""
    private = {"guest": 0, "translated": 0, "rest": 0}
    pss = 0
    part = "rest"
    for line in text.splitlines():
        header = _HEADER.fullmatch(line)
        if header is not None:
            part = _part(header[1], header[2])
            continue
        name, _, value = line.partition(":")
        if name in ("Private_Clean", "Private_Dirty"):
            private[part] += int(value.split()[0])
        elif name == "Pss":
            pss += int(value.split()[0])
    return Held(pss=pss / _KIB_PER_MIB, **{n: kib / _KIB_PER_MIB for n, kib in private.items()})


def median_of(held: Iterable[Held]) -> Held:
    """Of each part."""
    many = list(held)
    return Held(
        guest=statistics.median(one.guest for one in many),
        translated=statistics.median(one.translated for one in many),
        rest=statistics.median(one.rest for one in many),
        pss=statistics.median(one.pss for one in many),
    )


async def measure_clones(host: Host, version: FunctionVersion, count: int = CLONES) -> Clones:
    """Clones of one snapshot, each called once, all there at the same time."""
    slots: list[Slot] = []
    try:
        for _ in range(count):
            slots.append(await host.node.start(version))
            await call(slots[-1])
        await asyncio.sleep(_SETTLE_S)
        held = [
            parse_smaps(Path(f"/proc/{vmm_pid(slot.sandbox)}/smaps").read_text()) for slot in slots
        ]
        charged = statistics.median(slot.sandbox.memory_bytes() for slot in slots) / MIB
    finally:
        for slot in slots:
            await slot.close()
    private = statistics.median(one.private for one in held)
    return Clones(len(held), median_of(held), private, charged or None)


async def measure_given_back(host: Host, version: FunctionVersion) -> GivenBack | str:
    """``version`` uses so many bytes of memory as its event says; or why there is no figure."""
    slot = await host.node.start(version)
    try:
        await call(slot, b"0")
        before = _charged_mib(slot)
        await call(slot, str(USED_MIB * MIB).encode())
        used = _charged_mib(slot)
        if not used:
            return "not measured: no control groups"
        slot.sandbox.freeze()
        began = changed = time.monotonic()
        idle = used
        while time.monotonic() < changed + IDLE_S + FIRST_QUIET_S + _PATIENCE_S:
            await asyncio.sleep(_POLL_S)
            if _charged_mib(slot) < idle - 1:
                idle, changed = _charged_mib(slot), time.monotonic()
        return GivenBack(before, used, idle, changed - began)
    finally:
        await slot.close()


def _charged_mib(slot: Slot) -> float:
    return slot.sandbox.memory_bytes() / MIB


def _part(permissions: str, name: str) -> str:
    if name.startswith(_MEMORY_FILE):
        return "guest"
    return "translated" if "wx" in permissions else "rest"
