"""The Logs API, called as the router calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from firelet.frontend.logs import LogsOperations
from firelet.frontend.operations import Call, Operations, Reply
from firelet.model.errors import CallerError
from firelet.observe.log_tables import LOG_MIGRATIONS
from firelet.observe.logs import LogStore
from firelet.store.sqlite import Database

ACCOUNT = "123456789012"
REGION = "eu-west-1"
GROUP = "/aws/lambda/hello"
ARN = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}"
NOW_MS = 1_763_942_400_000
DAY_MS = 86_400_000

MODEL = botocore.session.get_session().get_service_model("logs")


class FakeClock:
    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> float:
        return self.now_ms / 1000


class Logs:
    """The API; parameters and answers are checked against the service model."""

    def __init__(self, store: LogStore, clock: FakeClock) -> None:
        self.store = store
        self.operations = Operations()
        LogsOperations(store, clock).register(self.operations)

    async def __call__(
        self, operation: str, *, account: str = ACCOUNT, region: str = REGION, **params: Any
    ) -> dict[str, Any]:
        model = MODEL.operation_model(operation)
        check(params, model.input_shape)
        handler = self.operations.find("logs", operation)
        assert handler is not None
        output = await handler(
            Call(
                service="logs",
                operation=operation,
                account=account,
                region=region,
                request_id="r",
                params=params,
                base_url="http://localhost:4566",
            )
        )
        assert not isinstance(output, Reply)
        check(dict(output or {}), model.output_shape)
        return dict(output or {})

    async def fails(self, operation: str, **params: Any) -> tuple[str, str]:
        """Code and sentence of the error, whose status is always 400 in this API."""
        with pytest.raises(CallerError) as caught:
            await self(operation, **params)
        assert caught.value.status == 400
        return caught.value.code, caught.value.message

    def write(self, stream: str, *events: tuple[int, str], group: str = GROUP) -> None:
        writer = self.store.open_stream(ACCOUNT, REGION, group, stream)
        for timestamp, message in events:
            writer.write(timestamp, message)


def check(members: dict[str, Any], shape: Any) -> None:
    if shape is None:
        assert not members
        return
    assert set(members) <= set(shape.members)
    report = ParamValidator().validate(members, shape)
    assert not report.has_errors(), report.generate_report()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def logs(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Logs]:
    store = LogStore(Database(tmp_path / "logs.db", "logs", LOG_MIGRATIONS), clock=clock)
    yield Logs(store, clock)
    await store.close()


def messages(answer: dict[str, Any]) -> list[str]:
    return [event["message"] for event in answer["events"]]


async def test_a_group_is_described_as_terraform_reads_it(logs: Logs) -> None:
    await logs("CreateLogGroup", logGroupName=GROUP, tags={"team": "a"})
    await logs("PutRetentionPolicy", logGroupName=GROUP, retentionInDays=14)
    (group,) = (await logs("DescribeLogGroups", logGroupNamePrefix=GROUP))["logGroups"]
    assert group == {
        "logGroupName": GROUP,
        "creationTime": NOW_MS,
        "retentionInDays": 14,
        "metricFilterCount": 0,
        "arn": f"{ARN}:*",
        "logGroupArn": ARN,
        "storedBytes": 0,
        "logGroupClass": "STANDARD",
        "deletionProtectionEnabled": False,
    }
    assert await logs("ListTagsForResource", resourceArn=ARN) == {"tags": {"team": "a"}}
    await logs("DeleteRetentionPolicy", logGroupName=GROUP)
    (group,) = (await logs("DescribeLogGroups"))["logGroups"]
    assert "retentionInDays" not in group


async def test_the_name_of_a_group_can_be_taken_once(logs: Logs) -> None:
    await logs("CreateLogGroup", logGroupName=GROUP)
    assert await logs.fails("CreateLogGroup", logGroupName=GROUP) == (
        "ResourceAlreadyExistsException",
        "The specified log group already exists",
    )
    await logs("CreateLogGroup", logGroupName=GROUP, region="us-east-1")
    await logs("CreateLogGroup", logGroupName=GROUP, account="999999999999")


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("DeleteLogGroup", {}),
        ("PutRetentionPolicy", {"retentionInDays": 1}),
        ("DeleteRetentionPolicy", {}),
        ("DescribeLogStreams", {}),
        ("CreateLogStream", {"logStreamName": "s"}),
        ("DeleteLogStream", {"logStreamName": "s"}),
        ("GetLogEvents", {"logStreamName": "s"}),
        ("FilterLogEvents", {}),
        ("TagLogGroup", {"tags": {"a": "b"}}),
        ("ListTagsLogGroup", {}),
        (
            "PutLogEvents",
            {"logStreamName": "s", "logEvents": [{"timestamp": NOW_MS, "message": "x"}]},
        ),
    ],
)
async def test_an_unknown_group_is_not_found(
    logs: Logs, operation: str, params: dict[str, Any]
) -> None:
    assert await logs.fails(operation, logGroupName=GROUP, **params) == (
        "ResourceNotFoundException",
        "The specified log group does not exist.",
    )


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("DeleteLogStream", {"logStreamName": "s"}),
        ("GetLogEvents", {"logStreamName": "s"}),
        ("FilterLogEvents", {"logStreamNames": ["s"]}),
        (
            "PutLogEvents",
            {"logStreamName": "s", "logEvents": [{"timestamp": NOW_MS, "message": "x"}]},
        ),
    ],
)
async def test_an_unknown_stream_is_not_found(
    logs: Logs, operation: str, params: dict[str, Any]
) -> None:
    await logs("CreateLogGroup", logGroupName=GROUP)
    assert await logs.fails(operation, logGroupName=GROUP, **params) == (
        "ResourceNotFoundException",
        "The specified log stream does not exist.",
    )


@pytest.mark.parametrize("identifier", [GROUP, ARN, f"{ARN}:*"])
async def test_a_group_is_found_by_name_and_by_arn(logs: Logs, identifier: str) -> None:
    logs.write("s", (NOW_MS, "x"))
    found = await logs("FilterLogEvents", logGroupIdentifier=identifier)
    assert messages(found) == ["x"]
    found = await logs("GetLogEvents", logGroupIdentifier=identifier, logStreamName="s")
    assert messages(found) == ["x"]
    found = await logs("DescribeLogStreams", logGroupIdentifier=identifier)
    assert len(found["logStreams"]) == 1
    found = await logs("DescribeLogGroups", logGroupIdentifiers=[identifier])
    assert len(found["logGroups"]) == 1


async def test_a_group_must_be_named_in_one_way(logs: Logs) -> None:
    code, _ = await logs.fails("FilterLogEvents")
    assert code == "InvalidParameterException"
    code, _ = await logs.fails("FilterLogEvents", logGroupName=GROUP, logGroupIdentifier=ARN)
    assert code == "InvalidParameterException"
    code, _ = await logs.fails("FilterLogEvents", logGroupIdentifier="arn:aws:s3:::bucket")
    assert code == "InvalidParameterException"


async def test_the_arn_of_another_account_is_not_found(logs: Logs) -> None:
    logs.write("s", (NOW_MS, "x"))
    code, _ = await logs.fails(
        "FilterLogEvents", logGroupIdentifier=ARN.replace(ACCOUNT, "999999999999")
    )
    assert code == "ResourceNotFoundException"


async def test_groups_are_listed_page_by_page_in_the_order_of_their_names(logs: Logs) -> None:
    names = [f"/g/{n}" for n in range(7)]
    for name in reversed(names):
        await logs("CreateLogGroup", logGroupName=name)
    await logs("CreateLogGroup", logGroupName="other")
    lists: list[tuple[str, dict[str, Any]]] = [
        ("DescribeLogGroups", {"logGroupNamePrefix": "/g/"}),
        ("DescribeLogGroups", {"logGroupNamePattern": "g/"}),
        ("ListLogGroups", {"logGroupNamePattern": "^/g/|nowhere"}),
    ]
    for operation, filters in lists:
        found: list[str] = []
        token: dict[str, Any] = {}
        while True:
            page = await logs(operation, limit=3, **filters, **token)
            found += [group["logGroupName"] for group in page["logGroups"]]
            if "nextToken" not in page:
                break
            token = {"nextToken": page["nextToken"]}
        assert found == names


async def test_retention_takes_only_the_days_that_aws_takes(logs: Logs) -> None:
    await logs("CreateLogGroup", logGroupName=GROUP)
    code, message = await logs.fails("PutRetentionPolicy", logGroupName=GROUP, retentionInDays=2)
    assert code == "InvalidParameterException"
    assert "Value '2' at 'retentionInDays' failed to satisfy constraint" in message


async def test_tags_are_added_replaced_and_removed_by_both_apis(logs: Logs) -> None:
    await logs("CreateLogGroup", logGroupName=GROUP, tags={"a": "1"})
    await logs("TagResource", resourceArn=ARN, tags={"a": "2", "b": "3"})
    await logs("TagLogGroup", logGroupName=GROUP, tags={"c": "4"})
    await logs("UntagResource", resourceArn=f"{ARN}:*", tagKeys=["b", "unknown"])
    assert await logs("ListTagsLogGroup", logGroupName=GROUP) == {"tags": {"a": "2", "c": "4"}}
    await logs("UntagLogGroup", logGroupName=GROUP, tags=["a"])
    assert await logs("ListTagsForResource", resourceArn=ARN) == {"tags": {"c": "4"}}
    code, _ = await logs.fails("TagResource", resourceArn=ARN, tags={"aws:x": "1"})
    assert code == "InvalidParameterException"
    code, _ = await logs.fails(
        "TagResource", resourceArn=ARN, tags={f"t{n}": "" for n in range(50)}
    )
    assert code == "TooManyTagsException"
    code, _ = await logs.fails("ListTagsForResource", resourceArn="arn:aws:logs:x:1:destination:d")
    assert code == "ResourceNotFoundException"


async def test_a_protected_group_is_not_deleted(logs: Logs) -> None:
    await logs("CreateLogGroup", logGroupName=GROUP, deletionProtectionEnabled=True)
    code, _ = await logs.fails("DeleteLogGroup", logGroupName=GROUP)
    assert code == "ValidationException"
    await logs(
        "PutLogGroupDeletionProtection", logGroupIdentifier=GROUP, deletionProtectionEnabled=False
    )
    await logs("DeleteLogGroup", logGroupName=GROUP)
    assert (await logs("DescribeLogGroups"))["logGroups"] == []


async def test_streams_are_described_with_the_times_of_their_events(logs: Logs) -> None:
    await logs("CreateLogGroup", logGroupName=GROUP)
    await logs("CreateLogStream", logGroupName=GROUP, logStreamName="a")
    logs.write("b", (NOW_MS - 5, "x"), (NOW_MS, "y"))
    a, b = (await logs("DescribeLogStreams", logGroupName=GROUP))["logStreams"]
    assert a["arn"] == f"{ARN}:log-stream:a"
    assert "lastEventTimestamp" not in a
    assert (b["firstEventTimestamp"], b["lastEventTimestamp"]) == (NOW_MS - 5, NOW_MS)
    assert b["lastIngestionTime"] == NOW_MS
    assert await logs.fails("CreateLogStream", logGroupName=GROUP, logStreamName="a") == (
        "ResourceAlreadyExistsException",
        "The specified log stream already exists",
    )


@pytest.mark.parametrize("is_descending", [False, True])
@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, ["a", "b", "c", "d", "e"]),
        ({"orderBy": "LogStreamName", "logStreamNamePrefix": "c"}, ["c"]),
        ({"orderBy": "LastEventTime"}, ["e", "a", "d", "c", "b"]),
    ],
)
async def test_streams_are_listed_page_by_page_in_the_order_asked_for(
    logs: Logs, params: dict[str, Any], expected: list[str], is_descending: bool
) -> None:
    for name, at in (("a", 1), ("b", 3), ("c", 2), ("d", 1)):
        logs.write(name, (at, "x"))
    await logs.store.flush()
    await logs("CreateLogStream", logGroupName=GROUP, logStreamName="e")
    found: list[str] = []
    token: dict[str, Any] = {}
    while True:
        page = await logs(
            "DescribeLogStreams",
            logGroupName=GROUP,
            limit=2,
            descending=is_descending,
            **params,
            **token,
        )
        found += [stream["logStreamName"] for stream in page["logStreams"]]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert found == (expected[::-1] if is_descending else expected)


async def test_streams_by_time_have_no_prefix(logs: Logs) -> None:
    assert await logs.fails(
        "DescribeLogStreams",
        logGroupName=GROUP,
        orderBy="LastEventTime",
        logStreamNamePrefix="a",
    ) == (
        "InvalidParameterException",
        "Cannot order by LastEventTime with a logStreamNamePrefix.",
    )


async def test_events_that_are_put_can_be_read(logs: Logs) -> None:
    await logs("CreateLogGroup", logGroupName=GROUP)
    await logs("CreateLogStream", logGroupName=GROUP, logStreamName="s")
    answer = await logs(
        "PutLogEvents",
        logGroupName=GROUP,
        logStreamName="s",
        logEvents=[{"timestamp": NOW_MS, "message": "x"}, {"timestamp": NOW_MS, "message": "y"}],
        sequenceToken="ignored",
    )
    assert set(answer) == {"nextSequenceToken"}
    found = await logs("GetLogEvents", logGroupName=GROUP, logStreamName="s")
    assert found["events"] == [
        {"timestamp": NOW_MS, "message": "x", "ingestionTime": NOW_MS},
        {"timestamp": NOW_MS, "message": "y", "ingestionTime": NOW_MS},
    ]


async def test_events_out_of_their_time_are_rejected_and_the_others_kept(logs: Logs) -> None:
    await logs("CreateLogGroup", logGroupName=GROUP)
    await logs("CreateLogStream", logGroupName=GROUP, logStreamName="s")
    await logs("PutRetentionPolicy", logGroupName=GROUP, retentionInDays=3)
    ages = [15 * DAY_MS, 4 * DAY_MS, 3_600_000, 0, -3 * 3_600_000]
    answer = await logs(
        "PutLogEvents",
        logGroupName=GROUP,
        logStreamName="s",
        logEvents=[{"timestamp": NOW_MS - age, "message": str(age)} for age in ages],
    )
    assert answer["rejectedLogEventsInfo"] == {
        "tooOldLogEventEndIndex": 1,
        "expiredLogEventEndIndex": 2,
        "tooNewLogEventStartIndex": 4,
    }
    found = await logs("GetLogEvents", logGroupName=GROUP, logStreamName="s")
    assert messages(found) == ["3600000", "0"]


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        (
            [(NOW_MS, "x"), (NOW_MS - 1, "y")],
            "Log events in a single PutLogEvents request must be in chronological order.",
        ),
        (
            [(NOW_MS - DAY_MS - 1, "x"), (NOW_MS, "y")],
            "The batch of log events in a single PutLogEvents request cannot span more than 24"
            " hours.",
        ),
        ([(NOW_MS, "é" * 524_288)], "Upload too large: 1048602 bytes exceeds limit of 1048576"),
    ],
)
async def test_a_batch_that_aws_refuses_is_refused(
    logs: Logs, events: list[tuple[int, str]], sentence: str
) -> None:
    await logs("CreateLogGroup", logGroupName=GROUP)
    await logs("CreateLogStream", logGroupName=GROUP, logStreamName="s")
    assert await logs.fails(
        "PutLogEvents",
        logGroupName=GROUP,
        logStreamName="s",
        logEvents=[{"timestamp": at, "message": message} for at, message in events],
    ) == ("InvalidParameterException", sentence)


async def test_the_token_comes_back_when_nothing_is_left(logs: Logs) -> None:
    logs.write("s", *((NOW_MS + n, str(n)) for n in range(5)))
    where: dict[str, Any] = {"logGroupName": GROUP, "logStreamName": "s", "limit": 3}
    page = await logs("GetLogEvents", **where, startFromHead=True)
    assert messages(page) == ["0", "1", "2"]
    page = await logs("GetLogEvents", **where, nextToken=page["nextForwardToken"])
    assert messages(page) == ["3", "4"]
    forward = page["nextForwardToken"]
    page = await logs("GetLogEvents", **where, nextToken=forward, startFromHead=True)
    assert (messages(page), page["nextForwardToken"]) == ([], forward)
    back = await logs("GetLogEvents", **where, nextToken=page["nextBackwardToken"])
    assert messages(back) == ["2", "3", "4"]
    back = await logs("GetLogEvents", **where, nextToken=back["nextBackwardToken"])
    assert messages(back) == ["0", "1"]
    backward = back["nextBackwardToken"]
    back = await logs("GetLogEvents", **where, nextToken=backward)
    assert (messages(back), back["nextBackwardToken"]) == ([], backward)
    logs.write("s", (NOW_MS + 5, "5"))
    page = await logs("GetLogEvents", **where, nextToken=forward)
    assert messages(page) == ["5"]


async def test_the_last_events_come_first_unless_the_head_is_asked_for(logs: Logs) -> None:
    logs.write("s", *((NOW_MS + n, str(n)) for n in range(5)))
    page = await logs("GetLogEvents", logGroupName=GROUP, logStreamName="s", limit=2)
    assert messages(page) == ["3", "4"]


async def test_the_end_of_a_window_is_part_of_a_search_and_not_of_a_stream(logs: Logs) -> None:
    logs.write("s", *((n, str(n)) for n in range(5)))
    window: dict[str, Any] = {"logGroupName": GROUP, "startTime": 1, "endTime": 3}
    assert messages(await logs("GetLogEvents", logStreamName="s", **window)) == ["1", "2"]
    assert messages(await logs("FilterLogEvents", **window)) == ["1", "2", "3"]


async def test_a_search_interleaves_streams_and_pages_through_them(logs: Logs) -> None:
    for n in range(10):
        logs.write(f"s{n % 3}", (NOW_MS + n, str(n)))
    found: list[str] = []
    ids: set[str] = set()
    token: dict[str, Any] = {}
    while True:
        page = await logs("FilterLogEvents", logGroupName=GROUP, limit=4, interleaved=True, **token)
        found += messages(page)
        ids |= {event["eventId"] for event in page["events"]}
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert found == [str(n) for n in range(10)]
    assert len(ids) == 10
    assert all(len(id_) == 56 for id_ in ids)


async def test_a_search_keeps_to_the_streams_and_the_pattern_asked_for(logs: Logs) -> None:
    for stream in ("2025/a", "2025/b", "2026/c"):
        logs.write(stream, (NOW_MS, f"INFO {stream}"), (NOW_MS + 1, f"ERROR {stream}"))
    search: dict[str, Any] = {"logGroupName": GROUP, "filterPattern": "ERROR"}
    found = await logs("FilterLogEvents", **search, logStreamNamePrefix="2025/")
    assert messages(found) == ["ERROR 2025/a", "ERROR 2025/b"]
    found = await logs("FilterLogEvents", **search, logStreamNames=["2025/b", "2026/c"])
    assert messages(found) == ["ERROR 2025/b", "ERROR 2026/c"]
    found = await logs("FilterLogEvents", **search, startFromHead=False, limit=1)
    assert messages(found) == ["ERROR 2026/c"]
    code, _ = await logs.fails(
        "FilterLogEvents", **search, logStreamNames=["2025/b"], logStreamNamePrefix="2025"
    )
    assert code == "InvalidParameterException"
    code, _ = await logs.fails("FilterLogEvents", **search, startFromHead=False, startTime=1)
    assert code == "InvalidParameterException"


async def test_a_broken_pattern_is_an_invalid_parameter(logs: Logs) -> None:
    logs.write("s", (NOW_MS, "x"))
    assert await logs.fails("FilterLogEvents", logGroupName=GROUP, filterPattern="a@b.c") == (
        "InvalidParameterException",
        "Invalid filter pattern",
    )


async def test_following_a_log_brings_each_event_once(logs: Logs) -> None:
    """As ``aws logs tail --follow`` does it: start again at the newest time, drop known ids."""
    seen: list[str] = []
    known: set[str] = set()
    start_ms = 0
    for n in range(5):
        logs.write("s", (NOW_MS + n // 2, f"{n}"))
        answer = await logs(
            "FilterLogEvents", logGroupIdentifier=ARN, startTime=start_ms, interleaved=True
        )
        for event in answer["events"]:
            if event["eventId"] not in known:
                known.add(event["eventId"])
                seen.append(event["message"])
                start_ms = event["timestamp"]
    assert seen == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    "token", ["x", "f/1", "f/" + "9" * 56 + "/s", "f/" + "9" * 56, "WzEsMl0=", "Wzk5OTk5OTk5OTk"]
)
@pytest.mark.parametrize(
    "operation", ["DescribeLogGroups", "DescribeLogStreams", "GetLogEvents", "FilterLogEvents"]
)
async def test_a_token_that_was_not_given_out_is_refused(
    logs: Logs, operation: str, token: str
) -> None:
    await logs("CreateLogGroup", logGroupName=GROUP)
    await logs("CreateLogStream", logGroupName=GROUP, logStreamName="s")
    params: dict[str, Any] = {"nextToken": token}
    if operation != "DescribeLogGroups":
        params["logGroupName"] = GROUP
    if operation == "GetLogEvents":
        params["logStreamName"] = "s"
    assert await logs.fails(operation, **params) == (
        "InvalidParameterException",
        "The specified nextToken is invalid.",
    )


async def test_times_at_the_end_of_the_range_are_harmless(logs: Logs) -> None:
    logs.write("s", (NOW_MS, "x"))
    late: dict[str, Any] = {"logGroupName": GROUP, "startTime": 2**63 - 1, "endTime": 2**63 - 1}
    assert messages(await logs("FilterLogEvents", **late)) == []
    assert messages(await logs("FilterLogEvents", **late, startFromHead=False)) == []
    assert messages(await logs("GetLogEvents", logStreamName="s", **late)) == []
