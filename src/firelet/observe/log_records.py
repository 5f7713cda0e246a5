"""Log groups, log streams and log events as values: what the log store tells its callers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class GroupKey:
    """A group in the world of an account and region."""

    account: str
    region: str
    name: str


@dataclass(frozen=True, slots=True)
class StreamKey:
    """A stream of a group, in the world of an account and region."""

    account: str
    region: str
    group: str
    stream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogGroup:
    """A group. ``retention_days`` is None when its events do not expire."""

    name: str
    created_ms: int
    retention_days: int | None = None
    log_class: str = "STANDARD"
    kms_key_id: str | None = None
    is_protected: bool = False  # from deletion
    tags: Mapping[str, str] = field(default_factory=dict)
    stored_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStream:
    """A stream. The times of its events are None while it has none."""

    name: str
    created_ms: int
    first_ms: int | None = None
    last_ms: int | None = None
    last_ingested_ms: int | None = None
    stored_bytes: int = 0


class Place(NamedTuple):
    """Where an event lies in its stream: the chunk, and the offset of the event in it.

    Also the gap before that event, which is what a page of a stream ends or starts with.
    """

    chunk: int
    offset: int


class Moment(NamedTuple):
    """Where an event lies in its group, in the order of time."""

    timestamp_ms: int
    chunk: int
    offset: int


@dataclass(frozen=True, slots=True)
class LogEvent:
    """An event as it was found."""

    stream: str
    message: str
    ingested_ms: int
    moment: Moment
