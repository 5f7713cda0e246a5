"""The backlog: log events between the function that wrote them and the disk.

What it is: bounded memory. A write appends to a list and adds two numbers; nothing else happens on
the path of an invocation. When the disk cannot keep up, the oldest events go, and each stream that
lost some says so in an event of its own. What it is not: a clock or a timer; ``LogStore`` decides
when the backlog is emptied. Used in the event loop only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import orjson

from firelet.observe.log_chunks import EVENT_MAX_BYTES, EVENT_OVERHEAD_BYTES, Event, split_message
from firelet.observe.log_records import StreamKey

_SHED_FRACTION = 8  # an eighth of the room is freed at once, so that shedding is rare
_SURELY_SHORT_CHARS = EVENT_MAX_BYTES // 4  # no character takes more than four bytes


@dataclass(slots=True)
class Dropped:
    """What was lost: events, and the characters in them."""

    records: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of one stream on their way to the disk. ``dropped`` is None if none were lost."""

    stream: BufferedStream
    events: list[Event]
    size: int
    dropped: Dropped | None


@dataclass(slots=True, eq=False)
class BufferedStream:
    """The writer of one stream. ``write`` never blocks and does no I/O.

    A message longer than 256 KiB becomes several events, as Lambda does with a long line; an empty
    one becomes none, because CloudWatch has no empty events.
    """

    key: StreamKey
    backlog: Backlog
    events: list[Event] = field(default_factory=list)
    dropped: Dropped = field(default_factory=Dropped)

    def write(self, timestamp_ms: int, message: str) -> None:
        if not message:
            return
        if len(message) > _SURELY_SHORT_CHARS:
            for piece in split_message(message):
                self._append(timestamp_ms, piece)
        else:
            self._append(timestamp_ms, message)

    def _append(self, timestamp_ms: int, message: str) -> None:
        events = self.events
        if not events:
            self.backlog.on_first(self)
        events.append((timestamp_ms, message))
        self.backlog.on_added(len(message) + EVENT_OVERHEAD_BYTES)


class Backlog:
    """Unwritten events of all streams, up to ``max_size`` characters in all.

    ``on_wake`` is called when the first event comes after the backlog was empty, ``on_full`` when
    ``flush_size`` is passed.
    """

    def __init__(
        self,
        max_size: int,
        flush_size: int,
        on_wake: Callable[[], None],
        on_full: Callable[[], None],
    ) -> None:
        self.size = 0  # of what waits and of what is being written
        self.dropped = Dropped()  # in all, since the start
        self._max_size = max_size
        self._flush_size = flush_size
        self._on_wake = on_wake
        self._on_full = on_full
        # In the order in which the streams got their first waiting event: a dict is an ordered set.
        self._waiting: dict[BufferedStream, None] = {}

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def on_first(self, stream: BufferedStream) -> None:
        if not self._waiting:
            self._on_wake()
        self._waiting[stream] = None

    def on_added(self, size: int) -> None:
        before = self.size
        self.size = after = before + size
        if after > self._flush_size >= before:
            self._on_full()
        if after > self._max_size:
            self._shed(after - self._max_size + self._max_size // _SHED_FRACTION)

    def take(self) -> list[Batch]:
        """All that waits. It keeps its room until ``written`` or ``put_back``."""
        waiting, self._waiting = self._waiting, {}
        batches = []
        for stream in waiting:
            events, stream.events = stream.events, []
            dropped, stream.dropped = stream.dropped, Dropped()
            size = _size_of(events)
            batches.append(Batch(stream, events, size, dropped if dropped.records else None))
        return batches

    def written(self, batches: Sequence[Batch]) -> None:
        """They are on the disk: their room is free again."""
        self.size -= sum(batch.size for batch in batches)

    def put_back(self, batches: Sequence[Batch]) -> None:
        """They could not be written: they wait again, before what came in the meantime."""
        later = self._waiting
        self._waiting = {batch.stream: None for batch in batches}
        self._waiting.update(later)
        for batch in batches:
            batch.stream.events[:0] = batch.events
            if batch.dropped is not None:
                _add(batch.stream.dropped, batch.dropped.records, batch.dropped.size)

    def _shed(self, wanted: int) -> None:
        for stream in self._waiting:
            if wanted <= 0:
                break
            records = size = 0
            for _, message in stream.events:
                if size >= wanted:
                    break
                records += 1
                size += len(message) + EVENT_OVERHEAD_BYTES
            del stream.events[:records]
            # The stream keeps its place, so that what it says about its loss is written.
            for dropped in (stream.dropped, self.dropped):
                _add(dropped, records, size - records * EVENT_OVERHEAD_BYTES)
            self.size -= size
            wanted -= size


def format_dropped(dropped: Dropped, time: str) -> str:
    """The event that tells a stream's readers of a loss, in the words of the Telemetry API."""
    record = {
        "droppedBytes": dropped.size,
        "droppedRecords": dropped.records,
        "reason": "Log storage could not keep up",
    }
    line = orjson.dumps({"time": time, "type": "platform.logsDropped", "record": record})
    return line.decode() + "\n"


def _size_of(events: Sequence[Event]) -> int:
    return sum(len(message) for _, message in events) + EVENT_OVERHEAD_BYTES * len(events)


def _add(dropped: Dropped, records: int, size: int) -> None:
    dropped.records += records
    dropped.size += size
