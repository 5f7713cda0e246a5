"""Which program would run machines on this host, and why. Pure: what was found goes in.

Called by ``host`` for ``firelet doctor`` and by ``firelet image check``.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from firelet.linux.kvm import KvmVerdict
from firelet.sandbox.microvm.qemu_command import PROGRAM


class VmmKind(Enum):
    QEMU_KVM = "QEMU with KVM"
    QEMU_EMULATED = "QEMU, emulated"


@dataclass(frozen=True, slots=True)
class VmmChoice:
    """``kind`` None: there is none. ``program`` is its path."""

    kind: VmmKind | None
    program: str | None
    reason: str


def decide(kvm: KvmVerdict, qemu: str | None, firecracker: str | None) -> VmmChoice:
    """``qemu`` and ``firecracker`` are the paths of the programs, or None. KVM counts if it has run
    a guest, not if its device is there."""
    reason = "KVM runs guests" if kvm.is_usable else f"no KVM that runs guests: {kvm.detail}"
    if firecracker is not None:
        reason += f"; {firecracker} is there, but firelet does not run Firecracker yet"
    if qemu is None:
        return VmmChoice(None, None, f"{PROGRAM} is not installed; {reason}")
    kind = VmmKind.QEMU_KVM if kvm.is_usable else VmmKind.QEMU_EMULATED
    return VmmChoice(kind, qemu, reason)


def choose(kvm: KvmVerdict, firecracker: Path | None = None) -> VmmChoice:
    """By what is in PATH; ``firecracker`` is the path of that program if it is somewhere else."""
    program = str(firecracker) if firecracker is not None else shutil.which("firecracker")
    return decide(kvm, shutil.which(PROGRAM), program)
