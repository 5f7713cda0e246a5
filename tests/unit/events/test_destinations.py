"""What a destination is told, and how it gets there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from firelet.events.destinations import Destinations, EndedEvent, make_record
from firelet.events.queue import AsyncEvent, AsyncEventQueue
from firelet.events.retry import Condition
from firelet.model import limits
from firelet.model.event_invoke import EventInvokeConfig
from firelet.model.invocation import Outcome
from firelet.store.queue import EventQueue

NOW_MS = 1_795_417_200_123
FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:"
EVENT = AsyncEvent(
    account="123456789012",
    region="eu-west-1",
    function_name="f",
    invoked_arn=f"{FUNCTION}f",
    payload=b'{ "n" : 1 }',
    request_id="8476a536-e9f4-11e8-9739-2dfe598c3fcd",
    trace_id="Root=1-2;Sampled=0",
    enqueued_ms=NOW_MS,
)
SUCCESS = Outcome(payload=b'{"ok":true}', executed_version="7")
FAILURE = Outcome(
    payload=b'{"errorType":"E"}', executed_version="$LATEST", function_error="Unhandled"
)


def ended(condition: Condition, outcome: Outcome | None, **changes: Any) -> EndedEvent:
    given = {"event": EVENT, "attempts": 1, **changes}
    return EndedEvent(condition=condition, outcome=outcome, **given)


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[AsyncEventQueue]:
    def clock() -> float:
        return NOW_MS / 1000

    queue = AsyncEventQueue(EventQueue(tmp_path / "events.db", clock=clock), clock=clock)
    yield queue
    await queue.close()


def test_the_record_of_a_success_has_the_members_of_aws_in_their_order() -> None:
    record = make_record(ended(Condition.SUCCESS, SUCCESS), NOW_MS)
    assert record.decode() == (
        '{"version":"1.0","timestamp":"2026-11-23T07:00:00.123Z",'
        '"requestContext":{"requestId":"8476a536-e9f4-11e8-9739-2dfe598c3fcd",'
        f'"functionArn":"{FUNCTION}f:$LATEST","condition":"Success","approximateInvokeCount":1}},'
        '"requestPayload":{ "n" : 1 },'
        '"responseContext":{"statusCode":200,"executedVersion":"7"},'
        '"responsePayload":{"ok":true}}'
    )


def test_the_record_of_a_failure_has_the_error() -> None:
    record = json.loads(
        make_record(ended(Condition.RETRIES_EXHAUSTED, FAILURE, attempts=3), NOW_MS)
    )
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 3
    assert record["responseContext"] == {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        "functionError": "Unhandled",
    }
    assert record["responsePayload"] == {"errorType": "E"}


def test_of_a_function_that_did_not_run_there_is_no_response() -> None:
    record = json.loads(make_record(ended(Condition.EVENT_AGE_EXCEEDED, None), NOW_MS))
    assert set(record) == {"version", "timestamp", "requestContext", "requestPayload"}


def test_an_answer_that_is_not_json_is_text() -> None:
    outcome = Outcome(payload=b"not json\xff", executed_version="1")
    record = json.loads(make_record(ended(Condition.SUCCESS, outcome), NOW_MS))
    assert record["responsePayload"] == "not json\ufffd"


@pytest.mark.parametrize(
    ("condition", "name"),
    [
        (Condition.SUCCESS, "good"),
        (Condition.RETRIES_EXHAUSTED, "bad"),
        (Condition.EVENT_AGE_EXCEEDED, "bad"),
        (Condition.ZERO_RESERVED_CONCURRENCY, "bad"),
        (Condition.RECURSIVE_INVOCATION, "bad"),
    ],
)
async def test_a_function_gets_the_record_as_an_event_of_its_own(
    queue: AsyncEventQueue, condition: Condition, name: str
) -> None:
    config = EventInvokeConfig(
        on_success=f"{FUNCTION}good:live", on_failure=f"{FUNCTION}bad:live", last_modified=0
    )
    await Destinations(queue).deliver(ended(condition, SUCCESS), config)
    (taken,) = await queue.take(2)
    event = taken.event
    assert (event.function_name, event.qualifier) == (name, "live")
    assert event.invoked_arn == f"{FUNCTION}{name}:live"
    assert event.request_id != EVENT.request_id
    assert json.loads(event.payload)["requestContext"]["condition"] == condition.value
    assert event.trace_id is not None
    assert event.trace_id.startswith("Root=1-2;Sampled=0;Lineage="), "it stays in the chain"


async def test_without_a_destination_nothing_is_sent(queue: AsyncEventQueue) -> None:
    destinations = Destinations(queue)
    await destinations.deliver(ended(Condition.SUCCESS, SUCCESS), None)
    failures_only = EventInvokeConfig(on_failure=f"{FUNCTION}bad", last_modified=0)
    await destinations.deliver(ended(Condition.SUCCESS, SUCCESS), failures_only)
    assert await queue.take(1) == []


async def test_what_cannot_be_delivered_is_logged_once_for_each_destination(
    queue: AsyncEventQueue, caplog: pytest.LogCaptureFixture
) -> None:
    destinations = Destinations(queue)
    for name in ("a", "a", "b"):
        arn = f"arn:aws:sqs:eu-west-1:123456789012:{name}"
        config = EventInvokeConfig(on_success=arn, last_modified=0)
        await destinations.deliver(ended(Condition.SUCCESS, SUCCESS), config)
    assert [record.getMessage().rpartition(":")[2] for record in caplog.records] == ["a", "b"]
    assert await queue.take(1) == []


async def test_a_record_that_no_function_could_get_is_dropped_with_a_warning(
    queue: AsyncEventQueue, caplog: pytest.LogCaptureFixture
) -> None:
    payload = b'"%b"' % (b"x" * limits.PAYLOAD_ASYNC_MAX_BYTES)
    outcome = Outcome(payload=payload, executed_version="1")
    config = EventInvokeConfig(on_success=f"{FUNCTION}good", last_modified=0)
    await Destinations(queue).deliver(ended(Condition.SUCCESS, outcome), config)
    assert await queue.take(1) == []
    assert "record too large" in caplog.text
