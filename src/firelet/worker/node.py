"""One worker node: turns a function version into an execution environment on this host.

It makes the deployment package ready on disk, asks the sandbox driver for a sandbox, and opens
and initialises the slot. Implements ``control.manager.Fleet`` and ``control.registry.Activator``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from firelet.model import limits
from firelet.model.errors import PlatformError
from firelet.model.function import FunctionKey, FunctionVersion, InitializationType
from firelet.model.invocation import Invocation, Outcome
from firelet.runtime.credentials import CredentialsEndpoint, SessionCredentials
from firelet.runtime.environment import (
    extension_environment,
    restored_environment,
    runtime_environment,
)
from firelet.sandbox.driver import RuntimeStart, Sandbox, SandboxDrivers, SandboxSpec
from firelet.worker.custody import CodeStore, Custody
from firelet.worker.debugging import (
    DEBUG_TIMEOUT_S,
    Debugger,
    Relay,
    debugger_for,
    under_debugger,
)
from firelet.worker.extension_files import find_extensions
from firelet.worker.extension_host import ExternalExtensions
from firelet.worker.role_session import RoleSession
from firelet.worker.runtime_starts import (
    check_runtime,
    image_start,
    note_architecture,
    runtime_start,
)
from firelet.worker.slots import Slot, SlotParts
from firelet.worker.snapshots import Resting, Snapshots

log = logging.getLogger(__name__)

_RESTORE_ATTEMPTS = 2


class EventWriter(Protocol):
    """One log stream."""

    def write(self, timestamp_ms: int, message: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeParts:
    """What the node works with. ``open_log`` takes a version and the stream's name;
    ``credentials`` are made for each environment and revoked, by access key, at its end."""

    driver: SandboxDrivers
    code: CodeStore
    runtimes: Collection[str]
    open_log: Callable[[FunctionVersion, str], EventWriter]
    credentials: Callable[[FunctionVersion], SessionCredentials]
    revoke: Callable[[str], None]


class Node:
    """See the module's text."""

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts
        self._custody = Custody(parts.code, parts.credentials, parts.revoke)
        self._snapshots = Snapshots(self._start_snapshot)

    async def activate(self, version: FunctionVersion) -> None:
        """Makes a version ready to start: its interpreter and what it is isolated by are here, its
        code is on disk, and with SnapStart its snapshot has been through INIT (else
        FunctionError)."""
        await self._parts.driver.prepare(self._runtime(version), version.isolation)
        note_architecture(version)
        await self._custody.prepare(version)
        if version.has_snap_start:
            await self._snapshots.of(version)

    def retire(self, function: FunctionKey, version: str | None) -> None:
        """A version, or all of a function, is gone: so is its snapshot."""
        self._snapshots.retire(function, version)

    def resting_snapshots(self) -> list[Resting]:
        """Snapshots that could be ended without harm to anything that runs."""
        return self._snapshots.resting()

    def end_snapshot(self, identity: str) -> None:
        """Ends one of those; it is made again when its version is needed."""
        self._snapshots.end(identity)

    async def discard_code(self, digest: str) -> None:
        """No function wants this package any more; it goes when no environment uses it."""
        await self._custody.discard(digest)

    async def close(self) -> None:
        """Ends the snapshots and waits for removals that are under way."""
        await self._snapshots.close()
        await self._custody.close()

    async def start(
        self,
        version: FunctionVersion,
        initialization: InitializationType = InitializationType.ON_DEMAND,
    ) -> Slot:
        """A slot that has been through INIT. PlatformError when the host cannot make one;
        FunctionError when it is to be a provisioned one and its INIT failed."""
        if version.has_snap_start:
            return await self._with_lease(
                version,
                lambda credentials: self._restore(version, credentials),
                self._snapshots.lease(version),
            )
        return await self._with_lease(
            version, lambda credentials: self._start(version, credentials, initialization)
        )

    async def debug(self, invocation: Invocation, port: int) -> Outcome:
        """One invocation under a debugger, which connects to a port of the host's loopback: in an
        environment of its own, without limits of time, that ends with it. CallerError for runtimes
        without one, PlatformError when the port is in use."""
        version = replace(invocation.function, timeout_s=DEBUG_TIMEOUT_S)
        debugger = debugger_for(version)

        async def make(credentials: RoleSession) -> Slot:
            sandbox = await self._parts.driver.create(await self._spec(version))
            relay = Relay(sandbox, debugger.port)
            stack.push_async_callback(relay.close)
            try:
                await relay.listen(port)
            except BaseException:
                await sandbox.stop()
                raise
            return await self._initialise(
                version, sandbox, credentials, InitializationType.ON_DEMAND, debugger
            )

        async with AsyncExitStack() as stack:
            slot = await self._with_lease(version, make)
            stack.push_async_callback(slot.close)
            return await slot.invoke(replace(invocation, function=version))

    async def _with_lease(
        self,
        version: FunctionVersion,
        make: Callable[[RoleSession], Awaitable[Slot]],
        end_also: Callable[[], None] | None = None,
    ) -> Slot:
        """A slot whose code stays on disk, and whose credentials are good, until it is closed."""
        stay = self._custody.admit(version)

        def end() -> None:
            stay.end()
            if end_also is not None:
                end_also()

        try:
            stay.credentials.current()  # before a sandbox is made in vain
            slot = await make(stay.credentials)
        except BaseException:
            end()
            raise
        slot.on_closed = end
        return slot

    async def _start(
        self,
        version: FunctionVersion,
        credentials: RoleSession,
        initialization: InitializationType,
    ) -> Slot:
        sandbox = await self._parts.driver.create(await self._spec(version))
        return await self._initialise(version, sandbox, credentials, initialization)

    async def _start_snapshot(self, version: FunctionVersion) -> Slot:
        """A slot at the restore point of its runtime."""

        async def make(credentials: RoleSession) -> Slot:
            sandbox = await self._parts.driver.create_snapshot(await self._spec(version))
            slot = await self._initialise(
                version, sandbox, credentials, InitializationType.SNAP_START
            )
            try:
                if slot.is_snapshot:
                    await self._parts.driver.seal(sandbox)
            except BaseException:
                await slot.close()
                raise
            return slot

        return await self._with_lease(version, make)

    async def _restore(self, version: FunctionVersion, credentials: RoleSession) -> Slot:
        """A slot from the version's snapshot; one that dies meanwhile is made anew, once."""
        for attempt in range(_RESTORE_ATTEMPTS):
            snapshot = await self._snapshots.of(version)
            try:
                return await self._clone(snapshot, version, credentials)
            except PlatformError:
                if attempt + 1 == _RESTORE_ATTEMPTS:
                    raise
                log.warning("restore failed function=%s", version.name, exc_info=True)
                self._snapshots.give_up(version, snapshot)
        raise AssertionError("unreachable")

    async def _clone(
        self, snapshot: Slot, version: FunctionVersion, credentials: RoleSession
    ) -> Slot:
        sandbox = await self._parts.driver.clone(snapshot.sandbox, await self._spec(version))
        endpoint = CredentialsEndpoint(credentials.current, snapshot.credentials_token)
        slot = self._slot(
            version,
            sandbox,
            RuntimeStart(
                environment=restored_environment(endpoint.token),
                arguments=None,
                name=self._runtime(version),
            ),
            InitializationType.SNAP_START,
            endpoint,
            external=await self._external_of_clone(version, sandbox, credentials, endpoint),
        )
        return await _ready(slot, slot.restore)

    async def _external_of_clone(
        self,
        version: FunctionVersion,
        sandbox: Sandbox,
        credentials: RoleSession,
        endpoint: CredentialsEndpoint,
    ) -> ExternalExtensions:
        """They are no part of the snapshot: each environment starts its own."""
        names = find_extensions(await self._extracted(version), is_image=version.image is not None)
        if not names:
            return ExternalExtensions()
        variables = runtime_environment(
            version,
            format_stream_name(version, sandbox.id),
            credentials.current(),
            InitializationType.SNAP_START,
            endpoint.token,
        )
        return ExternalExtensions(names=names, environment=extension_environment(variables))

    async def _spec(self, version: FunctionVersion) -> SandboxSpec:
        names = [path.name for path in await self._extracted(version)]
        is_image = version.image is not None
        return SandboxSpec(
            runtime=self._runtime(version),
            code="" if is_image else names[0],
            memory_mib=version.memory_mib,
            tmp_mib=version.ephemeral_mib,
            layers=() if is_image else tuple(names[1:]),
            file_systems=version.file_systems,
            image=tuple(names) if is_image else (),
            isolation=version.isolation,
        )

    async def _initialise(
        self,
        version: FunctionVersion,
        sandbox: Sandbox,
        credentials: RoleSession,
        initialization: InitializationType,
        debugger: Debugger | None = None,
    ) -> Slot:
        endpoint = None
        if initialization is InitializationType.SNAP_START:
            endpoint = CredentialsEndpoint(credentials.current)
        environment = runtime_environment(
            version,
            format_stream_name(version, sandbox.id),
            credentials.current(),
            initialization,
            "" if endpoint is None else endpoint.token,
        )
        extracted = await self._extracted(version)
        if version.image is None:
            runtime = self._runtime(version)
            start, entry_error = runtime_start(version, runtime, environment, extracted)
        else:
            start, entry_error = image_start(version, environment)
        timeout_s = init_timeout_s(version, initialization)
        if debugger is not None:
            start, timeout_s = under_debugger(start, debugger), DEBUG_TIMEOUT_S
        external = ExternalExtensions()
        if initialization is not InitializationType.SNAP_START:
            external = ExternalExtensions(
                names=find_extensions(extracted, is_image=version.image is not None),
                environment=extension_environment(start.environment),
            )
        slot = self._slot(
            version, sandbox, start, initialization, endpoint, entry_error, external, timeout_s
        )
        return await _ready(slot, slot.initialise)

    def _slot(
        self,
        version: FunctionVersion,
        sandbox: Sandbox,
        start: RuntimeStart,
        initialization: InitializationType,
        endpoint: CredentialsEndpoint | None,
        entry_error: str | None = None,
        external: ExternalExtensions | None = None,
        init_timeout: float = limits.INIT_TIMEOUT_S,
    ) -> Slot:
        return Slot(
            SlotParts(
                version=version,
                sandbox=sandbox,
                start=start,
                write=self._parts.open_log(version, format_stream_name(version, sandbox.id)).write,
                entry_error=entry_error,
                init_timeout_s=init_timeout,
                initialization=initialization,
                restores=endpoint,
                external=external or ExternalExtensions(),
            )
        )

    async def _extracted(self, version: FunctionVersion) -> list[Path]:
        """The directories of its code and of its layers."""
        return [await self._parts.code.ensure(digest) for digest in version.digests]

    def _runtime(self, version: FunctionVersion) -> str:
        return check_runtime(version, self._parts.runtimes)


def init_timeout_s(version: FunctionVersion, initialization: InitializationType) -> float:
    """How long INIT may take ahead of invocations. Source: Lambda guide, runtime environment."""
    if initialization is InitializationType.ON_DEMAND:
        return limits.INIT_TIMEOUT_S
    return max(limits.INIT_PROVISIONED_MIN_S, float(version.timeout_s))


def format_stream_name(version: FunctionVersion, instance_id: str) -> str:
    """``YYYY/MM/DD/[version]<32 hex>``; a shared group adds the function's name."""
    day = time.strftime("%Y/%m/%d", time.gmtime())
    is_own = version.logging.log_group == f"/aws/lambda/{version.name}"
    return f"{day}/{'' if is_own else version.name}[{version.version}]{instance_id}"


async def _ready(slot: Slot, begin: Callable[[], Awaitable[None]]) -> Slot:
    """The slot once it is open and has begun; closed if that fails."""
    try:
        await slot.open()
        await begin()
    except BaseException:
        await slot.close()
        raise
    return slot
