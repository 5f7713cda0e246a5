"""Every test here works on the kernel, so each must leave it as it found it."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _leaves_nothing(nothing_leaks: None) -> None:
    """Asks for the leak check."""
