"""Every ``aws lambda`` command of an operation that firelet has, from create to delete.

Each test names the commands that it runs with ``lives``; that it has run them is checked when it
ends, and that together they are all that ``firelet parity`` counts is a test of its own.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name

from conformance.samples import MODEL, OPERATIONS, make_params
from firelet.app.parity import Standing, list_coverage
from running_platform import ACCOUNT, PYTHON, REGION, Deployer, Platform, pack

pytest_plugins = ("platform_fixtures", "clients.aws_command")

Lambda = Callable[..., Any]

ABSENT = "dotnet6"
CODE = "def handler(event, context):\n    return {!r}\n"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}"
PRINCIPAL = ("--principal", "s3.amazonaws.com", "--action", "lambda:InvokeFunction")
SIGNERS = tuple(
    f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/{name}/0123456789" for name in "ab"
)

# Not in any version of the command: it cannot read event streams.
NOT_IN_THE_COMMAND = {"invoke-with-response-stream"}
COMMANDS = {
    xform_name(item.operation, "-")
    for item in list_coverage()
    if item.standing is not Standing.MISSING
}
MISSING = sorted(
    name for name in OPERATIONS if xform_name(name, "-") not in COMMANDS | NOT_IN_THE_COMMAND
)

_LIVED: set[str] = set()


def lives(*commands: str) -> Callable[[Any], Any]:
    """Says which commands a test runs; one that waits says ``wait`` and the waiter's name."""

    def mark(test: Any) -> Any:
        test.commands = set(commands)
        _LIVED.update(commands)
        return test

    return mark


@pytest.fixture
def run(aws: Lambda, request: pytest.FixtureRequest) -> Iterator[Lambda]:
    """Runs one command of ``aws lambda``, which must succeed; its output."""
    ran = set()

    def run(command: str, *arguments: str) -> Any:
        ran.add(f"wait {arguments[0]}" if command == "wait" else command)
        return aws("lambda", command, *arguments)

    yield run
    assert request.function.commands <= ran


@pytest.fixture
def refused(aws_process: Lambda) -> Lambda:
    """Runs one command, which the service must refuse; the error's code and sentence."""

    def run(command: str, *arguments: str) -> tuple[str, str]:
        done = aws_process("lambda", command, *arguments)
        # 254 since version 1.41 and in version 2, 255 before.
        assert done.returncode in (254, 255)
        found = re.search(
            r"An error occurred \((\w+)\) when calling the \w+ operation: (.*)", done.stderr
        )
        assert found is not None, done.stderr
        return found[1], found[2].strip()

    return run


@pytest.fixture
def named(deploy: Deployer) -> tuple[str, str]:
    return ("--function-name", deploy(CODE.format("one")))


def choices(aws_process: Lambda, *command: str) -> set[str]:
    """What the command itself says that it knows."""
    told = aws_process("lambda", *command, "no-such-command").stderr
    return set(
        re.findall(r"[a-z][a-z0-9-]*-[a-z0-9-]+|invoke|wait", told.partition("choices are:")[2])
    )


def test_every_command_is_run(aws_process: Lambda) -> None:
    known = choices(aws_process) - {"wait"}
    modelled = {xform_name(name, "-") for name in OPERATIONS}
    assert known == modelled - NOT_IN_THE_COMMAND
    waits = {f"wait {name}" for name in choices(aws_process, "wait")}
    assert len(waits) == 6
    assert (known & COMMANDS) | waits == _LIVED


@pytest.mark.parametrize("operation", MISSING)
def test_what_is_not_served_is_told_in_one_sentence(refused: Lambda, operation: str) -> None:
    model = MODEL.operation_model(operation)
    params = make_params(model, {}, is_full=False)
    body = {key: value for key, value in params.items() if not isinstance(value, bytes)}
    assert refused(xform_name(operation, "-"), "--cli-input-json", json.dumps(body)) == (
        "NotImplementedException",
        f"firelet does not implement lambda:{operation} yet",
    )


@lives(
    "create-function",
    "get-function",
    "get-function-configuration",
    "list-functions",
    "update-function-code",
    "update-function-configuration",
    "publish-version",
    "list-versions-by-function",
    "delete-function",
    "wait function-exists",
    "wait function-active",
    "wait function-active-v2",
    "wait function-updated",
    "wait function-updated-v2",
    "wait published-version-active",
)
def test_a_function(
    run: Lambda, refused: Lambda, platform: Platform, deploy: Deployer, tmp_path: Path
) -> None:
    name = deploy.name("cli")
    named, role = ("--function-name", name), platform.make_role()
    (tmp_path / "one.zip").write_bytes(pack({"app.py": CODE.format("one")}))
    (tmp_path / "two.zip").write_bytes(pack({"app.py": CODE.format("two")}))

    created = run(
        *("create-function", *named, "--runtime", PYTHON, "--role", role),
        *("--handler", "app.handler", "--zip-file", "fileb://one.zip"),
        *("--environment", "Variables={MODE=x}", "--tags", "team=red"),
    )
    assert created["FunctionArn"] == f"{ARN}:function:{name}"
    assert (created["State"], created["StateReasonCode"]) == ("Pending", "Creating")
    for waiter in ("function-exists", "function-active", "function-active-v2"):
        assert run("wait", waiter, *named) == ""

    found = run("get-function", *named)
    assert (found["Configuration"]["State"], found["Tags"]) == ("Active", {"team": "red"})
    assert found["Configuration"]["CodeSha256"] == created["CodeSha256"]
    query = f"Functions[?FunctionName=='{name}'].[Runtime,Handler]"
    listed = run("list-functions", "--query", query, "--output", "text")
    assert listed == f"{PYTHON}\tapp.handler\n"

    updated = run("update-function-code", *named, "--zip-file", "fileb://two.zip")
    assert updated["LastUpdateStatus"] == "InProgress"
    assert updated["CodeSha256"] != created["CodeSha256"]
    assert run("wait", "function-updated", *named) == ""
    configured = run("update-function-configuration", *named, "--timeout", "7")
    assert (configured["Timeout"], configured["Environment"]) == (7, {"Variables": {"MODE": "x"}})
    assert run("wait", "function-updated-v2", *named) == ""
    read = run("get-function-configuration", *named)
    assert (read["LastUpdateStatus"], read["Timeout"]) == ("Successful", 7)

    published = run("publish-version", *named, "--description", "first")
    assert published["FunctionArn"] == f"{ARN}:function:{name}:1"
    assert run("wait", "published-version-active", *named, "--qualifier", "1") == ""
    versions = run("list-versions-by-function", *named)["Versions"]
    assert [item["Version"] for item in versions] == ["$LATEST", "1"]

    assert run("delete-function", *named, "--qualifier", "1") == {"StatusCode": 204}
    assert run("delete-function", *named) == {"StatusCode": 204}
    assert refused("get-function", *named) == (
        "ResourceNotFoundException",
        f"Function not found: {ARN}:function:{name}",
    )


def test_waiters_give_up_on_what_has_failed(aws_process: Lambda, deploy: Deployer) -> None:
    """A runtime that may be asked for and that this machine does not have: a function made with
    it is Failed, and an update to it fails."""
    new, old = deploy.name("cli"), deploy(CODE.format(1))
    deploy.create(new, CODE.format(1), Runtime=ABSENT)
    deploy.settle(new)
    update = ("lambda", "update-function-configuration", "--function-name", old)
    assert aws_process(*update, "--runtime", ABSENT).returncode == 0
    for waiter, name in (
        ("function-active", new),
        ("function-active-v2", new),
        ("published-version-active", new),
        ("function-updated", old),
        ("function-updated-v2", old),
    ):
        done = aws_process("lambda", "wait", waiter, "--function-name", name)
        assert done.returncode == 255
        assert "Waiter encountered a terminal failure state" in done.stderr


@lives("invoke", "invoke-async")
def test_invocations(run: Lambda, named: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "event.json").write_text("{}")
    meta = run("invoke", *named, "--payload", "{}", "--log-type", "Tail", "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == "one"
    assert (meta["StatusCode"], meta["ExecutedVersion"]) == (200, "$LATEST")
    assert base64.b64decode(meta["LogResult"]).startswith(b"START RequestId: ")
    assert run("invoke", *named, "--invocation-type", "Event", "out.json") == {"StatusCode": 202}
    assert run("invoke", *named, "--invocation-type", "DryRun", "out.json") == {"StatusCode": 204}
    assert run("invoke-async", *named, "--invoke-args", "event.json") == {"Status": 202}


@lives("create-alias", "get-alias", "update-alias", "list-aliases", "delete-alias")
def test_an_alias(run: Lambda, refused: Lambda, named: tuple[str, str]) -> None:
    for timeout in ("4", "5"):
        run("update-function-configuration", *named, "--timeout", timeout)
        run("publish-version", *named)
    alias = (*named, "--name", "live")
    created = run("create-alias", *alias, "--function-version", "1")
    assert created["AliasArn"] == f"{ARN}:function:{named[1]}:live"
    assert run("get-alias", *alias) == created
    weights = {"AdditionalVersionWeights": {"1": 0.25}}
    updated = run(
        *("update-alias", *alias, "--function-version", "2"),
        *("--routing-config", json.dumps(weights)),
    )
    assert (updated["FunctionVersion"], updated["RoutingConfig"]) == ("2", weights)
    assert run("list-aliases", *named, "--function-version", "1")["Aliases"] == [updated]
    assert run("delete-alias", *alias) == ""
    assert refused("get-alias", *alias) == (
        "ResourceNotFoundException",
        f"Cannot find alias arn: {created['AliasArn']}",
    )


@lives(
    "publish-layer-version",
    "get-layer-version",
    "get-layer-version-by-arn",
    "list-layers",
    "list-layer-versions",
    "add-layer-version-permission",
    "get-layer-version-policy",
    "remove-layer-version-permission",
    "delete-layer-version",
)
def test_a_layer(run: Lambda, refused: Lambda, tmp_path: Path) -> None:
    (tmp_path / "layer.zip").write_bytes(pack({"python/one.py": "ONE = 1"}))
    layer = ("--layer-name", "cli-layer")
    published = run(
        *("publish-layer-version", *layer, "--zip-file", "fileb://layer.zip"),
        *("--compatible-runtimes", PYTHON, "--license-info", "MIT"),
    )
    number = str(published["Version"])
    version = (*layer, "--version-number", number)
    arn = f"{ARN}:layer:cli-layer:{number}"
    assert published["LayerVersionArn"] == arn
    for found in (
        run("get-layer-version", *version),
        run("get-layer-version-by-arn", "--arn", arn),
    ):
        assert found["Content"]["CodeSha256"] == published["Content"]["CodeSha256"]
        assert (found["CompatibleRuntimes"], found["LicenseInfo"]) == ([PYTHON], "MIT")
    listed = run("list-layers", "--compatible-runtime", PYTHON)["Layers"]
    assert [item["LayerName"] for item in listed if item["LayerName"] == layer[1]] == [layer[1]]
    versions = run("list-layer-versions", *layer)["LayerVersions"]
    assert [item["LayerVersionArn"] for item in versions] == [arn]

    said = run(
        *("add-layer-version-permission", *version, "--statement-id", "all"),
        *("--action", "lambda:GetLayerVersion", "--principal", "*"),
    )
    policy = run("get-layer-version-policy", *version)
    assert json.loads(policy["Policy"])["Statement"] == [json.loads(said["Statement"])]
    assert policy["RevisionId"] == said["RevisionId"]
    assert run("remove-layer-version-permission", *version, "--statement-id", "all") == ""
    assert refused("get-layer-version-policy", *version) == (
        "ResourceNotFoundException",
        "No policy is associated with the given resource.",
    )
    assert run("delete-layer-version", *version) == ""
    assert run("list-layer-versions", *layer)["LayerVersions"] == []


@lives(
    "put-function-concurrency",
    "get-function-concurrency",
    "delete-function-concurrency",
    "get-account-settings",
    "put-provisioned-concurrency-config",
    "get-provisioned-concurrency-config",
    "list-provisioned-concurrency-configs",
    "delete-provisioned-concurrency-config",
)
def test_concurrency(run: Lambda, refused: Lambda, named: tuple[str, str]) -> None:
    amount = {"ReservedConcurrentExecutions": 3}
    put = run("put-function-concurrency", *named, "--reserved-concurrent-executions", "3")
    assert put == amount
    assert run("get-function-concurrency", *named) == amount
    limit = run("get-account-settings")["AccountLimit"]
    assert limit["UnreservedConcurrentExecutions"] == limit["ConcurrentExecutions"] - 3
    assert run("delete-function-concurrency", *named) == ""
    assert run("get-function-concurrency", *named) in ({}, "")

    run("publish-version", *named)
    version = (*named, "--qualifier", "1")
    provisioned = run(
        "put-provisioned-concurrency-config", *version, "--provisioned-concurrent-executions", "1"
    )
    assert (provisioned["Status"], provisioned["RequestedProvisionedConcurrentExecutions"]) == (
        "IN_PROGRESS",
        1,
    )
    found = run("get-provisioned-concurrency-config", *version)
    assert found["RequestedProvisionedConcurrentExecutions"] == 1
    (listed,) = run("list-provisioned-concurrency-configs", *named)["ProvisionedConcurrencyConfigs"]
    assert listed["FunctionArn"] == f"{ARN}:function:{named[1]}:1"
    assert run("delete-provisioned-concurrency-config", *version) == ""
    assert refused("get-provisioned-concurrency-config", *version) == (
        "ProvisionedConcurrencyConfigNotFoundException",
        "No Provisioned Concurrency Config found for this function",
    )


@lives(
    "create-event-source-mapping",
    "get-event-source-mapping",
    "update-event-source-mapping",
    "list-event-source-mappings",
    "delete-event-source-mapping",
)
def test_an_event_source_mapping(run: Lambda, named: tuple[str, str]) -> None:
    source = f"arn:aws:sqs:{REGION}:{ACCOUNT}:cli-{named[1]}"
    created = run(
        *("create-event-source-mapping", *named, "--event-source-arn", source),
        *("--batch-size", "5", "--no-enabled"),
    )
    assert (created["State"], created["BatchSize"]) == ("Creating", 5)
    uuid = ("--uuid", created["UUID"])
    assert run("get-event-source-mapping", *uuid)["State"] in ("Creating", "Disabled")
    updated = run("update-event-source-mapping", *uuid, "--batch-size", "6")
    assert (updated["State"], updated["BatchSize"]) == ("Updating", 6)
    (listed,) = run("list-event-source-mappings", *named)["EventSourceMappings"]
    assert listed["EventSourceArn"] == source
    assert run("delete-event-source-mapping", *uuid)["State"] == "Deleting"


@lives(
    "create-function-url-config",
    "get-function-url-config",
    "update-function-url-config",
    "list-function-url-configs",
    "delete-function-url-config",
)
def test_a_function_url(run: Lambda, refused: Lambda, named: tuple[str, str]) -> None:
    created = run("create-function-url-config", *named, "--auth-type", "NONE")
    assert (created["AuthType"], created["FunctionArn"]) == (
        "NONE",
        f"{ARN}:function:{named[1]}",
    )
    found = run("get-function-url-config", *named)
    assert (found["FunctionUrl"], found["InvokeMode"]) == (created["FunctionUrl"], "BUFFERED")
    updated = run("update-function-url-config", *named, "--cors", "AllowOrigins=*")
    assert updated["Cors"] == {"AllowOrigins": ["*"]}
    (listed,) = run("list-function-url-configs", *named)["FunctionUrlConfigs"]
    assert listed["FunctionUrl"] == created["FunctionUrl"]
    assert run("delete-function-url-config", *named) == ""
    assert refused("get-function-url-config", *named) == (
        "ResourceNotFoundException",
        "The resource you requested does not exist.",
    )


@lives(
    "add-permission",
    "get-policy",
    "remove-permission",
    "put-resource-policy",
    "get-resource-policy",
    "delete-resource-policy",
)
def test_policies(run: Lambda, refused: Lambda, named: tuple[str, str]) -> None:
    arn = f"{ARN}:function:{named[1]}"
    said = run("add-permission", *named, "--statement-id", "s3", *PRINCIPAL)
    statement = json.loads(said["Statement"])
    assert (statement["Sid"], statement["Resource"]) == ("s3", arn)
    policy = json.loads(run("get-policy", *named)["Policy"])
    assert policy == {"Version": "2012-10-17", "Id": "default", "Statement": [statement]}
    assert run("remove-permission", *named, "--statement-id", "s3") == ""
    gone = ("ResourceNotFoundException", "The resource you requested does not exist.")
    assert refused("get-policy", *named) == gone

    resource = ("--resource-arn", arn)
    put = run("put-resource-policy", *resource, "--policy", json.dumps(policy))
    assert json.loads(put["Policy"])["Statement"] == [statement]
    assert run("get-resource-policy", *resource) == put
    assert run("delete-resource-policy", *resource) == ""
    assert refused("get-resource-policy", *resource) == gone


@lives(
    "put-function-event-invoke-config",
    "update-function-event-invoke-config",
    "get-function-event-invoke-config",
    "list-function-event-invoke-configs",
    "delete-function-event-invoke-config",
)
def test_settings_of_asynchronous_invocation(
    run: Lambda, refused: Lambda, named: tuple[str, str]
) -> None:
    arn = f"{ARN}:function:{named[1]}:$LATEST"
    put = run("put-function-event-invoke-config", *named, "--maximum-retry-attempts", "0")
    assert (put["FunctionArn"], put["MaximumRetryAttempts"]) == (arn, 0)
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:failed"
    updated = run(
        *("update-function-event-invoke-config", *named),
        *("--destination-config", json.dumps({"OnFailure": {"Destination": queue}})),
    )
    assert updated["MaximumRetryAttempts"] == 0
    assert updated["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {"Destination": queue}}
    assert run("get-function-event-invoke-config", *named) == updated
    listed = run("list-function-event-invoke-configs", *named)["FunctionEventInvokeConfigs"]
    assert listed == [updated]
    assert run("delete-function-event-invoke-config", *named) == ""
    assert refused("get-function-event-invoke-config", *named) == (
        "ResourceNotFoundException",
        f"The function {arn} doesn't have an EventInvokeConfig",
    )


@lives(
    "create-code-signing-config",
    "get-code-signing-config",
    "update-code-signing-config",
    "list-code-signing-configs",
    "list-functions-by-code-signing-config",
    "put-function-code-signing-config",
    "get-function-code-signing-config",
    "delete-function-code-signing-config",
    "delete-code-signing-config",
)
def test_code_signing(run: Lambda, refused: Lambda, named: tuple[str, str]) -> None:
    created = run(
        "create-code-signing-config",
        *("--allowed-publishers", f"SigningProfileVersionArns={SIGNERS[0]}"),
    )["CodeSigningConfig"]
    arn = created["CodeSigningConfigArn"]
    config = ("--code-signing-config-arn", arn)
    assert created["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Warn"}
    assert run("get-code-signing-config", *config) == {"CodeSigningConfig": created}
    updated = run(
        *("update-code-signing-config", *config),
        *("--allowed-publishers", f"SigningProfileVersionArns={SIGNERS[1]}"),
    )["CodeSigningConfig"]
    assert updated["AllowedPublishers"] == {"SigningProfileVersionArns": [SIGNERS[1]]}
    assert updated in run("list-code-signing-configs")["CodeSigningConfigs"]

    attached = {"CodeSigningConfigArn": arn, "FunctionName": named[1]}
    assert run("put-function-code-signing-config", *named, *config) == attached
    assert run("get-function-code-signing-config", *named) == attached
    users = run("list-functions-by-code-signing-config", *config)["FunctionArns"]
    assert users == [f"{ARN}:function:{named[1]}"]
    assert run("delete-function-code-signing-config", *named) == ""
    assert run("delete-code-signing-config", *config) in ({}, "")
    assert refused("get-code-signing-config", *config) == (
        "ResourceNotFoundException",
        f"The Lambda code signing configuration {arn} can not be found.",
    )


@lives(
    "tag-resource",
    "list-tags",
    "untag-resource",
    "put-function-recursion-config",
    "get-function-recursion-config",
    "put-runtime-management-config",
    "get-runtime-management-config",
)
def test_tags_and_small_settings(run: Lambda, named: tuple[str, str]) -> None:
    arn = f"{ARN}:function:{named[1]}"
    resource = ("--resource", arn)
    assert run("tag-resource", *resource, "--tags", "team=red,stage=test") == ""
    assert run("list-tags", *resource) == {"Tags": {"team": "red", "stage": "test"}}
    assert run("untag-resource", *resource, "--tag-keys", "team", "stage") == ""
    assert run("list-tags", *resource) == {"Tags": {}}

    allowed = {"RecursiveLoop": "Allow"}
    assert run("put-function-recursion-config", *named, "--recursive-loop", "Allow") == allowed
    assert run("get-function-recursion-config", *named) == allowed
    managed = {"UpdateRuntimeOn": "FunctionUpdate", "FunctionArn": f"{arn}:$LATEST"}
    put = run("put-runtime-management-config", *named, "--update-runtime-on", "FunctionUpdate")
    assert put == managed
    assert run("get-runtime-management-config", *named) == managed
