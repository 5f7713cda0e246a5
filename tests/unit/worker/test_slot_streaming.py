"""A slot whose runtime streams its response, through real sockets, and how that may end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from firelet.model.function import LoggingConfig
from firelet.model.invocation import Outcome
from firelet.model.streaming import StreamHead, StreamSource
from firelet.runtime.platform_records import format_iso_ms
from unit.worker.fake_sandbox import Exited, Program, Runtime
from unit.worker.loop_clock import LoopClock
from unit.worker.test_slots import Bench, error_of


class Sink:
    def __init__(self) -> None:
        self.head: StreamHead | None = None
        self.body = b""

    def begin(self, head: StreamHead, source: StreamSource) -> None:
        self.head = head

    def write(self, piece: bytes) -> None:
        self.body += piece


class Stream:
    """A response in chunks on a connection of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def write(self, data: bytes) -> None:
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writer.drain()

    async def end(self) -> int:
        """The status of the answer."""
        self._writer.write(b"0\r\n\r\n")
        return int((await self._reader.readline()).split()[1])


@asynccontextmanager
async def streaming(runtime: Runtime) -> AsyncIterator[Stream]:
    """Takes an event and begins the response to it; at the end the connection is cut."""
    event = await runtime.next()
    reader, writer = await asyncio.open_connection(*runtime._sandbox.address)
    try:
        request_id = event.headers["lambda-runtime-aws-request-id"]
        writer.write(
            b"POST /2018-06-01/runtime/invocation/%b/response HTTP/1.1\r\nHost: a\r\n"
            b"Lambda-Runtime-Function-Response-Mode: streaming\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" % request_id.encode()
        )
        yield Stream(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def clock() -> AsyncIterator[LoopClock]:
    clock = LoopClock(asyncio.get_running_loop())
    yield clock
    clock.restore()


async def run(
    clock: LoopClock, program: Program, sink: Sink | None, **options: Any
) -> tuple[Bench, Outcome]:
    """One invocation from INIT to the end of the environment."""
    bench = await Bench(program, clock, **options).open()
    try:
        outcome = await bench.invoke(sink=sink)
        await bench.free()
        return bench, outcome
    finally:
        await bench.slot.close()
        await bench.sandbox.stop()


async def test_a_streamed_response_reaches_the_sink(clock: LoopClock) -> None:
    statuses = []

    async def program(runtime: Runtime) -> None:
        async with streaming(runtime) as stream:
            await stream.write(b"one ")
            await stream.write(b"two")
            statuses.append(await stream.end())
        await runtime.next()

    sink = Sink()
    bench, outcome = await run(clock, program, sink)
    assert (sink.head, sink.body) == (StreamHead(), b"one two")
    assert (outcome.payload, outcome.function_error, outcome.is_streamed) == (b"", None, True)
    assert statuses == [202]
    assert "REPORT" in bench.kinds()


async def test_the_log_tells_what_was_streamed_and_when(clock: LoopClock) -> None:
    async def program(runtime: Runtime) -> None:
        async with streaming(runtime) as stream:
            await stream.write(b"one ")
            await clock.until(lambda: sink.body == b"one ")
            seen.append(time.time())
            await asyncio.sleep(0.01)
            seen.append(time.time())
            await stream.write(b"two")
            await stream.end()
        await runtime.next()

    seen: list[float] = []
    sink = Sink()
    logging = LoggingConfig(log_format="JSON", log_group="/a", system_log_level="DEBUG")
    bench, _ = await run(clock, program, sink, logging=logging)
    records = [json.loads(line) for line in bench.lines]
    (done,) = (each["record"] for each in records if each["type"] == "platform.runtimeDone")
    assert done["metrics"]["producedBytes"] == len(b"one two")
    latency, duration = done["spans"]
    assert (latency["name"], duration["name"]) == ("responseLatency", "responseDuration")
    # From the first byte to the last, between which the function slept.
    assert duration["start"] <= format_iso_ms(seen[0])
    assert duration["durationMs"] >= (seen[1] - seen[0]) * 1000


async def test_what_the_platform_says_instead_is_not_what_the_function_produced(
    clock: LoopClock,
) -> None:
    async def program(runtime: Runtime) -> None:
        await runtime.next()
        raise Exited(3)

    logging = LoggingConfig(log_format="JSON", log_group="/a", system_log_level="DEBUG")
    bench, outcome = await run(clock, program, None, logging=logging)
    assert outcome.payload
    records = [json.loads(line) for line in bench.lines]
    (done,) = (each["record"] for each in records if each["type"] == "platform.runtimeDone")
    assert done["metrics"]["producedBytes"] == 0


async def test_without_a_sink_it_is_collected(clock: LoopClock) -> None:
    async def program(runtime: Runtime) -> None:
        async with streaming(runtime) as stream:
            await stream.write(b'"one ')
            await stream.write(b'two"')
            await stream.end()
        await runtime.next()

    _, outcome = await run(clock, program, None)
    assert (outcome.payload, outcome.is_streamed) == (b'"one two"', False)


async def test_a_process_that_ends_in_mid_stream_is_told_from_a_stream_that_breaks_off(
    clock: LoopClock,
) -> None:
    async def ends(runtime: Runtime) -> None:
        async with streaming(runtime) as stream:
            await stream.write(b"half")
        raise Exited(3)

    async def breaks_off(runtime: Runtime) -> None:
        async with streaming(runtime) as stream:
            await stream.write(b"half")
        await runtime.next()

    sink = Sink()
    _, outcome = await run(clock, ends, sink)
    assert sink.body == b"half"
    assert error_of(outcome)["errorMessage"].endswith("exit status 3")
    _, outcome = await run(clock, breaks_off, Sink())
    assert outcome.error_type == "Runtime.TruncatedResponse"


async def test_the_deadline_ends_a_stream(clock: LoopClock) -> None:
    async def program(runtime: Runtime) -> None:
        async with streaming(runtime) as stream:
            await stream.write(b"half")
            await runtime.hang()

    bench = await Bench(program, clock).open()
    sink = Sink()
    invoking = bench.begin(sink=sink)
    await clock.until(lambda: sink.body == b"half")
    await clock.advance(bench.version.timeout_s + 1)
    outcome = await invoking
    assert outcome.error_type == "Sandbox.Timedout"
    assert bench.sandbox.calls.count("kill") == 1
    await bench.slot.close()
    await bench.sandbox.stop()
