from __future__ import annotations

import sys
from pathlib import Path

import pytest

from firelet.cli.demo_scenes import find_aws


def test_the_aws_command_beside_the_interpreter_is_preferred(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for folder in ("venv", "path"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "aws").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert find_aws() == str(tmp_path / "venv" / "aws")
    (tmp_path / "venv" / "aws").unlink()
    assert find_aws() == str(tmp_path / "path" / "aws")


def test_a_missing_aws_command_is_not_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_aws() is None
