"""AWS's event stream: messages of typed headers and a payload, with checksums, in both directions.

    total length 4 · headers' length 4 · CRC-32 of those 8 bytes
    headers       each: name length 1 · name · type 1 (7: text) · value length 2 · value
    payload
    CRC-32 of everything before it                                             (all big endian)

Sans-IO. Only headers that are text are written; those of other types are refused when read:
no service that firelet plays or calls sends them.
Source: smithy.io, "Amazon Event Stream Specification"; botocore reads what is written here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from zlib import crc32

CONTENT_TYPE = "application/vnd.amazon.eventstream"

_PRELUDE = struct.Struct(">III")
_LENGTHS = struct.Struct(">II")
_CRC = struct.Struct(">I")
_TEXT = 7
_OVERHEAD = _PRELUDE.size + _CRC.size
# Source: the specification's own limits.
HEADERS_MAX_BYTES = 128 * 1024
PAYLOAD_MAX_BYTES = 24 * 1024 * 1024


class EventStreamError(ValueError):
    """These bytes are no event stream."""


@dataclass(frozen=True, slots=True)
class EventMessage:
    """One message."""

    headers: Mapping[str, str]
    payload: bytes


class EventFormat:
    """Writes messages that have the same headers, which are encoded once."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = b"".join(
            _format_header(name.encode(), value.encode()) for name, value in headers.items()
        )

    def parts(self, payload: bytes) -> tuple[bytes, bytes, bytes]:
        """What to send one after the other; the payload is not copied."""
        headers = self._headers
        lengths = _LENGTHS.pack(_OVERHEAD + len(headers) + len(payload), len(headers))
        head = lengths + _CRC.pack(crc32(lengths)) + headers
        return head, payload, _CRC.pack(crc32(payload, crc32(head)))

    def format(self, payload: bytes) -> bytes:
        """One whole message."""
        return b"".join(self.parts(payload))


class EventReader:
    """Feed it what was received, in any pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def is_empty(self) -> bool:
        """Whether the last message was complete."""
        return not self._buffer

    def feed(self, data: bytes) -> Iterator[EventMessage]:
        """The messages that are complete by now. EventStreamError ends the conversation."""
        self._buffer += data
        while (message := self._take()) is not None:
            yield message

    def _take(self) -> EventMessage | None:
        buffer = self._buffer
        if len(buffer) < _PRELUDE.size:
            return None
        total, headers_size, checksum = _PRELUDE.unpack_from(buffer)
        if crc32(buffer[: _LENGTHS.size]) != checksum:
            raise EventStreamError("the checksum of a message's lengths is wrong")
        payload_size = total - headers_size - _OVERHEAD
        if headers_size > HEADERS_MAX_BYTES or not 0 <= payload_size <= PAYLOAD_MAX_BYTES:
            raise EventStreamError("the lengths of a message are wrong")
        if len(buffer) < total:
            return None
        end = total - _CRC.size
        (checksum,) = _CRC.unpack_from(buffer, end)
        if crc32(memoryview(buffer)[:end]) != checksum:
            raise EventStreamError("the checksum of a message is wrong")
        middle = _PRELUDE.size + headers_size
        headers = _parse_headers(bytes(buffer[_PRELUDE.size : middle]))
        message = EventMessage(headers, bytes(buffer[middle:end]))
        del buffer[:total]
        return message


def _format_header(name: bytes, value: bytes) -> bytes:
    return b"%c%b%c%b%b" % (len(name), name, _TEXT, struct.pack(">H", len(value)), value)


def _parse_headers(data: bytes) -> dict[str, str]:
    headers = {}
    offset = 0
    try:
        while offset < len(data):
            size = data[offset]
            name = data[offset + 1 : offset + 1 + size]
            offset += 1 + size
            kind, length = struct.unpack_from(">BH", data, offset)
            if kind != _TEXT:
                raise EventStreamError(f"a header has the type {kind}")
            offset += 3
            value = data[offset : offset + length]
            if len(name) != size or len(value) != length:
                raise EventStreamError("a header is cut off")
            headers[name.decode()] = value.decode()
            offset += length
    except (struct.error, UnicodeDecodeError):
        raise EventStreamError("a header is malformed") from None
    return headers
