"""Pages of events out of chunks: along one stream, and through a whole group by time.

What it is: the reading half of the log store without the store: chunks are fed in, a page comes
out, and with it the place where the next one starts. Pure, and run in a thread, because decoding
and matching may take long. Called by ``LogStore``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from firelet.observe.log_chunks import EVENT_OVERHEAD_BYTES, Chunk, unpack
from firelet.observe.log_records import LogEvent, Moment, Place

# Source: API reference of FilterLogEvents and GetLogEvents: a page has up to 1 MB of events.
PAGE_MAX_BYTES = 1 << 20
# After so many events a page ends even when few or none of them matched (firelet).
SCANNED_MAX = 500_000

Matches = Callable[[str], bool]


@dataclass(slots=True)
class _Page:
    """The events of a page so far, and whether another one fits."""

    limit: int
    events: list[LogEvent] = field(default_factory=list)
    size: int = 0

    def add(self, event: LogEvent) -> bool:
        """False when the event belongs to the next page."""
        size = len(event.message.encode("utf-8", "replace")) + EVENT_OVERHEAD_BYTES
        if self.events and (len(self.events) >= self.limit or self.size + size > PAGE_MAX_BYTES):
            return False
        self.events.append(event)
        self.size += size
        return True


class StreamScan:
    """One page along a stream, in the order of writing.

    ``start`` is the gap at which the page begins; ``end`` is the one at which it stopped. The
    events of a page that is read backwards come out in the order of writing, too.
    """

    def __init__(self, start: Place, is_forward: bool, window: range, limit: int) -> None:
        self.start = start
        self.end = start
        self.is_full = False
        self._is_forward = is_forward
        self._window = window
        self._page = _Page(limit)

    @property
    def events(self) -> list[LogEvent]:
        return self._page.events if self._is_forward else self._page.events[::-1]

    @property
    def next_gap(self) -> Place:
        """Where the chunks that come next begin."""
        return self.end

    def feed(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            if self.is_full:
                return
            self._feed_chunk(chunk)

    def _feed_chunk(self, chunk: Chunk) -> None:
        numbered = list(enumerate(unpack(chunk.body)))
        for index, (timestamp, message) in numbered if self._is_forward else numbered[::-1]:
            place = Place(chunk.id, index)
            if place < self.end if self._is_forward else place >= self.end:
                continue
            if timestamp in self._window:
                moment = Moment(timestamp, chunk.id, index)
                if not self._page.add(LogEvent(chunk.stream, message, chunk.ingested_ms, moment)):
                    self.is_full = True
                    return
            self.end = Place(chunk.id, index + 1) if self._is_forward else place
        # The chunk is used up: the next one is asked for by a gap that this one does not touch.
        self.end = Place(chunk.id + 1, 0) if self._is_forward else Place(chunk.id - 1, 1 << 30)


class GroupScan:
    """One page through a group in the order of time, forward or back.

    Chunks come in the order of their start (back: of their end); those that overlap are merged.
    ``last`` is the moment of the last event that was looked at: the next page goes on after it.
    """

    def __init__(
        self,
        matches: Matches,
        window: range,
        is_forward: bool,
        after: Moment | None,
        limit: int,
    ) -> None:
        self.last = after
        self.is_full = False
        self._matches = matches
        self._window = window
        self._is_forward = is_forward
        self._after = after
        self._page = _Page(limit)
        self._waiting: list[LogEvent] = []
        self._scanned = 0

    @property
    def events(self) -> list[LogEvent]:
        return self._page.events

    def feed(self, chunks: Sequence[Chunk]) -> None:
        """Takes the next chunks; none means that there are no more."""
        for chunk in chunks:
            self._unpack(chunk)
        self._waiting.sort(key=_moment, reverse=not self._is_forward)
        ready = len(self._waiting)
        if chunks:
            # An event at or past the edge of the last chunk may have to wait for one before it.
            edge = chunks[-1].first_ms if self._is_forward else chunks[-1].last_ms
            ready = sum(1 for event in self._waiting if self._is_before(event, edge))
        for at, event in enumerate(self._waiting[:ready]):
            if self._scanned >= SCANNED_MAX or not self._take(event):
                self.is_full = True
                ready = at
                break
        del self._waiting[:ready]

    def _is_before(self, event: LogEvent, edge_ms: int) -> bool:
        timestamp = event.moment.timestamp_ms
        return timestamp < edge_ms if self._is_forward else timestamp > edge_ms

    def _take(self, event: LogEvent) -> bool:
        if self._matches(event.message) and not self._page.add(event):
            return False
        self._scanned += 1
        self.last = event.moment
        return True

    def _unpack(self, chunk: Chunk) -> None:
        for index, (timestamp, message) in enumerate(unpack(chunk.body)):
            moment = Moment(timestamp, chunk.id, index)
            if timestamp not in self._window or self._is_passed(moment):
                continue
            self._waiting.append(LogEvent(chunk.stream, message, chunk.ingested_ms, moment))

    def _is_passed(self, moment: Moment) -> bool:
        if self._after is None:
            return False
        return moment <= self._after if self._is_forward else moment >= self._after


def _moment(event: LogEvent) -> Moment:
    return event.moment
