"""Streams and messages over one byte stream: both ends, without input or output."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.linux import multiplex
from firelet.linux.multiplex import Frame, Multiplexer


class Ends:
    def __init__(self) -> None:
        self.guest, self.host = Multiplexer(1), Multiplexer(2)

    def deliver(self, source: Multiplexer, size: int = 1 << 30) -> list[Frame]:
        """What the other end makes of it, fed in pieces of this size."""
        target = self.host if source is self.guest else self.guest
        data, source.outgoing = bytes(source.outgoing), bytearray()
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        return [frame for piece in pieces for frame in target.feed(piece)]


@pytest.fixture
def ends() -> Ends:
    return Ends()


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_messages_and_data_arrive_in_order_however_they_are_cut(ends: Ends, size: int) -> None:
    ends.guest.message({"event": "hello"})
    stream = ends.guest.open({"for": "api"})
    ends.guest.send(stream, b"GET")
    ends.guest.end(stream)
    assert stream % 2 == 1
    assert ends.deliver(ends.guest, size) == [
        Frame(multiplex.MESSAGE, 0, {"event": "hello"}),
        Frame(multiplex.OPEN, stream, {"for": "api"}),
        Frame(multiplex.DATA, stream, b"GET"),
        Frame(multiplex.END, stream, None),
    ]


def test_both_sides_open_streams_that_do_not_collide(ends: Ends) -> None:
    numbers = [ends.guest.open({}), ends.host.open({}), ends.guest.open({}), ends.host.open({})]
    ends.deliver(ends.guest)
    ends.deliver(ends.host)
    assert len(set(numbers)) == 4


def test_no_more_is_sent_than_there_is_credit_for(ends: Ends) -> None:
    stream = ends.guest.open({})
    ends.guest.send(stream, b"x" * multiplex.WINDOW_BYTES)
    assert ends.guest.credit(stream) == 0
    with pytest.raises(ValueError, match="may not send 1 bytes"):
        ends.guest.send(stream, b"x")
    ends.deliver(ends.guest)
    ends.host.consume(stream, 10)  # not worth a frame
    assert not ends.host.outgoing
    ends.host.consume(stream, multiplex.WINDOW_BYTES // 2)
    assert ends.deliver(ends.host) == [Frame(multiplex.CREDIT, stream, None)]
    assert ends.guest.credit(stream) == multiplex.WINDOW_BYTES // 2 + 10


def test_who_sends_more_than_it_may_breaks_the_protocol(ends: Ends) -> None:
    stream = ends.guest.open({})
    ends.deliver(ends.guest)
    head = struct.pack(">IHB", multiplex.WINDOW_BYTES + 1, stream, multiplex.DATA)
    with pytest.raises(ValueError, match="more than it may"):
        list(ends.host.feed(head + b"x" * (multiplex.WINDOW_BYTES + 1)))


def test_a_stream_ends_one_way_at_a_time_and_its_number_is_free_then(ends: Ends) -> None:
    stream = ends.guest.open({})
    ends.guest.end(stream)
    ends.deliver(ends.guest)
    ends.host.send(stream, b"answer")
    ends.host.end(stream)
    assert [frame.kind for frame in ends.deliver(ends.host)] == [multiplex.DATA, multiplex.END]
    assert ends.guest.credit(stream) == 0
    with pytest.raises(ValueError, match="not open"):
        list(ends.host.feed(struct.pack(">IHB", 0, stream, multiplex.END)))


def test_what_is_under_way_when_a_stream_is_reset_is_dropped(ends: Ends) -> None:
    stream = ends.guest.open({})
    ends.deliver(ends.guest)
    ends.host.send(stream, b"late")
    ends.guest.reset(stream)
    assert ends.deliver(ends.host) == []
    assert ends.deliver(ends.guest) == [Frame(multiplex.RESET, stream, None)]
    assert ends.deliver(ends.host) == []  # the answer to the reset
    assert ends.guest.credit(stream) == ends.host.credit(stream) == 0


def test_resets_and_ends_that_cross_are_both_understood(ends: Ends) -> None:
    stream = ends.guest.open({})
    ends.guest.end(stream)
    ends.deliver(ends.guest)
    ends.host.end(stream)
    ends.guest.reset(stream)
    assert ends.deliver(ends.guest) == []  # the host has forgotten it
    assert ends.deliver(ends.host) == []
    other = ends.guest.open({})
    ends.deliver(ends.guest)
    ends.guest.reset(other)
    ends.host.reset(other)
    assert ends.deliver(ends.guest) == []
    assert ends.deliver(ends.host) == []


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">IHB", multiplex.FRAME_MAX_BYTES + 1, 0, multiplex.MESSAGE),
        struct.pack(">IHB", 1, 0, multiplex.MESSAGE) + b"{",
        struct.pack(">IHB", 2, 0, multiplex.MESSAGE) + b"[]",
        struct.pack(">IHB", 0, 9, multiplex.DATA),
        struct.pack(">IHB", 2, 2, multiplex.OPEN) + b"{}",  # one of our own numbers
        struct.pack(">IHB", 2, 0, multiplex.OPEN) + b"{}",
        struct.pack(">IHB", 0, 5, 77),
    ],
)
def test_what_breaks_the_protocol_is_refused(frame: bytes) -> None:
    with pytest.raises(ValueError, match=r"frame|object|stream|delimiter|Expecting"):
        list(Multiplexer(2).feed(frame))


def test_no_end_of_streams_is_opened() -> None:
    host = Multiplexer(2)
    frames = b"".join(
        struct.pack(">IHB", 2, 2 * number + 1, multiplex.OPEN) + b"{}"
        for number in range(multiplex.STREAMS_MAX + 1)
    )
    with pytest.raises(ValueError, match="too many"):
        list(host.feed(frames))


def test_numbers_are_used_again_after_a_long_time(ends: Ends) -> None:
    kept = ends.guest.open({})
    for _ in range(40_000):
        stream = ends.guest.open({})
        assert 0 < stream < 0x10000
        assert stream != kept
        ends.guest.end(stream)
        ends.deliver(ends.guest)
        ends.host.end(stream)
        ends.deliver(ends.host)


@given(st.lists(st.binary(min_size=1, max_size=40)))
def test_any_bytes_arrive_or_are_refused(pieces: list[bytes]) -> None:
    host = Multiplexer(2)
    try:
        for piece in pieces:
            list(host.feed(piece))
    except ValueError:
        return


def test_what_is_nested_too_deeply_breaks_the_protocol(ends: Ends) -> None:
    text = b"[" * 100_000
    head = struct.pack(">IHB", len(text), 0, multiplex.MESSAGE)
    with pytest.raises(ValueError, match="nested"):
        list(ends.host.feed(head + text))


def test_nobody_gives_more_credit_than_there_can_be(ends: Ends) -> None:
    stream = ends.guest.open({})
    ends.deliver(ends.guest)
    ends.host.send(stream, b"x" * 10)
    credit = struct.pack(">IHBI", 4, stream, multiplex.CREDIT, 10)
    list(ends.host.feed(credit))
    with pytest.raises(ValueError, match="more credit"):
        list(ends.host.feed(struct.pack(">IHBI", 4, stream, multiplex.CREDIT, 1)))


def test_neither_side_opens_more_streams_than_there_can_be(ends: Ends) -> None:
    for _ in range(multiplex.STREAMS_MAX):
        ends.host.open({})
    with pytest.raises(ValueError, match="too many"):
        ends.host.open({})
