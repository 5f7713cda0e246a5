"""Many streams and messages over one byte stream, such as a virtio serial port or a vsock.

What it is: both ends of the protocol without input or output, for the guest's pid 1 and for the
platform alike. A stream carries bytes both ways and is closed one way at a time. Nobody sends more
on a stream than the other side has given credit for, so that a stream that nobody reads holds up
no other one. Messages are JSON objects and need no credit.
What it is not: ``messages``, whose packets the kernel keeps apart and which carry descriptors.

A frame is a length (of what follows the head), the number of a stream, a kind, and its content:

    MESSAGE   0        a JSON object
    OPEN      stream   a JSON object: what it is for
    DATA      stream   bytes, for which there is credit
    CREDIT    stream   how many more bytes may be sent, as 32 bits
    END       stream   the sender has sent all of it
    RESET     stream   the sender neither sends nor takes anything any more

The one side opens streams with odd numbers, the other with even ones. A number is used again only
after both sides are done with its stream.
Called by ``guest/vm_link`` and ``sandbox/microvm/guest_link``.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Iterator, NamedTuple

MESSAGE, OPEN, DATA, CREDIT, END, RESET = range(6)

WINDOW_BYTES = 256 * 1024
FRAME_MAX_BYTES = 1024 * 1024
STREAMS_MAX = 4096

_HEAD = struct.Struct(">IHB")
_CREDIT = struct.Struct(">I")


class Frame(NamedTuple):
    """What has come. ``content`` is a dict for MESSAGE and OPEN, bytes for DATA, else None."""

    kind: int
    stream: int
    content: Any


class _Stream:
    """``credit`` is what may still be sent, ``expected`` what may still come, ``consumed`` what
    has been taken without credit being given for it yet."""

    __slots__ = ("consumed", "credit", "expected", "has_ended", "is_abandoned", "is_ended")

    def __init__(self) -> None:
        self.credit = self.expected = WINDOW_BYTES
        self.consumed = 0
        self.is_ended = False  # by us
        self.has_ended = False  # by the peer
        self.is_abandoned = False  # reset by us, which the peer has not answered yet


class Multiplexer:
    """One end. ``first`` is the number of the first stream that this end opens: 1 or 2. What is to
    be written is collected in ``outgoing``, from which the caller takes it."""

    def __init__(self, first: int) -> None:
        self.outgoing = bytearray()
        self._buffer = bytearray()
        self._next = first
        self._streams: dict[int, _Stream] = {}

    def message(self, content: dict[str, Any]) -> None:
        """ValueError when it is longer than a frame may be."""
        self._add(MESSAGE, 0, _encode(content))

    def open(self, purpose: dict[str, Any]) -> int:
        """A new stream, and what the peer is told that it is for. ValueError when there are too
        many."""
        if len(self._streams) >= STREAMS_MAX:
            raise ValueError("too many streams")
        number = self._next
        while number in self._streams:
            number = number + 2 if number + 2 < 0x10000 else number % 2 or 2
        self._next = number + 2 if number + 2 < 0x10000 else number % 2 or 2
        self._streams[number] = _Stream()
        self._add(OPEN, number, _encode(purpose))
        return number

    def credit(self, stream: int) -> int:
        """How many bytes may be sent on it now; 0 for one that is closed."""
        known = self._streams.get(stream)
        return 0 if known is None or known.is_ended or known.is_abandoned else known.credit

    def send(self, stream: int, data: bytes) -> None:
        """ValueError when there is not so much credit."""
        known = self._streams[stream]
        if len(data) > self.credit(stream):
            raise ValueError(f"stream {stream} may not send {len(data)} bytes")
        known.credit -= len(data)
        self._add(DATA, stream, data)

    def consume(self, stream: int, count: int) -> None:
        """So many bytes that came have been passed on: the peer may send as many more, and hears of
        it when it is worth a frame."""
        known = self._streams.get(stream)
        if known is None or known.has_ended or known.is_abandoned:
            return
        known.consumed += count
        if known.consumed >= WINDOW_BYTES // 2:
            self._add(CREDIT, stream, _CREDIT.pack(known.consumed))
            known.expected += known.consumed
            known.consumed = 0

    def end(self, stream: int) -> None:
        """No more is sent on it. Once the peer has said so too, it is no more."""
        known = self._streams.get(stream)
        if known is not None and not (known.is_ended or known.is_abandoned):
            known.is_ended = True
            self._add(END, stream, b"")
            self._forget_if_over(stream, known)

    def reset(self, stream: int) -> None:
        """Gives it up. What is still under way is dropped on arrival; the number stays taken until
        the peer has answered."""
        known = self._streams.get(stream)
        if known is not None and not known.is_abandoned:
            known.is_abandoned = True
            self._add(RESET, stream, b"")

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that ``data`` completes. ValueError for what breaks the protocol: nothing
        that follows can be made sense of."""
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= _HEAD.size:
                length, stream, kind = _HEAD.unpack_from(self._buffer, start)
                if length > FRAME_MAX_BYTES:
                    raise ValueError(f"a frame of {length} bytes")
                end = start + _HEAD.size + length
                if len(self._buffer) < end:
                    return
                content = bytes(self._buffer[start + _HEAD.size : end])
                start = end
                frame = self._take(kind, stream, content)
                if frame is not None:
                    yield frame
        finally:
            del self._buffer[:start]

    def _take(self, kind: int, stream: int, content: bytes) -> Frame | None:
        if kind == MESSAGE:
            return Frame(kind, stream, _decode(content))
        if kind == OPEN:
            if stream % 2 == self._next % 2 or not stream or stream in self._streams:
                raise ValueError(f"the peer cannot open stream {stream}")
            if len(self._streams) >= STREAMS_MAX:
                raise ValueError("too many streams")
            self._streams[stream] = _Stream()
            return Frame(kind, stream, _decode(content))
        known = self._streams.get(stream)
        if known is None:
            if kind in (CREDIT, RESET):
                return None  # it has crossed our own end
            raise ValueError(f"frame {kind} on stream {stream}, which is not open")
        if kind == DATA:
            if len(content) > known.expected or known.has_ended:
                raise ValueError(f"stream {stream} has sent more than it may")
            known.expected -= len(content)
        elif kind == CREDIT and len(content) == _CREDIT.size:
            known.credit += _CREDIT.unpack(content)[0]
            if known.credit > WINDOW_BYTES:
                raise ValueError(f"stream {stream} has given more credit than it can have")
        elif kind == END:
            known.has_ended = True
            self._forget_if_over(stream, known)
        elif kind == RESET:
            del self._streams[stream]
            if not known.is_abandoned:
                self._add(RESET, stream, b"")
        else:
            raise ValueError(f"frame {kind} of {len(content)} bytes")
        if known.is_abandoned:
            return None
        return Frame(kind, stream, content if kind == DATA else None)

    def _forget_if_over(self, stream: int, known: _Stream) -> None:
        if known.is_ended and known.has_ended:
            del self._streams[stream]

    def _add(self, kind: int, stream: int, content: bytes) -> None:
        if len(content) > FRAME_MAX_BYTES:
            raise ValueError(f"a frame of {len(content)} bytes")
        self.outgoing += _HEAD.pack(len(content), stream, kind)
        self.outgoing += content


def _encode(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _decode(text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("what is said is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("what is said is not an object")  # noqa: TRY004 - one kind for all
    return content
