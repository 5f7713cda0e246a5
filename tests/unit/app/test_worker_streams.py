"""Streamed responses of a worker process: what is told, and when the function is held up."""

from __future__ import annotations

import asyncio

import pytest

from firelet.app.worker_streams import ForwardingSink
from firelet.model.streaming import StreamHead
from firelet.wire.rpc import Message
from firelet.wire.worker_messages import ResponseBegan, ResponsePiece


class Source:
    def __init__(self) -> None:
        self.is_paused = False

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False


class Line:
    """Takes notes, and is congested when the test says so."""

    def __init__(self) -> None:
        self.told: list[Message] = []
        self.is_congested = False
        self.waiting: list[asyncio.Future[None]] = []

    def tell(self, message: Message) -> None:
        self.told.append(message)

    def room(self) -> asyncio.Future[None]:
        self.waiting.append(asyncio.get_running_loop().create_future())
        return self.waiting[-1]

    async def clear(self) -> None:
        self.is_congested = False
        for future in self.waiting:
            future.set_result(None)
        self.waiting.clear()
        await asyncio.sleep(0)


@pytest.fixture
async def line() -> Line:
    return Line()


@pytest.fixture
async def source() -> Source:
    return Source()


@pytest.fixture
async def sink(line: Line, source: Source) -> ForwardingSink:
    sink = ForwardingSink(7, line)
    sink.begin(StreamHead("text/plain"), source)
    return sink


async def test_each_piece_is_told_as_it_comes(line: Line, sink: ForwardingSink) -> None:
    sink.write(b"one")
    sink.write(b"two")
    assert line.told == [
        ResponseBegan(7, "text/plain"),
        ResponsePiece(7, b"one"),
        ResponsePiece(7, b"two"),
    ]


async def test_a_congested_line_holds_the_function_up(
    line: Line, sink: ForwardingSink, source: Source
) -> None:
    sink.write(b"x")
    assert not source.is_paused
    line.is_congested = True
    sink.write(b"x")
    sink.write(b"x")
    assert source.is_paused
    assert len(line.waiting) == 1
    await line.clear()
    assert not source.is_paused


async def test_a_slow_client_holds_the_function_up(sink: ForwardingSink, source: Source) -> None:
    sink.pause()
    assert source.is_paused
    sink.resume()
    assert not source.is_paused


async def test_both_reasons_must_be_gone(line: Line, sink: ForwardingSink, source: Source) -> None:
    line.is_congested = True
    sink.write(b"x")
    sink.pause()
    await line.clear()
    assert source.is_paused
    sink.resume()
    assert not source.is_paused
    sink.pause()
    line.is_congested = True
    sink.write(b"x")
    sink.resume()
    assert source.is_paused
    await line.clear()
    assert not source.is_paused
