"""The rules of the control plane that are known of AWS: what changes, what stays, what comes first.

The rows are those of "control-plane behaviour" in the contract: answers of create and update,
versions and revision ids, policies, and the order in which a request is checked.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from running_platform import PYTHON, REGION, Platform, pack

pytest_plugins = ("platform_fixtures",)

ACCOUNT = "333333333333"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/lambda-role"
ZIP = pack({"app.py": "def handler(event, context): return {}"})
SETTINGS: dict[str, Any] = {
    "Runtime": PYTHON,
    "Role": ROLE,
    "Handler": "app.handler",
    "Code": {"ZipFile": ZIP},
}
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_numbers = itertools.count()
CREATING = "The function is being created."


@pytest.fixture
def name() -> str:
    """Of a function that was never there: version numbers outlive theirs."""
    return f"f{next(_numbers)}"


@pytest.fixture
def client(platform: Platform) -> Iterator[Any]:
    client = platform.client("lambda", account=ACCOUNT, is_strict=False)
    platform.make_role(account=ACCOUNT)
    yield client
    for function in client.list_functions()["Functions"]:
        client.delete_function(FunctionName=function["FunctionName"])


def create(client: Any, name: str, **options: Any) -> dict[str, Any]:
    made: dict[str, Any] = client.create_function(FunctionName=name, **{**SETTINGS, **options})
    client.get_waiter("function_active_v2").wait(FunctionName=name)
    del made["ResponseMetadata"]
    return made


def refuse(client: Any, operation: str, **params: Any) -> tuple[str, str]:
    """Code and sentence."""
    with pytest.raises(ClientError) as caught:
        getattr(client, xform_name(operation))(**params)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_a_plain_create_is_answered_as_on_aws(client: Any, name: str) -> None:
    made = create(client, name)
    sha256 = base64.b64encode(hashlib.sha256(ZIP).digest()).decode()
    assert re.fullmatch(UUID, made.pop("RevisionId"))
    assert re.fullmatch(r"\d{4}(-\d\d){2}T(\d\d:){2}\d\d\.\d{3}\+0000", made.pop("LastModified"))
    build = made.pop("RuntimeVersionConfig")["RuntimeVersionArn"]
    assert re.fullmatch(rf"arn:aws:lambda:{REGION}::runtime:[0-9a-f]{{64}}", build)
    assert made == {
        "Architectures": ["x86_64"],
        "CodeSha256": sha256,
        "CodeSize": len(ZIP),
        "Description": "",
        "EphemeralStorage": {"Size": 512},
        "FunctionArn": f"{ARN}:function:{name}",
        "FunctionName": name,
        "Handler": "app.handler",
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
        "MemorySize": 128,
        "PackageType": "Zip",
        "Role": ROLE,
        "Runtime": PYTHON,
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "State": "Pending",
        "StateReason": CREATING,
        "StateReasonCode": "Creating",
        "Timeout": 3,
        "TracingConfig": {"Mode": "PassThrough"},
        "Version": "$LATEST",
    }


@pytest.mark.parametrize("operation", ["UpdateFunctionCode", "UpdateFunctionConfiguration"])
def test_an_update_is_in_progress_and_the_function_stays_active(
    client: Any, name: str, operation: str
) -> None:
    create(client, name)
    change = {"ZipFile": ZIP} if operation == "UpdateFunctionCode" else {"Timeout": 9}
    updated = getattr(client, xform_name(operation))(FunctionName=name, **change)
    assert (updated["State"], updated["LastUpdateStatus"]) == ("Active", "InProgress")
    assert updated["LastUpdateStatusReason"] == CREATING
    assert updated["LastUpdateStatusReasonCode"] == "Creating"


def test_create_can_publish_at_once(client: Any, name: str) -> None:
    """The answer is about version 1, under the name of the function (recorded)."""
    made = create(client, name, Publish=True)
    assert (made["Version"], made["FunctionArn"]) == ("1", f"{ARN}:function:{name}")
    assert (made["State"], made["StateReason"]) == ("Pending", CREATING)
    versions = client.list_versions_by_function(FunctionName=name)["Versions"]
    assert [item["Version"] for item in versions] == ["$LATEST", "1"]


def test_versions_are_published_only_after_changes_and_never_reused(client: Any, name: str) -> None:
    create(client, name)
    first = client.publish_version(FunctionName=name, Description="one")
    again = client.publish_version(FunctionName=name, Description="two")
    assert (again["Version"], again["Description"]) == (first["Version"], "one") == ("1", "one")
    client.delete_function(FunctionName=name, Qualifier="1")
    client.update_function_configuration(FunctionName=name, Timeout=9)
    assert client.publish_version(FunctionName=name)["Version"] == "2"
    client.delete_function(FunctionName=name)
    create(client, name)
    assert client.publish_version(FunctionName=name)["Version"] == "3"


def test_a_version_is_active_once_it_is_published(client: Any, name: str) -> None:
    create(client, name)
    published = client.publish_version(FunctionName=name)
    assert (published["State"], published["LastUpdateStatus"]) == ("Active", "Successful")
    read = client.get_function_configuration(FunctionName=name, Qualifier="1")
    assert read["RevisionId"] == published["RevisionId"]


def test_code_can_be_published_with_its_update(client: Any, name: str) -> None:
    create(client, name)
    code = pack({"app.py": "def handler(event, context): return 2"})
    updated = client.update_function_code(FunctionName=name, ZipFile=code, Publish=True)
    assert (updated["Version"], updated["FunctionArn"]) == ("1", f"{ARN}:function:{name}:1")
    assert (updated["State"], updated["StateReason"]) == ("Pending", CREATING)
    assert "LastUpdateStatus" not in updated


def test_a_version_is_frozen(client: Any, name: str) -> None:
    create(client, name, Description="first")
    client.publish_version(FunctionName=name)
    client.update_function_configuration(FunctionName=name, Timeout=9, Description="second")
    version = client.get_function_configuration(FunctionName=name, Qualifier="1")
    assert (version["Timeout"], version["Description"]) == (3, "first")
    assert version["FunctionArn"] == f"{ARN}:function:{name}:1"


def test_every_change_gives_a_new_revision(client: Any, name: str) -> None:
    made = create(client, name)
    seen = [made["RevisionId"]]

    def revision() -> str:
        return str(client.get_function_configuration(FunctionName=name)["RevisionId"])

    seen.append(revision())  # Active by now
    assert revision() == seen[-1]  # reading changes nothing
    client.update_function_configuration(FunctionName=name, Timeout=9)
    client.get_waiter("function_updated_v2").wait(FunctionName=name)
    seen.append(revision())
    permission = {"Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
    client.add_permission(FunctionName=name, StatementId="s", **permission, RevisionId=seen[-1])
    seen.append(revision())
    client.remove_permission(FunctionName=name, StatementId="s", RevisionId=seen[-1])
    seen.append(revision())
    client.tag_resource(Resource=f"{ARN}:function:{name}", Tags={"team": "red"})
    seen.append(revision())
    assert len(set(seen)) == len(seen)
    client.update_function_configuration(FunctionName=name, Timeout=8, RevisionId=seen[-1])


def test_an_alias_has_revisions_of_its_own(client: Any, name: str) -> None:
    create(client, name, Publish=True)
    alias = {"FunctionName": name, "Name": "live"}
    made = client.create_alias(**alias, FunctionVersion="1")
    changed = client.update_alias(**alias, Description="x", RevisionId=made["RevisionId"])
    assert changed["RevisionId"] != made["RevisionId"]
    assert refuse(client, "UpdateAlias", **alias, RevisionId=made["RevisionId"])[0] == (
        "PreconditionFailedException"
    )


def test_a_version_with_an_alias_is_not_deleted(client: Any, name: str) -> None:
    create(client, name, Publish=True)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    code, _ = refuse(client, "DeleteFunction", FunctionName=name, Qualifier="1")
    assert code == "ResourceConflictException"


def test_layer_versions_go_on_counting_and_are_listed_newest_first(client: Any) -> None:
    content = {"ZipFile": ZIP}

    def publish() -> int:
        return int(client.publish_layer_version(LayerName="rules", Content=content)["Version"])

    first, second = publish(), publish()
    client.delete_layer_version(LayerName="rules", VersionNumber=second)
    third = publish()
    assert third == second + 1
    listed = client.list_layer_versions(LayerName="rules")["LayerVersions"]
    assert [item["Version"] for item in listed] == [third, first]
    gone = client.delete_layer_version(LayerName="rules", VersionNumber=second)
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_lists_that_a_layer_version_is_given_empty_are_returned_empty(client: Any) -> None:
    content = {"ZipFile": ZIP}
    lists: dict[str, list[str]] = {"CompatibleRuntimes": [], "CompatibleArchitectures": []}
    bare = client.publish_layer_version(LayerName="bare", Content=content)
    assert not lists.keys() & bare.keys()
    empty = client.publish_layer_version(LayerName="bare", Content=content, **lists)
    assert {name: empty[name] for name in lists} == lists


def test_a_function_goes_with_all_that_hangs_on_it_but_its_mappings(client: Any, name: str) -> None:
    create(client, name, Publish=True)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    client.create_function_url_config(FunctionName=name, AuthType="NONE")
    client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    mapping = client.create_event_source_mapping(
        FunctionName=name, EventSourceArn=f"arn:aws:sqs:{REGION}:{ACCOUNT}:q", Enabled=False
    )["UUID"]
    client.delete_function(FunctionName=name)
    create(client, name)
    assert client.list_aliases(FunctionName=name)["Aliases"] == []
    assert client.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"] == []
    listed = client.list_function_event_invoke_configs(FunctionName=name)
    assert listed["FunctionEventInvokeConfigs"] == []
    assert client.get_event_source_mapping(UUID=mapping)["UUID"] == mapping
    client.delete_event_source_mapping(UUID=mapping)


def test_a_mapping_is_to_what_its_caller_has_named(client: Any, name: str) -> None:
    create(client, name, Publish=True)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    unqualified = f"{ARN}:function:{name}"
    for given, expected in (
        (name, unqualified),
        (f"{ACCOUNT}:function:{name}:$LATEST", f"{unqualified}:$LATEST"),
        (f"function:{name}:1", f"{unqualified}:1"),
        (f"{unqualified}:live", f"{unqualified}:live"),
    ):
        made = client.create_event_source_mapping(
            FunctionName=given, EventSourceArn=f"arn:aws:sqs:{REGION}:{ACCOUNT}:q"
        )
        assert made["FunctionArn"] == expected
        client.delete_event_source_mapping(UUID=made["UUID"])


def test_a_function_without_a_signing_configuration_says_so_with_success(
    client: Any, name: str
) -> None:
    """And with nothing else (recorded in 2024)."""
    create(client, name)
    answer = client.get_function_code_signing_config(FunctionName=name)
    assert answer.pop("ResponseMetadata")["HTTPStatusCode"] == 200
    assert answer == {}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"Principal": "s3.amazonaws.com"}, {"Principal": {"Service": "s3.amazonaws.com"}}),
        (
            {"Principal": "111111111111"},
            {"Principal": {"AWS": "arn:aws:iam::111111111111:root"}},
        ),
        ({"Principal": "*"}, {"Principal": "*"}),
        (
            {"Principal": "s3.amazonaws.com", "SourceArn": "arn:aws:s3:::b"},
            {"Condition": {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"}}},
        ),
        (
            {"Principal": "s3.amazonaws.com", "SourceAccount": ACCOUNT},
            {"Condition": {"StringEquals": {"AWS:SourceAccount": ACCOUNT}}},
        ),
        (
            {"Principal": "alexa-appkit.amazon.com", "EventSourceToken": "token"},
            {"Condition": {"StringEquals": {"lambda:EventSourceToken": "token"}}},
        ),
        (
            {"Principal": "*", "PrincipalOrgID": "o-1234567890"},
            {"Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}}},
        ),
        (
            {
                "Principal": "*",
                "Action": "lambda:InvokeFunctionUrl",
                "FunctionUrlAuthType": "NONE",
            },
            {"Condition": {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}}},
        ),
        (
            {"Principal": "*", "InvokedViaFunctionUrl": True},
            {"Condition": {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}},
        ),
    ],
    ids=str,
)
def test_a_permission_becomes_the_statement_of_aws(
    client: Any, name: str, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    create(client, name)
    params = {"Action": "lambda:InvokeFunction", **given}
    said = client.add_permission(FunctionName=name, StatementId="s", **params)["Statement"]
    statement = json.loads(said)
    assert {member: statement[member] for member in expected} == expected
    policy = json.loads(client.get_policy(FunctionName=name)["Policy"])
    assert policy == {"Version": "2012-10-17", "Id": "default", "Statement": [statement]}


def test_all_broken_constraints_are_told_in_one_sentence(client: Any) -> None:
    code, sentence = refuse(
        client,
        "CreateFunction",
        **{**SETTINGS, "FunctionName": "not a name", "Role": "r1", "Timeout": 0},
        MemorySize=1,
    )
    head, *rest = re.split(r"(?:: |; )Value '", sentence)
    assert (code, head) == ("ValidationException", "4 validation errors detected")
    where = [re.search(r"' at '(\w+)' failed to satisfy constraint: Member must ", s) for s in rest]
    assert [found and found[1] for found in where] == [
        "functionName",
        "role",
        "timeout",
        "memorySize",
    ]


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("GetFunction", {"FunctionName": "none", "Qualifier": "?"}),
        ("UpdateFunctionConfiguration", {"FunctionName": "none", "Timeout": 0}),
        ("PutFunctionEventInvokeConfig", {"FunctionName": "none", "MaximumRetryAttempts": 3}),
        ("CreateAlias", {"FunctionName": "none", "Name": "1", "FunctionVersion": "1"}),
    ],
)
def test_constraints_come_before_existence(
    client: Any, operation: str, params: dict[str, Any]
) -> None:
    assert refuse(client, operation, **params)[0] == "ValidationException"


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("PutFunctionConcurrency", {"ReservedConcurrentExecutions": 5_000}),
        ("UpdateFunctionConfiguration", {"Layers": [f"{ARN}:layer:none:1"]}),
        ("UpdateFunctionCode", {"ZipFile": b"no zip"}),
        ("PublishVersion", {"CodeSha256": "other"}),
        (
            "CreateAlias",
            {
                "Name": "a",
                "FunctionVersion": "1",
                "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.5}},
            },
        ),
    ],
)
def test_existence_comes_before_what_values_mean(
    client: Any, operation: str, params: dict[str, Any]
) -> None:
    code, _ = refuse(client, operation, FunctionName="none", **params)
    assert code == "ResourceNotFoundException"


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(platform: Platform) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=30)
    connection.putrequest("POST", "/2015-03-31/functions")
    connection.putheader("Content-Length", str(70_167_212))
    connection.endheaders()
    response = connection.getresponse()
    body = json.loads(response.read())
    assert (response.status, response.getheader("x-amzn-errortype")) == (
        413,
        "RequestEntityTooLargeException",
    )
    expected = "Request must be smaller than 70167211 bytes for the CreateFunction operation"
    assert body["message"] == expected
    connection.close()
