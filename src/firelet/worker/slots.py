"""A slot: one execution environment of one function version, from INIT to its end.

It owns the sandbox, its Runtime API server and its log pipes, and takes one invocation at a time.
``worker.node`` makes slots; ``control.manager`` decides which one serves an invocation.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from firelet.model import limits
from firelet.model.errors import FunctionError, PlatformError, SandboxEnded
from firelet.model.function import InitializationType
from firelet.model.invocation import Invocation, Outcome
from firelet.runtime.deadline import Deadline
from firelet.runtime.event import runtime_event
from firelet.runtime.exchange import DeadlinePassed, EventNotTaken, RuntimeEnded
from firelet.runtime.extensions import ExtensionFailed
from firelet.runtime.failures import EXIT_ERROR
from firelet.runtime.phases import Phase
from firelet.runtime.report import Measured, Reporter
from firelet.sandbox.driver import Sandbox
from firelet.worker.course import (
    Course,
    measure,
    tell_report,
    tell_runtime_done,
    tell_settled,
)
from firelet.worker.endings import Ending, ending_of
from firelet.worker.extension_host import ExtensionHost
from firelet.worker.output import Output
from firelet.worker.processes import RESTORE, Processes
from firelet.worker.slot_parts import SlotParts

__all__ = ["Slot", "SlotParts"]

log = logging.getLogger(__name__)


class Slot:
    """Call ``open``, ``initialise``, then ``invoke`` any number of times, and ``close``."""

    def __init__(self, parts: SlotParts) -> None:
        self.version = parts.version
        self.idle_since = 0.0
        self.idle_mib = 0.0
        self.on_closed: Callable[[], None] | None = None
        self.on_exit: Callable[[], None] | None = None
        self._sandbox = parts.sandbox
        self._restores = parts.restores
        self._rests_at_next = (
            parts.initialization is InitializationType.SNAP_START and parts.sandbox.rests_at_next
        )
        self._init_timeout_s = parts.init_timeout_s
        self._output = Output(parts.sandbox, parts.write)
        self._reporter = Reporter(
            parts.version, parts.sandbox.id, self._output.write, parts.initialization
        )
        self._processes = Processes(
            parts, self._output, self._reporter, self._free_if_settled, self._tell_exit
        )
        self._exchange = self._processes.exchange
        self._deadline = Deadline(self._exchange.expire)
        self._pending_init_ms: float | None = None
        self._pending_restore_ms: float | None = None
        self._on_free: Callable[[Slot], None] | None = None
        self._is_closed = False
        self._is_ahead = parts.initialization is not InitializationType.ON_DEMAND
        self._dispatched = 0.0  # when the last invocation was, if it got so far
        # What is still to be done for the last invocation, of which the caller has the answer.
        self._settling: asyncio.Task[None] | None = None
        self._vcpus = parts.version.memory_mib / limits.MEMORY_PER_VCPU_MIB

    @property
    def id(self) -> str:
        return self._sandbox.id

    @property
    def sandbox(self) -> Sandbox:
        return self._sandbox

    @property
    def is_frozen(self) -> bool:
        return self._processes.is_frozen

    @property
    def is_usable(self) -> bool:
        """Whether it can take an invocation, after another INIT if need be."""
        return not self._is_closed and not self._sandbox.is_dead

    @property
    def is_snapshot(self) -> bool:
        """Whether its runtime waits at its restore point to be cloned."""
        phase = self._exchange.phase
        is_there = phase is Phase.SNAPSHOT or (phase is Phase.READY and self._rests_at_next)
        return self.is_usable and is_there

    @property
    def credentials_token(self) -> str | None:
        """What its runtime shows to be given credentials; None without SnapStart."""
        return None if self._restores is None else self._restores.token

    @property
    def is_initialised(self) -> bool:
        """Whether its runtime waits for an event: the next invocation needs no INIT."""
        return self._exchange.phase is Phase.READY

    async def open(self) -> None:
        """Serves the Runtime API and reads the pipes."""
        await self._processes.open()
        self._output.open()

    async def initialise(self) -> None:
        """INIT ahead of the first invocation, with all of the host's CPU. A failure is logged
        and leaves the slot usable: the first invocation repeats INIT, as AWS does. FunctionError
        for one that is not made on demand, of which that is never asked."""
        self._reporter.init_start()
        began = time.monotonic()
        deadline = began + self._init_timeout_s
        failure = await self._processes.initialise(deadline, "init", limit_cpu=False)
        if failure is None:
            self._pending_init_ms = (time.monotonic() - began) * 1000
            if self._is_ahead:
                self._output.drain()
                self._reporter.init_report(self._pending_init_ms, "init", "success")
        self._processes.is_attended = False
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
        failure = await self._processes.initialise(deadline, RESTORE, limit_cpu=False)
        if failure is not None:
            raise failure.restore_error()
        self._processes.is_attended = False
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
        processes = self._processes
        if processes.is_resetting and processes.resetting is not None:
            await processes.resetting  # an extension failed meanwhile
        if processes.is_frozen:
            processes.thaw()
        self._output.begin_tail(is_wanted=invocation.wants_tail)
        init_ms, self._pending_init_ms = self._pending_init_ms, None
        restore_ms, self._pending_restore_ms = self._pending_restore_ms, None
        loop = asyncio.get_running_loop()
        self._deadline.set(loop, timeout_s)
        self._dispatched = 0.0
        try:
            ending = await self._run(invocation, began, now)
        finally:
            self._deadline.clear()
        answered = time.monotonic()
        host = processes.extended
        if host is not None:
            course = Course(
                began=began,
                epoch=now,
                init_ms=init_ms,
                restore_ms=restore_ms,
                dispatched=self._dispatched,
                answered=answered,
            )
            return await self._answer_early(invocation, ending, course, host)
        processes.is_attended = False
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
        if self._reporter.is_json:
            course = Course(began=began, epoch=now, dispatched=self._dispatched, answered=answered)
            tell_runtime_done(None, self._reporter, invocation, ending, course)
        self._reporter.report(invocation.request_id, measured, time.time(), invocation.tenant_id)
        log_tail = self._output.take_tail()
        if self._exchange.phase is Phase.RESPONDED:
            # The runtime has answered and has not asked for more: it has what is left of its time.
            processes.expect_next(began + timeout_s - time.monotonic())
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
        is_free = self._exchange.phase in (Phase.READY, Phase.STOPPED)
        if (is_free and not self._is_unsettled) or not self.is_usable:
            callback(self)
        else:
            self._on_free = callback

    @property
    def _is_unsettled(self) -> bool:
        return self._processes.is_resetting or self._settling is not None

    def freeze(self) -> None:
        """Stops every process of the environment until the next invocation, and notes the memory
        that it holds meanwhile."""
        if self.is_usable and not self.is_frozen and self._exchange.phase is Phase.READY:
            self._output.drain()
            host = self._processes.extended
            if host is not None:
                if self._is_unsettled or not host.may_freeze():
                    return  # asked again a little later
                host.telemetry.pause()
            try:
                self._sandbox.freeze()
                self.idle_mib = self._sandbox.memory_bytes() / limits.MIB
            except (OSError, PlatformError):
                # It is about to be found dead, and then not used again.
                log.warning("environment not frozen id=%s", self.id, exc_info=True)
                return
            self._processes.is_frozen = True

    async def close(self) -> None:
        """Ends the environment. May be called again."""
        if self._is_closed:
            return
        self._is_closed = self._processes.is_closing = True
        self._deadline.close()
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.gather(self._settling, return_exceptions=True)
        await self._processes.close()
        await self._sandbox.stop()
        self._output.close()
        self._free()
        if self.on_closed is not None:
            self.on_closed()

    async def _run(self, invocation: Invocation, began: float, epoch: float) -> Ending:
        """From a slot in any state to the ending of this invocation, which began at that time of
        the monotonic and of the wall clock."""
        request_id = invocation.request_id
        timeout_s = self.version.timeout_s
        processes = self._processes
        failure = None
        if self._exchange.phase is not Phase.READY:
            deadline = began + timeout_s
            failure = await processes.initialise(deadline, "invoke", limit_cpu=True)
        # After an INIT that it had to repeat, as in AWS's logs.
        self._reporter.start(request_id, time.time(), invocation.tenant_id)
        if failure is not None:
            return failure.ending(request_id)
        host = processes.extended
        self._dispatched = time.monotonic()
        if host is not None:
            processes.is_attended = True
            host.events.start(invocation, epoch)
            host.dispatch_invoke(invocation, epoch + timeout_s)
        event = runtime_event(invocation, epoch + timeout_s)
        answer = self._exchange.dispatch(event, invocation.sink)
        try:
            result = await answer
        except DeadlinePassed:
            ending = processes.timed_out(request_id)
            if host is None:
                await processes.reset()
            ending.reset_reason = "timeout"
            return ending
        except ExtensionFailed as failed:
            return processes.extension_failed(request_id, failed.fault)
        except EventNotTaken:
            raise SandboxEnded from None
        except RuntimeEnded:
            return processes.runtime_ended(request_id)
        stream = result.stream
        if stream is not None and stream.was_lost and await processes.exits_soon():
            return processes.runtime_ended(request_id)
        return ending_of(result)

    async def _answer_early(
        self, invocation: Invocation, ending: Ending, course: Course, host: ExtensionHost
    ) -> Outcome:
        """The answer is the caller's now; the invocation goes on until the extensions are done.
        Only whoever wants its log waits for the end of that."""
        reported: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        outcome = Outcome(
            payload=ending.payload,
            executed_version=self.version.version,
            function_error=ending.function_error,
            error_type=ending.error_type,
            duration_ms=(course.answered - course.began) * 1000,
            is_streamed=ending.stream is not None,
            is_settling=True,
        )
        self._settling = asyncio.create_task(
            self._settle(invocation, ending, course, host, reported)
        )

        def on_settled(_: asyncio.Task[None]) -> None:
            # No ``finally`` in the task: one that is cancelled before its first step has none.
            if not reported.done():
                # The environment is being ended: what has been measured so far has to do.
                tell_settled(invocation, measure(ending, course, 0))
                reported.set_result(b"")
            self._settling = None
            self._processes.is_attended = False
            self._free_if_settled()

        self._settling.add_done_callback(on_settled)
        if invocation.wants_tail:
            outcome.log_tail = await reported
        return outcome

    async def _settle(
        self,
        invocation: Invocation,
        ending: Ending,
        course: Course,
        host: ExtensionHost,
        reported: asyncio.Future[bytes],
    ) -> None:
        """The rest of an invocation: report, and reset if it is needed."""
        reason = await self._await_idle(invocation, ending, course, host)
        if ending.status == "timeout":
            self._reporter.timed_out(invocation.request_id, self.version.timeout_s)
        self._output.drain()
        host.drain()
        measured = measure(ending, course, self._sandbox.memory_peak_bytes())
        tell_report(host.events, self._reporter, invocation, measured, course)
        tell_settled(invocation, measured)
        reported.set_result(self._output.take_tail())
        if reason is not None:
            await self._processes.reset(reason)

    async def _await_idle(
        self, invocation: Invocation, ending: Ending, course: Course, host: ExtensionHost
    ) -> str | None:
        """Returns when the runtime and all extensions ask for their next event, or with the reason
        why the environment is to be reset. ``ending`` is changed to what the report is to say."""
        reason = ending.reset_reason
        left_s = course.began + self.version.timeout_s - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                if reason is None:
                    await self._processes.conditions.until(self._is_runtime_done)
                    if self._exchange.phase is Phase.STOPPED:
                        reason = "failure"
                course.runtime_done = time.monotonic()
                tell_runtime_done(host.events, self._reporter, invocation, ending, course)
                if reason is None:
                    await host.until_ready()
        except TimeoutError:
            reason = ending.status = "timeout"
            ending.error_type = None
        except ExtensionFailed as failed:
            reason = "failure"
            failure = self._processes.extension_failed(invocation.request_id, failed.fault)
            ending.status, ending.error_type = failure.status, failure.error_type
        if not course.runtime_done:
            course.runtime_done = time.monotonic()
            tell_runtime_done(host.events, self._reporter, invocation, ending, course)
        return reason

    def _is_runtime_done(self) -> bool:
        return self._exchange.phase in (Phase.READY, Phase.STOPPED)

    def _free_if_settled(self) -> None:
        if self._on_free is not None and (not self._is_unsettled or self._sandbox.is_dead):
            self._free()

    def _tell_exit(self) -> None:
        if self.on_exit is not None:
            self.on_exit()

    def _free(self) -> None:
        callback, self._on_free = self._on_free, None
        if callback is not None:
            callback(self)
