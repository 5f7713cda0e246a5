"""What functions of a worker process write, on its way to the control process.

Events are kept in bounded memory and sent in notes of a bounded size: a moment after the first
one, when there are many, and before each answer, so that whoever has an answer can read the lines
that led to it. Every stream has its turn in each note: one that is flooded holds up no other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from firelet.observe.log_backlog import Backlog, Batch, BufferedStream, format_dropped
from firelet.observe.log_chunks import EVENT_OVERHEAD_BYTES, Event
from firelet.observe.log_records import StreamKey
from firelet.runtime.report import format_iso_ms
from firelet.wire.worker_messages import Logged, StreamEvents

_MEMORY_MAX_BYTES = 64 << 20
_SEND_BYTES = 1 << 20
_SEND_AFTER_S = 0.1
# A note of short lines costs each of the two event loops about 10 ms, for which it does nothing
# else; a single event may have up to 256 KiB.
_NOTE_BYTES = 256 << 10
_PIECE_BYTES = 64 << 10


@dataclass(slots=True)
class _Unsent:
    """Events of one stream, of which those before ``at`` are sent."""

    stream: BufferedStream
    events: list[Event]
    at: int = 0

    def add(self, events: list[Event]) -> None:
        self.events = self.events[self.at :] + events
        self.at = 0

    def take_piece(self) -> Batch:
        """The next events, up to the size of a piece, and at least one."""
        start, size = self.at, 0
        while self.at < len(self.events) and size < _PIECE_BYTES:
            size += len(self.events[self.at][1]) + EVENT_OVERHEAD_BYTES
            self.at += 1
        return Batch(self.stream, self.events[start : self.at], size, None)


class LogForwarder:
    """``tell`` sends a note; ``is_congested`` says that the control process does not keep up."""

    def __init__(self, tell: Callable[[Logged], None], is_congested: Callable[[], bool]) -> None:
        self._tell = tell
        self._is_congested = is_congested
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._next_turn: asyncio.Handle | None = None
        self._unsent: dict[BufferedStream, _Unsent] = {}
        self._backlog = Backlog(_MEMORY_MAX_BYTES, _SEND_BYTES, self._send_later, self.send)

    def open_stream(self, key: StreamKey) -> BufferedStream:
        """The writer of a stream."""
        return BufferedStream(key, self._backlog)

    def send(self) -> None:
        """Sends one note now, and what it does not hold in the next turns of the loop; later
        while the control process does not keep up."""
        if self._backlog.is_empty and not self._unsent:
            return
        if self._is_congested():
            self._send_later()
            return
        for batch in self._backlog.take():
            self._put(batch)
        self._send_note()
        if self._unsent and self._next_turn is None:
            self._next_turn = self._loop.call_soon(self._on_next_turn)

    def send_all(self) -> None:
        """Sends everything at once, before the end."""
        for batch in self._backlog.take():
            self._put(batch)
        while self._unsent:
            self._send_note()

    def _on_next_turn(self) -> None:
        self._next_turn = None
        self.send()

    def _send_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(_SEND_AFTER_S, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.send()

    def _put(self, batch: Batch) -> None:
        events = batch.events
        if batch.dropped is not None:
            at_ms = events[0][0] if events else int(time.time() * 1000)
            told = format_dropped(batch.dropped, format_iso_ms(at_ms / 1000))
            self._backlog.on_added(len(told) + EVENT_OVERHEAD_BYTES)
            events = [(at_ms, told), *events]
        unsent = self._unsent.get(batch.stream)
        if unsent is None:
            self._unsent[batch.stream] = _Unsent(batch.stream, events)
        else:
            unsent.add(events)

    def _send_note(self) -> None:
        """One piece of each stream, as many as a note holds; the others come first next time."""
        pieces: list[Batch] = []
        size = 0
        for stream in list(self._unsent):
            unsent = self._unsent.pop(stream)
            pieces.append(unsent.take_piece())
            size += pieces[-1].size
            if unsent.at < len(unsent.events):
                self._unsent[stream] = unsent
            if size >= _NOTE_BYTES:
                break
        self._backlog.written(pieces)
        if pieces:
            self._tell(Logged([_format(piece) for piece in pieces]))


def _format(piece: Batch) -> StreamEvents:
    key = piece.stream.key
    events = [(at_ms, _well_formed(message)) for at_ms, message in piece.events]
    return StreamEvents(key.account, key.region, key.group, key.stream, events)


def _well_formed(message: str) -> str:
    """Half a surrogate pair is no character, and no note could hold it."""
    if message.isascii():
        return message
    return message.encode("utf-8", "replace").decode()
