"""Logs operations on streams and events: write, list, read and search.

Source: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from firelet.frontend.logs_targets import (
    find_group,
    find_stream,
    format_event_id,
    format_group_arn,
    format_list_token,
    format_moment_token,
    format_stream_token,
    parse_list_token,
    parse_moment_token,
    parse_stream_token,
)
from firelet.frontend.operations import Call, Operations
from firelet.observe.log_chunks import EVENT_OVERHEAD_BYTES, Event
from firelet.observe.log_errors import InvalidLogParameter
from firelet.observe.log_pattern import parse_filter_pattern
from firelet.observe.log_records import DAY_MS, GroupKey, LogGroup, LogStream
from firelet.observe.logs import GroupQuery, LogStore

Output = Mapping[str, Any]

STREAMS_PER_PAGE = 50  # API reference of DescribeLogStreams
EVENTS_PER_PAGE = 10_000  # API reference of GetLogEvents and FilterLogEvents

# API reference of PutLogEvents.
BATCH_MAX_BYTES = 1_048_576
BATCH_SPAN_MS = DAY_MS
TOO_NEW_MS = 2 * 3_600_000
TOO_OLD_MS = 14 * DAY_MS

_END_OF_TIME_MS = 2**62
# API reference of FilterLogEvents: searches from the end start no earlier than 2024.
_BACKWARD_FROM_MS = 1_704_067_200_000


class LogEventOperations:
    """Streams and events."""

    def __init__(self, logs: LogStore, clock: Callable[[], float] = time.time) -> None:
        self._logs = logs
        self._clock = clock

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("CreateLogStream", self.create_log_stream),
            ("DeleteLogStream", self.delete_log_stream),
            ("DescribeLogStreams", self.describe_log_streams),
            ("PutLogEvents", self.put_log_events),
            ("GetLogEvents", self.get_log_events),
            ("FilterLogEvents", self.filter_log_events),
        ):
            operations.add("logs", name, handler)

    async def create_log_stream(self, call: Call) -> None:
        await self._logs.create_stream(find_stream(call))

    async def delete_log_stream(self, call: Call) -> None:
        await self._logs.delete_stream(find_stream(call))

    async def describe_log_streams(self, call: Call) -> Output:
        params = call.params
        prefix = params.get("logStreamNamePrefix")
        by_time = params.get("orderBy") == "LastEventTime"
        if by_time and prefix is not None:
            raise InvalidLogParameter("Cannot order by LastEventTime with a logStreamNamePrefix.")
        key, limit = find_group(call), params.get("limit", STREAMS_PER_PAGE)
        streams = await self._logs.list_streams(
            key,
            prefix=prefix or "",
            by_time=by_time,
            is_descending=params.get("descending", False),
            after=parse_list_token(params),
            limit=limit + 1,
        )
        page = streams[:limit]
        output: dict[str, Any] = {"logStreams": [_describe(call, key, stream) for stream in page]}
        if len(streams) > limit:
            output["nextToken"] = format_list_token((page[-1].last_ms or 0, page[-1].name))
        return output

    async def put_log_events(self, call: Call) -> Output:
        """The sequence token is ignored, as AWS does since 2023."""
        events: list[Event] = [
            (event["timestamp"], event["message"]) for event in call.params["logEvents"]
        ]
        _check_batch(events)
        key = find_stream(call)
        group = await self._logs.load_group(GroupKey(key.account, key.region, key.group))
        now_ms = int(self._clock() * 1000)
        accepted = _sort_out(events, group, now_ms)
        if accepted.events and accepted.events[-1][0] - accepted.events[0][0] > BATCH_SPAN_MS:
            raise InvalidLogParameter(
                "The batch of log events in a single PutLogEvents request cannot span more than"
                " 24 hours."
            )
        await self._logs.put_events(key, accepted.events)
        output: dict[str, Any] = {"nextSequenceToken": f"{now_ms:056d}"}
        if accepted.rejected:
            output["rejectedLogEventsInfo"] = accepted.rejected
        return output

    async def get_log_events(self, call: Call) -> Output:
        params = call.params
        is_forward, gap = params.get("startFromHead", False), None
        if "nextToken" in params:
            gap, is_forward = parse_stream_token(params["nextToken"])
        page = await self._logs.read_stream(
            find_stream(call),
            window=range(params.get("startTime", 0), _end_ms(params)),
            gap=gap,
            is_forward=is_forward,
            limit=params.get("limit", EVENTS_PER_PAGE),
        )
        events = [
            {
                "timestamp": event.moment.timestamp_ms,
                "message": event.message,
                "ingestionTime": event.ingested_ms,
            }
            for event in page.events
        ]
        return {
            "events": events,
            # The same gap twice when there was nothing: the caller gets its own token back.
            "nextForwardToken": format_stream_token(page.after, is_forward=True),
            "nextBackwardToken": format_stream_token(page.before, is_forward=False),
        }

    async def filter_log_events(self, call: Call) -> Output:
        """``interleaved`` is ignored and taken to be true, as AWS does since 2019."""
        params = call.params
        streams, prefix = params.get("logStreamNames", ()), params.get("logStreamNamePrefix")
        if streams and prefix is not None:
            raise InvalidLogParameter("Cannot specify both logStreamNames and logStreamNamePrefix.")
        is_forward, after = params.get("startFromHead", True), None
        if "nextToken" in params:
            after, is_forward = parse_moment_token(params["nextToken"])
        start_ms = params.get("startTime", 0)
        if not is_forward and "startTime" in params and start_ms < _BACKWARD_FROM_MS:
            raise InvalidLogParameter(
                "startFromHead can be false only when startTime is on or after"
                " Jan 1, 2024 00:00:00 UTC."
            )
        page = await self._logs.read_group(
            find_group(call),
            GroupQuery(
                matches=parse_filter_pattern(params.get("filterPattern", "")),
                # The end is part of it, other than in GetLogEvents.
                window=range(start_ms, _end_ms(params) + 1),
                streams=streams,
                prefix=prefix or "",
                is_forward=is_forward,
                after=after,
                limit=params.get("limit", EVENTS_PER_PAGE),
            ),
        )
        events = [
            {
                "logStreamName": event.stream,
                "timestamp": event.moment.timestamp_ms,
                "message": event.message,
                "ingestionTime": event.ingested_ms,
                "eventId": format_event_id(event.moment),
            }
            for event in page.events
        ]
        output: dict[str, Any] = {"events": events, "searchedLogStreams": []}
        if page.last is not None:
            output["nextToken"] = format_moment_token(page.last, is_forward=is_forward)
        return output


@dataclass(frozen=True, slots=True)
class _Accepted:
    """The events of a batch that are neither too old nor too new, and what is said of the rest."""

    events: Sequence[Event]
    rejected: Mapping[str, int]


def _end_ms(params: Mapping[str, Any]) -> int:
    end_ms: int = params.get("endTime", _END_OF_TIME_MS)
    return min(end_ms, _END_OF_TIME_MS)


def _check_batch(events: Sequence[Event]) -> None:
    size = sum(
        len(message.encode("utf-8", "replace")) + EVENT_OVERHEAD_BYTES for _, message in events
    )
    if size > BATCH_MAX_BYTES:
        raise InvalidLogParameter(
            f"Upload too large: {size} bytes exceeds limit of {BATCH_MAX_BYTES}"
        )
    if any(later[0] < earlier[0] for earlier, later in pairwise(events)):
        raise InvalidLogParameter(
            "Log events in a single PutLogEvents request must be in chronological order."
        )


def _sort_out(events: Sequence[Event], group: LogGroup, now_ms: int) -> _Accepted:
    """Source: service model, shape RejectedLogEventsInfo; both ends are exclusive."""
    too_old = sum(1 for timestamp, _ in events if timestamp < now_ms - TOO_OLD_MS)
    expired = 0
    if group.retention_days is not None:
        kept_from = now_ms - group.retention_days * DAY_MS
        expired = sum(1 for timestamp, _ in events if timestamp < kept_from)
    end = sum(1 for timestamp, _ in events if timestamp <= now_ms + TOO_NEW_MS)
    rejected: dict[str, int] = {}
    if too_old:
        rejected["tooOldLogEventEndIndex"] = too_old
    if expired:
        rejected["expiredLogEventEndIndex"] = expired
    if end < len(events):
        rejected["tooNewLogEventStartIndex"] = end
    return _Accepted(events[max(too_old, expired) : end], rejected)


def _describe(call: Call, key: GroupKey, stream: LogStream) -> dict[str, Any]:
    described: dict[str, Any] = {
        "logStreamName": stream.name,
        "creationTime": stream.created_ms,
        "arn": f"{format_group_arn(call, key.name)}:log-stream:{stream.name}",
        "uploadSequenceToken": f"{stream.last_ingested_ms or stream.created_ms:056d}",
        "storedBytes": 0,  # service model: no longer supported for streams, always zero
    }
    for name, value in (
        ("firstEventTimestamp", stream.first_ms),
        ("lastEventTimestamp", stream.last_ms),
        ("lastIngestionTime", stream.last_ingested_ms),
    ):
        if value is not None:
            described[name] = value
    return described
