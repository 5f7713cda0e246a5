"""The log store on a real database: what is written is found, in order, and not for ever."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from firelet.model.errors import PlatformError
from firelet.observe.log_errors import LogGroupNotFound, LogStreamNotFound
from firelet.observe.log_records import DAY_MS, GroupKey, LogGroup, Moment, StreamKey
from firelet.observe.log_tables import LOG_MIGRATIONS
from firelet.observe.logs import GroupPage, GroupQuery, LogLimits, LogStore
from firelet.store.sqlite import Database

Result = TypeVar("Result")

GROUP = GroupKey("1", "eu-west-1", "/aws/lambda/f")
EVER = range(2**62)


class FakeClock:
    def __init__(self) -> None:
        self.now_ms = 1_700_000_000_000

    def __call__(self) -> float:
        return self.now_ms / 1000


class FailingDatabase:
    """A database whose disk is full while ``is_full``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.is_full = False
        self.written = asyncio.Event()

    async def read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        return await self._database.read(work)

    async def write(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        if self.is_full:
            raise PlatformError("The disk is full.")
        result = await self._database.write(work)
        self.written.set()
        return result

    async def close(self) -> None:
        await self._database.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def database(tmp_path: Path) -> FailingDatabase:
    return FailingDatabase(Database(tmp_path / "logs.db", "logs", LOG_MIGRATIONS))


@pytest.fixture
async def store(database: FailingDatabase, clock: FakeClock) -> AsyncIterator[LogStore]:
    store = LogStore(database, clock=clock)
    yield store
    await store.close()


def stream_key(stream: str, group: GroupKey = GROUP) -> StreamKey:
    return StreamKey(group.account, group.region, group.name, stream)


def write(store: LogStore, stream: str, *events: tuple[int, str], group: GroupKey = GROUP) -> None:
    writer = store.open_stream(group.account, group.region, group.name, stream)
    for timestamp, message in events:
        writer.write(timestamp, message)


async def read(store: LogStore, stream: str, group: GroupKey = GROUP) -> list[str]:
    page = await store.read_stream(
        stream_key(stream, group), window=EVER, gap=None, is_forward=True, limit=10_000
    )
    return [event.message for event in page.events]


async def search(
    store: LogStore,
    *,
    window: range = EVER,
    limit: int = 10_000,
    is_forward: bool = True,
    after: Moment | None = None,
    text: str = "",
    group: GroupKey = GROUP,
) -> GroupPage:
    return await store.read_group(
        group,
        GroupQuery(
            matches=lambda message: text in message,
            window=window,
            limit=limit,
            is_forward=is_forward,
            after=after,
        ),
    )


async def search_all(store: LogStore, *, limit: int, is_forward: bool = True) -> list[str]:
    found: list[str] = []
    after: Moment | None = None
    while True:
        page = await search(store, limit=limit, is_forward=is_forward, after=after)
        found += [event.message for event in page.events]
        after = page.last
        if after is None:
            return found


async def test_a_reader_sees_what_was_written_just_before(store: LogStore) -> None:
    write(store, "s", (1, "START\n"), (2, "END\n"))
    assert await read(store, "s") == ["START\n", "END\n"]


async def test_nothing_exists_before_the_first_event(store: LogStore) -> None:
    store.open_stream("1", "eu-west-1", "g", "s")
    with pytest.raises(LogGroupNotFound):
        await store.load_group(GroupKey("1", "eu-west-1", "g"))


async def test_the_first_event_makes_group_and_stream(store: LogStore, clock: FakeClock) -> None:
    write(store, "s", (5, "x"))
    assert (await store.load_group(GROUP)).created_ms == clock.now_ms
    (stream,) = await store.list_streams(GROUP, limit=50)
    assert (stream.name, stream.first_ms, stream.last_ms) == ("s", 5, 5)


async def test_events_of_a_stream_stay_in_the_order_of_writing(store: LogStore) -> None:
    write(store, "s", (3, "first"), (1, "second"))
    await store.flush()
    write(store, "s", (2, "third"))
    assert await read(store, "s") == ["first", "second", "third"]


async def test_accounts_and_regions_are_separate_worlds(store: LogStore) -> None:
    other = GroupKey("2", GROUP.region, GROUP.name)
    elsewhere = GroupKey(GROUP.account, "us-east-1", GROUP.name)
    write(store, "s", (1, "mine"))
    write(store, "s", (1, "theirs"), group=other)
    assert await read(store, "s") == ["mine"]
    assert await read(store, "s", other) == ["theirs"]
    with pytest.raises(LogGroupNotFound):
        await read(store, "s", elsewhere)


async def test_streams_are_interleaved_in_the_order_of_time(store: LogStore) -> None:
    write(store, "a", (1, "a1"), (4, "a4"))
    write(store, "b", (2, "b2"), (3, "b3"))
    await store.flush()
    write(store, "a", (5, "a5"))
    assert await search_all(store, limit=100) == ["a1", "b2", "b3", "a4", "a5"]
    assert await search_all(store, limit=100, is_forward=False) == ["a5", "a4", "b3", "b2", "a1"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("is_forward", [True, False])
async def test_pages_bring_each_event_once(store: LogStore, limit: int, is_forward: bool) -> None:
    expected = []
    for n in range(30):
        write(store, f"s{n % 4}", (n // 3, f"{n:02}"))
        expected.append(f"{n:02}")
        if n % 5 == 0:
            await store.flush()
    found = await search_all(store, limit=limit, is_forward=is_forward)
    assert sorted(found) == expected
    times = [int(message) // 3 for message in found]
    assert times == sorted(times, reverse=not is_forward)


async def test_a_search_keeps_to_its_window_of_time(store: LogStore) -> None:
    write(store, "s", *((n * 50_000, str(n)) for n in range(10)))
    page = await search(store, window=range(100_000, 250_001))
    assert [event.message for event in page.events] == ["2", "3", "4", "5"]
    page = await search(store, window=range(100_000, 250_001), is_forward=False)
    assert [event.message for event in page.events] == ["5", "4", "3", "2"]


async def test_a_search_brings_what_matches(store: LogStore) -> None:
    write(store, "s", (1, "INFO a"), (2, "ERROR b"), (3, "ERROR c"))
    page = await search(store, text="ERROR")
    assert [event.message for event in page.events] == ["ERROR b", "ERROR c"]
    assert page.last is None


async def test_a_search_in_a_stream_that_does_not_exist_fails(store: LogStore) -> None:
    write(store, "s", (1, "x"))
    with pytest.raises(LogStreamNotFound):
        await store.read_group(
            GROUP, GroupQuery(matches=bool, window=EVER, streams=["s", "unknown"])
        )


async def test_a_page_holds_no_more_than_a_megabyte(store: LogStore) -> None:
    write(store, "s", *((n, "x" * 200_000) for n in range(8)))
    page = await search(store)
    assert len(page.events) == 5
    assert page.last is not None
    page = await search(store, after=page.last)
    assert len(page.events) == 3
    assert page.last is None


async def test_a_stream_can_be_walked_back_and_forth(store: LogStore) -> None:
    for n in range(10):
        write(store, "s", (n, str(n)))
        await store.flush()
    key = stream_key("s")
    tail = await store.read_stream(key, window=EVER, gap=None, is_forward=False, limit=4)
    assert [event.message for event in tail.events] == ["6", "7", "8", "9"]
    back = await store.read_stream(key, window=EVER, gap=tail.before, is_forward=False, limit=4)
    assert [event.message for event in back.events] == ["2", "3", "4", "5"]
    again = await store.read_stream(key, window=EVER, gap=back.after, is_forward=True, limit=4)
    assert [event.message for event in again.events] == ["6", "7", "8", "9"]
    end = await store.read_stream(key, window=EVER, gap=tail.after, is_forward=True, limit=4)
    assert (list(end.events), end.after) == ([], tail.after)
    write(store, "s", (10, "new"))
    new = await store.read_stream(key, window=EVER, gap=end.after, is_forward=True, limit=4)
    assert [event.message for event in new.events] == ["new"]


async def test_a_deleted_group_takes_its_streams_and_events_along(store: LogStore) -> None:
    write(store, "s", (1, "x"))
    await store.delete_group(GROUP)
    with pytest.raises(LogGroupNotFound):
        await read(store, "s")
    write(store, "s", (2, "y"))
    assert await read(store, "s") == ["y"]


async def test_a_deleted_stream_is_forgotten_with_its_bytes(store: LogStore) -> None:
    write(store, "s", (1, "x"))
    await store.delete_stream(stream_key("s"))
    assert (await store.load_group(GROUP)).stored_bytes == 0
    with pytest.raises(LogStreamNotFound):
        await read(store, "s")


async def test_expired_events_are_swept(store: LogStore, clock: FakeClock) -> None:
    await store.create_group(
        GROUP, LogGroup(name=GROUP.name, created_ms=0, retention_days=3, tags={"a": "b"})
    )
    write(store, "s", (clock.now_ms, "old"))
    write(store, "s", (clock.now_ms, "kept"), group=GroupKey("1", "eu-west-1", "no limit"))
    await store.flush()
    clock.now_ms += 2 * DAY_MS
    write(store, "s", (clock.now_ms, "new"))
    await store.sweep()
    assert await read(store, "s") == ["old", "new"]
    clock.now_ms += DAY_MS + 1
    await store.sweep()
    assert await read(store, "s") == ["new"]
    (stream,) = await store.list_streams(GROUP, limit=1)
    assert stream.first_ms == stream.last_ms == clock.now_ms - DAY_MS - 1
    assert await read(store, "s", GroupKey("1", "eu-west-1", "no limit")) == ["kept"]


async def test_the_oldest_chunks_go_when_too_much_is_stored(
    database: FailingDatabase, clock: FakeClock
) -> None:
    store = LogStore(database, clock=clock, limits=LogLimits(stored_max_bytes=5_000))
    for n in range(20):
        write(store, "s", (n, f"{n:0400}"[:400]))
        await store.flush()
    before = await read(store, "s")
    await store.sweep()
    left = await read(store, "s")
    assert 0 < len(left) < 20
    assert left == before[-len(left) :]
    assert (await store.load_group(GROUP)).stored_bytes <= 5_000
    await store.close()


async def test_a_full_disk_delays_events_and_does_not_lose_them(
    store: LogStore, database: FailingDatabase
) -> None:
    write(store, "s", (1, "a"))
    database.is_full = True
    with pytest.raises(PlatformError):
        await store.flush()
    write(store, "s", (2, "b"))
    database.is_full = False
    assert await read(store, "s") == ["a", "b"]


async def test_a_reader_that_goes_away_while_its_flush_runs_loses_nothing(
    store: LogStore,
) -> None:
    write(store, "s", (1, "a"))
    gone = asyncio.ensure_future(read(store, "s"))
    while not store._flushing.locked():
        await asyncio.sleep(0)
    gone.cancel()
    write(store, "s", (2, "b"))
    assert await read(store, "s") == ["a", "b"]
    assert store._backlog.size == 0


async def test_a_disk_that_stays_full_costs_the_oldest_events_and_the_stream_says_so(
    database: FailingDatabase, clock: FakeClock
) -> None:
    store = LogStore(database, clock=clock, limits=LogLimits(memory_max_bytes=1_000))
    database.is_full = True
    write(store, "s", *((n, f"{n:074}") for n in range(50)))
    with pytest.raises(PlatformError):
        await store.flush()
    database.is_full = False
    told, *rest = await read(store, "s")
    assert '"platform.logsDropped"' in told
    assert f'"droppedRecords":{50 - len(rest)}' in told
    assert rest[-1] == f"{49:074}"
    assert store.dropped.records == 50 - len(rest)
    await store.close()


async def test_a_started_store_writes_by_itself(
    database: FailingDatabase, clock: FakeClock
) -> None:
    store = LogStore(database, clock=clock, limits=LogLimits(flush_after_s=0))
    await store.start()
    await database.written.wait()  # the first sweep
    database.written.clear()
    write(store, "s", (1, "x"))
    await database.written.wait()
    assert await read(store, "s") == ["x"]
    await store.close()


async def test_events_survive_a_restart(tmp_path: Path, clock: FakeClock) -> None:
    store = LogStore(Database(tmp_path / "l.db", "logs", LOG_MIGRATIONS), clock=clock)
    await store.create_group(GROUP, LogGroup(name=GROUP.name, created_ms=3, tags={"team": "a"}))
    write(store, "s", (1, "x"))
    await store.close()
    store = LogStore(Database(tmp_path / "l.db", "logs", LOG_MIGRATIONS), clock=clock)
    assert await read(store, "s") == ["x"]
    assert (await store.load_group(GROUP)).tags == {"team": "a"}
    await store.close()
