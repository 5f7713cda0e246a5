"""The lock of a stack."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from firelet.stacks.errors import StackError
from firelet.stacks.lock import hold_lock


def test_the_second_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    refused = f"the stack s is being deployed or deleted by process {os.getpid()}"
    with (
        hold_lock(tmp_path, "s"),
        pytest.raises(StackError, match=refused),
        hold_lock(tmp_path, "s"),
    ):
        pass
    with hold_lock(tmp_path, "s"), hold_lock(tmp_path, "other"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_left_by_a_killed_process_is_free(tmp_path: Path) -> None:
    (tmp_path / "s.lock").write_text("process 1")
    with hold_lock(tmp_path, "s"):
        assert (tmp_path / "s.lock").read_text() == f"process {os.getpid()}"
