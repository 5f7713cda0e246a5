"""Chunks: how log events lie in the store, many to a row.

What it is: cutting the events of a stream into chunks, packing a chunk into bytes and back. What
it is not: storage. A chunk is small enough to be decoded at once and spans little time, so that a
search by time need only look a short way back. Pure; called by ``log_tables`` and ``log_scan``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

CHUNK_MAX_EVENTS = 10_000
CHUNK_MAX_CHARS = 1 << 20
CHUNK_SPAN_MS = 60_000  # longest time between the first and the last event of a chunk

EVENT_OVERHEAD_BYTES = 26  # what CloudWatch adds to the size of an event's message
EVENT_MAX_BYTES = 256 * 1024

_COMPRESS_FROM_BYTES = 512  # below, zlib gains nothing that a database page would notice
_RAW = b"r"
_ZLIB = b"z"

# Timestamp in epoch milliseconds, and message.
Event = tuple[int, str]


class _Body(msgspec.Struct, array_like=True):
    timestamps: list[int]
    messages: list[str]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Events of one stream in the order in which they were written, packed in ``body``.

    ``id`` grows with each chunk that is stored; 0 before that.
    """

    id: int = 0
    stream: str = ""
    first_ms: int
    last_ms: int
    count: int
    ingested_ms: int
    body: bytes


def make_chunks(events: Sequence[Event], ingested_ms: int) -> Iterator[Chunk]:
    """Cuts and packs ``events``, keeping their order."""
    start = chars = 0
    low = high = events[0][0] if events else 0
    for at, (timestamp, message) in enumerate(events):
        low, high = min(low, timestamp), max(high, timestamp)
        chars += len(message)
        if at > start and (
            at - start == CHUNK_MAX_EVENTS or chars > CHUNK_MAX_CHARS or high - low > CHUNK_SPAN_MS
        ):
            yield _pack(events[start:at], ingested_ms)
            start, chars = at, len(message)
            low = high = timestamp
    if start < len(events):
        yield _pack(events[start:], ingested_ms)


def unpack(body: bytes) -> list[Event]:
    """The events of a chunk's body."""
    kind, packed = body[:1], body[1:]
    decoded = _DECODER.decode(zlib.decompress(packed) if kind == _ZLIB else packed)
    return list(zip(decoded.timestamps, decoded.messages, strict=True))


def split_message(message: str) -> list[str]:
    """``message`` in pieces of at most EVENT_MAX_BYTES of UTF-8, none of which cuts a character."""
    data = message.encode("utf-8", "replace")
    pieces = []
    while len(data) > EVENT_MAX_BYTES:
        end = EVENT_MAX_BYTES
        while data[end] & 0xC0 == 0x80:  # in the middle of a character
            end -= 1
        pieces.append(data[:end].decode())
        data = data[end:]
    pieces.append(data.decode())
    return pieces


def _pack(events: Sequence[Event], ingested_ms: int) -> Chunk:
    timestamps = [timestamp for timestamp, _ in events]
    messages = [message for _, message in events]
    try:
        packed = _ENCODER.encode(_Body(timestamps, messages))
    except UnicodeEncodeError:
        # Half a surrogate pair is no character. It must not cost the others of the batch.
        messages = [message.encode("utf-8", "replace").decode() for message in messages]
        packed = _ENCODER.encode(_Body(timestamps, messages))
    body = _RAW + packed
    if len(packed) >= _COMPRESS_FROM_BYTES:
        compressed = zlib.compress(packed, 1)
        if len(compressed) < len(packed) * 0.9:
            body = _ZLIB + compressed
    return Chunk(
        first_ms=min(timestamps),
        last_ms=max(timestamps),
        count=len(events),
        ingested_ms=ingested_ms,
        body=body,
    )
