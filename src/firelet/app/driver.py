"""The sandbox drivers of one process that makes sandboxes: the platform itself, or a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from firelet.app import microvm
from firelet.model.isolation import Isolation
from firelet.sandbox import cgroups
from firelet.sandbox.driver import SandboxDriver
from firelet.sandbox.drivers import Drivers
from firelet.sandbox.embryos import Bounds
from firelet.sandbox.interpreters import Interpreter
from firelet.sandbox.janitor import Janitor
from firelet.sandbox.microvm.disk_store import DiskStore
from firelet.sandbox.microvm.offer import MicrovmProbe
from firelet.sandbox.namespaces import NamespacesDriver, NamespacesSettings
from firelet.sandbox.seccomp_profile import compile_profile, compile_snapshot_profile


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverParts:
    """What the probe of the host and the configuration say. ``cgroup_version`` is None where the
    operator has accepted to run without control groups; ``disks`` are those of machines;
    ``isolation`` is the platform's own."""

    code_store: Path
    disks: DiskStore
    is_rootless: bool
    cgroup_version: int | None
    interpreters: Mapping[str, Interpreter]
    embryos: Bounds
    microvms: MicrovmProbe
    isolation: Isolation = Isolation.NAMESPACES
    file_systems: Mapping[str, Path] = field(default_factory=dict)


async def open_drivers(parts: DriverParts) -> Drivers:
    """All of them, the platform's own opened. IsolationMissing when that cannot be."""
    openers = {
        Isolation.NAMESPACES: partial(open_namespaces_driver, parts),
        Isolation.MICROVM: partial(open_microvm_driver, parts),
    }
    drivers = Drivers(openers, parts.isolation)
    await drivers.open()
    return drivers


async def open_namespaces_driver(parts: DriverParts) -> SandboxDriver:
    """A driver with control groups of this process's own, and a janitor for them."""
    tree = None
    if parts.cgroup_version is not None:
        tree = await asyncio.to_thread(cgroups.open_tree, parts.cgroup_version)
    janitor = None if tree is None else Janitor(cgroups.owner_name())
    driver = NamespacesDriver(
        NamespacesSettings(
            code_store=parts.code_store,
            is_rootless=parts.is_rootless,
            profile=await asyncio.to_thread(compile_profile),
            snapshot_profile=await asyncio.to_thread(
                compile_snapshot_profile, may_join=parts.is_rootless
            ),
            embryos=parts.embryos,
            file_systems=parts.file_systems,
        ),
        parts.interpreters,
        tree,
        janitor,
    )
    await driver.open()
    return driver


async def open_microvm_driver(parts: DriverParts) -> SandboxDriver:
    """A driver whose sandboxes are machines. IsolationMissing when the host has not got what they
    need."""
    config = parts.microvms.config
    return await microvm.open_driver(
        microvm.MicrovmParts(
            code_store=parts.code_store,
            disks=parts.disks,
            images=config.images,
            egress=config.egress,
            resolver=config.resolver,
            cgroup_version=parts.cgroup_version,
            interpreters=parts.interpreters,
            file_systems=parts.file_systems,
        ),
        await asyncio.to_thread(parts.microvms.find),
    )
