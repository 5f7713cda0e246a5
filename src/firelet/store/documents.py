"""Documents: small records by kind and key, durable before a change is acknowledged.

What it is: the port through which metadata (functions, roles, policies) is kept, its SQLite
adapter and one in memory for tests. What it is not: a query engine; owners load all documents of
their kinds at start-up, answer from memory, and write each change through ``apply``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from firelet.store.sqlite import Database

_MIGRATIONS = (
    (
        "CREATE TABLE documents (kind TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL,"
        " PRIMARY KEY (kind, key))",
    ),
)


@dataclass(frozen=True, slots=True)
class Put:
    """Creates or replaces a document."""

    kind: str
    key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """Removes a document; one that is not there is no error."""

    kind: str
    key: str


class DocumentStore(Protocol):
    """Where documents live."""

    def load(self, kind: str) -> list[tuple[str, bytes]]:
        """All documents of a kind as (key, body), by key. Blocking: at start-up only."""

    async def apply(self, changes: Sequence[Put | Delete]) -> None:
        """Makes all of ``changes`` or none, and returns when they are on the disk.

        Calls at the same time share one commit and keep their order.
        """

    async def close(self) -> None:
        """Waits for the changes under way. The store cannot be used afterwards."""


class SqliteDocuments:
    """Documents in one SQLite file."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, "documents", _MIGRATIONS)

    def load(self, kind: str) -> list[tuple[str, bytes]]:
        return self._database.read_now(
            lambda connection: connection.execute(
                "SELECT key, body FROM documents WHERE kind = ? ORDER BY key", (kind,)
            ).fetchall()
        )

    async def apply(self, changes: Sequence[Put | Delete]) -> None:
        fixed = tuple(changes)
        await self._database.write(lambda connection: _apply(connection, fixed))

    async def compact(self) -> None:
        """Leaves nothing in the file of what was deleted or replaced."""
        await self._database.compact()

    async def close(self) -> None:
        await self._database.close()


def _apply(connection: sqlite3.Connection, changes: Sequence[Put | Delete]) -> None:
    for change in changes:
        if isinstance(change, Put):
            connection.execute(
                "INSERT OR REPLACE INTO documents VALUES (?, ?, ?)",
                (change.kind, change.key, change.body),
            )
        else:
            connection.execute(
                "DELETE FROM documents WHERE kind = ? AND key = ?", (change.kind, change.key)
            )


class MemoryDocuments:
    """Documents of one process, for tests."""

    def __init__(self) -> None:
        self._bodies: dict[tuple[str, str], bytes] = {}

    def load(self, kind: str) -> list[tuple[str, bytes]]:
        return sorted((key, body) for (owner, key), body in self._bodies.items() if owner == kind)

    async def apply(self, changes: Sequence[Put | Delete]) -> None:
        after = dict(self._bodies)
        for change in changes:
            change.key.encode()  # what the disk cannot hold must not pass here either
            if isinstance(change, Put):
                after[change.kind, change.key] = bytes(change.body)
            else:
                after.pop((change.kind, change.key), None)
        self._bodies = after

    async def close(self) -> None:
        """Nothing is under way."""
