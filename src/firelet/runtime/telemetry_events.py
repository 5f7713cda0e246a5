"""The events of the Telemetry API as values, and as the JSON that each schema version wants.

Source: docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html, and the page on the
Logs API before it. What the Logs API calls by other names is translated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from firelet.runtime.platform_records import format_iso_ms
from firelet.runtime.telemetry_subscription import Api, Subscription

FUNCTION = "function"
EXTENSION = "extension"
PLATFORM = "platform"

_JSON_RECORDS_SINCE = "2022-12-13"
_RUNTIME_DONE_IN_LOGS_SINCE = "2021-03-18"
_LOGS_RECORDS = {
    "platform.start": ("requestId", "version"),
    "platform.report": ("requestId", "metrics"),
    "platform.runtimeDone": ("requestId", "status"),
    "platform.extension": ("name", "state", "events"),
    "platform.logsSubscription": ("name", "state", "types"),
    "platform.logsDropped": ("droppedBytes", "droppedRecords", "reason"),
}


@dataclass(frozen=True, slots=True)
class TelemetryEvent:
    """``time_s`` is in seconds of the epoch. ``record`` is a text for what the function or an
    extension wrote (``is_json``: in the JSON log format), and for platform.fault."""

    time_s: float
    type: str
    record: Mapping[str, Any] | str
    is_json: bool = False

    @property
    def category(self) -> str:
        return self.type.partition(".")[0]


def encode(event: TelemetryEvent, subscription: Subscription) -> list[bytes]:
    """The JSON objects that a subscriber gets for an event; none if it did not ask for it, or if
    its API does not know it."""
    if event.category not in subscription.types:
        return []
    if subscription.api is Api.LOGS:
        return [_dump(event.time_s, kind, record) for kind, record in _as_logs(event, subscription)]
    if event.type in ("platform.fault", "platform.logsSubscription"):
        return []
    record = event.record
    if event.is_json and subscription.schema >= _JSON_RECORDS_SINCE:
        record = _parse_object(record)
    return [_dump(event.time_s, event.type, record)]


def _as_logs(
    event: TelemetryEvent, subscription: Subscription
) -> list[tuple[str, Mapping[str, Any] | str]]:
    record = event.record
    if isinstance(record, str):
        return [(event.type, record)]
    members = _LOGS_RECORDS.get(event.type)
    if members is None:
        return []
    if event.type == "platform.runtimeDone" and subscription.schema < _RUNTIME_DONE_IN_LOGS_SINCE:
        return []
    translated = {name: record[name] for name in members if name in record}
    if event.type == "platform.report":
        return [("platform.end", {"requestId": record["requestId"]}), (event.type, translated)]
    return [(event.type, translated)]


def _parse_object(record: Mapping[str, Any] | str) -> Mapping[str, Any] | str:
    if isinstance(record, str) and record.startswith("{"):
        try:
            parsed: dict[str, Any] = orjson.loads(record)
        except orjson.JSONDecodeError:
            return record  # a line that only looks like it
        return parsed
    return record


def _dump(time_s: float, kind: str, record: Mapping[str, Any] | str) -> bytes:
    return orjson.dumps({"time": format_iso_ms(time_s), "type": kind, "record": record})
