"""The fake Firecracker does what a real one is expected to (``tests/firecracker``)."""

from __future__ import annotations

from pathlib import Path

import pytest

from fake_firecracker import write_program
from firecracker_contract import FirecrackerContract


@pytest.mark.usefixtures("nothing_leaks")
class TestFake(FirecrackerContract):
    @pytest.fixture
    def program(self, tmp_path: Path) -> Path:
        return write_program(tmp_path)
