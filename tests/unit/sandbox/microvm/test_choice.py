"""Which program runs machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from firelet.linux.kvm import KvmVerdict
from firelet.sandbox.microvm import choice
from firelet.sandbox.microvm.choice import Found, VmmKind, decide

REAL = KvmVerdict(True, True, "a guest ran")
EMULATED = KvmVerdict(True, False, "guests are emulated")
QEMU = "/usr/bin/qemu-system-x86_64"
FIRECRACKER = "/opt/firecracker"
JAILER = "/opt/jailer"
ALL = Found(QEMU, FIRECRACKER, JAILER)


@pytest.mark.parametrize(
    ("kvm", "kind"), [(REAL, VmmKind.QEMU_KVM), (EMULATED, VmmKind.QEMU_EMULATED)]
)
def test_kvm_counts_if_it_runs_guests_and_not_if_it_is_there(
    kvm: KvmVerdict, kind: VmmKind
) -> None:
    chosen = decide(kvm, Found(QEMU), is_root=True)
    assert (chosen.kind, chosen.program, chosen.jailer) == (kind, QEMU, None)


def test_the_reason_says_what_kvm_did() -> None:
    assert "guests are emulated" in decide(EMULATED, Found(QEMU), is_root=True).reason


def test_firecracker_comes_first_where_kvm_runs_guests() -> None:
    chosen = decide(REAL, ALL, is_root=True)
    assert (chosen.kind, chosen.program) == (VmmKind.FIRECRACKER, FIRECRACKER)
    assert (chosen.jailer, chosen.reason) == (JAILER, "KVM runs guests")


def test_without_root_firecracker_runs_without_its_jailer() -> None:
    chosen = decide(REAL, ALL, is_root=False)
    assert (chosen.kind, chosen.jailer) == (VmmKind.FIRECRACKER, None)
    assert "without its jailer" in chosen.reason


def test_root_runs_no_firecracker_without_its_jailer() -> None:
    chosen = decide(REAL, Found(QEMU, FIRECRACKER), is_root=True)
    assert (chosen.kind, chosen.program) == (VmmKind.QEMU_KVM, QEMU)
    assert "its jailer is not beside it" in chosen.reason


def test_firecracker_needs_kvm() -> None:
    chosen = decide(EMULATED, ALL, is_root=True)
    assert (chosen.kind, chosen.program) == (VmmKind.QEMU_EMULATED, QEMU)
    assert "/opt/firecracker is not used: it needs KVM" in chosen.reason


def test_without_any_there_is_none_and_the_reason_names_qemu() -> None:
    chosen = decide(EMULATED, Found(firecracker=FIRECRACKER, jailer=JAILER), is_root=True)
    assert chosen.kind is None
    assert "qemu-system-x86_64 is not installed" in chosen.reason


def test_a_program_that_the_setting_names_and_that_is_none_is_told() -> None:
    chosen = decide(REAL, Found(QEMU, asked="/nowhere"), is_root=True)
    assert chosen.kind is VmmKind.QEMU_KVM
    assert "/nowhere, which FIRELET_FIRECRACKER names, cannot be executed" in chosen.reason


def _program(path: Path) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    path.chmod(0o755)
    return str(path)


def test_programs_are_looked_for_in_path_and_the_jailer_beside_firecracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path / "path" / "firecracker")
    in_path = _program(tmp_path / "path" / "jailer")
    asked = _program(tmp_path / "release" / "firecracker-v1.17")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv("FIRELET_FIRECRACKER", raising=False)
    assert choice.find(None) == Found(None, str(tmp_path / "path" / "firecracker"), in_path)
    assert choice.find(asked) == Found(None, asked, in_path, asked)
    beside = _program(tmp_path / "release" / "jailer")
    assert choice.find(asked).jailer == beside
    of_its_release = _program(tmp_path / "release" / "jailer-v1.17")
    assert choice.find(asked).jailer == of_its_release
    assert choice.find("/nowhere") == Found(None, None, None, "/nowhere")


def test_the_setting_counts_before_the_variable_and_that_before_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = {name: _program(tmp_path / name / "firecracker") for name in "abc"}
    for name in programs:
        _program(tmp_path / name / "jailer")
    monkeypatch.setenv("PATH", str(tmp_path / "a"))
    monkeypatch.delenv("FIRELET_FIRECRACKER", raising=False)
    assert choice.choose(REAL).program == programs["a"]
    monkeypatch.setenv("FIRELET_FIRECRACKER", programs["b"])
    assert choice.choose(REAL).program == programs["b"]
    assert choice.choose(REAL, Path(programs["c"])).program == programs["c"]


def test_who_needs_qemu_is_told_of_a_firecracker_that_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu = _program(tmp_path / "path" / "qemu-system-x86_64")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv("FIRELET_FIRECRACKER", raising=False)
    assert choice.choose_qemu(REAL).reason == "KVM runs guests"
    asked = _program(tmp_path / "release" / "firecracker")
    chosen = choice.choose_qemu(REAL, Path(asked))
    assert (chosen.kind, chosen.program) == (VmmKind.QEMU_KVM, qemu)
    assert f"{asked} is passed over" in chosen.reason
    assert "/nowhere, which" in choice.choose_qemu(REAL, Path("/nowhere")).reason
