"""Where environments are made: in this process, or in several worker processes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from logging import getLogger
from typing import Protocol

from firelet.app.config import PlatformConfig
from firelet.app.driver import DriverParts, open_drivers
from firelet.app.worker import WorkerSettings
from firelet.app.workers import LogIntake, ProcessLauncher, Workers
from firelet.control.evict import Candidate, Standing
from firelet.control.fleet import Fleet, FleetSettings
from firelet.control.manager import Environment
from firelet.iam.credentials import SessionCredentials as Sessions
from firelet.model.function import FunctionKey, FunctionVersion, InitializationType
from firelet.model.isolation import Isolation
from firelet.observe.logs import LogStore
from firelet.runtime.credentials import SessionCredentials
from firelet.sandbox.embryos import Bounds
from firelet.sandbox.host import HostFacts
from firelet.sandbox.microvm.disk_store import DiskStore
from firelet.sandbox.microvm.offer import MicrovmProbe
from firelet.worker.codecache import CodeCache
from firelet.worker.custody import Custody
from firelet.worker.memory import HostMemory
from firelet.worker.node import Node, NodeParts
from firelet.worker.snapshots import Resting

_ROLE_SESSION_S = 12 * 3_600.0


class DataPlane(Protocol):
    """What the control plane needs of it."""

    async def activate(self, version: FunctionVersion) -> None: ...
    def retire(self, function: FunctionKey, version: str | None) -> None: ...
    async def discard_code(self, digest: str) -> None: ...
    def resting_snapshots(self) -> list[Resting]: ...
    def end_snapshot(self, identity: str) -> None: ...
    async def start(
        self,
        version: FunctionVersion,
        initialization: InitializationType = InitializationType.ON_DEMAND,
    ) -> Environment: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPlaneParts:
    """What it works with."""

    config: PlatformConfig
    facts: HostFacts
    microvms: MicrovmProbe
    code: CodeCache
    disks: DiskStore
    logs: LogStore
    sessions: Sessions

    def credentials(self, version: FunctionVersion) -> SessionCredentials:
        issued = self.sessions.issue(version.role, version.name, _ROLE_SESSION_S)
        return SessionCredentials(
            issued.access_key,
            issued.secret_key,
            issued.session_token,
            issued.expiration.timestamp(),
        )


def embryo_bounds(config: PlatformConfig) -> Bounds:
    """How many sandboxes are made ahead for a runtime, in each process that makes them."""
    return Bounds(config.embryos, max(config.embryos, config.embryos_max))


class SnapshotReserves:
    """The snapshots of the data plane as the worker manager's ``Reserves``."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def candidates(self) -> list[Candidate]:
        return [
            Candidate(
                id=each.id,
                memory_mib=each.memory_mib,
                start_s=each.start_s,
                idle_since=each.since,
                standing=Standing.SNAPSHOT,
            )
            for each in self._plane.resting_snapshots()
        ]

    def end(self, identity: str) -> None:
        self._plane.end_snapshot(identity)


async def open_data_plane(stack: AsyncExitStack, parts: DataPlaneParts) -> DataPlane:
    """One of the two; ``stack`` ends it."""
    if parts.config.workers > 1:
        return await _open_workers(stack, parts)
    return await _open_node(stack, parts)


async def _open_node(stack: AsyncExitStack, parts: DataPlaneParts) -> Node:
    logs = parts.logs
    driver = await open_drivers(
        DriverParts(
            code_store=parts.config.data_dir / "code",
            disks=parts.disks,
            is_rootless=parts.facts.is_rootless,
            cgroup_version=parts.facts.cgroup_version,
            interpreters=parts.facts.interpreters,
            embryos=embryo_bounds(parts.config),
            microvms=parts.microvms,
            isolation=parts.config.isolation,
            file_systems=parts.config.file_systems,
        )
    )
    stack.push_async_callback(driver.close)
    node = Node(
        NodeParts(
            driver=driver,
            code=parts.code,
            runtimes=parts.facts.interpreters.keys(),
            open_log=lambda version, stream: logs.open_stream(
                version.account, version.region, version.logging.log_group, stream
            ),
            credentials=parts.credentials,
            revoke=parts.sessions.revoke,
        )
    )
    stack.push_async_callback(node.close)
    return node


async def _open_workers(stack: AsyncExitStack, parts: DataPlaneParts) -> Workers:
    config, facts = parts.config, parts.facts
    custody = Custody(parts.code, parts.credentials, parts.sessions.revoke)
    launcher = ProcessLauncher(
        WorkerSettings(
            data_dir=config.data_dir.absolute(),
            is_rootless=facts.is_rootless,
            cgroup_version=facts.cgroup_version,
            interpreters=facts.interpreters,
            embryos=embryo_bounds(config),
            log_level=getLogger().getEffectiveLevel(),
            microvms=config.microvms,
            kvm=parts.microvms.kvm,
            isolation=config.isolation,
            file_systems=dict(config.file_systems),
        )
    )
    fleet = Fleet(
        launcher,
        FleetSettings(
            workers=config.workers,
            memory_mib=int(HostMemory().read().total_mib),
            cores=os.cpu_count() or 1,
            overcommit=config.memory_overcommit,
        ),
        custody.admit,
        LogIntake(parts.logs.open_stream).take,
        time.monotonic,
    )

    async def check_isolation(isolation: Isolation | None) -> None:
        if (isolation or config.isolation) is Isolation.MICROVM:
            (await asyncio.to_thread(parts.microvms.find)).check()

    workers = Workers(fleet, custody, facts.interpreters.keys(), check_isolation)
    stack.push_async_callback(workers.close)
    await fleet.open()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, workers.recycle)
    stack.callback(loop.remove_signal_handler, signal.SIGHUP)
    return workers
