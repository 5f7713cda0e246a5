"""The tables of the log store: groups, streams, and chunks of events.

What it is: every SQL statement over logs, as functions on a connection; they run in the thread of
the database and inside its transaction. What it is not: a decision about when to write or how long
to keep. Called by ``LogStore`` only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from firelet.observe.log_chunks import CHUNK_SPAN_MS, Chunk
from firelet.observe.log_errors import (
    LogGroupExists,
    LogGroupNotFound,
    LogStreamExists,
    LogStreamNotFound,
)
from firelet.observe.log_records import GroupKey, LogGroup, LogStream, Place, StreamKey

LOG_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE groups (id INTEGER PRIMARY KEY, account TEXT NOT NULL, region TEXT NOT NULL,"
        " name TEXT NOT NULL, created_ms INTEGER NOT NULL, retention_days INTEGER,"
        " log_class TEXT NOT NULL, kms_key_id TEXT, is_protected INTEGER NOT NULL,"
        " tags TEXT NOT NULL, stored_bytes INTEGER NOT NULL DEFAULT 0,"
        " UNIQUE (account, region, name))",
        "CREATE TABLE streams (id INTEGER PRIMARY KEY,"
        " group_id INTEGER NOT NULL REFERENCES groups ON DELETE CASCADE, name TEXT NOT NULL,"
        " created_ms INTEGER NOT NULL, first_ms INTEGER, last_ms INTEGER,"
        " last_ingested_ms INTEGER, stored_bytes INTEGER NOT NULL DEFAULT 0,"
        " UNIQUE (group_id, name))",
        "CREATE INDEX streams_by_time ON streams (group_id, IFNULL(last_ms, 0), name)",
        "CREATE TABLE chunks (id INTEGER PRIMARY KEY AUTOINCREMENT,"
        " group_id INTEGER NOT NULL REFERENCES groups ON DELETE CASCADE,"
        " stream_id INTEGER NOT NULL REFERENCES streams ON DELETE CASCADE,"
        " first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, count INTEGER NOT NULL,"
        " ingested_ms INTEGER NOT NULL, body BLOB NOT NULL)",
        "CREATE INDEX chunks_by_stream ON chunks (stream_id, id)",
        "CREATE INDEX chunks_by_start ON chunks (group_id, first_ms)",
        "CREATE INDEX chunks_by_end ON chunks (group_id, last_ms)",
    ),
)

# How much one read brings at most, so that it does not keep the next commit waiting.
_READ_CHUNKS = 512
_READ_BYTES = 2 << 20

_GROUP_FIELDS = (
    "name, created_ms, retention_days, log_class, kms_key_id, is_protected, tags, stored_bytes"
)
_STREAM_FIELDS = "name, created_ms, first_ms, last_ms, last_ingested_ms, stored_bytes"
_CHUNK_FIELDS = "c.id, s.name, c.first_ms, c.last_ms, c.count, c.ingested_ms, c.body"


def find_group_id(connection: sqlite3.Connection, key: GroupKey) -> int:
    """The group's row, or LogGroupNotFound."""
    row = connection.execute(
        "SELECT id FROM groups WHERE account = ? AND region = ? AND name = ?",
        (key.account, key.region, key.name),
    ).fetchone()
    if row is None:
        raise LogGroupNotFound
    return int(row[0])


def find_stream_id(connection: sqlite3.Connection, group_id: int, name: str) -> int:
    """The stream's row, or LogStreamNotFound."""
    row = connection.execute(
        "SELECT id FROM streams WHERE group_id = ? AND name = ?", (group_id, name)
    ).fetchone()
    if row is None:
        raise LogStreamNotFound
    return int(row[0])


def insert_group(connection: sqlite3.Connection, key: GroupKey, group: LogGroup) -> None:
    try:
        connection.execute(
            "INSERT INTO groups (account, region, name, created_ms, retention_days, log_class,"
            " kms_key_id, is_protected, tags) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key.account,
                key.region,
                key.name,
                group.created_ms,
                group.retention_days,
                group.log_class,
                group.kms_key_id,
                group.is_protected,
                orjson.dumps(group.tags).decode(),
            ),
        )
    except sqlite3.IntegrityError:
        raise LogGroupExists from None


def load_group(connection: sqlite3.Connection, key: GroupKey) -> LogGroup:
    row = connection.execute(
        f"SELECT {_GROUP_FIELDS} FROM groups WHERE id = ?",  # noqa: S608 - a constant
        (find_group_id(connection, key),),
    ).fetchone()
    return _group(row)


def save_group(connection: sqlite3.Connection, key: GroupKey, group: LogGroup) -> None:
    """Writes what a caller may change of a group."""
    connection.execute(
        "UPDATE groups SET retention_days = ?, is_protected = ?, tags = ? WHERE id = ?",
        (
            group.retention_days,
            group.is_protected,
            orjson.dumps(group.tags).decode(),
            find_group_id(connection, key),
        ),
    )


def delete_group(connection: sqlite3.Connection, key: GroupKey) -> None:
    connection.execute("DELETE FROM groups WHERE id = ?", (find_group_id(connection, key),))


def list_groups(
    connection: sqlite3.Connection, account: str, region: str, prefix: str, substring: str
) -> list[LogGroup]:
    """Groups by name, of those that start with ``prefix`` and contain ``substring``."""
    rows = connection.execute(
        f"SELECT {_GROUP_FIELDS} FROM groups WHERE account = ? AND region = ?"  # noqa: S608
        " AND substr(name, 1, length(?)) = ? AND instr(name, ?) > 0 ORDER BY name",
        (account, region, prefix, prefix, substring),
    )
    return [_group(row) for row in rows]


def insert_stream(connection: sqlite3.Connection, key: StreamKey, now_ms: int) -> None:
    group_id = find_group_id(connection, GroupKey(key.account, key.region, key.group))
    try:
        connection.execute(
            "INSERT INTO streams (group_id, name, created_ms) VALUES (?, ?, ?)",
            (group_id, key.stream, now_ms),
        )
    except sqlite3.IntegrityError:
        raise LogStreamExists from None


def delete_stream(connection: sqlite3.Connection, key: StreamKey) -> None:
    group_id = find_group_id(connection, GroupKey(key.account, key.region, key.group))
    stream_id = find_stream_id(connection, group_id, key.stream)
    connection.execute(
        "UPDATE groups SET stored_bytes = stored_bytes -"
        " (SELECT stored_bytes FROM streams WHERE id = ?) WHERE id = ?",
        (stream_id, group_id),
    )
    connection.execute("DELETE FROM streams WHERE id = ?", (stream_id,))


def list_streams(
    connection: sqlite3.Connection,
    key: GroupKey,
    *,
    prefix: str = "",
    by_time: bool = False,
    is_descending: bool = False,
    after: tuple[int, str] | None = None,
    limit: int,
) -> list[LogStream]:
    """A page of streams by name, or by the time of the last event and then by name.

    ``after`` is (time of the last event or 0, name) of the stream before the page.
    """
    group_id = find_group_id(connection, key)
    order = ["IFNULL(last_ms, 0)", "name"] if by_time else ["name"]
    direction, compare = ("DESC", "<") if is_descending else ("ASC", ">")
    where = "group_id = ? AND substr(name, 1, length(?)) = ?"
    values: list[Any] = [group_id, prefix, prefix]
    if after is not None:
        bound = list(after) if by_time else [after[1]]
        where += f" AND ({', '.join(order)}) {compare} ({', '.join('?' * len(bound))})"
        values += bound
    ordered = ", ".join(f"{column} {direction}" for column in order)
    rows = connection.execute(
        f"SELECT {_STREAM_FIELDS} FROM streams WHERE {where}"  # noqa: S608 - no value in it
        f" ORDER BY {ordered} LIMIT ?",
        (*values, limit),
    )
    return [_stream(row) for row in rows]


def append(
    connection: sqlite3.Connection, key: StreamKey, chunks: Iterable[Chunk], now_ms: int
) -> None:
    """Adds chunks at the end of a stream; makes group and stream if they are not there."""
    group_id, stream_id = _make_stream(connection, key, now_ms)
    for chunk in chunks:
        connection.execute(
            "INSERT INTO chunks (group_id, stream_id, first_ms, last_ms, count, ingested_ms, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                group_id,
                stream_id,
                chunk.first_ms,
                chunk.last_ms,
                chunk.count,
                chunk.ingested_ms,
                chunk.body,
            ),
        )
        connection.execute(
            "UPDATE streams SET first_ms = MIN(IFNULL(first_ms, ?1), ?1),"
            " last_ms = MAX(IFNULL(last_ms, ?2), ?2), last_ingested_ms = ?3,"
            " stored_bytes = stored_bytes + ?4 WHERE id = ?5",
            (chunk.first_ms, chunk.last_ms, chunk.ingested_ms, len(chunk.body), stream_id),
        )
        connection.execute(
            "UPDATE groups SET stored_bytes = stored_bytes + ? WHERE id = ?",
            (len(chunk.body), group_id),
        )


def read_stream(
    connection: sqlite3.Connection, stream_id: int, gap: Place, is_forward: bool, window: range
) -> list[Chunk]:
    """The next chunks of a stream from ``gap`` on, or back from it; none at the end.

    Those whose events all lie outside ``window`` (epoch ms) are left out.
    """
    compare, direction = (">=", "ASC") if is_forward else ("<=", "DESC")
    return _read(
        connection.execute(
            f"SELECT {_CHUNK_FIELDS} FROM chunks c JOIN streams s ON s.id = c.stream_id"  # noqa: S608
            f" WHERE c.stream_id = ? AND c.id {compare} ? AND c.last_ms >= ? AND c.first_ms < ?"
            f" ORDER BY c.id {direction} LIMIT {_READ_CHUNKS}",
            (stream_id, gap.chunk, window.start, window.stop),
        )
    )


def find_end(connection: sqlite3.Connection, stream_id: int) -> Place:
    """The gap after the last event of a stream."""
    (last,) = connection.execute(
        "SELECT MAX(id) FROM chunks WHERE stream_id = ?", (stream_id,)
    ).fetchone()
    return Place((last or 0) + 1, 0)


def read_group(
    connection: sqlite3.Connection,
    group_id: int,
    streams: Sequence[str],
    prefix: str,
    window: range,
    is_forward: bool,
    after: tuple[int, int] | None,
) -> list[Chunk]:
    """The next chunks of a group by their start, or back by their end; none at the end.

    ``after`` is (start or end, id) of the chunk before. ``streams``, if any, and ``prefix`` say
    which streams count.
    """
    if is_forward:
        column, compare, direction = "first_ms", ">", "ASC"
        first = (max(0, window.start - CHUNK_SPAN_MS), 0)
    else:
        column, compare, direction = "last_ms", "<", "DESC"
        first = (min(window.stop + CHUNK_SPAN_MS, 2**62), 2**62)
    where = f"c.group_id = ? AND (c.{column}, c.id) {compare} (?, ?)"
    values: list[Any] = [group_id, *(after or first), window.start, window.stop, prefix, prefix]
    where += " AND c.last_ms >= ? AND c.first_ms < ? AND substr(s.name, 1, length(?)) = ?"
    if streams:
        where += f" AND s.name IN ({', '.join('?' * len(streams))})"
        values += streams
    return _read(
        connection.execute(
            f"SELECT {_CHUNK_FIELDS} FROM chunks c JOIN streams s ON s.id = c.stream_id"  # noqa: S608
            f" WHERE {where} ORDER BY c.{column} {direction}, c.id {direction}"
            f" LIMIT {_READ_CHUNKS}",
            values,
        )
    )


def find_expired(connection: sqlite3.Connection, now_ms: int, day_ms: int, limit: int) -> list[int]:
    """Chunks whose events are all older than their group keeps them."""
    rows = connection.execute(
        "SELECT c.id FROM groups g JOIN chunks c ON c.group_id = g.id"
        " AND c.last_ms < ? - g.retention_days * ? WHERE g.retention_days IS NOT NULL LIMIT ?",
        (now_ms, day_ms, limit),
    )
    return [id_ for (id_,) in rows]


def find_oldest(connection: sqlite3.Connection, excess_bytes: int, limit: int) -> list[int]:
    """The chunks that came first, as many as hold ``excess_bytes``."""
    found: list[int] = []
    for id_, size in connection.execute(
        "SELECT id, length(body) FROM chunks ORDER BY id LIMIT ?", (limit,)
    ):
        if excess_bytes <= 0:
            break
        found.append(id_)
        excess_bytes -= size
    return found


def total_bytes(connection: sqlite3.Connection) -> int:
    (total,) = connection.execute("SELECT IFNULL(SUM(stored_bytes), 0) FROM groups").fetchone()
    return int(total)


def delete_chunks(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Removes chunks; their streams stay, with what is left of them."""
    touched: set[int] = set()
    for id_ in ids:
        row = connection.execute(
            "DELETE FROM chunks WHERE id = ? RETURNING stream_id, group_id, length(body)", (id_,)
        ).fetchone()
        if row is None:
            continue
        stream_id, group_id, size = row
        touched.add(stream_id)
        for table, owner in (("streams", stream_id), ("groups", group_id)):
            connection.execute(
                f"UPDATE {table} SET stored_bytes = stored_bytes - ? WHERE id = ?",  # noqa: S608
                (size, owner),
            )
    connection.executemany(
        "UPDATE streams SET (first_ms, last_ms) ="
        " (SELECT MIN(first_ms), MAX(last_ms) FROM chunks WHERE stream_id = ?1) WHERE id = ?1",
        [(id_,) for id_ in touched],
    )


def _make_stream(connection: sqlite3.Connection, key: StreamKey, now_ms: int) -> tuple[int, int]:
    group_key = GroupKey(key.account, key.region, key.group)
    try:
        group_id = find_group_id(connection, group_key)
    except LogGroupNotFound:
        insert_group(connection, group_key, LogGroup(name=key.group, created_ms=now_ms))
        group_id = find_group_id(connection, group_key)
    try:
        return group_id, find_stream_id(connection, group_id, key.stream)
    except LogStreamNotFound:
        insert_stream(connection, key, now_ms)
        return group_id, find_stream_id(connection, group_id, key.stream)


def _read(cursor: Iterable[Sequence[Any]]) -> list[Chunk]:
    chunks: list[Chunk] = []
    size = 0
    for id_, stream, first_ms, last_ms, count, ingested_ms, body in cursor:
        chunks.append(
            Chunk(
                id=id_,
                stream=stream,
                first_ms=first_ms,
                last_ms=last_ms,
                count=count,
                ingested_ms=ingested_ms,
                body=body,
            )
        )
        size += len(body)
        if size >= _READ_BYTES:
            break
    return chunks


def _group(row: Sequence[Any]) -> LogGroup:
    name, created_ms, retention_days, log_class, kms_key_id, is_protected, tags, stored_bytes = row
    parsed: Mapping[str, str] = orjson.loads(tags)
    return LogGroup(
        name=name,
        created_ms=created_ms,
        retention_days=retention_days,
        log_class=log_class,
        kms_key_id=kms_key_id,
        is_protected=bool(is_protected),
        tags=parsed,
        stored_bytes=stored_bytes,
    )


def _stream(row: Sequence[Any]) -> LogStream:
    name, created_ms, first_ms, last_ms, last_ingested_ms, stored_bytes = row
    return LogStream(
        name=name,
        created_ms=created_ms,
        first_ms=first_ms,
        last_ms=last_ms,
        last_ingested_ms=last_ingested_ms,
        stored_bytes=stored_bytes,
    )
