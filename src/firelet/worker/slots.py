"""A slot: one execution environment of one function version, from INIT to its end.

It owns the sandbox, its Runtime API server and its log pipes, and takes one invocation at a time.
``worker.node`` makes slots; ``control.manager`` decides which one serves an invocation.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from firelet.model import limits
from firelet.model.errors import FunctionError, PlatformError, SandboxEnded
from firelet.model.function import FunctionVersion, InitializationType
from firelet.model.invocation import Invocation, Outcome
from firelet.runtime.api import HTTP_LIMITS, RuntimeApi
from firelet.runtime.credentials import CredentialsEndpoint
from firelet.runtime.deadline import Deadline
from firelet.runtime.event import runtime_event
from firelet.runtime.exchange import DeadlinePassed, EventNotTaken, Exchange, RuntimeEnded
from firelet.runtime.failures import EXIT_ERROR, INVALID_ENTRYPOINT, TIMED_OUT
from firelet.runtime.phases import Phase
from firelet.runtime.report import Measured, Reporter
from firelet.sandbox.driver import RuntimeExit, RuntimeStart, Sandbox
from firelet.wire.http1 import HttpServer
from firelet.worker import endings
from firelet.worker.endings import Ending, InitFailure, InitFault
from firelet.worker.output import Output

log = logging.getLogger(__name__)

RESTORE = "restore"
_EXIT_GRACE_S = 0.5  # for a runtime that has reported an init error to end by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotParts:
    """What a slot is made of. ``write`` takes one log event (timestamp in ms, message);
    ``restores`` is for environments with SnapStart; ``entry_error`` says why there is nothing to
    start, and every INIT fails with it."""

    version: FunctionVersion
    sandbox: Sandbox
    start: RuntimeStart
    write: Callable[[int, str], None]
    entry_error: str | None = None
    init_timeout_s: float = field(default=limits.INIT_TIMEOUT_S)
    initialization: InitializationType = InitializationType.ON_DEMAND
    restores: CredentialsEndpoint | None = None


class Slot:
    """Call ``open``, ``initialise``, then ``invoke`` any number of times, and ``close``."""

    def __init__(self, parts: SlotParts) -> None:
        self.version = parts.version
        self.idle_since = 0.0
        self.idle_mib = 0.0
        self.is_frozen = False
        self.on_closed: Callable[[], None] | None = None
        self.on_exit: Callable[[], None] | None = None
        self._sandbox = parts.sandbox
        self._start = parts.start
        self._entry_error = parts.entry_error
        self._init_timeout_s = parts.init_timeout_s
        self._output = Output(parts.sandbox, parts.write)
        self._exchange = Exchange(self._on_runtime_ready)
        self._deadline = Deadline(self._exchange.expire)
        self._api = RuntimeApi(self._exchange, parts.restores)
        self._server = HttpServer(
            self._api,
            limits=HTTP_LIMITS,
            on_reject=self._api.reject,
            open_body=self._api.open_body,
        )
        self._initialization = parts.initialization
        self._reporter = Reporter(
            parts.version, parts.sandbox.id, self._output.write, parts.initialization
        )
        self._exit = RuntimeExit(None, None)
        self._exited = asyncio.Event()
        self._pending_init_ms: float | None = None
        self._pending_restore_ms: float | None = None
        self._on_free: Callable[[Slot], None] | None = None
        self._is_closed = False
        self._patience: asyncio.TimerHandle | None = None
        self._is_resetting = False
        self._resetting: asyncio.Task[None] | None = None
        self._is_ahead = parts.initialization is not InitializationType.ON_DEMAND
        self._vcpus = parts.version.memory_mib / limits.MEMORY_PER_VCPU_MIB

    @property
    def id(self) -> str:
        return self._sandbox.id

    @property
    def sandbox(self) -> Sandbox:
        return self._sandbox

    @property
    def is_usable(self) -> bool:
        """Whether it can take an invocation, after another INIT if need be."""
        return not self._is_closed and not self._sandbox.is_dead

    @property
    def is_snapshot(self) -> bool:
        """Whether its runtime waits at its restore point to be cloned."""
        return self.is_usable and self._exchange.phase is Phase.SNAPSHOT

    @property
    def is_initialised(self) -> bool:
        """Whether its runtime waits for an event: the next invocation needs no INIT."""
        return self._exchange.phase is Phase.READY

    async def open(self) -> None:
        """Serves the Runtime API and reads the pipes."""
        self._sandbox.watch(self._on_exit)
        await self._server.listen_socket(self._sandbox.listener)
        self._output.open()

    async def initialise(self) -> None:
        """INIT ahead of the first invocation, with all of the host's CPU. A failure is logged
        and leaves the slot usable: the first invocation repeats INIT, as AWS does. FunctionError
        for one that is not made on demand, of which that is never asked."""
        self._reporter.init_start()
        began = time.monotonic()
        failure = await self._run_init(began + self._init_timeout_s, "init", limit_cpu=False)
        if failure is None:
            self._pending_init_ms = (time.monotonic() - began) * 1000
            if self._is_ahead:
                self._output.drain()
                self._reporter.init_report(self._pending_init_ms, "init", "success")
        if self.is_usable:
            self._sandbox.set_vcpus(self._vcpus)
        if failure is not None and self._is_ahead:
            failed = failure.ending("")
            raise FunctionError(failed.error_type or EXIT_ERROR, failed.payload)

    async def restore(self) -> None:
        """Continues a clone from the restore point of its snapshot, after-restore hooks included.
        SnapStartFailed or SnapStartTimeout when that is the function's fault, else
        PlatformError."""
        self._reporter.restore_start()
        began = time.monotonic()
        deadline = began + limits.RESTORE_TIMEOUT_S
        failure = await self._run_init(deadline, RESTORE, limit_cpu=False)
        if failure is not None:
            raise failure.restore_error()
        self._pending_restore_ms = (time.monotonic() - began) * 1000
        self._output.drain()
        self._reporter.restore_report(self._pending_restore_ms, "success", None)
        self._sandbox.set_vcpus(self._vcpus)

    async def invoke(self, invocation: Invocation) -> Outcome:
        """Runs one invocation to its answer. The slot is free again when ``when_free`` says so,
        which may be later than the answer. SandboxEnded when the function has not seen the event,
        so that it may be given to another environment; PlatformError for other faults of it."""
        began = time.monotonic()
        now = time.time()
        timeout_s = self.version.timeout_s
        if self.is_frozen:
            self._sandbox.thaw()
            self.is_frozen = False
        self._output.begin_tail(is_wanted=invocation.wants_tail)
        self._reporter.start(invocation.request_id, now)
        init_ms, self._pending_init_ms = self._pending_init_ms, None
        restore_ms, self._pending_restore_ms = self._pending_restore_ms, None
        loop = asyncio.get_running_loop()
        self._deadline.set(loop, timeout_s)
        try:
            ending = await self._run(invocation, began + timeout_s, now + timeout_s)
        finally:
            self._deadline.clear()
        if ending.status == "timeout":
            self._reporter.timed_out(invocation.request_id, timeout_s)
        self._output.drain()
        measured = Measured(
            duration_ms=(time.monotonic() - began) * 1000,
            memory_bytes=self._sandbox.memory_peak_bytes(),
            init_ms=init_ms,
            restore_ms=restore_ms,
            status=ending.status,
            error_type=ending.error_type,
        )
        self._reporter.report(invocation.request_id, measured, time.time())
        log_tail = self._output.take_tail()
        if self._exchange.phase is Phase.RESPONDED:
            # The runtime has answered and has not asked for more: it has what is left of its time.
            left_s = began + timeout_s - time.monotonic()
            self._patience = loop.call_later(left_s, self._reset_if_stuck)
        return Outcome(
            payload=ending.payload,
            executed_version=self.version.version,
            function_error=ending.function_error,
            error_type=ending.error_type,
            log_tail=log_tail,
            duration_ms=measured.duration_ms,
            is_streamed=ending.stream is not None,
        )

    def when_free(self, callback: Callable[[Slot], None]) -> None:
        """Calls back once, as soon as the slot can take another invocation or is of no use."""
        is_free = self._exchange.phase in (Phase.READY, Phase.STOPPED) and not self._is_resetting
        if is_free or not self.is_usable:
            callback(self)
        else:
            self._on_free = callback

    def freeze(self) -> None:
        """Stops every process of the environment until the next invocation, and notes the memory
        that it holds meanwhile."""
        if self.is_usable and not self.is_frozen and self._exchange.phase is Phase.READY:
            self._output.drain()
            try:
                self._sandbox.freeze()
                self.idle_mib = self._sandbox.memory_bytes() / limits.MIB
            except (OSError, PlatformError):
                # It is about to be found dead, and then not used again.
                log.warning("environment not frozen id=%s", self.id, exc_info=True)
                return
            self.is_frozen = True

    async def close(self) -> None:
        """Ends the environment. May be called again."""
        if self._is_closed:
            return
        self._is_closed = True
        self._lose_patience()
        self._deadline.close()
        self._output.end_of_process()
        self._output.unwatch()
        # First, or the runtime would wake up to report the end of its connection.
        self._sandbox.kill()
        if self._exchange.phase is not Phase.STOPPED:
            self._exchange.end()
        await self._server.close()
        await self._sandbox.stop()
        self._output.close()
        self._free()
        if self.on_closed is not None:
            self.on_closed()

    async def _run(self, invocation: Invocation, deadline: float, deadline_epoch: float) -> Ending:
        """From a slot in any state to the ending of this invocation."""
        request_id = invocation.request_id
        if self._exchange.phase is not Phase.READY:
            failure = await self._run_init(deadline, "invoke", limit_cpu=True)
            if failure is not None:
                return failure.ending(request_id)
        event = runtime_event(invocation, deadline_epoch)
        answer = self._exchange.dispatch(event, invocation.sink)
        try:
            result = await answer
        except DeadlinePassed:
            await self._reset()
            return self._timed_out(request_id)
        except EventNotTaken:
            raise SandboxEnded from None
        except RuntimeEnded:
            return self._runtime_ended(request_id)
        stream = result.stream
        if stream is not None and stream.was_lost and await self._exits_soon():
            return self._runtime_ended(request_id)
        return endings.ending_of(result)

    async def _run_init(
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
        self._exit = RuntimeExit(None, None)
        initialised = self._exchange.start()
        self._sandbox.start_runtime(self._start)
        loop = asyncio.get_running_loop()
        expiry = loop.call_at(loop.time() + deadline - began, self._exchange.expire)
        try:
            answer = await initialised
        except DeadlinePassed:
            await self._reset()
            self._init_failed(began, phase, "timeout", TIMED_OUT)
            return InitFailure(InitFault.TIMEOUT, self._timed_out)
        except RuntimeEnded:
            line = endings.launch_line(self.version, self._exit)
            if line is not None:
                self._output.write(int(time.time() * 1000), line)
            self._init_failed(began, phase, "error", endings.exit_error(self._exit)[0])
            return InitFailure(InitFault.RUNTIME_ENDED, self._runtime_ended)
        finally:
            expiry.cancel()
        if answer is None:
            return None
        await self._wait_for_exit()
        self._init_failed(began, phase, "error", answer.error_type or EXIT_ERROR)
        return InitFailure(InitFault.REPORTED, lambda _request_id: endings.ending_of(answer))

    def _init_failed(self, began: float, phase: str, status: str, error_type: str) -> None:
        self._output.drain()
        duration_ms = (time.monotonic() - began) * 1000
        if phase == RESTORE:
            self._reporter.restore_report(duration_ms, status, error_type)
        else:
            self._reporter.init_report(duration_ms, phase, status, error_type)

    def _timed_out(self, request_id: str) -> Ending:
        return endings.timed_out(request_id, self.version.timeout_s)

    def _no_entry_point(self, request_id: str) -> Ending:
        return endings.no_entry_point(request_id, self._entry_error or "")

    def _runtime_ended(self, request_id: str) -> Ending:
        if self._exit.is_out_of_memory:
            self._output.write(
                int(time.time() * 1000),
                f"RequestId: {request_id} Error: out of memory: the environment reached its limit"
                f" of {self.version.memory_mib} MB and the kernel ended a process of it\n",
            )
        return endings.runtime_ended(request_id, self._exit)

    async def _reset(self) -> None:
        """Ends every process; /tmp and the sandbox stay. The next invocation starts with INIT."""
        self._is_resetting = True
        try:
            await self._sandbox.kill_processes()
        except PlatformError as error:
            # It does not obey: it is not used again.
            log.warning("sandbox not reset id=%s: %s", self.id, error.message)
            self._output.end_of_process()
            self._output.unwatch()
            await self._server.close()
            await self._sandbox.stop()
        if self._exchange.phase is not Phase.STOPPED:
            self._exchange.end()
        self._output.end_of_process()
        self._is_resetting = False
        self._free()

    def _reset_if_stuck(self) -> None:
        if self._exchange.phase is Phase.RESPONDED and self.is_usable:
            self._resetting = asyncio.create_task(self._reset())

    async def _wait_for_exit(self) -> None:
        if not await self._exits_soon():
            await self._reset()

    async def _exits_soon(self) -> bool:
        """Whether the process ends by itself: its connections are lost a moment earlier."""
        try:
            async with asyncio.timeout(_EXIT_GRACE_S):
                await self._exited.wait()
        except TimeoutError:
            return False
        return True

    def _on_exit(self, ending: RuntimeExit) -> None:
        """The runtime process, or the whole sandbox, has ended by itself."""
        self._exit = ending
        self._exited.set()
        self._lose_patience()
        self._output.end_of_process()
        if self._exchange.phase is not Phase.STOPPED:
            self._exchange.end()
        self._free()
        if self.on_exit is not None:
            self.on_exit()

    def _on_runtime_ready(self) -> None:
        self._lose_patience()
        if self._on_free is not None and not self._is_resetting:
            self._free()

    def _free(self) -> None:
        callback, self._on_free = self._on_free, None
        if callback is not None:
            callback(self)

    def _lose_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
