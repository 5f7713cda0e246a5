"""The Resource Groups Tagging API as boto3 and other SDKs call it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import cbor2
import pytest
from botocore.exceptions import ClientError

from running_platform import PYTHON, REGION, Platform, pack

pytest_plugins = ("platform_fixtures",)

ACCOUNT = "555555555555"
LAMBDA = f"arn:aws:lambda:{REGION}:{ACCOUNT}"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue"
PROFILE = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/p/abcdefghij"
SIGNATURE = (
    f"AWS4-HMAC-SHA256 Credential={ACCOUNT}/20261126/{REGION}/tagging/aws4_request,"
    " SignedHeaders=host, Signature=0"
)


def function_arn(name: str) -> str:
    return f"{LAMBDA}:function:{name}"


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[Any]:
    """With functions ``a`` (team=red), ``b`` (team=blue, stage=live) and ``plain``; a mapping and
    a signing configuration of team=red."""
    functions = platform.client("lambda", account=ACCOUNT)
    role = platform.make_role(account=ACCOUNT)
    tags = {"a": {"team": "red"}, "b": {"team": "blue", "stage": "live"}, "plain": {}}
    for name, given in tags.items():
        functions.create_function(
            FunctionName=name,
            Runtime=PYTHON,
            Role=role,
            Handler="app.handler",
            Code={"ZipFile": pack({"app.py": "def handler(event, context): return {}"})},
            Tags=given,
        )
    mapping = functions.create_event_source_mapping(
        FunctionName="a", EventSourceArn=QUEUE, Enabled=False, Tags={"team": "red"}
    )
    signing = functions.create_code_signing_config(
        AllowedPublishers={"SigningProfileVersionArns": [PROFILE]}, Tags={"team": "red"}
    )["CodeSigningConfig"]
    yield platform.client("resourcegroupstaggingapi", account=ACCOUNT)
    functions.delete_event_source_mapping(UUID=mapping["UUID"])
    functions.delete_code_signing_config(CodeSigningConfigArn=signing["CodeSigningConfigArn"])
    for name in tags:
        functions.delete_function(FunctionName=name)


def kinds(client: Any, **params: Any) -> list[str]:
    """Kind and name, but for names that are made up by the platform."""
    found = client.get_resources(**params)["ResourceTagMappingList"]
    arns = [item["ResourceARN"].removeprefix(f"{LAMBDA}:") for item in found]
    return [arn if arn.startswith("function:") else arn.partition(":")[0] for arn in arns]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, ["code-signing-config", "event-source-mapping", "function:a", "function:b"]),
        ({"ResourceTypeFilters": ["lambda:function"]}, ["function:a", "function:b"]),
        ({"ResourceTypeFilters": ["s3", "lambda:code-signing-config"]}, ["code-signing-config"]),
        ({"ResourceTypeFilters": ["s3"]}, []),
        ({"TagFilters": [{"Key": "stage"}]}, ["function:b"]),
        ({"TagFilters": [{"Key": "team", "Values": ["blue", "green"]}]}, ["function:b"]),
        ({"TagFilters": [{"Key": "team", "Values": ["red"]}, {"Key": "stage"}]}, []),
        ({"ResourceARNList": [function_arn("a"), function_arn("plain")]}, ["function:a"]),
    ],
)
def test_resources_are_found_by_kind_and_tags(
    client: Any, params: dict[str, Any], expected: list[str]
) -> None:
    assert kinds(client, **params) == expected


def test_a_resource_comes_with_its_tags_and_lists_come_in_pages(client: Any) -> None:
    pages = list(client.get_paginator("get_resources").paginate(PaginationConfig={"PageSize": 3}))
    assert [len(page["ResourceTagMappingList"]) for page in pages] == [3, 1]
    assert pages[-1]["ResourceTagMappingList"] == [
        {
            "ResourceARN": function_arn("b"),
            "Tags": [{"Key": "team", "Value": "blue"}, {"Key": "stage", "Value": "live"}],
        }
    ]
    assert client.get_tag_keys()["TagKeys"] == ["stage", "team"]
    assert client.get_tag_values(Key="team")["TagValues"] == ["blue", "red"]


def test_many_resources_are_tagged_at_once_and_failures_are_told(
    platform: Platform, client: Any
) -> None:
    gone, bucket = function_arn("gone"), "arn:aws:s3:::bucket"
    plain = function_arn("plain")
    answer = client.tag_resources(ResourceARNList=[plain, gone, bucket], Tags={"new": "1"})
    failed = answer["FailedResourcesMap"]
    assert {arn: (why["StatusCode"], why["ErrorMessage"]) for arn, why in failed.items()} == {
        gone: (404, f"Function not found: {gone}"),
        bucket: (400, "firelet keeps no tags of arn:aws:s3:::bucket."),
    }
    functions = platform.client("lambda", account=ACCOUNT)
    assert functions.list_tags(Resource=plain)["Tags"] == {"new": "1"}
    assert (
        client.untag_resources(ResourceARNList=[plain], TagKeys=["new"])["FailedResourcesMap"] == {}
    )
    assert functions.list_tags(Resource=plain)["Tags"] == {}


@pytest.mark.parametrize(
    "params",
    [
        {"PaginationToken": "garbage"},
        {"ResourcesPerPage": 101},
        {"ResourceARNList": [function_arn("a")], "TagFilters": [{"Key": "team"}]},
    ],
)
def test_what_does_not_go_together_is_refused(client: Any, params: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as caught:
        client.get_resources(**params)
    assert caught.value.response["Error"]["Code"] == "InvalidParameterException"


def test_other_accounts_are_out_of_sight(platform: Platform, client: Any) -> None:
    other = platform.client("resourcegroupstaggingapi", account="666666666666")
    assert other.get_resources()["ResourceTagMappingList"] == []
    failed = other.tag_resources(ResourceARNList=[function_arn("a")], Tags={"x": "y"})
    assert failed["FailedResourcesMap"][function_arn("a")]["StatusCode"] == 403


@pytest.mark.parametrize("protocol", ["json", "cbor"])
def test_both_protocols_are_spoken(platform: Platform, client: Any, protocol: str) -> None:
    path, body = "/", json.dumps({}).encode()
    headers = {
        "authorization": SIGNATURE,
        "content-type": "application/x-amz-json-1.1",
        "x-amz-target": "ResourceGroupsTaggingAPI_20170126.GetTagKeys",
    }
    if protocol == "cbor":
        path = "/service/ResourceGroupsTaggingAPI_20170126/operation/GetTagKeys"
        headers |= {"content-type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
        del headers["x-amz-target"]
        body = cbor2.dumps({})
    connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=10)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        received = response.read()
    finally:
        connection.close()
    assert response.status == 200
    read: Any = cbor2.loads if protocol == "cbor" else json.loads
    assert read(received)["TagKeys"] == ["stage", "team"]
