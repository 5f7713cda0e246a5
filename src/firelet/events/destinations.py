"""Destinations: what became of an asynchronous event is told to where its function wants it.

What it is: the record that AWS documents, and its delivery to other functions, through the queue
that the event itself came from. What it is not: the other kinds of destinations (queues, topics,
buses, buckets): what would go there is logged once for each, and dropped.
Called by ``events.dispatcher``.

Source: docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from firelet.events.queue import AsyncEvent, AsyncEventQueue
from firelet.events.retry import Condition
from firelet.model import limits
from firelet.model.arn import LATEST, format_function_arn, parse_function_ref
from firelet.model.event_invoke import EventInvokeConfig
from firelet.model.invocation import Outcome
from firelet.model.lineage import lineage_id, pass_function

log = logging.getLogger(__name__)

_STATUS_OK = 200  # of an invocation that ran, whether or not its code failed


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedEvent:
    """An event that will not be run again. ``attempts`` counts the times that it ran; ``outcome``
    is that of the last attempt, None if the function did not run in it."""

    event: AsyncEvent
    condition: Condition
    attempts: int
    outcome: Outcome | None


class Destinations:
    """Delivers records by putting them into ``queue``, which it does not own."""

    def __init__(self, queue: AsyncEventQueue) -> None:
        self._queue = queue
        self._refused: set[str] = set()

    async def deliver(self, ended: EndedEvent, config: EventInvokeConfig | None) -> None:
        """Returns when the record is durable, or has nowhere to go. PlatformError when the queue
        cannot be written: nothing has been delivered then."""
        if config is None:
            return
        is_success = ended.condition is Condition.SUCCESS
        arn = config.on_success if is_success else config.on_failure
        if arn is None:
            return
        if arn.split(":")[2] != "lambda":
            self._refuse(arn)
            return
        record = make_record(ended, self._queue.now_ms())
        if len(record) > limits.PAYLOAD_ASYNC_MAX_BYTES:
            log.warning(
                "record too large for its destination: request=%s destination=%s bytes=%d",
                ended.event.request_id,
                arn,
                len(record),
            )
            return
        await self._queue.put(self._make_event(ended.event, arn, record))

    def _make_event(self, event: AsyncEvent, arn: str, record: bytes) -> AsyncEvent:
        ref = parse_function_ref(arn)
        return AsyncEvent(
            account=ref.account or event.account,
            region=ref.region or event.region,
            function_name=ref.name,
            qualifier=ref.qualifier,
            invoked_arn=arn,
            payload=record,
            request_id=str(uuid.uuid4()),
            trace_id=_trace_on(event),
            enqueued_ms=self._queue.now_ms(),
        )

    def _refuse(self, arn: str) -> None:
        """Once for each: a busy function must not fill the log."""
        if arn not in self._refused:
            self._refused.add(arn)
            log.warning("records for this kind of destination are dropped: destination=%s", arn)


def make_record(ended: EndedEvent, now_ms: int) -> bytes:
    """The invocation record, as JSON."""
    event, outcome = ended.event, ended.outcome
    moment = datetime.fromtimestamp(now_ms / 1000, UTC)
    record: dict[str, object] = {
        "version": "1.0",
        "timestamp": f"{moment:%Y-%m-%dT%H:%M:%S}.{now_ms % 1000:03d}Z",
        "requestContext": {
            "requestId": event.request_id,
            "functionArn": format_function_arn(
                event.region, event.account, event.function_name, event.qualifier or LATEST
            ),
            "condition": ended.condition.value,
            "approximateInvokeCount": ended.attempts,
        },
        "requestPayload": orjson.Fragment(event.payload or b"{}"),
    }
    if outcome is not None:
        context: dict[str, object] = {
            "statusCode": _STATUS_OK,
            "executedVersion": outcome.executed_version,
        }
        if outcome.function_error is not None:
            context["functionError"] = outcome.function_error
        record["responseContext"] = context
        record["responsePayload"] = _embed(outcome.payload)
    return orjson.dumps(record)


def _embed(payload: bytes) -> object:
    """A payload inside a record. Runtimes may answer with anything: what is not JSON is text."""
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError:
        return payload.decode(errors="replace")
    return orjson.Fragment(payload)


def _trace_on(event: AsyncEvent) -> str | None:
    """The trace goes on to the destination, so that two functions which are each other's
    destinations are found out."""
    if event.trace_id is None:
        return None
    arn = format_function_arn(event.region, event.account, event.function_name)
    return pass_function(event.trace_id, lineage_id(arn), is_loop_allowed=True)
