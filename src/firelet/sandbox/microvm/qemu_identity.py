"""What a machine of QEMU is, as far as a snapshot of it depends on that. Blocks."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from firelet.sandbox.microvm.qemu_command import (
    EMULATED_PROCESSOR,
    MACHINE,
    PROGRAM,
    device_names,
    parse_counter_khz,
)
from firelet.sandbox.microvm.vm_snapshot import SnapshotIdentity
from firelet.sandbox.microvm.vmm import VmSpec
from firelet.sandbox.microvm.vmm_process import read_version

_VERSION = re.compile(r"version (.+)")
_MODEL_FIELDS = ("vendor_id", "cpu family", "model", "stepping")


def program_version(program: str = PROGRAM) -> str:
    """As ``Qmp.open`` tells it of one that runs. VmmMissing."""
    return read_version(program, _VERSION)


def identify(spec: VmSpec, *, has_kvm: bool, version: str) -> SnapshotIdentity:
    """OSError for a drive that is not there. Emulated machines have the same processor on every
    host, whose counter they show all the same."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    return SnapshotIdentity(
        vmm=f"QEMU {version}, {'KVM' if has_kvm else 'emulated'}",
        machine=MACHINE,
        processor=describe_processor(cpuinfo) if has_kvm else EMULATED_PROCESSOR,
        counter_khz=parse_counter_khz(cpuinfo),
        image=spec.image,
        memory_mib=spec.memory_mib,
        vcpus=spec.vcpus,
        devices=device_names(spec),
        drive_bytes=tuple(drive.path.stat().st_size for drive in spec.drives),
    )


def describe_processor(cpuinfo: str) -> str:
    """Model and a digest of the flags of the first processor in the text of /proc/cpuinfo."""
    first = cpuinfo.partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    flags = " ".join(sorted(fields.get("flags", "").split()))
    digest = hashlib.sha256(flags.encode()).hexdigest()[:16]
    return " ".join([*(fields.get(name, "?") for name in _MODEL_FIELDS), f"flags {digest}"])
