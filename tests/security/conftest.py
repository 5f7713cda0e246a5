"""Every test here works on the kernel, so each must leave it as it found it.

The same attacks are made on each kind of isolation. A test or a module with the mark
``only_namespaces`` says why there is nothing of the kind in a machine.
"""

from __future__ import annotations

import pytest

from boxes import MakeDriver
from firelet.model.isolation import Isolation


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only_namespaces(reason): not about machines")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "isolation" in metafunc.fixturenames:
        kinds = list(Isolation)
        if metafunc.definition.get_closest_marker("only_namespaces") is not None:
            kinds = [Isolation.NAMESPACES]
        metafunc.parametrize("isolation", kinds, ids=str)


@pytest.fixture(autouse=True)
def _leaves_nothing(nothing_leaks: None) -> None:
    """Asks for the leak check."""


@pytest.fixture
def make_driver(
    isolation: Isolation, make_driver: MakeDriver, request: pytest.FixtureRequest
) -> MakeDriver:
    """Makes drivers of the isolation that is tested; skips where no machine can be run."""
    if isolation is Isolation.NAMESPACES:
        return make_driver
    made: MakeDriver = request.getfixturevalue("make_microvm_driver")
    return made
