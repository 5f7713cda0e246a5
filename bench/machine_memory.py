"""What machines hold of their host, by what of the VMM holds it; and what they give back.

Source: Documentation/filesystems/proc.rst, smaps. A clone maps the memory of its snapshot
privately: what of the guest's memory is private to it, it has written since. Translated code is in
the one mapping that can be written and executed. Called by ``bench.microvm``.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from firelet.sandbox.microvm.choice import VmmKind
from firelet.sandbox.microvm.guest_channel import GuestChannel
from firelet.sandbox.microvm.initramfs import OPTIONAL_MODULES_DIRECTORY
from firelet.sandbox.microvm.qemu import QemuVmm
from firelet.sandbox.microvm.vmm import VmSpec
from firelet.worker.slots import Slot

CLONES = 20
_KIB_PER_MIB = 1024
_SETTLE_S = 1.0
_HEADER = re.compile(r"[0-9a-f]+-[0-9a-f]+ (\S{4}) \S+ \S+ \d+\s*(.*)")
_MEMORY_FILE = "/memfd:"
_GUEST_MIB = 256
_WRITTEN_MIB = 96
_BALLOON_MIB = 128
_PATIENCE_S = 20.0
_REPORTED_AFTER_S = 5.0  # the guest's kernel reports free pages every two seconds
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
    """MiB of a guest's memory in use: when booted, with ``_WRITTEN_MIB`` written and deleted again,
    some time later, and with a balloon."""

    booted: float
    written: float
    reported: float
    ballooned: float


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


async def measure_given_back(host: Host, directory: Path) -> GivenBack | str:
    """A machine that was booted with a balloon, which the driver's have not; or why there is no
    such figure. ``directory`` is the machine's and exists."""
    found = host.found.offer
    image, program = found.image, found.choice.program
    if found.choice.kind not in (VmmKind.QEMU_KVM, VmmKind.QEMU_EMULATED):
        return "not measured: by QEMU only"
    assert image is not None
    assert program is not None
    machine = QemuVmm(
        VmSpec(
            kernel=image.vmlinux,
            initrd=image.initrd,
            memory_mib=_GUEST_MIB,
            directory=directory,
            has_balloon=True,
        ),
        has_kvm=host.found.verdict.is_usable,
        program=program,
    )
    guest: GuestChannel | None = None
    try:
        await machine.boot()
        guest = GuestChannel(machine.take_channel())
        await guest.hello()
        module = f"/{OPTIONAL_MODULES_DIRECTORY}/*-virtio_balloon.ko"
        if not await _run(guest, f"insmod {module}"):
            return "not measured: the guest image has no module for balloons, or no shell"
        booted = _memory_in_use(machine.pid)
        size = _WRITTEN_MIB * MIB
        if not await _run(guest, f"head -c {size} /dev/zero >/tmp/much && rm /tmp/much"):
            return "not measured: the guest could not write so much"
        written = _memory_in_use(machine.pid)
        await asyncio.sleep(_REPORTED_AFTER_S)
        reported = _memory_in_use(machine.pid)
        await machine.set_balloon(_BALLOON_MIB)
        end = time.monotonic() + _PATIENCE_S
        while await machine.balloon_mib() < _BALLOON_MIB and time.monotonic() < end:
            await asyncio.sleep(_POLL_S)
        return GivenBack(booted, written, reported, _memory_in_use(machine.pid))
    finally:
        if guest is not None:
            guest.close()
        await machine.stop()


async def _run(guest: GuestChannel, script: str) -> bool:
    ending = await guest.run(["/bin/sh", "-c", script])
    return ending.code == 0


def _part(permissions: str, name: str) -> str:
    if name.startswith(_MEMORY_FILE):
        return "guest"
    return "translated" if "wx" in permissions else "rest"


def _memory_in_use(pid: int) -> float:
    """MiB of the memory file that this process has open."""
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if str(file.readlink()).startswith(_MEMORY_FILE):
                return file.stat().st_blocks * 512 / MIB
    raise RuntimeError("the machine has no memory file")
