"""The benchmark of machines where there can be none, and its table."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from bench import microvm
from bench.machine_rows import Measured, make_kvm_rows, make_rows
from bench.report import print_rows
from rich.console import Console

from firelet.linux.kvm import KvmVerdict

NO_KVM = KvmVerdict(is_present=True, is_usable=False, detail="it hung")


def test_without_an_image_it_says_so_and_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(microvm, "probe_kvm", lambda: NO_KVM)
    monkeypatch.setattr(sys, "argv", ["bench.microvm", "--images", str(tmp_path)])
    microvm.main()
    printed = capsys.readouterr().out
    assert printed.startswith("microVMs: nothing is measured. ")
    assert "There is no guest image" in printed


def test_the_table_is_headed_by_what_ran_the_machines() -> None:
    console = Console(file=io.StringIO(), width=160)
    rows = [make_rows(Measured()), make_kvm_rows(Measured(), NO_KVM)]
    print_rows(console, "QEMU, emulated", rows)
    file = console.file
    assert isinstance(file, io.StringIO)
    lines = file.getvalue().splitlines()
    assert "QEMU, emulated" in lines[1]
    assert any("boot, pid 1 says hello" in line and "≤ 2,500 ms" in line for line in lines)
    assert sum("no working KVM: it hung" in line for line in lines) == 4
