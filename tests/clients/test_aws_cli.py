"""The real ``aws`` command, unmodified, from creating a role to deleting the function."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from running_platform import (
    ACCOUNT,
    PYTHON,
    REGION,
    TRUST,
    Deployer,
    Platform,
    clean_environment,
    pack,
    wait_until,
)

pytest_plugins = ("platform_fixtures", "clients.aws_command")

Aws = Callable[..., Any]

CODE = "def handler(event, context):\n    print('cli was here')\n    return {!r}\n"


@pytest.fixture
def aws_version_2() -> Path:
    """``aws`` of version 2, which no Python package has: that of the system, if there is one."""
    for directory in os.environ["PATH"].split(":"):
        candidate = Path(directory, "aws")
        if not candidate.exists():
            continue
        try:
            told = subprocess.run([candidate, "--version"], capture_output=True, text=True)
        except OSError:
            continue
        if told.stdout.startswith("aws-cli/2."):
            return candidate
    pytest.skip("aws logs tail came with version 2 of the aws command; PATH has none")


def test_a_function_lives_its_whole_life_by_command(aws: Aws, tmp_path: Path) -> None:
    (tmp_path / "code.zip").write_bytes(pack({"app.py": CODE.format("one")}))
    (tmp_path / "next.zip").write_bytes(pack({"app.py": CODE.format("two")}))

    role = aws(
        *("iam", "create-role", "--role-name", "cli-role"),
        *("--assume-role-policy-document", json.dumps(TRUST)),
    )["Role"]["Arn"]
    created = aws(
        *("lambda", "create-function", "--function-name", "cli", "--runtime", PYTHON),
        *("--role", role, "--handler", "app.handler", "--zip-file", "fileb://code.zip"),
    )
    assert (created["State"], created["CodeSize"]) == (
        "Pending",
        (tmp_path / "code.zip").stat().st_size,
    )
    aws("lambda", "wait", "function-active-v2", "--function-name", "cli")

    log = aws(
        *("lambda", "invoke", "--function-name", "cli", "--payload", '{"a": 1}'),
        *("--log-type", "Tail"),
        *("--query", "LogResult", "--output", "text", "out.json"),
    )
    assert json.loads((tmp_path / "out.json").read_text()) == "one"
    assert "cli was here" in base64.b64decode(log).decode()

    updated = aws(
        *("lambda", "update-function-code", "--function-name", "cli"),
        *("--zip-file", "fileb://next.zip"),
    )
    assert updated["LastUpdateStatus"] == "InProgress"
    aws("lambda", "wait", "function-updated-v2", "--function-name", "cli")
    published = aws("lambda", "publish-version", "--function-name", "cli")
    assert published["Version"] == "1"
    alias = aws(
        *("lambda", "create-alias", "--function-name", "cli", "--name", "live"),
        *("--function-version", "1"),
    )
    assert alias["AliasArn"].endswith(":cli:live")
    meta = aws("lambda", "invoke", "--function-name", "cli:live", "out.json")
    assert (meta["StatusCode"], meta["ExecutedVersion"]) == (200, "1")
    assert json.loads((tmp_path / "out.json").read_text()) == "two"

    arn = created["FunctionArn"]
    aws("lambda", "tag-resource", "--resource", arn, "--tags", "team=red")
    assert aws("lambda", "list-tags", "--resource", arn)["Tags"] == {"team": "red"}

    def streams() -> Any:
        group = "/aws/lambda/cli"
        found = aws("logs", "describe-log-groups", "--log-group-name-prefix", group)["logGroups"]
        if not found:
            return None
        return aws("logs", "describe-log-streams", "--log-group-name", group)["logStreams"]

    assert any(
        "[$LATEST]" in stream["logStreamName"]
        for stream in wait_until(streams, "the log streams are there")
    )
    found = wait_until(
        lambda: aws(
            *("logs", "filter-log-events", "--log-group-name", "/aws/lambda/cli"),
            *("--filter-pattern", '"cli was here"', "--query", "events[].message"),
        ),
        "the printed line is found",
    )
    assert set(found) == {"cli was here\n"}

    aws("lambda", "delete-alias", "--function-name", "cli", "--name", "live")
    aws("lambda", "delete-function", "--function-name", "cli")
    aws("iam", "delete-role", "--role-name", "cli-role")


def test_logs_tail_shows_what_there_is_and_ends_by_itself(
    aws_version_2: Path, platform: Platform, deploy: Deployer, tmp_path: Path
) -> None:
    name = deploy(CODE.format("x"))
    platform.invoke(name)
    group = f"/aws/lambda/{name}"
    wait_until(lambda: platform.log_lines(group), "the group is there")

    # The option, since version 2 read AWS_ENDPOINT_URL from 2.13 on only.
    tail = subprocess.run(
        [aws_version_2, "logs", "tail", group, "--endpoint-url", platform.url],
        env={
            **clean_environment(),
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "cli was here" in tail.stdout


def test_lists_are_paged_by_the_command_too(aws: Aws, platform: Platform) -> None:
    role = platform.make_role()
    client = platform.client("lambda")
    names = [f"paged-{number}" for number in range(5)]
    for name in names:
        client.create_function(
            FunctionName=name,
            Runtime=PYTHON,
            Role=role,
            Handler="app.handler",
            Code={"ZipFile": pack({"app.py": CODE.format("x")})},
        )

    listed = aws("lambda", "list-functions", "--page-size", "2")["Functions"]

    assert [item["FunctionName"] for item in listed if "paged-" in item["FunctionName"]] == names
    first = aws("lambda", "list-functions", "--max-items", "2", "--page-size", "1")
    token = ("--starting-token", first["NextToken"])
    rest = aws("lambda", "list-functions", *token, "--page-size", "3")
    assert "NextToken" not in rest
    assert [*first["Functions"], *rest["Functions"]] == listed
    for name in names:
        client.delete_function(FunctionName=name)


def test_an_event_source_mapping_lives_by_command(aws: Aws, deploy: Deployer) -> None:
    source = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/t/stream/2026-01-01T00:00:00.000"
    pattern = json.dumps({"Filters": [{"Pattern": '{"eventName": ["INSERT"]}'}]})
    created = aws(
        *("lambda", "create-event-source-mapping", "--function-name", deploy(CODE.format(1))),
        *("--event-source-arn", source, "--starting-position", "TRIM_HORIZON"),
        *("--filter-criteria", pattern, "--tags", "team=blue"),
    )
    uuid = ("--uuid", created["UUID"])
    assert created["ParallelizationFactor"] == 1
    updated = aws("lambda", "update-event-source-mapping", *uuid, "--no-enabled")
    assert updated["State"] == "Disabling"
    (listed,) = aws("lambda", "list-event-source-mappings", "--event-source-arn", source)[
        "EventSourceMappings"
    ]
    assert listed["FilterCriteria"] == json.loads(pattern)
    tags = aws("lambda", "list-tags", "--resource", created["EventSourceMappingArn"])
    assert tags == {"Tags": {"team": "blue"}}
    assert aws("lambda", "delete-event-source-mapping", *uuid)["State"] == "Deleting"


def test_the_account_is_told(aws: Aws) -> None:
    identity, settings = ThreadPoolExecutor(2).map(
        lambda command: aws(*command),
        [("sts", "get-caller-identity"), ("lambda", "get-account-settings")],
    )

    assert identity["Account"] == ACCOUNT
    assert settings["AccountLimit"]["ConcurrentExecutions"] == 1000


def test_an_error_of_the_service_ends_with_254_and_its_sentence(
    aws_process: Callable[..., Any],
) -> None:
    done = aws_process("lambda", "get-function", "--function-name", "none")

    # 254 since version 1.41 and in version 2, 255 before.
    assert done.returncode in (254, 255)
    assert (
        "An error occurred (ResourceNotFoundException) when calling the GetFunction operation:"
        f" Function not found: arn:aws:lambda:{REGION}:{ACCOUNT}:function:none"
    ) in done.stderr


def test_an_operation_that_is_not_there_is_an_error_and_no_fault(
    aws_process: Callable[..., Any],
) -> None:
    done = aws_process("lambda", "list-capacity-providers")

    assert done.returncode in (254, 255)
    assert "An error occurred (" in done.stderr
    assert "ListCapacityProviders" in done.stderr


def test_what_hangs_on_a_function_is_managed_by_command(deploy: Deployer, aws: Aws) -> None:
    named = ("--function-name", deploy(CODE.format("one")))
    added = aws(
        *("lambda", "add-permission", *named, "--statement-id", "logs"),
        *("--action", "lambda:InvokeFunction", "--principal", "logs.amazonaws.com"),
    )
    policy = json.loads(aws("lambda", "get-policy", *named)["Policy"])
    assert policy["Statement"] == [json.loads(added["Statement"])]
    aws("lambda", "remove-permission", *named, "--statement-id", "logs")

    url = aws("lambda", "create-function-url-config", *named, "--auth-type", "NONE")
    assert (
        aws("lambda", "list-function-url-configs", *named)["FunctionUrlConfigs"][0]["FunctionUrl"]
        == url["FunctionUrl"]
    )
    aws("lambda", "delete-function-url-config", *named)

    aws(
        *("lambda", "put-function-event-invoke-config", *named),
        *("--maximum-retry-attempts", "1", "--maximum-event-age-in-seconds", "3600"),
    )
    found = aws("lambda", "get-function-event-invoke-config", *named)
    assert (found["MaximumRetryAttempts"], found["MaximumEventAgeInSeconds"]) == (1, 3600)
    aws("lambda", "delete-function-event-invoke-config", *named)

    managed = aws(
        *("lambda", "put-runtime-management-config", *named),
        *("--update-runtime-on", "FunctionUpdate"),
    )
    assert managed["UpdateRuntimeOn"] == "FunctionUpdate"
    recursion = aws(
        *("lambda", "put-function-recursion-config", *named, "--recursive-loop", "Allow")
    )
    assert recursion == {"RecursiveLoop": "Allow"}
