"""One WebSocket connection on a fake transport: whatever a client sends, and time."""

from __future__ import annotations

import asyncio
import os
import struct
import tracemalloc
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from firelet.gateway.websocket_frames import WebSocketLimits, WebSocketStream

LIMITS = WebSocketLimits(message_bytes=100, frame_bytes=50, idle_s=60.0, lifetime_s=120.0)


class FakeTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: Any) -> None:
        assert not self.is_closed
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        """There is nothing to read."""

    def resume_reading(self) -> None:
        """There is nothing to read."""


class Listener:
    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.closed: list[tuple[int, str]] = []

    def on_message(self, message: str | bytes) -> None:
        self.messages.append(message)

    def on_closed(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))


def frame(payload: bytes, opcode: int = 2, *, is_last: bool = True) -> bytes:
    assert len(payload) < 126
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return (
        struct.pack("!BB", opcode | (0x80 if is_last else 0), 0x80 | len(payload)) + mask + masked
    )


def opened() -> tuple[WebSocketStream, FakeTransport, Listener]:
    stream, transport, listener = WebSocketStream(LIMITS), FakeTransport(), Listener()
    stream.listen(listener)
    stream.on_open(transport)
    return stream, transport, listener


def feed(stream: WebSocketStream, transport: FakeTransport, pieces: list[bytes]) -> None:
    for piece in pieces:
        if not transport.is_closed:
            stream.on_data(piece)


FRAMES = st.builds(
    frame,
    st.binary(max_size=60),
    st.sampled_from([0, 1, 2, 3, 8, 9, 10]),
    is_last=st.booleans(),
)


@settings(max_examples=300)
@given(pieces=st.lists(st.binary(max_size=40) | FRAMES, max_size=12))
def test_no_bytes_break_it_and_no_message_is_too_large(pieces: list[bytes]) -> None:
    async def run() -> None:
        stream, transport, listener = opened()
        feed(stream, transport, pieces)
        stream.on_lost()
        assert all(len(message) <= LIMITS.message_bytes for message in listener.messages)
        assert len(listener.closed) == 1

    asyncio.run(run())


@settings(max_examples=100)
@given(
    message=st.binary(min_size=1, max_size=100),
    frame_size=st.integers(1, 50),
    cut=st.integers(1, 30),
)
def test_a_message_is_the_same_however_it_is_cut(message: bytes, frame_size: int, cut: int) -> None:
    parts = [message[at : at + frame_size] for at in range(0, len(message), frame_size)]
    sent = b"".join(
        frame(part, 2 if not at else 0, is_last=at == len(parts) - 1)
        for at, part in enumerate(parts)
    )

    async def run() -> None:
        stream, transport, listener = opened()
        feed(stream, transport, [sent[at : at + cut] for at in range(0, len(sent), cut)])
        assert listener.messages == [message]
        stream.on_lost()

    asyncio.run(run())


async def test_the_closing_handshake_by_the_client() -> None:
    stream, transport, listener = opened()
    stream.on_data(frame(struct.pack("!H", 1001) + b"bye", 8))
    assert transport.written[:1] == b"\x88"
    assert transport.is_closed
    assert not stream.is_open
    stream.send("late")
    stream.on_lost()
    stream.on_lost()
    assert listener.closed == [(1001, "bye")]


async def test_the_closing_handshake_by_the_server() -> None:
    stream, transport, listener = opened()
    stream.close(1000)
    assert transport.written == b"\x88\x02\x03\xe8"
    stream.on_data(frame(b"still sending") + frame(b"", 9))
    assert listener.messages == []
    assert not transport.is_closed
    stream.on_data(frame(struct.pack("!H", 1000), 8))
    assert transport.is_closed
    stream.on_lost()
    assert listener.closed == [(1000, "")]


async def test_nothing_after_a_message_that_is_too_large_is_heard() -> None:
    stream, transport, listener = opened()
    stream.on_data(frame(b"x" * 60) + frame(b"ok"))
    assert listener.messages == []
    assert struct.unpack("!H", transport.written[2:4]) == (1009,)
    stream.on_lost()


async def test_fragments_without_bytes_hold_no_memory() -> None:
    stream, transport, listener = opened()
    stream.on_data(frame(b"a", is_last=False))
    empty = frame(b"", 0, is_last=False) * 1_000
    stream.on_data(empty)
    tracemalloc.start()
    try:
        for _ in range(20):
            stream.on_data(empty)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 20_000
    stream.on_data(frame(b"b", 0))
    assert listener.messages == [b"ab"]
    assert not transport.is_closed
    stream.on_lost()
