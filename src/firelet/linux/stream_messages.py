"""Messages over a byte stream, such as a virtio serial port: a length, then JSON text.

What it is: both directions without input or output, for the guest and for the platform alike. What
it is not: ``messages``, whose packets the kernel keeps apart and which carry descriptors.
Called by ``guest/vm_init`` and ``sandbox/microvm/guest_channel``.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Iterator

MESSAGE_MAX_BYTES = 1024 * 1024

_LENGTH = struct.Struct(">I")


def encode(message: dict[str, Any]) -> bytes:
    """One message as bytes. ValueError when it is longer than ``MESSAGE_MAX_BYTES``."""
    text = json.dumps(message, separators=(",", ":")).encode()
    if len(text) > MESSAGE_MAX_BYTES:
        raise ValueError(f"a message of {len(text)} bytes is longer than {MESSAGE_MAX_BYTES}")
    return _LENGTH.pack(len(text)) + text


class Decoder:
    """Takes bytes as they come and gives the messages that are whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The messages that ``data`` completes. ValueError for a length beyond the limit, for what
        is not JSON and for JSON that is no object: the stream is of no use after that."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MESSAGE_MAX_BYTES:
                raise ValueError(f"a message of {length} bytes is longer than {MESSAGE_MAX_BYTES}")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            text = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            message = json.loads(text)
            if not isinstance(message, dict):
                raise ValueError("a message is not an object")  # noqa: TRY004 - one kind for all
            yield message
