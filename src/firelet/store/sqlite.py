"""One SQLite file: opened, checked and versioned, and written by group commit.

What it is: the thread and the connection that the stores share as their way to the disk. All work
on a file happens in one thread of its own, so that no fsync ever holds the event loop, and all
changes that arrive while a commit runs go into the next one together. What it is not: tables;
each store brings its own as a list of migrations. Called by the stores of this package and, through
a port of its own, by ``observe.logs``.

Source: https://www.sqlite.org/wal.html and https://www.sqlite.org/pragma.html#pragma_synchronous:
in WAL mode with ``synchronous=FULL`` a commit has reached the disk when it returns.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from firelet.model.errors import PlatformError

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]

_BUSY_TIMEOUT_S = 2.0  # an earlier process may still be closing the file


@dataclass(slots=True)
class _Change:
    """One caller's part of a commit, and how it ended. ``done`` belongs to the event loop."""

    work: Work[Any]
    done: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class Database:
    """A SQLite file with one thread and one connection, opened at first use.

    ``migrations[n]`` holds the statements that lead from version n of the schema to n + 1; ``name``
    says which store the file belongs to. The file is locked: it belongs to one process at a time.
    Raises PlatformError when the file is damaged, foreign, of a newer firelet, or in use.
    """

    def __init__(self, path: Path, name: str, migrations: Sequence[Sequence[str]]) -> None:
        self._path = path
        self._name = name
        self._migrations = migrations
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"firelet-{name}")
        self._connection: sqlite3.Connection | None = None
        self._waiting: list[_Change] = []
        self._committing: asyncio.Future[None] | None = None
        self._is_closed = False

    def read_now(self, work: Work[Result]) -> Result:
        """Runs ``work`` and blocks until it is done. For start-up, before the event loop serves."""
        self._check_open()
        return self._thread.submit(self._run, work).result()

    async def read(self, work: Work[Result]) -> Result:
        """Runs ``work`` between two commits. It must not change anything."""
        self._check_open()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(self._run, work))

    async def write(self, work: Work[Result]) -> Result:
        """Runs ``work`` in the next commit and returns its result once that is on the disk.

        Changes keep the order of the calls. One that raises is undone alone. A caller that is
        cancelled while it waits does not take its change back.
        """
        self._check_open()
        change = _Change(work, asyncio.get_running_loop().create_future())
        self._waiting.append(change)
        if self._committing is None:
            self._start_commit()
        return await change.done  # type: ignore[no-any-return]

    async def compact(self) -> None:
        """Writes the file anew between two commits: nothing is left in it, or in its log, of what
        was deleted or replaced. Source: https://www.sqlite.org/lang_vacuum.html."""
        self._check_open()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, partial(self._run, _compact))

    async def close(self) -> None:
        """Waits for the changes that were accepted, then closes the file."""
        if self._is_closed:
            return
        self._is_closed = True
        while self._committing is not None:
            await asyncio.wait([self._committing])
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def _check_open(self) -> None:
        if self._is_closed:
            raise PlatformError(f"The database {self._path} is closed.")

    def _start_commit(self) -> None:
        batch, self._waiting = self._waiting, []
        loop = asyncio.get_running_loop()
        self._committing = loop.run_in_executor(self._thread, self._commit, batch)
        self._committing.add_done_callback(partial(self._on_committed, batch))

    def _on_committed(self, batch: list[_Change], committed: asyncio.Future[None]) -> None:
        failure = committed.exception()
        self._committing = None
        if self._waiting:
            self._start_commit()
        for change in batch:
            if change.done.done():
                continue
            error = failure or change.error
            if error is None:
                change.done.set_result(change.result)
            else:
                change.done.set_exception(error)

    # From here on: in the thread.

    def _run(self, work: Work[Result]) -> Result:
        try:
            return work(self._open())
        except sqlite3.Error as error:
            raise self._translate(error) from error

    def _commit(self, batch: list[_Change]) -> None:
        """Commits the changes of ``batch``; what fails is written to the change, never raised."""
        try:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            for change in batch:
                self._apply(connection, change)
            connection.execute("COMMIT")
        except (sqlite3.Error, PlatformError) as error:
            self._recover(batch, error)

    def _apply(self, connection: sqlite3.Connection, change: _Change) -> None:
        connection.execute("SAVEPOINT change")
        try:
            change.result = change.work(connection)
        except Exception as error:
            if not connection.in_transaction:
                # The disk is full or failing: SQLite has undone the whole commit, not only this.
                raise
            connection.execute("ROLLBACK TO change")
            change.error = self._translate(error) if isinstance(error, sqlite3.Error) else error
        connection.execute("RELEASE change")

    def _recover(self, batch: list[_Change], error: Exception) -> None:
        """Nothing of ``batch`` was committed. What fits alone must not fail with the others."""
        connection = self._connection
        if connection is not None and connection.in_transaction:
            connection.execute("ROLLBACK")
        if connection is None or len(batch) == 1:
            for change in batch:
                change.error = self._translate(error)
            return
        log.warning("commit failed, repeated change by change: %s", error)
        for change in batch:
            change.error = None
            self._commit([change])

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._connection = self._connect()
            except (sqlite3.Error, OSError) as error:
                raise self._translate(error) from error
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,  # the stores' thread, or the one that drops the last reference
        )
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA foreign_keys=ON")
            self._check_owner(connection)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_owner(self, connection: sqlite3.Connection) -> None:
        tables = {
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
        }
        if tables and "firelet_schema" not in tables:
            raise PlatformError(f"The database {self._path} belongs to another program.")

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS firelet_schema"
            " (name TEXT PRIMARY KEY, version INTEGER NOT NULL)"
        )
        stores = dict(connection.execute("SELECT name, version FROM firelet_schema"))
        if stores and self._name not in stores:
            raise PlatformError(
                f"The database {self._path} holds {', '.join(stores)}, not {self._name}."
            )
        version = stores.get(self._name, 0)
        if version > len(self._migrations):
            raise PlatformError(
                f"The database {self._path} has schema version {version} and was written by a newer"
                f" firelet; this one knows version {len(self._migrations)}."
            )
        for statements in self._migrations[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(
            "INSERT OR REPLACE INTO firelet_schema VALUES (?, ?)",
            (self._name, len(self._migrations)),
        )
        connection.execute("COMMIT")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _translate(self, error: Exception) -> PlatformError:
        if isinstance(error, PlatformError):
            return error
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary part of the code
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return PlatformError(f"The database {self._path} is damaged: {error}.")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return PlatformError(f"The database {self._path} is in use by another process.")
        return PlatformError(f"The database {self._path} failed: {error}.")


def _compact(connection: sqlite3.Connection) -> None:
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
