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
from firelet.sandbox.host import HostFacts
from running_platform import Deployer, Platform, wait_until

MakePlatform = Callable[..., Platform]


@pytest.fixture(scope="session")
def accepted(host: HostFacts) -> str | None:
    """What ``firelet up`` has to be told to put up with on this host."""
    return ",".join(item.name for item in host.weaker()) or None


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory, accepted: str | None) -> Iterator[Platform]:
    """The platform that tests share; at the end it stops cleanly and leaves nothing."""
    made = Platform(tmp_path_factory.mktemp("platform") / "data", accepted, _variables())
    made.data_dir.mkdir()
    made.start()
    yield made
    assert made.stop() == 0
    assert made.leftovers() == []


@pytest.fixture
def make_platform(tmp_path: Path, accepted: str | None) -> Iterator[MakePlatform]:
    """Makes platforms for one test, which may stop and kill them as it likes."""
    made: list[Platform] = []

    def make(**variables: str) -> Platform:
        data_dir = tmp_path / f"platform{len(made)}"
        data_dir.mkdir()
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
    deployer = Deployer(platform)
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
    """The same tests with worker processes: FIRELET_TEST_WORKERS=2 pytest tests/integration."""
    workers = os.environ.get("FIRELET_TEST_WORKERS")
    return {} if workers is None else {"FIRELET_WORKERS": workers}
