"""What a function writes: from the two pipes of a sandbox to log events.

The output pipe carries stdout and stderr as they come; each line is one event. The log pipe
carries records that a runtime client has framed, so that one record of several lines stays one
event. Both are written by customer code and nothing in them is trusted.
Source of the frame: the log descriptor of AWS's runtime clients (type, length, time in µs,
all big-endian).
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable

from firelet.model import limits

_FRAME = struct.Struct(">IIQ")
_MAGIC = 0xA55A0000
_RECORD_MAX_BYTES = 256 * limits.KIB  # CloudWatch's limit of one event
_READ_BYTES = 64 * limits.KIB
_READS_PER_TURN = 16

Write = Callable[[int, str], None]


def _cut(data: bytes) -> list[bytes]:
    """Pieces of at most one event's size, whole characters each; one empty piece for nothing."""
    pieces = []
    while len(data) > _RECORD_MAX_BYTES:
        end = _RECORD_MAX_BYTES
        # At most three steps back to the first byte of a character; garbage has none.
        for back in range(4):
            if data[end - back] & 0xC0 != 0x80:
                end -= back
                break
        pieces.append(data[:end])
        data = data[end:]
    return [*pieces, data]


class LineSplitter:
    """Bytes to lines. A line that never ends is cut at the size of one event."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        now = int(time.time() * 1000)
        for line in lines:
            for part in _cut(line):
                self._write(now, part.decode("utf-8", "replace") + "\n")
        *parts, self._rest = _cut(rest)
        for part in parts:
            self._write(now, part.decode("utf-8", "replace") + "\n")

    def flush(self) -> None:
        """Ends an unfinished line: the invocation, or the process, is over."""
        if self._rest:
            rest, self._rest = self._rest, b""
            self._write(int(time.time() * 1000), rest.decode("utf-8", "replace") + "\n")

    def reset(self) -> None:
        """The process is gone."""
        self.flush()


class FrameSplitter:
    """Bytes to framed records. After the first frame that makes no sense all is read as lines."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._rest = b""
        self._lines: LineSplitter | None = None

    def feed(self, data: bytes) -> None:
        if self._lines is not None:
            self._lines.feed(data)
            return
        data = self._rest + data
        at = 0
        while len(data) - at >= _FRAME.size:
            kind, length, micros = _FRAME.unpack_from(data, at)
            if kind & 0xFFFF0000 != _MAGIC or length > limits.RESPONSE_MAX_BYTES:
                self._lines = LineSplitter(self._write)
                self._lines.feed(data[at:])
                self._rest = b""
                return
            end = at + _FRAME.size + length
            if len(data) < end:
                break
            self._emit(micros, data[at + _FRAME.size : end])
            at = end
        self._rest = data[at:]

    def flush(self) -> None:
        if self._lines is not None:
            self._lines.flush()

    def reset(self) -> None:
        """The process is gone: what follows a frame that it cut off is the next one's."""
        self.flush()
        self._rest = b""
        self._lines = None

    def _emit(self, micros: int, record: bytes) -> None:
        # A clock that the function invented would sort its lines before START.
        now = int(time.time() * 1000)
        stamp = micros // 1000
        if abs(stamp - now) > 60_000:
            stamp = now
        for part in _cut(record):
            text = part.decode("utf-8", "replace")
            self._write(stamp, text if text.endswith("\n") else text + "\n")


class LogPipe:
    """One pipe of a sandbox and its splitter. ``drain`` reads what is there and never blocks."""

    def __init__(self, fd: int, splitter: LineSplitter | FrameSplitter) -> None:
        self.fd = fd
        self._splitter = splitter

    def drain(self) -> bool:
        """False at the end of the pipe. Bounded, so that a flood cannot hold the event loop."""
        for _ in range(_READS_PER_TURN):
            try:
                data = os.read(self.fd, _READ_BYTES)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._splitter.feed(data)
            if len(data) < _READ_BYTES:
                return True
        return True

    def flush(self) -> None:
        self._splitter.flush()

    def reset(self) -> None:
        self._splitter.reset()
