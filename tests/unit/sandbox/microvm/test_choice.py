"""Which program would run machines."""

from __future__ import annotations

import pytest

from firelet.linux.kvm import KvmVerdict
from firelet.sandbox.microvm.choice import VmmKind, decide

REAL = KvmVerdict(True, True, "a guest ran")
EMULATED = KvmVerdict(True, False, "guests are emulated")
QEMU = "/usr/bin/qemu-system-x86_64"


@pytest.mark.parametrize(
    ("kvm", "kind"), [(REAL, VmmKind.QEMU_KVM), (EMULATED, VmmKind.QEMU_EMULATED)]
)
def test_kvm_counts_if_it_runs_guests_and_not_if_it_is_there(
    kvm: KvmVerdict, kind: VmmKind
) -> None:
    choice = decide(kvm, QEMU, None)
    assert (choice.kind, choice.program) == (kind, QEMU)


def test_the_reason_says_what_kvm_did() -> None:
    assert "guests are emulated" in decide(EMULATED, QEMU, None).reason


def test_without_qemu_there_is_none_and_firecracker_is_not_promised() -> None:
    choice = decide(REAL, None, "/usr/bin/firecracker")
    assert choice.kind is None
    assert "qemu-system-x86_64 is not installed" in choice.reason
    assert "does not run Firecracker yet" in choice.reason
