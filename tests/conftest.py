"""Fixtures that several kinds of tests share, named by the stage that they deliver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import guest_images
import leaks
from boxes import DIGEST, PYTHON, Box, BoxMaker, MakeDriver, Packages
from firelet.sandbox import cgroups, seccomp_profile
from firelet.sandbox.embryos import Bounds
from firelet.sandbox.host import HostFacts, probe_host
from firelet.sandbox.microvm.disk_store import DiskStore
from firelet.sandbox.microvm.driver import MicrovmDriver
from firelet.sandbox.namespaces import NamespacesDriver, NamespacesSettings
from guest_images import MachineRoom
from machine_drivers import MakeMicrovmDriver, make_microvm_driver_of

# How fast this machine is just now says nothing about a property.
settings.register_profile(
    "patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")


@pytest.fixture
def nothing_leaks() -> Iterator[None]:
    """Fails a test that leaves a process, mount, control group, descriptor or network namespace."""
    leaks.adopt_orphans(True)
    leaks.leave_out_of_collections()
    before = leaks.take_footprint()
    yield
    left = leaks.wait_for_leaks_to_end(before)
    leaks.adopt_orphans(False)
    assert not left, "the test left behind: " + "; ".join(left)


@pytest.fixture(scope="session")
def host() -> HostFacts:
    """This host's facts; skips where no sandbox can be made."""
    facts = probe_host()
    missing = facts.missing()
    if missing:
        pytest.skip("; ".join(f"{item.name}: {item.detail}" for item in missing))
    return facts


@pytest.fixture
def needs_root(host: HostFacts) -> None:
    if host.is_rootless:
        pytest.skip("root is missing: sandboxes of other users share one host user")


@pytest.fixture
def needs_cgroups(host: HostFacts) -> None:
    if host.is_rootless or host.cgroup_version is None:
        pytest.skip("a writable cgroup hierarchy with memory, cpu and pids is missing")


@pytest.fixture
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """A code store with one small package in it."""
    packages = Packages(tmp_path_factory.mktemp("code") / "store")
    packages.add(DIGEST, {"app.py": "def handler(event, context):\n    return event\n"})
    return packages


@pytest.fixture
def make_driver(host: HostFacts, packages: Packages) -> MakeDriver:
    """Makes drivers as ``app`` does on this host, but without embryos made ahead."""

    def make(embryos: int = 0, file_systems: Mapping[str, Path] | None = None) -> NamespacesDriver:
        has_tree = host.cgroup_version is not None and not host.is_rootless
        return NamespacesDriver(
            NamespacesSettings(
                code_store=packages.root,
                is_rootless=host.is_rootless,
                profile=seccomp_profile.compile_profile(),
                snapshot_profile=seccomp_profile.compile_snapshot_profile(
                    may_join=host.is_rootless
                ),
                embryos=Bounds(embryos, embryos),
                file_systems=file_systems or {},
            ),
            host.interpreters,
            cgroups.open_tree(host.cgroup_version or 1) if has_tree else None,
        )

    return make


@pytest.fixture
async def driver(make_driver: MakeDriver) -> AsyncIterator[NamespacesDriver]:
    """An open driver without sandboxes."""
    driver = make_driver()
    await driver.open()
    yield driver
    await driver.close()


@pytest.fixture
async def make_box(driver: NamespacesDriver) -> AsyncIterator[BoxMaker]:
    """Makes sandboxes of any runtime."""
    maker = BoxMaker(driver)
    yield maker
    await maker.close()


@pytest.fixture
async def box(make_box: BoxMaker) -> Box:
    """A sandbox of the platform's own Python, with no runtime started yet."""
    return await make_box(PYTHON)


@pytest.fixture(scope="session")
def machine_room() -> MachineRoom:
    """A guest image and the place of the machines at rest; skips where no machine can be run."""
    missing = guest_images.missing_for_functions()
    if missing is not None:
        pytest.skip(missing)
    return guest_images.open_room()


@pytest.fixture(scope="session")
def runtime_disks(machine_room: MachineRoom) -> DiskStore:
    """Has the disks of runtimes: one store for all tests, which checks each of them once."""
    return DiskStore(machine_room.home / "disks")


@pytest.fixture
def make_microvm_driver(
    host: HostFacts,
    packages: Packages,
    machine_room: MachineRoom,
    runtime_disks: DiskStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> MakeMicrovmDriver:
    """Makes drivers as ``app`` does, with disks of packages of their own: what the digests of
    tests stand for differs from test to test."""
    own = DiskStore(tmp_path_factory.mktemp("disks"))
    return make_microvm_driver_of(host, packages, machine_room, runtime_disks, own)


@pytest.fixture
async def microvm_driver(make_microvm_driver: MakeMicrovmDriver) -> AsyncIterator[MicrovmDriver]:
    """An open driver without machines."""
    driver = make_microvm_driver()
    await driver.open()
    yield driver
    await driver.close()


@pytest.fixture
async def make_microvm_box(microvm_driver: MicrovmDriver) -> AsyncIterator[BoxMaker]:
    """Makes machines of any runtime."""
    maker = BoxMaker(microvm_driver)
    yield maker
    await maker.close()


@pytest.fixture
def data_directory(packages: Packages) -> Path:
    """Where the platform keeps what no function may see."""
    secret = packages.root.parent / "platform-secret"
    secret.write_text("secret of the platform")
    return packages.root.parent
