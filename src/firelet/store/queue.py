"""A durable work queue: what was put is on the disk, and stays until it is done.

What it is: items with a due time, in a SQLite file, handed out at least once. What it is not: a
policy; whoever takes an item says whether it is done or when it is due again.
Called by ``events``.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from firelet.store.sqlite import Database

# position_ms orders the items: when one is due, or when it came if it was due at once. Without it
# new items, due at 0, would overtake those that wait for their second attempt for ever.
_MIGRATIONS = (
    (
        "CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, attempts INTEGER NOT NULL,"
        " failures INTEGER NOT NULL, enqueued_ms INTEGER NOT NULL, due_ms INTEGER NOT NULL,"
        " position_ms INTEGER NOT NULL, body BLOB NOT NULL)",
        "CREATE INDEX events_by_position ON events (position_ms, id, due_ms)",
    ),
)


@dataclass(frozen=True, slots=True)
class QueuedEvent:
    """An item. ``attempts`` counts all retries, ``failures`` those that were marked as failed."""

    id: int
    body: bytes
    attempts: int
    enqueued_ms: int
    due_ms: int
    failures: int = 0


class EventQueue:
    """The queue in the file ``path``. Times are epoch milliseconds; ``clock`` gives seconds."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(path, "queue", _MIGRATIONS)
        self._clock = clock
        self._taken: set[int] = set()  # touched in the database's thread only
        self._latest_ms: int | None = None  # when the newest item came; None before it is known

    async def put(self, body: bytes, due_ms: int = 0) -> int:
        """Adds an item and returns its id when it is on the disk. 0 means: due at once."""
        now_ms = int(self._clock() * 1000)
        return await self._database.write(partial(self._insert, body, now_ms, due_ms))

    async def take(self, limit: int, now_ms: int) -> list[QueuedEvent]:
        """Up to ``limit`` items that are due and not taken yet, in the order they became due."""
        return await self._database.read(partial(self._take, limit, now_ms))

    async def next_due_ms(self) -> int | None:
        """When the next item that is not taken is due; None if there is none."""
        return await self._database.read(self._next_due_ms)

    async def done(self, ids: Sequence[int]) -> None:
        """Removes taken items for good."""
        await self._database.write(partial(self._done, tuple(ids)))

    async def retry(self, id: int, due_ms: int, *, is_failure: bool = False) -> None:
        """Gives a taken item back, to be taken again when it is due."""
        await self._database.write(partial(self._retry, id, due_ms, is_failure))

    async def close(self) -> None:
        """What is taken and not done can be taken again by the next process."""
        await self._database.close()

    def _insert(self, body: bytes, now_ms: int, due_ms: int, connection: sqlite3.Connection) -> int:
        cursor = connection.execute(
            "INSERT INTO events (attempts, failures, enqueued_ms, due_ms, position_ms, body)"
            " VALUES (0, 0, ?, ?, ?, ?)",
            (now_ms, due_ms, max(due_ms, now_ms), body),
        )
        if self._latest_ms is not None:
            self._latest_ms = max(self._latest_ms, now_ms)
        if cursor.lastrowid is None:
            raise AssertionError("an INSERT gives a row id")
        return cursor.lastrowid

    def _take(self, limit: int, now_ms: int, connection: sqlite3.Connection) -> list[QueuedEvent]:
        ids: list[int] = []
        if self._latest_ms is None:
            (latest_ms,) = connection.execute("SELECT MAX(enqueued_ms) FROM events").fetchone()
            self._latest_ms = latest_ms or 0
        # A clock that was set back must not hide what came before.
        horizon_ms = max(now_ms, self._latest_ms)
        for (id_,) in connection.execute(
            "SELECT id FROM events WHERE position_ms <= ? AND due_ms <= ? ORDER BY position_ms, id",
            (horizon_ms, now_ms),
        ):
            if len(ids) >= limit:
                break
            if id_ not in self._taken:
                ids.append(id_)
        events = [
            QueuedEvent(*row)
            for id_ in ids
            for row in connection.execute(
                "SELECT id, body, attempts, enqueued_ms, due_ms, failures FROM events WHERE id = ?",
                (id_,),
            )
        ]
        self._taken.update(ids)
        return events

    def _next_due_ms(self, connection: sqlite3.Connection) -> int | None:
        for id_, due_ms in connection.execute(
            "SELECT id, due_ms FROM events ORDER BY position_ms, id"
        ):
            if id_ not in self._taken:
                return int(due_ms)
        return None

    def _done(self, ids: Sequence[int], connection: sqlite3.Connection) -> None:
        connection.executemany("DELETE FROM events WHERE id = ?", [(id_,) for id_ in ids])
        # Before the commit is safe: if it fails, the items are still there and are taken again.
        self._taken.difference_update(ids)

    def _retry(
        self, id_: int, due_ms: int, is_failure: bool, connection: sqlite3.Connection
    ) -> None:
        connection.execute(
            "UPDATE events SET attempts = attempts + 1, failures = failures + ?, due_ms = ?,"
            " position_ms = MAX(?, enqueued_ms) WHERE id = ?",
            (int(is_failure), due_ms, due_ms, id_),
        )
        self._taken.discard(id_)
