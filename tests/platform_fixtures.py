"""Fixtures of tests against a running platform.

A pytest plugin: a test module that wants it says ``pytest_plugins = ("platform_fixtures",)``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from extension_layers import ExtensionLayers
from firelet.model.isolation import Isolation
from firelet.sandbox.host import HostFacts
from guest_images import MachineRoom
from running_platform import PATIENCE_S, Deployer, Platform, wait_until

ISOLATION_VARIABLE = "FIRELET_TEST_ISOLATION"
IN_MACHINES = os.environ.get(ISOLATION_VARIABLE) == Isolation.MICROVM
_PATIENCE_S = 90.0 if IN_MACHINES else PATIENCE_S
MakePlatform = Callable[..., Platform]


@pytest.fixture(scope="session")
def accepted(host: HostFacts) -> str | None:
    """What ``firelet up`` has to be told to put up with on this host."""
    return ",".join(item.name for item in host.weaker()) or None


@pytest.fixture(scope="session")
def furnished(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """Makes a platform's data directory, with what machines are made of if functions are to run in
    machines."""
    room: MachineRoom | None = None
    if IN_MACHINES:
        room = request.getfixturevalue("machine_room")

    def make(data_dir: Path) -> None:
        data_dir.mkdir()
        if room is not None:
            room.furnish(data_dir)

    return make


@pytest.fixture(scope="session")
def platform(
    tmp_path_factory: pytest.TempPathFactory,
    accepted: str | None,
    furnished: Callable[[Path], None],
) -> Iterator[Platform]:
    """The platform that tests share; at the end it stops cleanly and leaves nothing."""
    made = Platform(tmp_path_factory.mktemp("platform") / "data", accepted, _variables())
    furnished(made.data_dir)
    made.start()
    yield made
    assert made.stop() == 0
    assert made.leftovers() == []


@pytest.fixture
def make_platform(
    tmp_path: Path, accepted: str | None, furnished: Callable[[Path], None]
) -> Iterator[MakePlatform]:
    """Makes platforms for one test, which may stop and kill them as it likes."""
    made: list[Platform] = []

    def make(**variables: str) -> Platform:
        data_dir = tmp_path / f"platform{len(made)}"
        furnished(data_dir)
        made.append(Platform(data_dir, accepted, {**_variables(), **variables}))
        made[-1].start()
        return made[-1]

    yield make
    for item in made:
        if item.is_running:
            item.stop()
        wait_until(lambda item=item: not item.leftovers(), "nothing is left of a platform")


@pytest.fixture
def deploy(platform: Platform) -> Iterator[Deployer]:
    """Deploys functions to the shared platform."""
    deployer = Deployer(platform, _PATIENCE_S)
    yield deployer
    deployer.close()


@pytest.fixture
def publish_extensions(platform: Platform) -> Iterator[ExtensionLayers]:
    """Publishes layers with extensions to the shared platform."""
    layers = ExtensionLayers(platform)
    yield layers
    layers.close()


@pytest.fixture
def lambda_client(platform: Platform) -> Any:
    return platform.client("lambda")


def _variables() -> dict[str, str]:
    """The same tests with worker processes: FIRELET_TEST_WORKERS=2 pytest tests/integration; or in
    machines: FIRELET_TEST_ISOLATION=microvm, where what tests say of times does not hold."""
    wanted = {"FIRELET_WORKERS": "FIRELET_TEST_WORKERS", "FIRELET_ISOLATION": ISOLATION_VARIABLE}
    return {name: os.environ[said] for name, said in wanted.items() if said in os.environ}
