"""What functions write, as CloudWatch Logs gives it back."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from running_platform import PYTHON, Deployer, Platform, wait_until

pytest_plugins = ("platform_fixtures",)

PRINTS = (
    "import logging, sys\n"
    "def handler(event, context):\n"
    "    print('to stdout')\n"
    "    print('to stderr', file=sys.stderr)\n"
    "    logging.getLogger().warning('to the log')\n"
    "    return context.log_stream_name\n"
)


def lines_of(platform: Platform, group: str, request_id: str) -> list[str]:
    """The lines of a group once the report of an invocation is there."""

    def reported() -> list[str] | None:
        lines = platform.log_lines(group)
        is_there = any(
            request_id in line and ("REPORT" in line or "platform.report" in line) for line in lines
        )
        return lines if is_there else None

    return wait_until(reported, f"the report of {request_id} is in {group}")


def test_a_log_stream_has_every_line_in_order(deploy: Deployer, platform: Platform) -> None:
    name = deploy(PRINTS)

    answer = platform.invoke(name)

    lines = lines_of(platform, f"/aws/lambda/{name}", answer.request_id)
    init, start, *said, end, report = lines
    assert init.startswith("INIT_START Runtime Version: python:3.")
    assert start == f"START RequestId: {answer.request_id} Version: $LATEST\n"
    assert said[:2] == ["to stdout\n", "to stderr\n"]
    level, stamp, request_id, message = said[2].split("\t")
    assert (level, request_id, message) == ("[WARNING]", answer.request_id, "to the log\n")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)
    assert end == f"END RequestId: {answer.request_id}\n"
    assert report.startswith(f"REPORT RequestId: {answer.request_id}\tDuration: ")


def test_the_stream_in_the_context_is_the_stream_in_the_logs(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy(PRINTS)
    answer = platform.invoke(name)
    group = f"/aws/lambda/{name}"
    lines_of(platform, group, answer.request_id)

    streams = platform.client("logs").describe_log_streams(logGroupName=group)["logStreams"]

    assert [stream["logStreamName"] for stream in streams] == [answer.json]
    events = platform.client("logs").get_log_events(
        logGroupName=group, logStreamName=answer.json, startFromHead=True
    )["events"]
    stamps = [event["timestamp"] for event in events]
    assert stamps == sorted(stamps)


def test_json_format_writes_objects_only(deploy: Deployer, platform: Platform) -> None:
    name = deploy(
        "import logging\ndef handler(event, context):\n"
        "    logging.getLogger().info('quiet')\n"
        "    logging.getLogger().error('loud', extra={'size': 3})\n",
        LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "WARN"},
    )

    answer = platform.invoke(name)

    lines = lines_of(platform, f"/aws/lambda/{name}", answer.request_id)
    documents = [json.loads(line) for line in lines]
    assert [item["type"] for item in documents if "type" in item] == [
        "platform.initStart",
        "platform.start",
        "platform.report",
    ]
    said = [item for item in documents if "type" not in item]
    assert [(item["level"], item["message"], item["size"]) for item in said] == [
        ("ERROR", "loud", 3)
    ]
    assert said[0]["requestId"] == answer.request_id
    report = documents[-1]["record"]
    assert report["requestId"] == answer.request_id
    assert report["metrics"]["memorySizeMB"] == 128


def test_a_log_group_of_ones_own_is_shared_by_functions(
    deploy: Deployer, platform: Platform
) -> None:
    group = f"/shared/{deploy.name()}"
    names = [deploy(PRINTS, LoggingConfig={"LogGroup": group}) for _ in range(2)]

    streams = []
    for name in names:
        answer = platform.invoke(name)
        lines_of(platform, group, answer.request_id)
        streams.append(answer.json)

    for name, stream in zip(names, streams, strict=True):
        assert re.fullmatch(
            rf"\d{{4}}/\d\d/\d\d/{re.escape(name)}\[\$LATEST\][0-9a-f]{{32}}", stream
        )


def test_log_groups_can_be_made_kept_and_deleted(platform: Platform) -> None:
    logs = platform.client("logs")

    logs.create_log_group(logGroupName="/mine", tags={"a": "b"})
    with pytest.raises(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName="/mine")
    logs.put_retention_policy(logGroupName="/mine", retentionInDays=14)

    [group] = logs.describe_log_groups(logGroupNamePrefix="/mine")["logGroups"]
    assert group["retentionInDays"] == 14
    logs.delete_log_group(logGroupName="/mine")
    assert logs.describe_log_groups(logGroupNamePrefix="/mine")["logGroups"] == []


def test_events_can_be_found_by_a_pattern(deploy: Deployer, platform: Platform) -> None:
    name = deploy(PRINTS)
    answer = platform.invoke(name)
    group = f"/aws/lambda/{name}"
    lines_of(platform, group, answer.request_id)

    found: Any = platform.client("logs").filter_log_events(
        logGroupName=group, filterPattern='"to stderr"'
    )

    assert [event["message"] for event in found["events"]] == ["to stderr\n"]


def test_what_a_failing_init_prints_is_not_lost(deploy: Deployer, platform: Platform) -> None:
    name = deploy("print('before it fails')\nraise RuntimeError('no')\n", Runtime=PYTHON)

    answer = platform.invoke(name)

    lines = lines_of(platform, f"/aws/lambda/{name}", answer.request_id)
    assert "before it fails\n" in lines
    assert any(line.startswith("INIT_REPORT Init Duration: ") for line in lines)
