"""The probe against the machine's own device; what cannot hold on this host is skipped by name."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from firelet.linux import kvm

SPIN_FOR_EVER = b"\xeb\xfe"  # jmp to itself
HALT = b"\xf4"

needs_device = pytest.mark.skipif(
    platform.machine() != kvm.MACHINE or not os.access(kvm.DEVICE, os.R_OK | os.W_OK),
    reason=f"needs an {kvm.MACHINE} host with a {kvm.DEVICE} that may be opened",
)


def test_verdict_says_present_exactly_when_the_device_exists() -> None:
    verdict = kvm.probe_kvm()
    assert verdict.is_present == Path(kvm.DEVICE).exists()
    assert verdict.is_present or not verdict.is_usable
    assert verdict.detail


def test_missing_device_is_named() -> None:
    verdict = kvm._probe("/dev/no-such-kvm", kvm.CHECK_PROGRAM, 50)
    assert verdict == kvm.KvmVerdict(False, False, "/dev/no-such-kvm does not exist")


@pytest.mark.skipif(platform.machine() != kvm.MACHINE, reason=f"needs an {kvm.MACHINE} host")
@pytest.mark.parametrize(
    ("device", "detail"),
    [
        ("/dev/null", "/dev/null is not a KVM device"),
        ("/", "/ cannot be opened: Is a directory"),
    ],
)
def test_device_that_is_no_kvm_is_a_verdict_and_no_error(device: str, detail: str) -> None:
    assert kvm._probe(device, kvm.CHECK_PROGRAM, 50) == kvm.KvmVerdict(True, False, detail)


def test_other_architectures_are_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    verdict = kvm._probe("/dev/null", kvm.CHECK_PROGRAM, 50)
    assert verdict == kvm.KvmVerdict(True, False, "not probed on this architecture")


def test_probe_whose_child_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(platform, "machine", lambda: kvm.MACHINE)
    monkeypatch.setattr(subprocess, "run", hang)
    verdict = kvm._probe("/dev/null", kvm.CHECK_PROGRAM, 50)
    assert not verdict.is_usable
    assert "hung" in verdict.detail


@needs_device
def test_guest_that_spins_for_ever_is_cut_off_at_the_limit() -> None:
    verdict = kvm._probe(kvm.DEVICE, SPIN_FOR_EVER, 50)
    assert not verdict.is_usable
    assert "still running when it was cut off" in verdict.detail


@needs_device
def test_guest_that_ends_without_its_port_is_not_usable() -> None:
    verdict = kvm._probe(kvm.DEVICE, HALT, 1_000)
    assert not verdict.is_usable
    assert "exit reason" in verdict.detail or "KVM_EXIT" in verdict.detail


@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump")
def test_check_program_holds_the_instructions_it_claims(tmp_path: Path) -> None:
    binary = tmp_path / "program"
    binary.write_bytes(kvm.CHECK_PROGRAM)
    listing = subprocess.run(
        ["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", str(binary)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for instruction in ("dec", "jne", "popcnt %rdi,%rax", "lock cmpxchg16b (%rdi)", "out", "hlt"):
        assert instruction in listing
