"""Creating, reading, changing and deleting functions through boto3."""

from __future__ import annotations

import base64
import hashlib
import re
import urllib.error
import urllib.request
from typing import Any

import pytest

from running_platform import ACCOUNT, PYTHON, REGION, Deployer, Platform, pack, wait_until

pytest_plugins = ("platform_fixtures",)

ECHO = "def handler(event, context):\n    return event\n"
VALUE = "def handler(event, context):\n    return {!r}\n"
MISSING = f"Function not found: arn:aws:lambda:{REGION}:{ACCOUNT}:function:no-such-function"

# What AWS answers to a plain CreateFunction: these keys and no others.
CREATED_KEYS = {
    "Architectures",
    "CodeSha256",
    "CodeSize",
    "Description",
    "EphemeralStorage",
    "FunctionArn",
    "FunctionName",
    "Handler",
    "LastModified",
    "LoggingConfig",
    "MemorySize",
    "PackageType",
    "RevisionId",
    "Role",
    "Runtime",
    "RuntimeVersionConfig",
    "SnapStart",
    "State",
    "StateReason",
    "StateReasonCode",
    "Timeout",
    "TracingConfig",
    "Version",
}


def error_of(caught: pytest.ExceptionInfo[Any]) -> tuple[int, str, str]:
    response = caught.value.response
    return (
        response["ResponseMetadata"]["HTTPStatusCode"],
        response["Error"]["Code"],
        response["Error"]["Message"],
    )


def test_create_answers_201_with_exactly_the_keys_and_defaults_of_aws(deploy: Deployer) -> None:
    name = deploy.name()
    package = pack({"app.py": ECHO})

    created = deploy.create(name, package)

    meta = created.pop("ResponseMetadata")
    assert meta["HTTPStatusCode"] == 201
    assert set(created) == CREATED_KEYS
    assert created["FunctionArn"] == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
    assert (created["State"], created["StateReasonCode"]) == ("Pending", "Creating")
    assert created["StateReason"] == "The function is being created."
    assert created["CodeSha256"] == base64.b64encode(hashlib.sha256(package).digest()).decode()
    assert created["CodeSize"] == len(package)
    assert (created["MemorySize"], created["Timeout"]) == (128, 3)
    assert created["EphemeralStorage"] == {"Size": 512}
    assert created["TracingConfig"] == {"Mode": "PassThrough"}
    assert created["SnapStart"] == {"ApplyOn": "None", "OptimizationStatus": "Off"}
    assert created["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"}
    assert created["Version"] == "$LATEST"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", created["LastModified"])
    arn = created["RuntimeVersionConfig"]["RuntimeVersionArn"]
    assert re.fullmatch(rf"arn:aws:lambda:{REGION}::runtime:[0-9a-f]{{64}}", arn)


def test_an_active_function_has_no_reasons_and_a_new_revision(
    deploy: Deployer, lambda_client: Any
) -> None:
    name = deploy.name()
    created = deploy.create(name, ECHO)

    active = deploy.settle(name)

    assert (active["State"], active["LastUpdateStatus"]) == ("Active", "Successful")
    assert not {"StateReason", "StateReasonCode", "LastUpdateStatusReason"} & set(active)
    assert active["RevisionId"] != created["RevisionId"]
    assert lambda_client.get_function(FunctionName=name)["Configuration"]["State"] == "Active"


@pytest.mark.parametrize("waiter", ["function_active_v2", "function_updated_v2", "function_exists"])
def test_waiters_are_content_with_their_first_poll(
    deploy: Deployer, lambda_client: Any, waiter: str
) -> None:
    name = deploy(ECHO)

    # With one attempt a waiter fails unless the first answer is the final one.
    lambda_client.get_waiter(waiter).wait(FunctionName=name, WaiterConfig={"MaxAttempts": 1})


def test_a_second_function_of_the_same_name_is_a_conflict(deploy: Deployer) -> None:
    name = deploy(ECHO)

    with pytest.raises(Exception, match="Function already exist") as caught:
        deploy.create(name, ECHO)

    assert error_of(caught) == (
        409,
        "ResourceConflictException",
        f"Function already exist: {name}",
    )


@pytest.mark.parametrize(
    "operation",
    [
        "get_function",
        "get_function_configuration",
        "delete_function",
        "list_versions_by_function",
        "list_aliases",
    ],
)
def test_an_unknown_function_is_404_with_its_arn(lambda_client: Any, operation: str) -> None:
    with pytest.raises(lambda_client.exceptions.ResourceNotFoundException) as caught:
        getattr(lambda_client, operation)(FunctionName="no-such-function")

    status, code, message = error_of(caught)
    assert (status, code) == (404, "ResourceNotFoundException")
    assert message.startswith(MISSING)


def test_a_runtime_that_aws_does_not_know_is_refused_with_the_list(deploy: Deployer) -> None:
    with pytest.raises(Exception, match="non-existent-runtime") as caught:
        deploy.create(deploy.name(), ECHO, Runtime="non-existent-runtime")

    status, code, message = error_of(caught)
    assert (status, code) == (400, "InvalidParameterValueException")
    assert message.startswith(
        "Value non-existent-runtime at 'runtime' failed to satisfy constraint: Member must satisfy"
        " enum value set: ["
    )
    assert {"nodejs20.x", PYTHON, "provided.al2023"} <= set(re.findall("[a-z0-9.]+", message))


def test_a_runtime_that_this_host_lacks_is_created_and_fails_with_what_to_do(
    deploy: Deployer, lambda_client: Any
) -> None:
    name = deploy(ECHO, Runtime="dotnet8", Handler="A::B::C")

    found = lambda_client.get_function_configuration(FunctionName=name)

    assert (found["State"], found["StateReasonCode"]) == ("Failed", "InvalidRuntime")
    assert "dotnet8" in found["StateReason"]


def test_a_package_that_is_no_zip_is_refused(deploy: Deployer) -> None:
    with pytest.raises(Exception, match="unzip") as caught:
        deploy.create(deploy.name(), b"this is not a zip archive")

    assert error_of(caught) == (
        400,
        "InvalidParameterValueException",
        "Could not unzip uploaded file. Please check your file, then try to upload again.",
    )


def test_reserved_environment_variables_are_refused_by_name(deploy: Deployer) -> None:
    with pytest.raises(Exception, match="reserved keys") as caught:
        deploy.create(
            deploy.name(), ECHO, Environment={"Variables": {"AWS_REGION": "x", "MINE": "y"}}
        )

    status, code, message = error_of(caught)
    assert (status, code) == (400, "InvalidParameterValueException")
    assert message.endswith("Reserved keys used in this request: AWS_REGION")


def test_model_constraints_are_reported_in_one_validation_error(
    deploy: Deployer, platform: Platform
) -> None:
    client = platform.client("lambda", is_strict=False)

    with pytest.raises(client.exceptions.ClientError) as caught:
        client.update_function_configuration(FunctionName=deploy(ECHO), MemorySize=10, Timeout=0)

    status, code, message = error_of(caught)
    assert (status, code) == (400, "ValidationException")
    assert message.startswith("2 validation errors detected: Value '")
    for member, least in (("memorySize", 128), ("timeout", 1)):
        rule = f"Member must have value greater than or equal to {least}"
        assert f"at '{member}' failed to satisfy constraint: {rule}" in message


def test_updated_code_serves_from_the_next_invocation_on(
    deploy: Deployer, platform: Platform, lambda_client: Any
) -> None:
    name = deploy(VALUE.format("old"))
    assert platform.invoke(name).json == "old"

    answer = lambda_client.update_function_code(
        FunctionName=name, ZipFile=pack({"app.py": VALUE.format("new")})
    )

    assert (answer["State"], answer["LastUpdateStatus"]) == ("Active", "InProgress")
    assert answer["LastUpdateStatusReasonCode"] == "Creating"
    deploy.settle(name)
    assert [platform.invoke(name).json for _ in range(3)] == ["new"] * 3


def test_an_update_ends_the_old_environments(deploy: Deployer, platform: Platform) -> None:
    marker = "import os\ndef handler(event, context):\n    return open('/proc/self/stat').read()\n"
    name = deploy(marker)
    platform.invoke(name)
    before = platform.processes()

    deploy.update(name, VALUE.format("new"))
    platform.invoke(name)

    wait_until(lambda: before - platform.processes(), "the old environment's processes are gone")


def test_updated_configuration_reaches_the_function(
    deploy: Deployer, platform: Platform, lambda_client: Any
) -> None:
    name = deploy(
        "import os\ndef handler(event, context):\n"
        "    return [os.environ.get('COLOUR'), context.memory_limit_in_mb]\n",
        Environment={"Variables": {"COLOUR": "red"}},
    )
    assert platform.invoke(name).json == ["red", "128"]

    lambda_client.update_function_configuration(
        FunctionName=name, Environment={"Variables": {"COLOUR": "blue"}}, MemorySize=256
    )
    deploy.settle(name)

    assert platform.invoke(name).json == ["blue", "256"]


def test_a_stale_revision_id_is_a_failed_precondition(deploy: Deployer, lambda_client: Any) -> None:
    name = deploy(ECHO)

    with pytest.raises(lambda_client.exceptions.PreconditionFailedException) as caught:
        lambda_client.update_function_configuration(
            FunctionName=name, Timeout=5, RevisionId="00000000-0000-0000-0000-000000000000"
        )

    assert error_of(caught)[0] == 412
    assert error_of(caught)[2].startswith("The Revision Id provided does not match the latest")


def test_get_function_links_to_the_very_package_that_was_sent(
    deploy: Deployer, lambda_client: Any
) -> None:
    package = pack({"app.py": ECHO, "data.bin": bytes(range(256)) * 100})
    name = deploy(package)

    code = lambda_client.get_function(FunctionName=name)["Code"]

    assert code["RepositoryType"] == "S3"
    with urllib.request.urlopen(code["Location"]) as download:
        assert download.read() == package


def test_a_link_to_code_that_was_tampered_with_opens_nothing(
    deploy: Deployer, lambda_client: Any
) -> None:
    location = lambda_client.get_function(FunctionName=deploy(ECHO))["Code"]["Location"]
    at = len(location) - 20
    tampered = location[:at] + ("A" if location[at] != "A" else "B") + location[at + 1 :]

    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(tampered)

    with caught.value:
        assert caught.value.code in (403, 404)


def test_a_deleted_function_is_gone_for_every_operation(
    deploy: Deployer, platform: Platform, lambda_client: Any
) -> None:
    name = deploy(ECHO)
    platform.invoke(name)

    deleted = lambda_client.delete_function(FunctionName=name)

    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    for call in (lambda_client.get_function, platform.invoke):
        with pytest.raises(lambda_client.exceptions.ResourceNotFoundException):
            call(**{"FunctionName" if call == lambda_client.get_function else "name": name})


def test_a_name_can_be_used_again_after_its_function_was_deleted(
    deploy: Deployer, platform: Platform, lambda_client: Any
) -> None:
    name = deploy(VALUE.format("first"))
    assert platform.invoke(name).json == "first"
    lambda_client.delete_function(FunctionName=name)

    deploy(VALUE.format("second"), FunctionName=name)

    assert platform.invoke(name).json == "second"


def test_a_package_can_go_and_come_back_at_once(
    deploy: Deployer, platform: Platform, lambda_client: Any
) -> None:
    logged = len(platform.log_path.read_bytes())

    for _ in range(40):
        # The same bytes: their old environment is still on its way out.
        name = deploy(VALUE.format("there"))
        assert platform.invoke(name).json == "there"
        lambda_client.delete_function(FunctionName=name)

    assert b" ERROR " not in platform.log_path.read_bytes()[logged:]


def test_lists_are_paged_and_complete(deploy: Deployer, lambda_client: Any) -> None:
    names = {deploy(ECHO) for _ in range(5)}

    pages = list(
        lambda_client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
    )

    assert all(len(page["Functions"]) <= 2 for page in pages)
    assert names <= {item["FunctionName"] for page in pages for item in page["Functions"]}
    assert "NextMarker" not in pages[-1]


def test_tags_are_set_listed_and_removed(deploy: Deployer, lambda_client: Any) -> None:
    name = deploy(ECHO, Tags={"team": "red"})
    arn = lambda_client.get_function_configuration(FunctionName=name)["FunctionArn"]

    lambda_client.tag_resource(Resource=arn, Tags={"stage": "test", "team": "blue"})
    lambda_client.untag_resource(Resource=arn, TagKeys=["stage"])

    assert lambda_client.list_tags(Resource=arn)["Tags"] == {"team": "blue"}
    assert lambda_client.get_function(FunctionName=name)["Tags"] == {"team": "blue"}


def test_account_settings_count_functions_and_code(deploy: Deployer, lambda_client: Any) -> None:
    before = lambda_client.get_account_settings()
    package = pack({"app.py": ECHO})
    deploy(package)

    after = lambda_client.get_account_settings()

    assert after["AccountLimit"]["ConcurrentExecutions"] == 1000
    assert after["AccountLimit"]["CodeSizeZipped"] == 52_428_800
    assert after["AccountUsage"]["FunctionCount"] == before["AccountUsage"]["FunctionCount"] + 1
    grown = after["AccountUsage"]["TotalCodeSize"] - before["AccountUsage"]["TotalCodeSize"]
    assert grown == len(package)


def test_the_runtime_of_a_function_can_be_changed(
    deploy: Deployer, platform: Platform, lambda_client: Any
) -> None:
    name = deploy({"app.py": ECHO, "bootstrap": "#!/bin/sh\n"}, executable=("bootstrap",))
    assert platform.invoke(name, 1).error is None

    lambda_client.update_function_configuration(FunctionName=name, Runtime="provided.al2023")
    deploy.settle(name)
    assert platform.invoke(name, 1).error == "Unhandled"

    lambda_client.update_function_configuration(FunctionName=name, Runtime=PYTHON)
    deploy.settle(name)
    assert platform.invoke(name, 1).json == 1


def test_tmp_has_the_size_that_the_configuration_says(
    deploy: Deployer, platform: Platform, lambda_client: Any
) -> None:
    name = deploy(
        "import os\ndef handler(event, context):\n    found = os.statvfs('/tmp')\n"
        "    return found.f_frsize * found.f_blocks >> 20\n",
        EphemeralStorage={"Size": 700},
    )
    assert platform.invoke(name).json == 700
    lambda_client.update_function_configuration(FunctionName=name, EphemeralStorage={"Size": 512})
    deploy.settle(name)
    assert platform.invoke(name).json == 512
