"""Frames: how messages between two processes of the platform lie in a stream of bytes.

    kind 1 · flags 1 · body length 4 · payload length 4 · call number 8   (little endian)
    body      a msgpack message
    payload   opaque bytes; those of a large one are in a sealed memory file, whose descriptor is
              sent with the frame's first byte, and not in the stream

What it is: format and parse. What it is not: sockets or calls, which are ``rpc``'s. Sans-IO.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from firelet.linux import memfd

_HEADER = struct.Struct("<BBIIQ")
HEADER_BYTES = _HEADER.size
_IN_MEMORY_FILE = 1

# Measured: a memory file costs 100 µs more than 64 KiB inline, and half of what 6 MiB would. What
# is inline fits into a socket's buffer of 208 KiB at once.
INLINE_MAX_BYTES = 128 * 1024
BODY_MAX_BYTES = 16 * 1024 * 1024
PAYLOAD_MAX_BYTES = 64 * 1024 * 1024


class FrameKind(IntEnum):
    """What a frame is for. CALL is answered by ANSWER or FAILURE of the same number, unless CANCEL
    came first; a NOTE is not answered."""

    CALL = 1
    ANSWER = 2
    FAILURE = 3
    CANCEL = 4
    NOTE = 5


class FrameError(ValueError):
    """The peer does not keep to the format."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; ``number`` is 0 for a note."""

    kind: FrameKind
    number: int
    body: bytes
    payload: bytes = b""


def format_frame(frame: Frame) -> tuple[bytes, int | None]:
    """The bytes for the stream, and the descriptor to send with the first of them, which the
    caller closes."""
    size = len(frame.payload)
    if size <= INLINE_MAX_BYTES:
        header = _HEADER.pack(frame.kind, 0, len(frame.body), size, frame.number)
        return header + frame.body + frame.payload, None
    header = _HEADER.pack(frame.kind, _IN_MEMORY_FILE, len(frame.body), size, frame.number)
    return header + frame.body, memfd.make_sealed(frame.payload)


class FrameReader:
    """Feed it what was received, in any pieces; it owns the descriptors from then on."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fds: deque[int] = deque()

    def feed(self, data: bytes, fds: Sequence[int] = ()) -> list[Frame]:
        """The frames that are complete by now. FrameError ends the conversation."""
        self._fds.extend(fds)
        self._buffer += data
        frames = []
        offset = 0
        while (parsed := self._parse(offset)) is not None:
            frame, offset = parsed
            frames.append(frame)
        del self._buffer[:offset]
        return frames

    def close(self) -> None:
        """Closes the descriptors of frames that were never completed."""
        while self._fds:
            os.close(self._fds.popleft())

    def _parse(self, offset: int) -> tuple[Frame, int] | None:
        """The frame at ``offset`` and the end of it; None while it is incomplete."""
        buffer = self._buffer
        start = offset + HEADER_BYTES
        if len(buffer) < start:
            return None
        kind, flags, body_size, payload_size, number = _HEADER.unpack_from(buffer, offset)
        if body_size > BODY_MAX_BYTES or payload_size > PAYLOAD_MAX_BYTES:
            raise FrameError("a frame is too large")
        is_inline = not flags & _IN_MEMORY_FILE
        body_end = start + body_size
        end = body_end + payload_size if is_inline else body_end
        if len(buffer) < end:
            return None
        try:
            known = FrameKind(kind)
        except ValueError:
            raise FrameError(f"there is no frame of kind {kind}") from None
        body = bytes(buffer[start:body_end])
        payload = bytes(buffer[body_end:end]) if is_inline else self._take_payload(payload_size)
        return Frame(known, number, body, payload), end

    def _take_payload(self, size: int) -> bytes:
        if not self._fds:
            raise FrameError("a frame came without its descriptor")
        fd = self._fds.popleft()
        try:
            return memfd.read_sealed(fd, size)
        except ValueError as error:
            raise FrameError(str(error)) from None
        finally:
            os.close(fd)
