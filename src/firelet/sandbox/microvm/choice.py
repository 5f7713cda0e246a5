"""Which program runs machines on this host, and why. Pure: what was found goes in.

    Firecracker      its program is there and KVM runs guests; as root also its jailer
    QEMU with KVM    KVM runs guests
    QEMU, emulated   anything else

Called by ``offer``, for ``firelet doctor`` and the driver, and by ``firelet image check``.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from firelet.linux.kvm import KvmVerdict
from firelet.sandbox.microvm.firecracker_process import PROGRAM as FIRECRACKER
from firelet.sandbox.microvm.jailer import PROGRAM as JAILER
from firelet.sandbox.microvm.qemu_command import PROGRAM as QEMU

VARIABLE = "FIRELET_FIRECRACKER"


class VmmKind(Enum):
    FIRECRACKER = "Firecracker"
    QEMU_KVM = "QEMU with KVM"
    QEMU_EMULATED = "QEMU, emulated"


@dataclass(frozen=True, slots=True)
class VmmChoice:
    """``kind`` None: there is none. ``program`` is its path; ``jailer`` that of Firecracker's
    jailer, None where it is run without."""

    kind: VmmKind | None
    program: str | None
    reason: str
    jailer: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Paths of programs, or None. ``asked`` is what the setting names, wherever that leads."""

    qemu: str | None = None
    firecracker: str | None = None
    jailer: str | None = None
    asked: str | None = None


def decide(kvm: KvmVerdict, found: Found, *, is_root: bool) -> VmmChoice:
    """KVM counts if it has run a guest, not if its device is there."""
    reason = "KVM runs guests" if kvm.is_usable else f"no KVM that runs guests: {kvm.detail}"
    if kvm.is_usable and found.firecracker is not None:
        if not is_root:
            sentence = f"{reason}; without root it runs without its jailer"
            return VmmChoice(VmmKind.FIRECRACKER, found.firecracker, sentence)
        if found.jailer is not None:
            return VmmChoice(VmmKind.FIRECRACKER, found.firecracker, reason, found.jailer)
        reason += f"; {found.firecracker} is not used: its jailer is not beside it nor in PATH"
    elif found.firecracker is not None:
        reason += f"; {found.firecracker} is not used: it needs KVM"
    elif found.asked is not None:
        reason += f"; {found.asked}, which {VARIABLE} names, cannot be executed"
    if found.qemu is None:
        return VmmChoice(None, None, f"{QEMU} is not installed; {reason}")
    kind = VmmKind.QEMU_KVM if kvm.is_usable else VmmKind.QEMU_EMULATED
    return VmmChoice(kind, found.qemu, reason)


def find(asked: str | None) -> Found:
    """Looks in PATH; for Firecracker only if ``asked`` names none, and for its jailer first beside
    it, since both must be of one version."""
    firecracker = shutil.which(asked or FIRECRACKER)
    jailer = None
    if firecracker is not None:
        path = Path(firecracker)
        _, _, release = path.name.partition(FIRECRACKER)  # releases have their number in the names
        beside = (path.with_name(JAILER + release), path.with_name(JAILER))
        jailer = next(filter(None, map(shutil.which, (*map(str, beside), JAILER))), None)
    return Found(shutil.which(QEMU), firecracker, jailer, asked)


def choose(kvm: KvmVerdict, firecracker: Path | None = None) -> VmmChoice:
    """``firecracker``: the path of its program, from the settings; without it the variable
    ``FIRELET_FIRECRACKER`` counts, and PATH."""
    return decide(kvm, find(_asked(firecracker)), is_root=os.geteuid() == 0)


def choose_qemu(kvm: KvmVerdict, firecracker: Path | None = None) -> VmmChoice:
    """For who starts no other program (`firelet image check`). The reason names a Firecracker that
    is passed over."""
    found = find(_asked(firecracker))
    chosen = decide(kvm, Found(found.qemu, asked=found.asked), is_root=os.geteuid() == 0)
    if found.firecracker is None:
        return chosen
    reason = f"{chosen.reason}; {found.firecracker} is passed over"
    return VmmChoice(chosen.kind, chosen.program, reason)


def _asked(firecracker: Path | None) -> str | None:
    return str(firecracker) if firecracker is not None else os.environ.get(VARIABLE) or None
