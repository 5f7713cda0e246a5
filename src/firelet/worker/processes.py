"""The processes of one environment, the runtime and its extensions: from INIT to their end.

A slot has one of these; what it does with an invocation is its own affair (``worker.slots``), what
the steps of extensions are is ``worker.extension_host``'s. A reset ends all processes and keeps the
sandbox, so that the next invocation begins with another INIT.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from firelet.model.errors import PlatformError, SandboxEnded
from firelet.model.function import InitializationType
from firelet.runtime.api import HTTP_LIMITS, RuntimeApi
from firelet.runtime.conditions import Conditions
from firelet.runtime.exchange import DeadlinePassed, Exchange, RuntimeAnswer, RuntimeEnded
from firelet.runtime.extensions import ExtensionFailed, ExtensionFault
from firelet.runtime.failures import (
    EXIT_ERROR,
    INVALID_ENTRYPOINT,
    TIMED_OUT,
    describe_exit,
)
from firelet.runtime.phases import Phase
from firelet.runtime.posted import refuse
from firelet.runtime.report import Reporter
from firelet.sandbox.driver import RuntimeExit
from firelet.wire.http1 import HttpServer, Request, Response
from firelet.worker import endings
from firelet.worker.endings import Ending, InitFailure, InitFault
from firelet.worker.extension_host import ExtensionHost, HostParts
from firelet.worker.output import Output
from firelet.worker.slot_parts import SlotParts

log = logging.getLogger(__name__)

RESTORE = "restore"
_NOT_IN_SNAPSHOTS = (
    "Internal extensions cannot register before a snapshot: this version of firelet does not"
    " restore them. Register in an after-restore hook."
)
_EXIT_GRACE_S = 0.5  # for a runtime that has reported an init error to end by itself


class Processes:
    """See the module's text. ``on_change`` is called when something has happened for which the
    slot may have been waiting, ``on_exit`` when the runtime, or the whole sandbox, has ended by
    itself."""

    def __init__(
        self,
        parts: SlotParts,
        output: Output,
        reporter: Reporter,
        on_change: Callable[[], None],
        on_exit: Callable[[], None],
    ) -> None:
        self.exchange = Exchange(self._on_runtime_ready)
        self.conditions = Conditions()
        self.exit = RuntimeExit(None, None)
        self.is_frozen = False
        self.is_resetting = False
        self.is_closing = False
        # Whether an INIT or an invocation is under way that will see by itself what has failed.
        self.is_attended = False
        self.resetting: asyncio.Task[None] | None = None
        self._version = parts.version
        self._sandbox = parts.sandbox
        self._start = parts.start
        self._entry_error = parts.entry_error
        self._initialization = parts.initialization
        self._external = parts.external
        self._output = output
        self._reporter = reporter
        self._on_change = on_change
        self._tell_exit = on_exit
        self._api = RuntimeApi(
            self.exchange,
            parts.restores,
            self._serve_extension,
            is_cloned_whole=parts.sandbox.rests_at_next,
        )
        self._server = HttpServer(
            self._api,
            limits=HTTP_LIMITS,
            on_reject=self._api.reject,
            open_body=self._api.open_body,
        )
        self._exited = asyncio.Event()
        self._patience: asyncio.TimerHandle | None = None
        self._init_phase = "init"
        self._init_began = 0.0
        self.host = self._make_host() if parts.external.names else None

    @property
    def extended(self) -> ExtensionHost | None:
        """The host of the extensions, if there are any that take part."""
        return self.host if self.host is not None and self.host.is_active else None

    async def open(self) -> None:
        """Serves the Runtime API."""
        self._sandbox.watch(self._on_exit)
        await self._server.listen_socket(self._sandbox.listener)

    async def initialise(
        self, deadline: float, phase: str, *, limit_cpu: bool
    ) -> InitFailure | None:
        """One INIT. None when the runtime is ready."""
        if not limit_cpu:
            self._sandbox.set_vcpus(None)
        began = time.monotonic()
        if self._entry_error is not None:
            self._init_failed(began, phase, "error", INVALID_ENTRYPOINT)
            return InitFailure(InitFault.NO_ENTRY_POINT, self._no_entry_point)
        self._exited.clear()
        self.exit = RuntimeExit(None, None)
        self._init_phase, self._init_began = phase, time.time()
        self.is_attended = True
        self._output.begin_init()
        loop = asyncio.get_running_loop()
        expiry = loop.call_at(loop.time() + deadline - began, self.exchange.expire)
        failure: InitFailure | None = None
        answer: RuntimeAnswer | None = None
        try:
            answer = await self._start_processes(deadline)
        except DeadlinePassed:
            failure = InitFailure(InitFault.TIMEOUT, self.timed_out)
            await self.reset("timeout", began)
            self._init_failed(began, phase, "timeout", TIMED_OUT)
        except RuntimeEnded:
            failure = InitFailure(InitFault.RUNTIME_ENDED, self.runtime_ended)
            line = endings.launch_line(self._version, self.exit)
            if line is not None:
                self._output.write(int(time.time() * 1000), line)
            error_type, _ = endings.exit_error(self.exit)
            if self.host is not None:
                await self.reset("failure", began)
            self._init_failed(began, phase, "error", error_type)
        except ExtensionFailed as failed:
            fault = failed.fault
            failure = InitFailure(
                InitFault.EXTENSION, lambda request_id: self.extension_failed(request_id, fault)
            )
            await self.reset("failure", began, fault.error_type)
            self._init_failed(began, phase, "error", fault.error_type)
        finally:
            expiry.cancel()
            self._output.end_init()
        return failure or await self._conclude(answer, began, phase)

    async def _conclude(
        self, answer: RuntimeAnswer | None, began: float, phase: str
    ) -> InitFailure | None:
        """All is ready, or the runtime has posted why it is not."""
        if answer is None:
            if self.host is not None:
                took_ms = (time.monotonic() - began) * 1000
                self.host.end_of_init(phase, "success", None, took_ms)
            return None
        if self.host is None:
            await self._wait_for_exit()
        else:
            await self.reset("failure", began, answer.error_type)
        self._init_failed(began, phase, "error", answer.error_type or EXIT_ERROR)
        return InitFailure(InitFault.REPORTED, lambda _request_id: endings.ending_of(answer))

    async def _start_processes(self, deadline: float) -> RuntimeAnswer | None:
        """External extensions first, until all have registered; then the runtime, until it is
        ready; then until all extensions are. What the runtime posts if it is not."""
        host = self.host
        if host is not None:
            if host.is_active:
                await self.reset()  # the runtime alone has ended
            host.begin(self._init_phase, self._init_began)
            await _before(deadline, host.launch())
        initialised = self.exchange.start(is_clone=self._init_phase == RESTORE)
        self._sandbox.start_runtime(self._start)
        answer = await initialised
        if answer is None and self.host is not None:
            self.host.extensions.close_registration()
            await _before(deadline, self.host.until_ready())
        return answer

    def _init_failed(self, began: float, phase: str, status: str, error_type: str) -> None:
        self._output.drain()
        duration_ms = (time.monotonic() - began) * 1000
        if phase == RESTORE:
            self._reporter.restore_report(duration_ms, status, error_type)
        else:
            self._reporter.init_report(duration_ms, phase, status, error_type)

    def timed_out(self, request_id: str) -> Ending:
        return endings.timed_out(request_id, self._version.timeout_s)

    def _no_entry_point(self, request_id: str) -> Ending:
        return endings.no_entry_point(request_id, self._entry_error or "")

    def runtime_ended(self, request_id: str) -> Ending:
        if self.exit.is_out_of_memory:
            self._output.write(
                int(time.time() * 1000),
                f"RequestId: {request_id} Error: out of memory: the environment reached its limit"
                f" of {self._version.memory_mib} MB and the kernel ended a process of it\n",
            )
        if self.host is not None:
            how = describe_exit(self.exit.code, self.exit.signal)
            self.host.events.fault(request_id, how, EXIT_ERROR)
        ending = endings.runtime_ended(request_id, self.exit)
        ending.reset_reason = "failure"
        return ending

    def extension_failed(self, request_id: str, fault: ExtensionFault) -> Ending:
        self._reporter.failed(request_id, fault.message, fault.error_type)
        if self.host is not None:
            self.host.events.fault(request_id, fault.message, fault.error_type)
        return endings.extension_failed(request_id, fault)

    async def reset(
        self,
        reason: str = "failure",
        init_began: float | None = None,
        init_error: str | None = None,
    ) -> None:
        """Ends every process; /tmp and the sandbox stay. The next invocation starts with INIT.
        Extensions are told the reason; ``init_began`` and ``init_error`` tell of an INIT that it
        puts an end to."""
        self.is_resetting = True
        try:
            if self.host is not None:
                if init_began is not None:
                    status = "timeout" if reason == "timeout" else "error"
                    took_ms = (time.monotonic() - init_began) * 1000
                    self.host.end_of_init(self._init_phase, status, init_error, took_ms)
                await self.shut_down(reason)
            await self._sandbox.kill_processes()
        except PlatformError as error:
            # It does not obey: it is not used again.
            log.warning("sandbox not reset id=%s: %s", self._sandbox.id, error.message)
            self._output.end_of_process()
            self._output.unwatch()
            await self._server.close()
            await self._sandbox.stop()
        if self.exchange.phase is not Phase.STOPPED:
            self.exchange.end()
        self._output.end_of_process()
        if self.host is not None:
            await self.host.end()
        self.is_resetting = False
        self._on_change()

    async def shut_down(self, reason: str) -> None:
        """Lets the extensions end by themselves, if there are any and it is not too late."""
        host = self.host
        if host is None or not host.is_active or self._sandbox.is_dead:
            return
        self.thaw()
        # What cannot be told any more ends with the sandbox.
        with contextlib.suppress(SandboxEnded):
            await host.shut_down(reason, lambda: self.exchange.phase is Phase.STOPPED)
        self._output.drain()

    async def close(self) -> None:
        """The end: of whatever still runs, and of the Runtime API. The sandbox is the slot's."""
        self._lose_patience()
        if self.host is not None:
            await self._end_extensions()
        self._output.end_of_process()
        self._output.unwatch()
        # First, or the runtime would wake up to report the end of its connection.
        self._sandbox.kill()
        if self.exchange.phase is not Phase.STOPPED:
            self.exchange.end()
        if self.host is not None:
            await self.host.end()
        await self._server.close()

    def thaw(self) -> None:
        if self.is_frozen:
            self._sandbox.thaw()
            self.is_frozen = False
            if self.host is not None:
                self.host.telemetry.resume()

    def expect_next(self, seconds: float) -> None:
        """The runtime has answered and has not asked for more: it has so long to do so."""
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(seconds, self._reset_if_stuck)

    async def _end_extensions(self) -> None:
        if self.resetting is not None:
            await asyncio.gather(self.resetting, return_exceptions=True)
        await self.shut_down("spindown")
        if not self._sandbox.is_dead:
            # Processes that are killed need some CPU to end: a small function with many of them
            # would take its own time for that.
            self._sandbox.set_vcpus(None)

    def _make_host(self) -> ExtensionHost:
        return ExtensionHost(
            HostParts(
                version=self._version,
                sandbox=self._sandbox,
                external=self._external,
                initialization=self._initialization,
                output=self._output,
                reporter=self._reporter,
                conditions=self.conditions,
                on_fault=self._on_fault,
            )
        )

    def _serve_extension(self, request: Request) -> Response | asyncio.Future[Response]:
        """A call of the Extensions API; the first one of an environment without external
        extensions comes from an internal one."""
        is_clone = self._init_phase == RESTORE
        if self._initialization is InitializationType.SNAP_START and not is_clone:
            return self._refuse_extension()
        if self.host is None:
            self.host = self._make_host()
            if self.exchange.phase is Phase.STARTED:
                self.host.begin(self._init_phase, self._init_began)
        return self.host.api(request)

    def _refuse_extension(self) -> Response:
        """A clone has the runtime's main thread and no other: an internal extension would be gone
        without a word."""
        self._output.write(int(time.time() * 1000), f"{_NOT_IN_SNAPSHOTS}\n")
        return refuse(403, "Extension.RegistrationClosed", _NOT_IN_SNAPSHOTS)

    def _on_fault(self, fault: ExtensionFault) -> None:
        """An extension has failed: who waits for it hears of it, or else it fails in idleness."""
        failed = ExtensionFailed(fault)
        self.exchange.abort(failed)
        self.conditions.abort(failed)
        if not (self.is_attended or self.is_resetting or self.is_closing):
            self.extension_failed("", fault)
            self.resetting = asyncio.create_task(self.reset())

    def _reset_if_stuck(self) -> None:
        if self.exchange.phase is Phase.RESPONDED and not self._sandbox.is_dead:
            self.resetting = asyncio.create_task(self.reset())

    async def _wait_for_exit(self) -> None:
        if not await self.exits_soon():
            await self.reset()

    async def exits_soon(self) -> bool:
        """Whether the process ends by itself: its connections are lost a moment earlier."""
        try:
            async with asyncio.timeout(_EXIT_GRACE_S):
                await self._exited.wait()
        except TimeoutError:
            return False
        return True

    def _on_exit(self, ending: RuntimeExit) -> None:
        """The runtime process, or the whole sandbox, has ended by itself."""
        self.exit = ending
        self._exited.set()
        self._lose_patience()
        self._output.end_of_process()
        if self.exchange.phase is not Phase.STOPPED:
            self.exchange.end()
        self.conditions.changed()
        if not self.is_closing:
            self._on_change()
            self._tell_exit()

    def _on_runtime_ready(self) -> None:
        self._lose_patience()
        if self.host is not None:
            self.conditions.changed()
        self._on_change()

    def _lose_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


async def _before(deadline: float, work: Coroutine[Any, Any, None]) -> None:
    """DeadlinePassed when it is not done by ``deadline``, in seconds of the monotonic clock."""
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            await work
    except TimeoutError:
        raise DeadlinePassed from None
