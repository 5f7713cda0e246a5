"""A real Firecracker before a machine is started: what the fake one is held to as well."""

from __future__ import annotations

from pathlib import Path

import pytest

import real_firecracker
from firecracker_contract import FirecrackerContract

pytestmark = pytest.mark.skipif(
    real_firecracker.missing() is not None, reason=str(real_firecracker.missing())
)


@pytest.mark.usefixtures("nothing_leaks")
class TestReal(FirecrackerContract):
    @pytest.fixture
    def program(self) -> Path:
        return real_firecracker.program()
