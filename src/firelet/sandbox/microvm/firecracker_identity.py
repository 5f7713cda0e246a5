"""What a machine of Firecracker is, as far as a snapshot of it depends on that. Blocks."""

from __future__ import annotations

import re
from pathlib import Path

from firelet.sandbox.microvm.firecracker_requests import device_names
from firelet.sandbox.microvm.qemu_command import parse_counter_khz
from firelet.sandbox.microvm.qemu_identity import describe_processor
from firelet.sandbox.microvm.vm_snapshot import SnapshotIdentity
from firelet.sandbox.microvm.vmm import VmSpec
from firelet.sandbox.microvm.vmm_process import read_version

MACHINE = "firecracker"

_VERSION = re.compile(r"^Firecracker v(\S+)", re.MULTILINE)


def program_version(program: Path) -> str:
    """As ``FirecrackerClient.version`` tells it of one that runs. VmmMissing."""
    return read_version(program, _VERSION)


def identify(spec: VmSpec, version: str) -> SnapshotIdentity:
    """OSError for a drive that is not there."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    return SnapshotIdentity(
        vmm=f"Firecracker {version}",
        machine=MACHINE,
        processor=describe_processor(cpuinfo),
        counter_khz=parse_counter_khz(cpuinfo),
        image=spec.image,
        memory_mib=spec.memory_mib,
        vcpus=spec.vcpus,
        devices=device_names(spec),
        drive_bytes=tuple(drive.path.stat().st_size for drive in spec.drives),
    )
