"""Event streams: what is written is read again, here and by botocore, and nothing else is."""

from __future__ import annotations

import struct
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from firelet.wire.eventstream import (
    EventFormat,
    EventMessage,
    EventReader,
    EventStreamError,
)

HEADERS = {":message-type": "event", ":event-type": "PayloadChunk", "größe": "ü"}


def test_a_message_is_what_the_specification_says() -> None:
    """Source: the example of a message with one header in the specification's test vectors."""
    message = EventFormat({"content-type": "application/json"}).format(b"{'foo':'bar'}")
    assert message.hex() == (
        "0000003d"
        "00000020"
        "07fd8396"
        "0c636f6e74656e742d74797065"
        "07"
        "0010"
        "6170706c69636174696f6e2f6a736f6e"
        "7b27666f6f273a27626172277d"
        "8d9c08b1"
    )


def test_the_parts_are_the_message_and_the_payload_is_not_copied() -> None:
    payload = b"x" * 100_000
    parts = EventFormat(HEADERS).parts(payload)
    assert parts[1] is payload
    assert b"".join(parts) == EventFormat(HEADERS).format(payload)


@given(
    payloads=st.lists(st.binary(max_size=200), max_size=5),
    value=st.text(max_size=30),
    cut=st.integers(min_value=1, max_value=50),
)
def test_what_is_written_is_read_in_any_pieces(payloads: list[bytes], value: str, cut: int) -> None:
    written = EventFormat({"name": value})
    data = b"".join(written.format(payload) for payload in payloads)
    reader = EventReader()
    read = [
        message
        for start in range(0, len(data), cut)
        for message in reader.feed(data[start : start + cut])
    ]
    assert read == [EventMessage({"name": value}, payload) for payload in payloads]
    assert reader.is_empty


@given(payload=st.binary(max_size=1_000))
def test_botocore_reads_what_is_written(payload: bytes) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(EventFormat(HEADERS).format(payload))
    message = next(iter(buffer))
    assert message.headers == HEADERS
    assert message.payload == payload


@given(data=st.data())
def test_a_flipped_bit_is_noticed(data: st.DataObject) -> None:
    message = bytearray(EventFormat(HEADERS).format(b"payload"))
    at = data.draw(st.integers(min_value=0, max_value=len(message) - 1))
    message[at] ^= 1 << data.draw(st.integers(min_value=0, max_value=7))
    with pytest.raises(EventStreamError):
        list(EventReader().feed(bytes(message)))


@given(junk=st.binary(min_size=12, max_size=100))
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(EventStreamError):
        list(EventReader().feed(junk))


def test_an_unfinished_message_waits() -> None:
    reader = EventReader()
    assert list(reader.feed(EventFormat(HEADERS).format(b"x")[:-1])) == []
    assert not reader.is_empty


@given(
    headers=st.binary(max_size=80),
    payload=st.binary(max_size=30),
    cut=st.integers(1, 40),
    total=st.just(None) | st.integers(0, 2**32 - 1),
)
def test_messages_with_right_checksums_and_any_contents_are_read_or_refused(
    headers: bytes, payload: bytes, cut: int, total: int | None
) -> None:
    size = 16 + len(headers) + len(payload) if total is None else total
    lengths = struct.pack(">II", size, len(headers))
    start = lengths + struct.pack(">I", crc32(lengths)) + headers + payload
    data = start + struct.pack(">I", crc32(start))
    reader = EventReader()
    try:
        for at in range(0, len(data), cut):
            for message in reader.feed(data[at : at + cut]):
                assert message.payload == payload
    except EventStreamError:
        return
    # What is announced and never comes is bounded by what was sent.
    assert len(reader._buffer) <= len(data)
