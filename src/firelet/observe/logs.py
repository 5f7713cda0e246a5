"""The log store: what functions and the platform write, kept by group and stream.

What it is: the local CloudWatch Logs. Writers append to memory; a flusher packs what came within a
quarter of a second into one row per stream and commits it; queries flush first, so that whoever
asks right after an invocation sees its lines. A sweeper keeps to the retention of each group and to
the size of the whole. What it is not: the Logs API (``frontend.logs``) or the grammar of filter
patterns (``log_pattern``). Opened by ``app``; written to by the runtime side of each sandbox.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, TypeVar

from firelet.model.errors import PlatformError
from firelet.observe import log_tables
from firelet.observe.log_backlog import Backlog, Batch, BufferedStream, Dropped, format_dropped
from firelet.observe.log_chunks import Chunk, Event, make_chunks
from firelet.observe.log_records import (
    DAY_MS,
    GroupKey,
    LogEvent,
    LogGroup,
    LogStream,
    Moment,
    Place,
    StreamKey,
)
from firelet.observe.log_scan import GroupScan, Matches, StreamScan

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]

_SWEEP_CHUNKS = 500  # removed in one commit, so that the flusher does not wait long
_SWEEP_TO = 0.95  # of the size limit, so that one sweep lasts for a while


class LogStreamWriter(Protocol):
    """Where the lines of one log stream go."""

    def write(self, timestamp_ms: int, message: str) -> None:
        """Never blocks and does no I/O; the event is on disk a quarter of a second later."""


class LogDatabase(Protocol):
    """A SQLite file with the tables of ``LOG_MIGRATIONS``: one thread, group commit."""

    async def read(self, work: Work[Result]) -> Result:
        """Runs ``work`` in the database's thread."""

    async def write(self, work: Work[Result]) -> Result:
        """Runs ``work`` in a commit and returns when that is on the disk."""

    async def close(self) -> None:
        """Waits for what was accepted and closes the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLimits:
    """How much is kept where, and for how long (all firelet)."""

    memory_max_bytes: int = 64 << 20
    flush_after_s: float = 0.25
    flush_bytes: int = 1 << 20
    stored_max_bytes: int = 10 << 30
    sweep_every_s: float = 60.0


@dataclass(frozen=True, slots=True)
class StreamPage:
    """A page along one stream: its events, and the gaps at its two ends."""

    events: Sequence[LogEvent]
    before: Place
    after: Place


@dataclass(frozen=True, slots=True)
class GroupPage:
    """A page through a group. ``last`` is None when nothing is left after it."""

    events: Sequence[LogEvent]
    last: Moment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupQuery:
    """What to look for in a group. ``window`` is in epoch ms; ``after`` is where a page ended."""

    matches: Matches
    window: range
    streams: Sequence[str] = ()
    prefix: str = ""
    is_forward: bool = True
    after: Moment | None = None
    limit: int = 10_000


class LogStore:
    """Groups, streams and events. Owns ``database`` and closes it."""

    def __init__(
        self,
        database: LogDatabase,
        *,
        limits: LogLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._limits = limits or LogLimits()
        self._clock = clock
        self._has_events = asyncio.Event()
        self._is_full = asyncio.Event()
        self._backlog = Backlog(
            self._limits.memory_max_bytes,
            self._limits.flush_bytes,
            self._has_events.set,
            self._is_full.set,
        )
        self._flushing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def dropped(self) -> Dropped:
        """Events lost since the start because the disk could not keep up."""
        return self._backlog.dropped

    def open_stream(self, account: str, region: str, group: str, stream: str) -> LogStreamWriter:
        """The writer of a stream, which is made, with its group, by the first event.

        Events keep their order within one writer; a stream should have only one at a time.
        """
        return BufferedStream(StreamKey(account, region, group, stream), self._backlog)

    async def start(self) -> None:
        """Starts flushing and sweeping by themselves."""
        self._tasks = [
            asyncio.create_task(self._keep_flushing(), name="log flusher"),
            asyncio.create_task(self._keep_sweeping(), name="log sweeper"),
        ]

    async def close(self) -> None:
        """Writes what is left and closes the database."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        try:
            await self.flush()
        finally:
            await self._database.close()

    async def flush(self) -> None:
        """Returns when all that was written before is on the disk. PlatformError if it cannot be;
        it is kept then, and tried again with the next flush."""
        async with self._flushing:
            if self._backlog.is_empty:
                return
            self._has_events.clear()
            self._is_full.clear()
            batches = self._backlog.take()
            try:
                await self._database.write(partial(_append_all, batches, self._now_ms()))
            except PlatformError:
                self._backlog.put_back(batches)
                self._has_events.set()
                raise
            except asyncio.CancelledError:
                # The database does not take back what it has accepted.
                self._backlog.written(batches)
                raise
            except Exception:
                # Not the disk but these events: they would fail again, and hold up all others.
                self._backlog.written(batches)
                raise
            self._backlog.written(batches)
            _report_dropped(batches)

    # Groups and streams

    async def create_group(self, key: GroupKey, group: LogGroup) -> None:
        await self.flush()
        await self._database.write(lambda c: log_tables.insert_group(c, key, group))

    async def load_group(self, key: GroupKey) -> LogGroup:
        await self.flush()
        return await self._database.read(lambda c: log_tables.load_group(c, key))

    async def change_group(self, key: GroupKey, change: Callable[[LogGroup], LogGroup]) -> None:
        """Replaces what a caller may change of a group: retention, protection and tags."""
        await self.flush()
        await self._database.write(
            lambda c: log_tables.save_group(c, key, change(log_tables.load_group(c, key)))
        )

    async def delete_group(self, key: GroupKey) -> None:
        await self.flush()
        await self._database.write(lambda c: log_tables.delete_group(c, key))

    async def list_groups(
        self, account: str, region: str, *, prefix: str = "", substring: str = ""
    ) -> list[LogGroup]:
        """All groups whose names start with ``prefix`` and contain ``substring``, by name."""
        await self.flush()
        return await self._database.read(
            lambda c: log_tables.list_groups(c, account, region, prefix, substring)
        )

    async def create_stream(self, key: StreamKey) -> None:
        await self.flush()
        now_ms = self._now_ms()
        await self._database.write(lambda c: log_tables.insert_stream(c, key, now_ms))

    async def delete_stream(self, key: StreamKey) -> None:
        await self.flush()
        await self._database.write(lambda c: log_tables.delete_stream(c, key))

    async def list_streams(
        self,
        key: GroupKey,
        *,
        prefix: str = "",
        by_time: bool = False,
        is_descending: bool = False,
        after: tuple[int, str] | None = None,
        limit: int,
    ) -> list[LogStream]:
        """A page of streams by name, or by the time of their last event; see ``log_tables``."""
        await self.flush()
        return await self._database.read(
            lambda c: log_tables.list_streams(
                c,
                key,
                prefix=prefix,
                by_time=by_time,
                is_descending=is_descending,
                after=after,
                limit=limit,
            )
        )

    # Events

    async def put_events(self, key: StreamKey, events: Sequence[Event]) -> None:
        """Adds events to a stream that exists; they are on the disk when it returns."""
        await self.flush()
        now_ms = self._now_ms()

        def work(connection: sqlite3.Connection) -> None:
            _find_stream(connection, key)
            log_tables.append(connection, key, make_chunks(events, now_ms), now_ms)

        await self._database.write(work)

    async def read_stream(
        self, key: StreamKey, *, window: range, gap: Place | None, is_forward: bool, limit: int
    ) -> StreamPage:
        """A page of a stream in the order of writing, from ``gap`` on or back from it.

        Without a gap it is the first page, or the last one when reading back.
        """
        await self.flush()
        stream_id = await self._database.read(lambda c: _find_stream(c, key))
        if gap is None and is_forward:
            gap = Place(0, 0)
        elif gap is None:
            gap = await self._database.read(lambda c: log_tables.find_end(c, stream_id))
        scan = StreamScan(gap, is_forward, window, limit)
        while not scan.is_full:
            chunks = await self._database.read(
                partial(
                    log_tables.read_stream,
                    stream_id=stream_id,
                    gap=scan.next_gap,
                    is_forward=is_forward,
                    window=window,
                )
            )
            if not chunks:
                break
            await asyncio.to_thread(scan.feed, chunks)
        before, after = (scan.start, scan.end) if is_forward else (scan.end, scan.start)
        return StreamPage(scan.events, before, after)

    async def read_group(self, key: GroupKey, query: GroupQuery) -> GroupPage:
        """A page of the events of a group that match, in the order of time."""
        await self.flush()
        group_id = await self._database.read(lambda c: _find_group(c, key, query.streams))
        after, window = query.after, query.window
        if after is not None and query.is_forward:
            window = range(max(window.start, after.timestamp_ms), window.stop)
        elif after is not None:
            window = range(window.start, min(window.stop, after.timestamp_ms + 1))
        scan = GroupScan(query.matches, window, query.is_forward, after, query.limit)
        chunks: list[Chunk] = []
        while not scan.is_full:
            chunks = await self._database.read(
                partial(
                    log_tables.read_group,
                    group_id=group_id,
                    streams=query.streams,
                    prefix=query.prefix,
                    window=window,
                    is_forward=query.is_forward,
                    after=_edge(chunks, query.is_forward),
                )
            )
            await asyncio.to_thread(scan.feed, chunks)
            if not chunks:
                break
        return GroupPage(scan.events, scan.last if scan.is_full else None)

    # Limits

    async def sweep(self) -> None:
        """Removes the events that are older than their group keeps them, then, while more is
        stored than the limit says, those that came first."""
        while await self._database.write(self._sweep_expired):
            pass
        while await self._database.write(self._sweep_excess):
            pass

    def _sweep_expired(self, connection: sqlite3.Connection) -> bool:
        expired = log_tables.find_expired(connection, self._now_ms(), DAY_MS, _SWEEP_CHUNKS)
        log_tables.delete_chunks(connection, expired)
        return len(expired) == _SWEEP_CHUNKS

    def _sweep_excess(self, connection: sqlite3.Connection) -> bool:
        total, limit = log_tables.total_bytes(connection), self._limits.stored_max_bytes
        if total <= limit:
            return False
        excess = total - int(limit * _SWEEP_TO)
        oldest = log_tables.find_oldest(connection, excess, _SWEEP_CHUNKS)
        log_tables.delete_chunks(connection, oldest)
        log.warning("logs over their size limit: total=%d removed=%d chunks", total, len(oldest))
        return bool(oldest)

    async def _keep_flushing(self) -> None:
        """Supervisor: one failing flush must not end all logging."""
        is_failing = False
        while True:
            await self._has_events.wait()
            try:
                async with asyncio.timeout(self._limits.flush_after_s):
                    await self._is_full.wait()
            except TimeoutError:
                pass
            try:
                await self.flush()
            except Exception:
                # Said once for a disk that stays full; the backlog keeps what fits meanwhile.
                if not is_failing:
                    log.exception("logs cannot be written")
                is_failing = True
                self._is_full.clear()
            else:
                is_failing = False

    async def _keep_sweeping(self) -> None:
        """Supervisor of the sweeps."""
        while True:
            try:
                await self.sweep()
            except Exception:
                log.exception("logs cannot be swept")
            await asyncio.sleep(self._limits.sweep_every_s)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _append_all(batches: Sequence[Batch], now_ms: int, connection: sqlite3.Connection) -> None:
    for batch in batches:
        events: Sequence[Event] = batch.events
        if batch.dropped is not None:
            at_ms = events[0][0] if events else now_ms
            told = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
            message = format_dropped(batch.dropped, told.replace("+00:00", "Z"))
            events = [(at_ms, message), *events]
        log_tables.append(connection, batch.stream.key, make_chunks(events, now_ms), now_ms)


def _report_dropped(batches: Sequence[Batch]) -> None:
    lost = [batch.dropped for batch in batches if batch.dropped is not None]
    if lost:
        log.warning(
            "logs dropped: the disk could not keep up: records=%d streams=%d",
            sum(dropped.records for dropped in lost),
            len(lost),
        )


def _find_stream(connection: sqlite3.Connection, key: StreamKey) -> int:
    group_id = log_tables.find_group_id(connection, GroupKey(key.account, key.region, key.group))
    return log_tables.find_stream_id(connection, group_id, key.stream)


def _find_group(connection: sqlite3.Connection, key: GroupKey, streams: Sequence[str]) -> int:
    """The group, all of whose named streams must exist."""
    group_id = log_tables.find_group_id(connection, key)
    for stream in streams:
        log_tables.find_stream_id(connection, group_id, stream)
    return group_id


def _edge(chunks: Sequence[Chunk], is_forward: bool) -> tuple[int, int] | None:
    if not chunks:
        return None
    last = chunks[-1]
    return (last.first_ms if is_forward else last.last_ms, last.id)
