"""The extensions of one environment, from their launch to their end: processes, output, events.

``worker.slots`` decides what an environment does; this is how its extensions take part in it. It is
made for environments whose function has external extensions, and as soon as an internal one
registers; all others go without.
Source: AWS guide, "Understanding the Lambda execution environment lifecycle"; the order of the
steps of INIT and of the shutdown is that of AWS's runtime interface emulator.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import orjson

from firelet.model import limits
from firelet.model.errors import PlatformError
from firelet.model.function import FunctionVersion, InitializationType
from firelet.model.invocation import Invocation
from firelet.runtime.conditions import Conditions
from firelet.runtime.extension_api import ExtensionApi
from firelet.runtime.extensions import (
    INVOKE,
    SHUTDOWN,
    ExtensionFailed,
    ExtensionFault,
    Extensions,
)
from firelet.runtime.failures import describe_end
from firelet.runtime.log_pipe import LineSplitter, LogPipe
from firelet.runtime.platform_events import PlatformEvents
from firelet.runtime.platform_records import tracing
from firelet.runtime.report import Reporter
from firelet.runtime.telemetry import Telemetry
from firelet.runtime.telemetry_events import EXTENSION, FUNCTION, TelemetryEvent
from firelet.runtime.telemetry_subscription import Subscription
from firelet.sandbox.driver import ExtensionStart, RuntimeExit, Sandbox
from firelet.worker.output import Output

DIRECTORY = "/opt/extensions"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalExtensions:
    """Names of the files in /opt/extensions, sorted, and what their processes see."""

    names: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostParts:
    """What the host works with. ``on_fault`` is told when an extension makes the environment
    fail."""

    version: FunctionVersion
    sandbox: Sandbox
    external: ExternalExtensions
    initialization: InitializationType
    output: Output
    reporter: Reporter
    conditions: Conditions
    on_fault: Callable[[ExtensionFault], None]


class ExtensionHost:
    """See the module's text. Implements ``ExtensionWatcher``."""

    def __init__(self, parts: HostParts) -> None:
        self._version = parts.version
        self._sandbox = parts.sandbox
        self._external = parts.external
        self._output = parts.output
        self._reporter = parts.reporter
        self._conditions = parts.conditions
        self.extensions = Extensions(parts.conditions.changed, parts.on_fault)
        self.telemetry = Telemetry(self._connect, self._on_subscribed)
        self.events = PlatformEvents(
            self.telemetry, parts.version, parts.initialization, parts.sandbox.id
        )
        self.api = ExtensionApi(parts.version, self.extensions, self.telemetry.subscribe)
        self._is_json = parts.version.logging.log_format == "JSON"
        self._pipes: list[LogPipe] = []
        self._freeze_asked_at: float | None = None
        parts.output.listen(self._on_function_line)

    @property
    def is_active(self) -> bool:
        """Whether there is an extension that takes part in the life of the environment."""
        return self.extensions.are_there

    def begin(self, phase: str, began_s: float) -> None:
        """INIT begins, or began at ``began_s`` seconds of the epoch."""
        self.telemetry.begin()
        self.extensions.begin(self._external.names)
        self.events.init_start(phase, began_s)
        self._output.replay()

    async def launch(self) -> None:
        """Starts the external extensions; returns when each of them has registered."""
        names = self._external.names
        if len(names) > limits.EXTENSIONS_MAX:
            self.extensions.launch_failed(
                names[limits.EXTENSIONS_MAX],
                f"Extension limit ({limits.EXTENSIONS_MAX}) reached",
            )
            names = ()
        for name in names:
            start = ExtensionStart(
                name=name, path=f"{DIRECTORY}/{name}", environment=self._external.environment
            )
            self._read(self._sandbox.start_extension(start, self))
        await self._until(lambda: self.extensions.have_registered)

    async def until_ready(self) -> None:
        """Returns when every extension asks for its next event."""
        await self._until(lambda: self.extensions.are_ready)

    def end_of_init(self, phase: str, status: str, error_type: str | None, took_ms: float) -> None:
        """Tells how INIT went, and takes no more registrations and subscriptions."""
        self.extensions.close_registration()
        self.events.init_runtime_done(phase, status, error_type)
        for each in self.extensions.all:
            described = (each.name, each.phase.value, each.events, each.error_type)
            self._reporter.extension(*described)
            self.events.extension(*described)
        self.events.init_report(phase, status, error_type, took_ms)
        self.telemetry.end_of_init()

    def dispatch_invoke(self, invocation: Invocation, deadline_epoch: float) -> None:
        """Tells the extensions of an invocation that begins."""
        self._freeze_asked_at = None
        event = {
            "eventType": INVOKE,
            "deadlineMs": math.floor(deadline_epoch * 1000),
            "requestId": invocation.request_id,
            "invokedFunctionArn": invocation.invoked_arn,
            "tracing": tracing(invocation.trace_id or ""),
        }
        self.extensions.dispatch(INVOKE, orjson.dumps(event))

    def may_freeze(self) -> bool:
        """Whether all extensions are idle, and what is to be told them was: else that leaves now,
        for as long as it may take."""
        if not self.extensions.are_ready:
            return False
        self.drain()
        if not self.telemetry.is_pending:
            return True
        self.telemetry.flush()
        now = time.monotonic()
        if self._freeze_asked_at is None:
            self._freeze_asked_at = now
        return now - self._freeze_asked_at > limits.TELEMETRY_FREEZE_WAIT_S

    async def shut_down(self, reason: str, is_runtime_gone: Callable[[], bool]) -> None:
        """The shutdown phase: the runtime first, then the external extensions, each within its
        share of the time. What is left then is the caller's to kill."""
        has_external = self.extensions.has_external
        budget_s = limits.SHUTDOWN_EXTERNAL_S if has_external else limits.SHUTDOWN_INTERNAL_S
        began = time.monotonic()
        deadline_epoch = time.time() + budget_s
        self.extensions.begin_shutdown()
        if not is_runtime_gone():
            share = limits.SHUTDOWN_RUNTIME_SHARE if has_external else 1.0
            self._sandbox.signal_runtime(signal.SIGTERM)
            if not await self._within(budget_s * share, is_runtime_gone):
                self._sandbox.signal_runtime(signal.SIGKILL)
        self.telemetry.flush()
        if has_external:
            event = {
                "eventType": SHUTDOWN,
                "shutdownReason": reason,
                "deadlineMs": math.floor(deadline_epoch * 1000),
            }
            self.extensions.dispatch(SHUTDOWN, orjson.dumps(event))
            left_s = budget_s - (time.monotonic() - began)
            await self._within(left_s, lambda: self.extensions.have_exited)

    async def end(self) -> None:
        """Every process has ended: what they left is read, and forgotten."""
        self.drain()
        self._close_pipes()
        self.extensions.end()
        await self.telemetry.close()

    def drain(self) -> None:
        """Takes in what the extensions have written so far."""
        for pipe in self._pipes:
            pipe.drain()

    # What the sandbox tells.

    def on_launch_failed(self, name: str, reason: str) -> None:
        self.extensions.launch_failed(name, f"fork/exec {DIRECTORY}/{name}: {reason}")
        self._conditions.changed()

    def on_exited(self, name: str, ending: RuntimeExit) -> None:
        self.drain()
        self.extensions.exited(name, describe_end(ending.code, ending.signal))

    async def _until(self, holds: Callable[[], bool]) -> None:
        fault = self.extensions.fault
        if fault is not None:
            raise ExtensionFailed(fault)
        await self._conditions.until(holds)

    async def _within(self, seconds: float, holds: Callable[[], bool]) -> bool:
        """Whether it holds by then, or the sandbox has ended."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._conditions.until(lambda: holds() or self._sandbox.is_dead)
        except TimeoutError:
            return False
        return True

    async def _connect(self, port: int) -> socket.socket:
        try:
            return await self._sandbox.connect(port)
        except PlatformError as error:
            raise ConnectionError(error.message) from error

    def _on_subscribed(self, subscription: Subscription) -> None:
        api = subscription.api.value
        self._reporter.subscription(api, subscription.extension, subscription.types)
        self.events.subscription(subscription)

    def _on_function_line(self, timestamp_ms: int, message: str) -> None:
        self._emit_line(FUNCTION, timestamp_ms, message)

    def _on_extension_line(self, timestamp_ms: int, message: str) -> None:
        self._output.write(timestamp_ms, message)
        self._emit_line(EXTENSION, timestamp_ms, message)

    def _emit_line(self, kind: str, timestamp_ms: int, message: str) -> None:
        text = message.removesuffix("\n")
        self.telemetry.emit(TelemetryEvent(timestamp_ms / 1000, kind, text, is_json=self._is_json))

    def _read(self, fd: int) -> None:
        pipe = LogPipe(fd, LineSplitter(self._on_extension_line))
        self._pipes.append(pipe)
        asyncio.get_running_loop().add_reader(fd, self._on_pipe, pipe)

    def _on_pipe(self, pipe: LogPipe) -> None:
        if not pipe.drain():
            asyncio.get_running_loop().remove_reader(pipe.fd)

    def _close_pipes(self) -> None:
        loop = asyncio.get_running_loop()
        for pipe in self._pipes:
            pipe.reset()
            loop.remove_reader(pipe.fd)
            os.close(pipe.fd)
        self._pipes.clear()
