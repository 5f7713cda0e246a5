"""One worker node: turns a function version into an execution environment on this host.

It makes the deployment package ready on disk, asks the sandbox driver for a sandbox, and opens
and initialises the slot. Implements ``control.manager.Fleet`` and ``control.registry.Activator``.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from firelet.model import limits
from firelet.model.errors import InvalidRuntime
from firelet.model.function import FunctionVersion, InitializationType
from firelet.runtime.environment import (
    SessionCredentials,
    plain_command,
    runtime_command,
    runtime_environment,
    runtime_family,
)
from firelet.sandbox.driver import RuntimeStart, SandboxDriver, SandboxSpec
from firelet.worker.slots import Slot, SlotParts

_BOOTSTRAP = "/var/task/bootstrap"
_NO_BOOTSTRAP = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"


class CodeStore(Protocol):
    """Where packages lie extracted, one directory per digest."""

    async def ensure(self, digest: str) -> Path:
        """The directory of a package, extracted now if it was not."""

    async def discard(self, digest: str) -> None:
        """Removes the directory."""


class EventWriter(Protocol):
    """One log stream."""

    def write(self, timestamp_ms: int, message: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeParts:
    """What the node works with. ``open_log`` takes a version and the stream's name;
    ``credentials`` are made for each environment and revoked, by access key, at its end."""

    driver: SandboxDriver
    code: CodeStore
    runtimes: Collection[str]
    open_log: Callable[[FunctionVersion, str], EventWriter]
    credentials: Callable[[FunctionVersion], SessionCredentials]
    revoke: Callable[[str], None]


class Node:
    """See the module's text."""

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts
        self._slots_of: Counter[str] = Counter()
        self._unwanted: set[str] = set()
        self._removals: set[asyncio.Task[None]] = set()

    async def activate(self, version: FunctionVersion) -> None:
        """Makes a version ready to start: its interpreter is here, its code is on disk."""
        self._parts.driver.expect(self._runtime(version))
        self._unwanted.discard(version.code.digest)
        await self._parts.code.ensure(version.code.digest)

    async def discard_code(self, digest: str) -> None:
        """No function wants this package any more; it goes when no environment uses it."""
        self._unwanted.add(digest)
        await self._remove_unwanted(digest)

    async def close(self) -> None:
        """Waits for removals that are under way."""
        await asyncio.gather(*self._removals)

    async def start(
        self,
        version: FunctionVersion,
        initialization: InitializationType = InitializationType.ON_DEMAND,
    ) -> Slot:
        """A slot that has been through INIT. PlatformError when the host cannot make one;
        FunctionError when it is to be a provisioned one and its INIT failed."""
        digest = version.code.digest
        self._slots_of[digest] += 1
        self._unwanted.discard(digest)
        credentials = None
        try:
            credentials = self._parts.credentials(version)
            slot = await self._start(version, credentials, initialization)
        except BaseException:
            self._let_go(digest, credentials)
            raise
        slot.on_closed = lambda: self._let_go(digest, credentials)
        return slot

    async def _start(
        self,
        version: FunctionVersion,
        credentials: SessionCredentials,
        initialization: InitializationType,
    ) -> Slot:
        runtime = self._runtime(version)
        code = await self._parts.code.ensure(version.code.digest)
        entry_error = None
        family = runtime_family(runtime)
        if family == "provided" and not _has_bootstrap(code):
            entry_error = _NO_BOOTSTRAP
        sandbox = await self._parts.driver.create(
            SandboxSpec(
                runtime=runtime,
                code=code.name,
                memory_mib=version.memory_mib,
                tmp_mib=version.ephemeral_mib,
            )
        )
        stream = format_stream_name(version, sandbox.id)
        slot = Slot(
            SlotParts(
                version=version,
                sandbox=sandbox,
                start=RuntimeStart(
                    environment=runtime_environment(version, stream, credentials, initialization),
                    arguments=runtime_command(version, _BOOTSTRAP),
                    plain=() if family == "python" else plain_command(version, _BOOTSTRAP),
                    name=runtime,
                ),
                write=self._parts.open_log(version, stream).write,
                entry_error=entry_error,
                init_timeout_s=init_timeout_s(version, initialization),
                initialization=initialization,
            )
        )
        try:
            await slot.open()
            await slot.initialise()
        except BaseException:
            await slot.close()
            raise
        return slot

    def _runtime(self, version: FunctionVersion) -> str:
        if version.runtime is None or version.runtime not in self._parts.runtimes:
            raise InvalidRuntime(missing_runtime(version.runtime))
        return version.runtime

    def _let_go(self, digest: str, credentials: SessionCredentials | None) -> None:
        """A slot has ended, or was never made."""
        if credentials is not None:
            self._parts.revoke(credentials.access_key)
        self._slots_of[digest] -= 1
        if digest in self._unwanted and not self._slots_of[digest]:
            task = asyncio.create_task(self._remove_unwanted(digest))
            self._removals.add(task)
            task.add_done_callback(self._removals.discard)

    async def _remove_unwanted(self, digest: str) -> None:
        if digest in self._unwanted and not self._slots_of[digest]:
            self._unwanted.discard(digest)
            del self._slots_of[digest]
            await self._parts.code.discard(digest)


def init_timeout_s(version: FunctionVersion, initialization: InitializationType) -> float:
    """How long INIT may take ahead of invocations. Source: Lambda guide, runtime environment."""
    if initialization is InitializationType.ON_DEMAND:
        return limits.INIT_TIMEOUT_S
    return max(limits.INIT_PROVISIONED_MIN_S, float(version.timeout_s))


def missing_runtime(runtime: str | None) -> str:
    """What a user can do about a runtime that this host does not have."""
    family = runtime_family(runtime)
    advice = {
        "python": "install that version of Python (for example with pyenv, uv or the system's"
        " packages) where `firelet runtimes` finds it",
        "nodejs": "install that major version of Node.js and put its node on PATH",
    }.get(family, "this kind of runtime is not supported yet")
    return f"The runtime {runtime} is not available on this host: {advice}."


def format_stream_name(version: FunctionVersion, instance_id: str) -> str:
    """``YYYY/MM/DD/[version]<32 hex>``; a shared group adds the function's name."""
    day = time.strftime("%Y/%m/%d", time.gmtime())
    is_own = version.logging.log_group == f"/aws/lambda/{version.name}"
    return f"{day}/{'' if is_own else version.name}[{version.version}]{instance_id}"


def _has_bootstrap(code: Path) -> bool:
    """One stat of a local file: cheaper on the event loop than the way to a thread."""
    return (code / "bootstrap").is_file()
