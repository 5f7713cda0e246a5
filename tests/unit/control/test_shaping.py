"""The bandwidth of a streamed response: free at first, then paid for with pauses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from firelet.control.shaping import ShapedSink
from firelet.model.streaming import StreamHead, StreamSource
from unit.worker.loop_clock import LoopClock


class Source:
    """A function that writes for as long as it may."""

    def __init__(self) -> None:
        self.is_paused = False

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False


class Sink:
    def __init__(self) -> None:
        self.size = 0
        self.source: StreamSource

    def begin(self, head: StreamHead, source: StreamSource) -> None:
        self.source = source

    def write(self, piece: bytes) -> None:
        self.size += len(piece)


class Bench:
    def __init__(self, clock: LoopClock) -> None:
        self.clock = clock
        self.source, self.sink = Source(), Sink()
        self.shaped = ShapedSink(self.sink, bytes_per_s=1_000.0, free_bytes=5_000)
        self.shaped.begin(StreamHead(), self.source)

    def pour(self) -> None:
        """Writes until it is paused."""
        while not self.source.is_paused:
            self.shaped.write(b"x" * 100)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    clock = LoopClock(asyncio.get_running_loop())
    yield Bench(clock)
    clock.restore()


async def test_the_first_bytes_are_free_and_the_rest_has_its_rate(bench: Bench) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    bench.pour()
    assert bench.sink.size == 5_100
    for _ in range(100):
        await bench.clock.advance(0.1)
        bench.pour()
    # A thousand bytes for each second, and what is under way.
    allowed = 5_000 + 1_000 * (loop.time() - began)
    assert 15_000 <= bench.sink.size <= allowed + 200


async def test_the_sink_s_own_pause_holds_beyond_the_time(bench: Bench) -> None:
    bench.pour()
    bench.sink.source.pause()
    await bench.clock.advance(5.0)
    assert bench.source.is_paused
    bench.sink.source.resume()
    assert not bench.source.is_paused


async def test_a_sink_that_goes_on_does_not_shorten_the_time(bench: Bench) -> None:
    bench.pour()
    bench.sink.source.pause()
    bench.sink.source.resume()
    assert bench.source.is_paused
    await bench.clock.advance(0.2)
    assert not bench.source.is_paused


async def test_a_response_that_has_ended_has_no_timer_left(bench: Bench) -> None:
    bench.pour()
    bench.shaped.close()
    await bench.clock.advance(5.0)
    assert bench.source.is_paused
