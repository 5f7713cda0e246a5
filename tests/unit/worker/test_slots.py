"""One execution environment through INIT, invocations, failures and its end.

The sandbox is a fake whose runtime speaks real HTTP to the slot's Runtime API.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from firelet.model import limits
from firelet.model.errors import SandboxEnded
from firelet.model.function import LoggingConfig
from firelet.model.invocation import Outcome
from firelet.sandbox.driver import RuntimeStart
from firelet.worker.slots import Slot, SlotParts
from unit.versions import OTHER_ID, REQUEST_ID, make_invocation, make_version
from unit.worker.fake_sandbox import Exited, FakeSandbox, Program, Reply, Runtime, frame
from unit.worker.loop_clock import LoopClock

START = RuntimeStart(environment={}, arguments=None, name="python3.13")
ERROR = b'{"errorMessage":"no","errorType":"ValueError"}'


class Bench:
    """A slot, its sandbox, and the log that it wrote."""

    def __init__(self, program: Program, clock: LoopClock, **options: Any) -> None:
        slot_options = {
            name: options.pop(name) for name in ("init_timeout_s", "entry_error") if name in options
        }
        self.clock = clock
        self.version = make_version(**options)
        self.sandbox = FakeSandbox(program)
        self.events: list[tuple[int, str]] = []
        self.slot = Slot(
            SlotParts(
                version=self.version,
                sandbox=self.sandbox,
                start=START,
                write=lambda stamp, message: self.events.append((stamp, message)),
                **slot_options,
            )
        )
        self.freed: list[Slot] = []

    @property
    def lines(self) -> list[str]:
        return "".join(message for _, message in self.events).splitlines()

    @property
    def starts(self) -> int:
        return self.sandbox.calls.count("start")

    def kinds(self) -> list[str]:
        """The first word of every line of the log."""
        return [line.split()[0] for line in self.lines if line]

    async def open(self) -> Bench:
        await self.slot.open()
        await self.slot.initialise()
        return self

    async def invoke(self, **changes: Any) -> Outcome:
        return await self.slot.invoke(make_invocation(self.version, **changes))

    def begin(self, **changes: Any) -> asyncio.Task[Outcome]:
        return asyncio.create_task(self.invoke(**changes))

    async def free(self) -> None:
        """Until the slot may serve again."""
        before = len(self.freed)
        self.slot.when_free(self.freed.append)
        await self.clock.until(lambda: len(self.freed) > before)


Bring = Callable[..., Any]


@pytest.fixture
async def clock() -> AsyncIterator[LoopClock]:
    clock = LoopClock(asyncio.get_running_loop())
    yield clock
    clock.restore()


@pytest.fixture
async def unopened(clock: LoopClock) -> AsyncIterator[Bring]:
    """Makes slots that have not been opened yet."""
    made: list[Bench] = []

    def make(program: Program, **options: Any) -> Bench:
        made.append(Bench(program, clock, **options))
        return made[-1]

    yield make
    for bench in made:
        await bench.slot.close()
        await bench.sandbox.stop()


@pytest.fixture
def initialised(unopened: Bring) -> Bring:
    """Makes slots that have been through INIT."""

    async def make(program: Program, **options: Any) -> Bench:
        return await unopened(program, **options).open()

    return make


async def echo(runtime: Runtime) -> None:
    while True:
        event = await runtime.next()
        await runtime.respond(event, event.body)


def error_of(outcome: Outcome) -> dict[str, str]:
    document: dict[str, str] = json.loads(outcome.payload)
    assert list(document) == ["errorType", "errorMessage"]
    assert outcome.function_error == "Unhandled"
    assert outcome.error_type == document["errorType"]
    return document


class ByStart:
    """A different program for each process that is started; the last one goes on."""

    def __init__(self, *programs: Program) -> None:
        self._programs = list(programs)

    async def __call__(self, runtime: Runtime) -> None:
        program = self._programs.pop(0) if len(self._programs) > 1 else self._programs[0]
        await program(runtime)


async def hang_in_init(runtime: Runtime) -> None:
    await runtime.hang()


async def hang_in_invoke(runtime: Runtime) -> None:
    await runtime.next()
    await runtime.hang()


async def fail_init(runtime: Runtime) -> None:
    await runtime.fail_init(b'{"errorMessage":"x","errorType":"Runtime.ImportModuleError"}')
    raise Exited(1)


class TestInit:
    async def test_a_good_one_is_told_by_the_first_report_only(self, initialised: Bring) -> None:
        bench = await initialised(echo)
        assert bench.kinds() == ["INIT_START"]
        await bench.invoke()
        await bench.free()
        await bench.invoke()
        first, second = (line for line in bench.lines if line.startswith("REPORT"))
        assert "\tInit Duration: " in first
        assert "Init Duration" not in second
        assert bench.starts == 1

    async def test_it_has_all_of_the_host_s_cpu_and_invocations_their_share(
        self, initialised: Bring
    ) -> None:
        bench = await initialised(echo, memory_mib=1769)
        assert bench.sandbox.calls == ["vcpus None", "start", "vcpus 1.0"]

    async def test_an_error_is_logged_and_the_first_invocation_repeats_it(
        self, initialised: Bring
    ) -> None:
        bench = await initialised(fail_init)
        assert bench.slot.is_usable
        assert re.fullmatch(
            r"INIT_REPORT Init Duration: \d+\.\d\d ms\tPhase: init\tStatus: error\t"
            r"Error Type: Runtime\.ImportModuleError",
            bench.lines[1],
        )
        outcome = await bench.invoke()
        assert json.loads(outcome.payload)["errorType"] == "Runtime.ImportModuleError"
        assert outcome.function_error == "Unhandled"
        assert bench.starts == 2
        assert bench.kinds() == [
            "INIT_START",
            "INIT_REPORT",
            "INIT_REPORT",
            "START",
            "END",
            "REPORT",
        ]
        assert "\tPhase: invoke\t" in bench.lines[2]
        assert "Init Duration" not in bench.lines[5]

    async def test_an_invocation_goes_on_when_the_repeated_one_is_good(
        self, initialised: Bring
    ) -> None:
        bench = await initialised(ByStart(fail_init, echo))
        assert (await bench.invoke(payload=b"7")).payload == b"7"
        assert bench.kinds()[-3:] == ["START", "END", "REPORT"]
        assert "Init Duration" not in bench.lines[-1]

    async def test_a_process_that_ends_is_an_exit_error(self, initialised: Bring) -> None:
        async def crash(_runtime: Runtime) -> None:
            raise Exited(7)

        bench = await initialised(crash)
        assert bench.lines[1].endswith("\tStatus: error\tError Type: Runtime.ExitError")
        assert error_of(await bench.invoke()) == {
            "errorType": "Runtime.ExitError",
            "errorMessage": f"RequestId: {REQUEST_ID} Error: Runtime exited with error:"
            " exit status 7",
        }

    async def test_what_it_printed_before_it_failed_stands_before_its_report(
        self, initialised: Bring
    ) -> None:
        async def crash(runtime: Runtime) -> None:
            runtime.print("Traceback: broken\n")
            raise Exited(1)

        bench = await initialised(crash)
        assert bench.kinds() == ["INIT_START", "Traceback:", "INIT_REPORT"]

    async def test_one_that_takes_too_long_is_ended_and_repeated_by_the_first_invocation(
        self, unopened: Bring, clock: LoopClock
    ) -> None:
        bench = unopened(ByStart(hang_in_init, echo), init_timeout_s=10.0)
        opening = asyncio.create_task(bench.open())
        await clock.until(lambda: bench.starts == 1)
        await clock.advance(9.9)
        assert not opening.done()
        await clock.advance(0.2)
        await opening
        assert bench.lines[1].endswith("\tPhase: init\tStatus: timeout")
        assert "kill" in bench.sandbox.calls
        assert (await bench.invoke(payload=b"7")).payload == b"7"

    async def test_a_repeated_one_is_under_the_function_s_timeout(
        self, initialised: Bring, clock: LoopClock
    ) -> None:
        bench = await initialised(ByStart(fail_init, hang_in_init), timeout_s=3)
        running = bench.begin()
        await clock.until(lambda: bench.starts == 2)
        await clock.advance(3.1)
        assert error_of(await running)["errorMessage"].endswith("Task timed out after 3.00 seconds")
        assert bench.lines[-1].endswith("\tStatus: timeout")

    async def test_a_runtime_that_reports_an_error_and_does_not_end_is_ended(
        self, unopened: Bring, clock: LoopClock
    ) -> None:
        async def linger(runtime: Runtime) -> None:
            await runtime.fail_init(ERROR)
            await runtime.hang()

        bench = unopened(linger)
        opening = asyncio.create_task(bench.open())
        await clock.until(lambda: bench.sandbox.has_process)
        for _ in range(100):
            await clock.advance(0.1)
            if opening.done():
                break
        await opening
        assert not bench.sandbox.has_process
        assert bench.lines[-1].endswith("\tStatus: error\tError Type: ValueError")

    async def test_nothing_is_started_where_there_is_no_entry_point(
        self, initialised: Bring
    ) -> None:
        text = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
        bench = await initialised(echo, runtime="provided.al2023", entry_error=text)
        assert bench.lines[1].endswith("\tError Type: Runtime.InvalidEntrypoint")
        assert error_of(await bench.invoke()) == {
            "errorType": "Runtime.InvalidEntrypoint",
            "errorMessage": f"RequestId: {REQUEST_ID} Error: {text}",
        }
        assert bench.starts == 0

    async def test_a_sandbox_that_dies_in_it_is_of_no_use(
        self, unopened: Bring, clock: LoopClock
    ) -> None:
        bench = unopened(hang_in_init)
        opening = asyncio.create_task(bench.open())
        await clock.until(lambda: bench.starts == 1)
        bench.sandbox.die()
        await opening
        assert not bench.slot.is_usable


class TestInvoke:
    async def test_the_runtime_gets_payload_and_headers_and_the_caller_its_answer(
        self, initialised: Bring
    ) -> None:
        events: list[Reply] = []

        async def keep(runtime: Runtime) -> None:
            while True:
                events.append(await runtime.next())
                await runtime.respond(events[-1], b'{"a":  1}')

        bench = await initialised(keep, timeout_s=30)
        before = time.time()
        outcome = await bench.invoke(payload=b'{"key":  [1]}')
        assert outcome.duration_ms > 0
        assert replace(outcome, duration_ms=0.0) == Outcome(
            payload=b'{"a":  1}', executed_version="$LATEST"
        )
        (event,) = events
        assert (event.status, event.body) == (200, b'{"key":  [1]}')
        assert event.headers["content-type"] == "application/json"
        assert event.headers["lambda-runtime-aws-request-id"] == REQUEST_ID
        assert event.headers["lambda-runtime-invoked-function-arn"] == bench.version.unqualified_arn
        deadline_ms = int(event.headers["lambda-runtime-deadline-ms"])
        assert before + 30 - 0.001 <= deadline_ms / 1000 <= time.time() + 30
        absent = {"trace-id", "client-context", "aws-tenant-id"}
        assert not {f"lambda-runtime-{name}" for name in absent} & set(event.headers)

    async def test_trace_client_context_and_tenant_pass_as_they_came(
        self, initialised: Bring
    ) -> None:
        events: list[Reply] = []

        async def keep(runtime: Runtime) -> None:
            events.append(await runtime.next())
            await runtime.respond(events[-1])

        bench = await initialised(keep)
        await bench.invoke(
            trace_id="Root=1-2-3;Sampled=1", client_context='{"custom":{"é":1}}', tenant_id="blue"
        )
        assert events[0].headers["lambda-runtime-aws-tenant-id"] == "blue"
        assert events[0].headers["lambda-runtime-trace-id"] == "Root=1-2-3;Sampled=1"
        assert events[0].headers["lambda-runtime-client-context"] == '{"custom":{"é":1}}'

    async def test_one_process_serves_many(self, initialised: Bring) -> None:
        bench = await initialised(echo)
        for number in range(20):
            payload = str(number).encode()
            assert (await bench.invoke(payload=payload)).payload == payload
            await bench.free()
        assert bench.starts == 1

    async def test_an_error_of_the_function_passes_untouched(self, initialised: Bring) -> None:
        async def fail(runtime: Runtime) -> None:
            while True:
                await runtime.fail(await runtime.next(), ERROR)

        bench = await initialised(fail)
        outcome = await bench.invoke()
        assert (outcome.payload, outcome.function_error, outcome.error_type) == (
            ERROR,
            "Unhandled",
            "ValueError",
        )
        assert bench.lines[-1].endswith("\tStatus: error\tError Type: ValueError")
        await bench.free()
        assert (await bench.invoke()).payload == ERROR
        assert bench.starts == 1

    async def test_a_result_over_the_limit_is_the_function_s_error(
        self, initialised: Bring
    ) -> None:
        replies: list[Reply] = []

        async def exaggerate(runtime: Runtime) -> None:
            event = await runtime.next()
            replies.append(await runtime.respond(event, b"x" * (limits.RESPONSE_MAX_BYTES + 1)))

        bench = await initialised(exaggerate)
        outcome = await bench.invoke()
        assert outcome.payload == (
            b'{"errorMessage":"Response payload size exceeded maximum allowed payload size'
            b' (6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}'
        )
        assert outcome.error_type == "Function.ResponseSizeTooLarge"
        await bench.clock.until(lambda: replies)
        assert replies[0].status == 413

    async def test_a_result_at_the_limit_passes(self, initialised: Bring) -> None:
        async def fill(runtime: Runtime) -> None:
            await runtime.respond(await runtime.next(), b"x" * limits.RESPONSE_MAX_BYTES)
            await runtime.next()

        bench = await initialised(fill)
        assert len((await bench.invoke()).payload) == limits.RESPONSE_MAX_BYTES

    async def test_garbage_on_the_runtime_api_disturbs_nothing(self, initialised: Bring) -> None:
        bench = await initialised(echo)
        reader, writer = await asyncio.open_connection(*bench.sandbox.address)
        writer.write(b"\x16\x03\x01 GET / nonsense\r\n\r\n")
        assert b" 400 " in await reader.read()
        writer.close()
        assert (await bench.invoke(payload=b"7")).payload == b"7"


class TestFree:
    async def test_the_answer_is_given_before_the_runtime_asks_again(
        self, initialised: Bring
    ) -> None:
        may_ask = asyncio.Event()

        async def dawdle(runtime: Runtime) -> None:
            while True:
                await runtime.respond(await runtime.next(), b"1")
                await may_ask.wait()

        bench = await initialised(dawdle)
        assert (await bench.invoke()).payload == b"1"
        bench.slot.when_free(bench.freed.append)
        await bench.clock.advance(0)
        assert bench.freed == []
        may_ask.set()
        await bench.clock.until(lambda: bench.freed)
        assert bench.freed == [bench.slot]

    async def test_a_runtime_that_never_asks_again_is_ended_when_its_time_is_over(
        self, initialised: Bring, clock: LoopClock
    ) -> None:
        async def stay_away(runtime: Runtime) -> None:
            await runtime.respond(await runtime.next(), b"1")
            await runtime.hang()

        bench = await initialised(ByStart(stay_away, echo), timeout_s=3)
        await bench.invoke()
        bench.slot.when_free(bench.freed.append)
        await clock.advance(2.5)
        assert bench.freed == []
        await clock.advance(0.6)
        await clock.until(lambda: bench.freed)
        assert "kill" in bench.sandbox.calls
        assert (await bench.invoke(payload=b"7")).payload == b"7"

    async def test_the_time_of_one_invocation_does_not_end_the_next_one(
        self, initialised: Bring, clock: LoopClock
    ) -> None:
        may_ask = asyncio.Event()

        async def work_after_the_second(runtime: Runtime) -> None:
            await runtime.respond(await runtime.next())
            await runtime.respond(await runtime.next())
            await may_ask.wait()
            await echo(runtime)

        bench = await initialised(work_after_the_second, timeout_s=3)
        await bench.invoke()
        await bench.free()
        await clock.advance(2)
        await bench.invoke()
        # The first one's three seconds are over, the second one has two left.
        await clock.advance(1.1)
        assert "kill" not in bench.sandbox.calls
        may_ask.set()
        await bench.free()
        assert bench.starts == 1

    async def test_nothing_is_left_to_wait_for_once_the_runtime_asked_again(
        self, initialised: Bring, clock: LoopClock
    ) -> None:
        bench = await initialised(echo, timeout_s=900)
        loop: Any = asyncio.get_running_loop()
        await bench.invoke()
        await bench.free()
        before = sum(not handle.cancelled() for handle in loop._scheduled)
        for _ in range(10):
            await bench.invoke()
            await bench.free()
        assert sum(not handle.cancelled() for handle in loop._scheduled) <= before


class TestExit:
    @pytest.mark.parametrize(
        ("ending", "message"),
        [
            (Exited(0), "Runtime exited without providing a reason"),
            (Exited(3), "Runtime exited with error: exit status 3"),
            (
                Exited(signal=signal.SIGSEGV),
                "Runtime exited with error: signal: segmentation fault",
            ),
            (
                Exited(signal=signal.SIGKILL, is_out_of_memory=True),
                "Runtime exited with error: signal: killed",
            ),
        ],
    )
    async def test_a_process_that_ends_is_told_by_how_it_ended(
        self, initialised: Bring, ending: Exited, message: str
    ) -> None:
        async def crash(runtime: Runtime) -> None:
            await runtime.next()
            raise ending

        bench = await initialised(crash)
        assert error_of(await bench.invoke()) == {
            "errorType": "Runtime.ExitError",
            "errorMessage": f"RequestId: {REQUEST_ID} Error: {message}",
        }
        assert bench.lines[-1].endswith("\tStatus: error\tError Type: Runtime.ExitError")

    async def test_the_kernel_s_out_of_memory_is_told_in_the_log(self, initialised: Bring) -> None:
        async def grow(runtime: Runtime) -> None:
            await runtime.next()
            raise Exited(signal=signal.SIGKILL, is_out_of_memory=True)

        bench = await initialised(grow, memory_mib=256)
        await bench.invoke()
        (line,) = [line for line in bench.lines if "out of memory" in line]
        assert REQUEST_ID in line
        assert "256 MB" in line

    async def test_the_next_invocation_runs_init_again_and_does_not_report_it(
        self, initialised: Bring
    ) -> None:
        async def crash(runtime: Runtime) -> None:
            await runtime.next()
            raise Exited(3)

        bench = await initialised(ByStart(crash, echo))
        await bench.invoke()
        await bench.free()
        assert (await bench.invoke(request_id=OTHER_ID, payload=b"7")).payload == b"7"
        assert bench.starts == 2
        assert "Init Duration" not in bench.lines[-1]
        assert bench.kinds().count("INIT_START") == 1

    async def test_one_that_never_reached_the_runtime_is_told_with_its_own_times(
        self, initialised: Bring
    ) -> None:
        async def crash(runtime: Runtime) -> None:
            await runtime.next()
            raise Exited(3)

        logging = LoggingConfig(log_format="JSON", log_group="/a", system_log_level="DEBUG")
        bench = await initialised(ByStart(crash, fail_init), logging=logging)
        await bench.invoke()
        await bench.free()
        await bench.invoke(request_id=OTHER_ID)
        records = [json.loads(line) for line in bench.lines]
        *_, done, report = [each["record"] for each in records]
        assert done["requestId"] == report["requestId"] == OTHER_ID
        # The runtime of the first invocation has nothing to do with it.
        assert done["metrics"]["durationMs"] <= report["metrics"]["durationMs"]

    async def test_an_exit_after_the_answer_does_not_change_it(self, initialised: Bring) -> None:
        async def leave(runtime: Runtime) -> None:
            await runtime.respond(await runtime.next(), b"1")
            raise Exited(9)

        bench = await initialised(ByStart(leave, echo))
        assert (await bench.invoke()).function_error is None
        await bench.free()
        assert (await bench.invoke(payload=b"7")).payload == b"7"

    async def test_an_exit_while_idle_costs_the_next_invocation_an_init_only(
        self, initialised: Bring, clock: LoopClock
    ) -> None:
        leaves = asyncio.Event()

        async def leave(runtime: Runtime) -> None:
            asking = asyncio.create_task(runtime.next())
            await leaves.wait()
            asking.cancel()
            raise Exited(1)

        bench = await initialised(ByStart(leave, echo))
        leaves.set()
        await clock.until(lambda: not bench.sandbox.has_process)
        assert bench.slot.is_usable
        assert (await bench.invoke(payload=b"7")).payload == b"7"

    async def test_a_signal_that_has_no_name_is_told_by_its_number(
        self, initialised: Bring
    ) -> None:
        async def crash(runtime: Runtime) -> None:
            await runtime.next()
            raise Exited(signal=40)

        bench = await initialised(crash)
        assert error_of(await bench.invoke())["errorMessage"].endswith("signal: signal 40")

    async def test_the_end_of_the_sandbox_ends_the_invocation_and_the_slot(
        self, initialised: Bring, clock: LoopClock
    ) -> None:
        bench = await initialised(hang_in_invoke)
        running = bench.begin()
        await clock.until(lambda: "START" in bench.kinds())
        bench.sandbox.die()
        assert error_of(await running)["errorType"] == "Runtime.ExitError"
        assert not bench.slot.is_usable
        bench.slot.when_free(bench.freed.append)
        assert bench.freed == [bench.slot]

    async def test_a_dead_sandbox_takes_no_invocation(self, initialised: Bring) -> None:
        bench = await initialised(echo)
        bench.sandbox.die()
        with pytest.raises(SandboxEnded):
            await bench.invoke()

    async def test_an_event_that_its_runtime_was_gone_for_is_not_taken(
        self, initialised: Bring, clock: LoopClock
    ) -> None:
        connection_is_lost, killed = asyncio.Event(), asyncio.Event()

        async def vanish(runtime: Runtime) -> None:
            waiting = asyncio.create_task(runtime.next())
            await connection_is_lost.wait()
            await runtime.close()
            waiting.cancel()
            await killed.wait()
            raise Exited(signal=9)

        bench = await initialised(ByStart(vanish, echo))
        connection_is_lost.set()
        await clock.until(lambda: bench.slot._exchange._next is None)
        running = bench.begin()
        await clock.until(lambda: "START" in bench.kinds())
        killed.set()
        with pytest.raises(SandboxEnded):
            await running
        assert (await bench.invoke(payload=b"7")).payload == b"7"


class TestTimeout:
    async def test_it_ends_the_process_and_the_next_invocation_runs_init_again(
        self, initialised: Bring, clock: LoopClock
    ) -> None:
        bench = await initialised(ByStart(hang_in_invoke, echo), timeout_s=3)
        running = bench.begin()
        await clock.until(lambda: "START" in bench.kinds())
        await clock.advance(2.9)
        assert not running.done()
        await clock.advance(0.2)
        assert error_of(await running) == {
            "errorType": "Sandbox.Timedout",
            "errorMessage": f"RequestId: {REQUEST_ID} Error: Task timed out after 3.00 seconds",
        }
        assert bench.sandbox.calls[-1] == "kill"
        await bench.free()
        assert (await bench.invoke(payload=b"7")).payload == b"7"
        assert bench.starts == 2
        assert "Init Duration" not in bench.lines[-1]

    async def test_its_line_stands_before_end_and_its_status_in_the_report(
        self, initialised: Bring, clock: LoopClock
    ) -> None:
        bench = await initialised(hang_in_invoke, timeout_s=3)
        running = bench.begin()
        await clock.until(lambda: "START" in bench.kinds())
        await clock.advance(3.1)
        await running
        lines = [line for line in bench.lines if line]
        assert lines[-3].endswith(f"Z {REQUEST_ID} Task timed out after 3.00 seconds")
        assert lines[-2] == f"END RequestId: {REQUEST_ID}"
        assert lines[-1].endswith("\tStatus: timeout")

    async def test_a_sandbox_that_does_not_obey_is_stopped(
        self, initialised: Bring, clock: LoopClock
    ) -> None:
        bench = await initialised(hang_in_invoke, timeout_s=3)
        bench.sandbox.refuses_to_reset = True
        running = bench.begin()
        await clock.until(lambda: "START" in bench.kinds())
        await clock.advance(3.1)
        assert error_of(await running)["errorType"] == "Sandbox.Timedout"
        assert bench.sandbox.is_stopped
        assert not bench.slot.is_usable

    async def test_a_stopped_sandbox_s_pipes_are_not_watched_any_more(
        self, initialised: Bring, clock: LoopClock
    ) -> None:
        bench = await initialised(hang_in_invoke, timeout_s=3)
        watched = [bench.sandbox.output_fd, bench.sandbox.log_fd]
        bench.sandbox.refuses_to_reset = True
        running = bench.begin()
        await clock.until(lambda: "START" in bench.kinds())
        await clock.advance(3.1)
        await running
        # Their numbers may belong to another sandbox from here on.
        loop = asyncio.get_running_loop()
        assert [loop.remove_reader(fd) for fd in watched] == [False, False]


class TestLog:
    async def test_what_the_function_writes_stands_between_start_and_end(
        self, initialised: Bring
    ) -> None:
        async def chat(runtime: Runtime) -> None:
            while True:
                event = await runtime.next()
                runtime.print("printed\n")
                runtime.log("logged\n")
                runtime.print("unfinished")
                await runtime.respond(event)

        bench = await initialised(chat)
        for _ in range(3):
            await bench.invoke()
            await bench.free()
        words = bench.kinds()[1:]
        for start in range(0, len(words), 6):
            assert words[start] == "START"
            assert sorted(words[start + 1 : start + 4]) == ["logged", "printed", "unfinished"]
            assert words[start + 4 : start + 6] == ["END", "REPORT"]
        assert len(words) == 18

    async def test_a_record_of_several_lines_is_one_event(self, initialised: Bring) -> None:
        async def log(runtime: Runtime) -> None:
            event = await runtime.next()
            runtime.log("one\ntwo\n")
            await runtime.respond(event)

        bench = await initialised(log)
        await bench.invoke()
        assert "one\ntwo\n" in [message for _, message in bench.events]

    async def test_what_is_written_between_invocations_is_not_lost(
        self, initialised: Bring, clock: LoopClock
    ) -> None:
        async def trail(runtime: Runtime) -> None:
            await runtime.respond(await runtime.next())
            asking = asyncio.create_task(runtime.next())
            runtime.print("afterthought\n")
            await asking

        bench = await initialised(trail)
        await bench.invoke()
        await clock.until(lambda: "afterthought" in bench.lines)

    async def test_a_frame_cut_off_by_a_timeout_does_not_garble_the_next_process_s(
        self, initialised: Bring, clock: LoopClock
    ) -> None:
        has_written = asyncio.Event()

        async def die_writing(runtime: Runtime) -> None:
            await runtime.next()
            runtime.log_bytes(frame("cut off by SIGKILL")[:-5])
            has_written.set()
            await runtime.hang()

        async def log(runtime: Runtime) -> None:
            event = await runtime.next()
            runtime.log("whole record\nof two lines\n")
            await runtime.respond(event)

        bench = await initialised(ByStart(die_writing, log), timeout_s=3)
        running = bench.begin()
        await clock.until(has_written.is_set)
        await clock.advance(3.1)
        await running
        await bench.free()
        await bench.invoke()
        assert "whole record\nof two lines\n" in [message for _, message in bench.events]

    async def test_the_tail_is_this_invocation_s_log_from_start_to_report(
        self, initialised: Bring
    ) -> None:
        async def chat(runtime: Runtime) -> None:
            while True:
                event = await runtime.next()
                runtime.print("heard " + event.body.decode() + "\n")
                await runtime.respond(event)

        bench = await initialised(chat)
        await bench.invoke(payload=b"1")
        await bench.free()
        tail = (await bench.invoke(payload=b"2", wants_tail=True)).log_tail.decode()
        assert tail.startswith(f"START RequestId: {REQUEST_ID} Version: $LATEST\nheard 2\nEND ")
        assert "\nREPORT RequestId: " in tail
        assert "heard 1" not in tail
        await bench.free()
        assert (await bench.invoke(payload=b"3")).log_tail == b""

    async def test_the_tail_is_the_last_4_kb(self, initialised: Bring) -> None:
        async def chat(runtime: Runtime) -> None:
            event = await runtime.next()
            runtime.print("x" * 10_000 + "\n")
            await runtime.respond(event)

        bench = await initialised(chat)
        tail = (await bench.invoke(wants_tail=True)).log_tail
        assert len(tail) == 4096
        assert b"REPORT RequestId" in tail

    async def test_memory_is_the_sandbox_s_own_measure(self, initialised: Bring) -> None:
        bench = await initialised(echo)
        bench.sandbox.peak_bytes = 77 * 2**20
        await bench.invoke()
        assert "\tMax Memory Used: 77 MB\t" in bench.lines[-1]


class TestFreeze:
    async def test_an_idle_slot_is_frozen_once_and_thawed_by_its_next_invocation(
        self, initialised: Bring
    ) -> None:
        bench = await initialised(echo)
        bench.slot.freeze()
        bench.slot.freeze()
        assert bench.slot.is_frozen
        assert bench.sandbox.calls[-1] == "freeze"
        assert (await bench.invoke(payload=b"7")).payload == b"7"
        assert not bench.slot.is_frozen
        assert bench.sandbox.calls[-2:] == ["freeze", "thaw"]

    async def test_the_memory_that_it_holds_is_noted_when_it_is_frozen(
        self, initialised: Bring
    ) -> None:
        bench = await initialised(echo)
        assert bench.slot.idle_mib == 0
        bench.sandbox.held_bytes = 5 * 2**20
        bench.slot.freeze()
        assert bench.slot.idle_mib == 5

    async def test_a_busy_slot_is_not_frozen(self, initialised: Bring, clock: LoopClock) -> None:
        bench = await initialised(hang_in_invoke)
        running = bench.begin()
        await clock.until(lambda: "START" in bench.kinds())
        await clock.advance(0)
        bench.slot.freeze()
        assert not bench.slot.is_frozen
        running.cancel()

    async def test_what_was_written_before_the_freeze_is_taken_in(
        self, initialised: Bring, clock: LoopClock
    ) -> None:
        bench = await initialised(echo)
        os.write(bench.sandbox.output, b"late\n")
        bench.slot.freeze()
        assert bench.lines[-1] == "late"


class TestClose:
    async def test_it_stops_the_sandbox_once(self, initialised: Bring) -> None:
        bench = await initialised(echo)
        await bench.slot.close()
        await bench.slot.close()
        assert bench.sandbox.calls.count("stop") == 1
        assert not bench.slot.is_usable

    async def test_the_runtime_api_answers_nobody_afterwards(self, initialised: Bring) -> None:
        bench = await initialised(echo)
        await bench.slot.close()
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            socket.create_connection(bench.sandbox.address).close()

    async def test_an_invocation_that_runs_hears_of_it(
        self, initialised: Bring, clock: LoopClock
    ) -> None:
        bench = await initialised(hang_in_invoke)
        running = bench.begin()
        await clock.until(lambda: "START" in bench.kinds())
        await clock.advance(0)
        await bench.slot.close()
        assert error_of(await running)["errorType"] == "Runtime.ExitError"

    async def test_who_waits_for_it_to_be_free_hears_of_it(
        self, initialised: Bring, clock: LoopClock
    ) -> None:
        async def dawdle(runtime: Runtime) -> None:
            await runtime.respond(await runtime.next(), b"1")
            await runtime.hang()

        bench = await initialised(dawdle)
        await bench.invoke()
        bench.slot.when_free(bench.freed.append)
        await bench.slot.close()
        assert bench.freed == [bench.slot]

    async def test_the_runtime_is_ended_before_its_connection(self, initialised: Bring) -> None:
        """It would spend the platform's time on a report of the lost connection."""
        bench = await initialised(echo)
        server = bench.slot._processes._server
        seen: list[bool] = []

        async def close() -> None:
            seen.append(bench.sandbox.is_dead)
            await type(server).close(server)

        server.close = close
        await bench.slot.close()
        assert seen == [True]

    async def test_last_words_are_written(self, initialised: Bring) -> None:
        bench = await initialised(echo)
        os.write(bench.sandbox.output, b"last words")
        await bench.slot.close()
        assert bench.lines[-1] == "last words"

    async def test_one_that_was_never_opened_may_be_closed(self, unopened: Bring) -> None:
        await unopened(echo).slot.close()
