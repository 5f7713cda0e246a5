"""One execution environment with extensions, from INIT to its shutdown.

The sandbox is a fake whose runtime and extensions speak real HTTP to the slot.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from firelet.model import limits
from firelet.model.function import LoggingConfig
from firelet.model.invocation import Outcome, Settled
from firelet.runtime.extensions import SHUTDOWN
from firelet.sandbox.driver import RuntimeStart
from firelet.worker.extension_host import ExternalExtensions
from firelet.worker.slots import Slot, SlotParts
from unit.versions import REQUEST_ID, make_invocation, make_version
from unit.worker.fake_sandbox import Exited, FakeSandbox, Program, Reply, Runtime
from unit.worker.loop_clock import LoopClock

START = RuntimeStart(environment={}, arguments=None, name="python3.13")
BASE = "/2020-01-01/extension"


async def echo(runtime: Runtime) -> None:
    while True:
        event = await runtime.next()
        await runtime.respond(event, event.body)


async def register(runtime: Runtime, *events: str, name: str | None = None) -> str:
    """The identifier."""
    own = getattr(runtime.start, "name", "")
    answer = await runtime.request(
        "POST",
        f"{BASE}/register",
        json.dumps({"events": events}).encode(),
        Lambda_Extension_Name=name or own,
    )
    assert answer.status == 200, answer.body
    return answer.headers["lambda-extension-identifier"]


async def next_event(runtime: Runtime, identifier: str) -> dict[str, Any]:
    answer = await runtime.request(
        "GET", f"{BASE}/event/next", Lambda_Extension_Identifier=identifier
    )
    event: dict[str, Any] = json.loads(answer.body)
    return event


def listener(
    *events: str, heard: list[dict[str, Any]] | None = None, gate: asyncio.Event | None = None
) -> Program:
    """An extension that notes what it hears, and ends when it is told to. With a gate it asks for
    more only while that is open."""

    async def run(runtime: Runtime) -> None:
        identifier = await register(runtime, *events)
        while True:
            event = await next_event(runtime, identifier)
            if heard is not None:
                heard.append(event)
            if event["eventType"] == SHUTDOWN:
                return
            if gate is not None:
                await gate.wait()

    return run


def with_internal(replies: list[Reply]) -> Program:
    """A runtime with an internal extension, which notes what it hears."""

    async def run(runtime: Runtime) -> None:
        other = Runtime(runtime._sandbox, runtime.start)
        identifier = await register(other, "INVOKE", name="inner")

        async def listen() -> None:
            while True:
                replies.append(
                    await other.request(
                        "GET", f"{BASE}/event/next", Lambda_Extension_Identifier=identifier
                    )
                )

        listening = asyncio.create_task(listen())
        try:
            await echo(runtime)
        finally:
            listening.cancel()
            await other.close()

    return run


class Bench:
    """A slot with extensions, its sandbox, and the log that it wrote."""

    def __init__(self, program: Program, extensions: dict[str, Program], **options: Any) -> None:
        self.version = make_version(**options)
        self.sandbox = FakeSandbox(program, extensions)
        self.events: list[str] = []
        self.slot = Slot(
            SlotParts(
                version=self.version,
                sandbox=self.sandbox,
                start=START,
                write=lambda _, message: self.events.append(message),
                external=ExternalExtensions(names=tuple(sorted(extensions))),
            )
        )

    @property
    def lines(self) -> list[str]:
        return "".join(self.events).splitlines()

    @property
    def has_report(self) -> bool:
        return any(line.startswith("REPORT") for line in self.lines)

    async def open(self) -> Bench:
        await self.slot.open()
        await self.slot.initialise()
        return self

    async def invoke(self, **changes: Any) -> Outcome:
        async with asyncio.timeout(30):
            return await self.slot.invoke(make_invocation(self.version, **changes))

    async def free(self) -> None:
        freed = asyncio.Event()
        self.slot.when_free(lambda _: freed.set())
        async with asyncio.timeout(30):
            await freed.wait()


Bring = Callable[..., Any]


@pytest.fixture
async def bring() -> AsyncIterator[Bring]:
    """Makes slots that have been through INIT."""
    made: list[Bench] = []

    async def make(
        program: Program = echo, extensions: dict[str, Program] | None = None, **options: Any
    ) -> Bench:
        made.append(Bench(program, extensions or {}, **options))
        return await made[-1].open()

    yield make
    for bench in made:
        await bench.slot.close()
        await bench.sandbox.stop()


class TestInit:
    async def test_the_runtime_starts_after_all_external_ones_have_registered(
        self, bring: Bring
    ) -> None:
        gate = asyncio.Event()

        async def late(runtime: Runtime) -> None:
            await gate.wait()
            await next_event(runtime, await register(runtime))

        bench = Bench(echo, {"early": listener(), "late": late})
        await bench.slot.open()
        opening = asyncio.create_task(bench.slot.initialise())
        async with asyncio.timeout(30):
            while "extension late" not in bench.sandbox.calls:
                await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert bench.sandbox.calls == ["vcpus None", "extension early", "extension late"]
        gate.set()
        await opening
        assert bench.sandbox.calls[3] == "start"
        await bench.slot.close()
        await bench.sandbox.stop()

    async def test_it_ends_when_all_have_asked_for_an_event(self, bring: Bring) -> None:
        gate = asyncio.Event()

        async def late(runtime: Runtime) -> None:
            identifier = await register(runtime)
            await gate.wait()
            await next_event(runtime, identifier)

        opening = asyncio.create_task(bring(echo, {"late": late}))
        await asyncio.sleep(0.05)
        assert not opening.done()
        gate.set()
        bench = await opening
        assert "EXTENSION\tName: late\tState: Ready\tEvents: []" in bench.lines

    async def test_one_that_does_not_register_costs_the_timeout(self, bring: Bring) -> None:
        bench = Bench(echo, {"mute": Runtime.hang})
        bench.slot._init_timeout_s = 0.05
        await bench.slot.open()
        await bench.slot.initialise()
        (report,) = (line for line in bench.lines if line.startswith("INIT_REPORT"))
        assert report.endswith("\tStatus: timeout")
        assert "EXTENSION\tName: mute\tState: Started\tEvents: []" in bench.lines
        assert bench.sandbox.calls.count("start") == 0
        await bench.slot.close()
        await bench.sandbox.stop()

    async def test_one_that_ends_fails_it_and_the_invocation_tells(self, bring: Bring) -> None:
        async def crash(runtime: Runtime) -> None:
            await register(runtime, "INVOKE")
            raise Exited(3)

        bench = await bring(echo, {"crash": crash})
        assert "\tPhase: init\tStatus: error\tError Type: Extension.Crash" in "".join(bench.events)
        outcome = await bench.invoke()
        assert json.loads(outcome.payload) == {
            "errorType": "Extension.Crash",
            "errorMessage": f"RequestId: {REQUEST_ID} Error: exit status 3",
        }
        assert outcome.function_error == "Unhandled"


class TestInvoke:
    async def test_extensions_hear_of_it_and_the_caller_does_not_wait_for_them(
        self, bring: Bring
    ) -> None:
        heard: list[dict[str, Any]] = []
        gate = asyncio.Event()
        bench = await bring(echo, {"slow": listener("INVOKE", heard=heard, gate=gate)})
        outcome = await bench.invoke(payload=b"1")
        assert outcome.payload == b"1"
        assert not bench.has_report
        free = asyncio.create_task(bench.free())
        await asyncio.sleep(0.05)
        assert not free.done()
        bench.slot.freeze()
        assert not bench.slot.is_frozen
        gate.set()
        await free
        assert bench.has_report
        assert [event["requestId"] for event in heard] == [REQUEST_ID]
        bench.slot.freeze()
        assert bench.slot.is_frozen

    async def test_how_long_it_took_is_told_when_they_are_done(self, bring: Bring) -> None:
        gate = asyncio.Event()
        settled: list[Settled] = []
        bench = await bring(echo, {"slow": listener("INVOKE", gate=gate)})
        outcome = await bench.invoke(on_settled=settled.append)
        assert outcome.is_settling
        assert settled == []
        gate.set()
        await bench.free()
        (told,) = settled
        (report,) = (line for line in bench.lines if line.startswith("REPORT"))
        assert f"\tDuration: {told.duration_ms:.2f} ms\t" in report
        assert told.duration_ms > outcome.duration_ms
        assert 0 < told.extensions_ms <= told.duration_ms

    async def test_the_log_has_the_records_of_the_subscribers(self, bring: Bring) -> None:
        logging = LoggingConfig(log_format="JSON", log_group="/a", system_log_level="DEBUG")
        bench = await bring(echo, {"any": listener("INVOKE")}, logging=logging)
        await bench.invoke(payload=b"four")
        await bench.free()
        records = {each["type"]: each["record"] for each in map(json.loads, bench.lines)}
        done, report = records["platform.runtimeDone"], records["platform.report"]
        assert done["metrics"]["producedBytes"] == len(b"four")
        assert [span["name"] for span in done["spans"]] == [
            "responseLatency", "responseDuration", "runtimeOverhead",
        ]  # fmt: skip
        assert [span["name"] for span in report["spans"]] == ["extensionOverhead"]

    async def test_it_is_told_of_one_that_the_end_cuts_short(self, bring: Bring) -> None:
        settled: list[Settled] = []
        bench = await bring(echo, {"stuck": listener("INVOKE", gate=asyncio.Event())})
        outcome = await bench.invoke(on_settled=settled.append)
        await bench.slot.close()
        (told,) = settled
        assert told.duration_ms > outcome.duration_ms

    async def test_only_those_that_registered_for_it_hear_of_it(self, bring: Bring) -> None:
        heard: list[dict[str, Any]] = []
        bench = await bring(echo, {"deaf": listener(heard=heard)})
        await bench.invoke()
        await bench.free()
        assert heard == []
        assert bench.has_report

    async def test_whoever_wants_the_log_waits_for_the_report(self, bring: Bring) -> None:
        bench = await bring(echo, {"any": listener("INVOKE")})
        outcome = await bench.invoke(wants_tail=True)
        assert re.search(rb"START .*\nEND .*\nREPORT ", outcome.log_tail)

    async def test_one_that_never_asks_again_costs_the_timeout(self, bring: Bring) -> None:
        bench = await bring(echo, {"stuck": listener("INVOKE", gate=asyncio.Event())}, timeout_s=1)
        outcome = await bench.invoke(payload=b"1")
        assert (outcome.payload, outcome.function_error) == (b"1", None)
        await bench.free()
        (report,) = (line for line in bench.lines if line.startswith("REPORT"))
        assert report.endswith("\tStatus: timeout")
        assert bench.sandbox.calls[-1] == "kill"
        assert not bench.slot.is_initialised
        assert (await bench.invoke(payload=b"2")).payload == b"2"

    async def test_one_that_ends_in_idleness_costs_one_reset(self, bring: Bring) -> None:
        gate = asyncio.Event()

        async def mortal(runtime: Runtime) -> None:
            identifier = await register(runtime)
            asking = asyncio.create_task(next_event(runtime, identifier))
            await gate.wait()
            asking.cancel()
            raise Exited(1)

        bench = await bring(echo, {"mortal": mortal})
        gate.set()
        async with asyncio.timeout(30):
            while "kill" not in bench.sandbox.calls:
                await asyncio.sleep(0)
        outcome = await bench.invoke(payload=b"2")
        assert outcome.error_type == "Extension.Crash"  # again, in another INIT
        assert bench.sandbox.calls.count("kill") == 2

    async def test_the_end_of_the_runtime_ends_the_extensions(self, bring: Bring) -> None:
        heard: list[dict[str, Any]] = []

        async def doomed(runtime: Runtime) -> None:
            await runtime.next()
            raise Exited(3)

        bench = await bring(doomed, {"any": listener("SHUTDOWN", heard=heard)})
        outcome = await bench.invoke()
        assert outcome.error_type == "Runtime.ExitError"
        await bench.free()
        assert [event["shutdownReason"] for event in heard] == ["failure"]
        assert bench.sandbox.calls[-1] == "kill"


class TestShutdown:
    async def test_the_runtime_is_signalled_and_then_extensions_are_told(
        self, bring: Bring
    ) -> None:
        heard: list[dict[str, Any]] = []
        bench = await bring(echo, {"any": listener("SHUTDOWN", heard=heard)})
        await bench.invoke()
        await bench.free()
        await bench.slot.close()
        assert [event["shutdownReason"] for event in heard] == ["spindown"]
        assert f"signal {signal.SIGTERM}" in bench.sandbox.calls
        assert bench.sandbox.calls[-1] == "stop"

    async def test_one_that_stays_is_given_two_seconds(
        self, bring: Bring, clock: LoopClock
    ) -> None:
        async def stays(runtime: Runtime) -> None:
            identifier = await register(runtime, "SHUTDOWN")
            await next_event(runtime, identifier)
            await runtime.hang()

        bench = await bring(echo, {"stays": stays})
        closing = asyncio.create_task(bench.slot.close())
        await clock.until(lambda: f"signal {signal.SIGTERM}" in bench.sandbox.calls)
        await asyncio.sleep(0.05)
        assert not closing.done()
        await clock.advance(limits.SHUTDOWN_EXTERNAL_S)
        await closing
        assert bench.sandbox.calls[-1] == "stop"

    async def test_with_internal_ones_the_runtime_has_half_a_second(
        self, bring: Bring, clock: LoopClock
    ) -> None:
        bench = await bring(with_internal([]))
        bench.sandbox.ignores_sigterm = True
        closing = asyncio.create_task(bench.slot.close())
        sent = f"signal {signal.SIGTERM}"
        killed = f"signal {signal.SIGKILL}"
        await clock.until(lambda: sent in bench.sandbox.calls)
        await clock.advance(limits.SHUTDOWN_INTERNAL_S - 0.1)
        assert killed not in bench.sandbox.calls
        assert not closing.done()
        await clock.advance(0.1)
        await closing
        assert bench.sandbox.calls.index(killed) > bench.sandbox.calls.index(sent)
        assert limits.SHUTDOWN_INTERNAL_S == 0.5

    async def test_without_extensions_there_is_no_time_for_anything(self, bring: Bring) -> None:
        bench = await bring()
        await bench.slot.close()
        assert [call for call in bench.sandbox.calls if call.startswith("signal")] == []

    async def test_an_internal_one_gives_the_runtime_time_and_hears_nothing(
        self, bring: Bring
    ) -> None:
        replies: list[Reply] = []
        bench = await bring(with_internal(replies))
        await bench.invoke()
        await bench.free()
        await bench.slot.close()
        assert [json.loads(reply.body)["eventType"] for reply in replies] == ["INVOKE"]
        assert f"signal {signal.SIGTERM}" in bench.sandbox.calls


@pytest.fixture
async def clock() -> AsyncIterator[LoopClock]:
    clock = LoopClock(asyncio.get_running_loop())
    yield clock
    clock.restore()
