"""Programs of the host that build images."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from firelet.sandbox.microvm.host_tools import ImageBuildError, find_libraries, run_tool


def test_what_a_program_says_is_returned() -> None:
    assert run_tool("sh", "-c", "echo $WORD; pwd", environment={"WORD": "a"}).startswith("a\n")


def test_a_failure_has_the_programs_own_reason() -> None:
    with pytest.raises(ImageBuildError, match=r"^sh failed: no space$"):
        run_tool("sh", "-c", "echo no space >&2; exit 3")


@pytest.mark.skipif(shutil.which("ldd") is None, reason="ldd is missing")
def test_libraries_are_found_and_what_has_none_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n")
    shell = Path(shutil.which("bash") or "/bin/sh").resolve()
    found = find_libraries([tmp_path / "script", shell])
    assert any(path.name.startswith("libc.so") for path in found)
    assert any(path.name.startswith("ld-") for path in found)
    assert all(path.exists() for path in found)
    assert find_libraries([]) == set()


def test_without_ldd_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firelet.sandbox.microvm.host_tools._MORE_PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageBuildError, match="Install the package libc-bin"):
        find_libraries([Path(sys.executable)])
