"""The database under the stores: group commit, failure of one and of all, a kill in between."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firelet.model.errors import PlatformError
from firelet.store.documents import SqliteDocuments
from firelet.store.queue import EventQueue
from firelet.store.sqlite import Database, Work

MIGRATIONS = (("CREATE TABLE numbers (n INTEGER PRIMARY KEY)",),)

WRITER = """
import asyncio, sys
from pathlib import Path
from firelet.store.documents import Put, SqliteDocuments
from firelet.store.queue import EventQueue

async def write_for_ever(directory):
    documents = SqliteDocuments(directory / "documents.db")
    queue = EventQueue(directory / "queue.db")

    async def worker(name):
        for n in range(1_000_000):
            await documents.apply([Put("k", f"{name}.{n}", b"x" * 100)])
            id = await queue.put(f"{name}.{n}".encode())
            print(f"{name}.{n}", flush=True)

    await asyncio.gather(*(worker(name) for name in "abcdefgh"))

asyncio.run(write_for_ever(Path(sys.argv[1])))
"""


def insert(n: int) -> Work[int]:
    def work(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO numbers VALUES (?)", (n,))
        return n

    return work


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [n for (n,) in connection.execute("SELECT n FROM numbers ORDER BY n")]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "n.db", "numbers", MIGRATIONS)
    yield database
    await database.close()


async def test_a_write_returns_the_result_of_its_work(database: Database) -> None:
    assert await database.write(insert(7)) == 7
    assert await database.read(numbers) == [7]
    assert database.read_now(numbers) == [7]


async def test_writes_during_a_commit_go_into_the_next_one_together(database: Database) -> None:
    commits: list[str] = []
    gate = threading.Event()

    def block(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(
            lambda statement: commits.append(statement) if statement == "COMMIT" else None
        )
        gate.wait()

    first = asyncio.ensure_future(database.write(block))
    await asyncio.sleep(0)
    rest = [asyncio.ensure_future(database.write(insert(n))) for n in range(50)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, *rest)
    assert len(commits) == 2


async def test_work_that_raises_is_undone_alone(database: Database) -> None:
    def insert_and_fail(connection: sqlite3.Connection) -> None:
        insert(2)(connection)
        raise KeyError("mine")

    outcomes = await asyncio.gather(
        database.write(insert(1)),
        database.write(insert_and_fail),
        database.write(insert(1)),
        database.write(insert(3)),
        return_exceptions=True,
    )
    assert outcomes[0] == 1
    assert isinstance(outcomes[1], KeyError)
    assert isinstance(outcomes[2], PlatformError)
    assert outcomes[3] == 3
    assert await database.read(numbers) == [1, 3]


async def test_changes_around_one_that_broke_the_whole_commit_are_made(database: Database) -> None:
    def break_transaction(connection: sqlite3.Connection) -> None:
        # What SQLite does by itself when the disk is full.
        connection.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    outcomes = await asyncio.gather(
        database.write(insert(1)),
        database.write(break_transaction),
        database.write(insert(2)),
        return_exceptions=True,
    )
    assert [outcomes[0], outcomes[2]] == [1, 2]
    assert isinstance(outcomes[1], PlatformError)
    assert "disk is full" in str(outcomes[1])
    assert await database.read(numbers) == [1, 2]


async def test_a_cancelled_caller_does_not_disturb_the_others(database: Database) -> None:
    cancelled = asyncio.ensure_future(database.write(insert(1)))
    other = asyncio.ensure_future(database.write(insert(2)))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert await other == 2
    assert await database.read(numbers) == [1, 2]


async def test_close_waits_for_what_was_accepted(tmp_path: Path) -> None:
    database = Database(tmp_path / "n.db", "numbers", MIGRATIONS)
    writes = [asyncio.ensure_future(database.write(insert(n))) for n in range(20)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*writes) == list(range(20))


async def test_a_file_belongs_to_one_store_and_one_process(
    database: Database, tmp_path: Path
) -> None:
    await database.write(insert(1))
    second = Database(tmp_path / "n.db", "numbers", MIGRATIONS)
    with pytest.raises(PlatformError, match="in use"):
        await second.read(numbers)
    await second.close()
    await database.close()
    other = Database(tmp_path / "n.db", "letters", MIGRATIONS)
    with pytest.raises(PlatformError, match="holds numbers, not letters"):
        await other.read(numbers)
    await other.close()


async def test_an_older_schema_is_brought_up_to_date(database: Database, tmp_path: Path) -> None:
    await database.write(insert(1))
    await database.close()
    steps = (*MIGRATIONS, ("ALTER TABLE numbers ADD COLUMN name TEXT DEFAULT 'one'",))
    newer = Database(tmp_path / "n.db", "numbers", steps)
    assert await newer.read(lambda c: c.execute("SELECT * FROM numbers").fetchall()) == [(1, "one")]
    await newer.close()


async def test_an_unwritable_place_is_a_platform_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    database = Database(tmp_path / "file" / "n.db", "numbers", MIGRATIONS)
    with pytest.raises(PlatformError, match="failed"):
        await database.write(insert(1))
    await database.close()


async def test_all_that_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(400)]
    os.kill(process.pid, signal.SIGKILL)
    acknowledged += [line.strip() for line in process.stdout if line.endswith("\n")]
    process.stdout.close()
    process.wait()

    documents = SqliteDocuments(tmp_path / "documents.db")
    queue = EventQueue(tmp_path / "queue.db")
    keys = {key for key, _ in documents.load("k")}
    bodies = {event.body.decode() for event in await queue.take(1_000_000, 2**62)}
    await documents.close()
    await queue.close()
    assert set(acknowledged) <= keys
    assert set(acknowledged) <= bodies
