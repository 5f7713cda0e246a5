"""The operations on functions, versions, aliases, tags and concurrency, without HTTP."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from firelet.control.layers import NewLayerVersion
from firelet.control.registry import Registry
from firelet.frontend.aliases import AliasOperations
from firelet.frontend.code_signing import CodeSigningOperations
from firelet.frontend.codelink import CodeLinks
from firelet.frontend.concurrency import ConcurrencyOperations
from firelet.frontend.function_options import FunctionOptionOperations
from firelet.frontend.functions import FunctionOperations
from firelet.frontend.images import ImageIntake
from firelet.frontend.operations import Operations, Reply
from firelet.frontend.packages import Fetched, PackageIntake
from firelet.frontend.tags import TagOperations
from firelet.frontend.versions import VersionOperations
from firelet.model import limits
from firelet.model.errors import (
    AccessDenied,
    CodeSigningConfigNotFound,
    FireletError,
    InvalidParameterValue,
    RequestEntityTooLarge,
    ResourceNotFound,
)
from firelet.store.blobs import BlobStore
from firelet.store.documents import MemoryDocuments
from firelet.wire.aws.model import Shape, load_services
from firelet.wire.http1 import Request
from registry_parts import (
    ACCOUNT,
    ARN,
    KEY,
    OTHER_ZIP,
    REGION,
    ROLE,
    ZIP,
    FakeActivator,
    FakeImages,
    make_call,
    settle,
)

LAYER = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:tools:1"
MISSING_SIGNING = f"arn:aws:lambda:{REGION}:{ACCOUNT}:code-signing-config:csc-{'0' * 17}"
MINIMAL: dict[str, Any] = {
    "FunctionName": "greeter",
    "Runtime": "python3.12",
    "Role": ROLE,
    "Handler": "handler.handler",
    "Code": {"ZipFile": ZIP},
}


class FakeSource:
    """An S3 with one object."""

    async def fetch(self, bucket: str, key: str, version: str | None) -> Fetched:
        if (bucket, key) != ("code", "greeter.zip"):
            raise InvalidParameterValue("no such object")
        return Fetched(ZIP, None)


class Api:
    """Calls operations as the router would and checks that answers fit the service model."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        (self._model,) = load_services(["lambda"])

    async def call(self, operation: str, region: str = REGION, **params: Any) -> Any:
        handler = self._operations.find("lambda", operation)
        assert handler is not None, operation
        answer = await handler(make_call(operation, region, **params))
        if isinstance(answer, Reply):
            return answer
        output = self._model.operations[operation].output
        assert output is not None
        _check_shape(answer, output)
        return answer


def _check_shape(value: Any, shape: Shape) -> None:
    """Every member is one of the model, of its type, and not None."""
    if shape.type == "structure":
        assert isinstance(value, Mapping)
        for name, inner in value.items():
            _check_shape(inner, shape.members[name].shape)
    elif shape.type == "list":
        for inner in value:
            _check_shape(inner, shape.element.shape)
    elif shape.type == "map":
        for inner in value.values():
            _check_shape(inner, shape.value.shape)
    else:
        expected: dict[str, type | tuple[type, ...]] = {
            "string": str,
            "integer": int,
            "long": int,
            "boolean": bool,
            "double": (int, float),
        }
        assert isinstance(value, expected[shape.type])
        # LastUpdateStatusReasonCode was recorded with a value that its own enum does not have.
        assert not shape.enum or value in (*shape.enum, "Creating")


@pytest.fixture
def links(tmp_path: Path) -> CodeLinks:
    return CodeLinks(b"k" * 32, BlobStore(tmp_path / "blobs"), clock=time.time)


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    registry = Registry(
        MemoryDocuments(),
        BlobStore(tmp_path / "blobs"),
        activator=FakeActivator(),
        clock=lambda: 1_795_417_200.0,
    )
    await registry.load()
    yield registry
    await registry.close()


@pytest.fixture
def api(registry: Registry, links: CodeLinks) -> Api:
    operations = Operations()
    intake, images = PackageIntake(FakeSource()), ImageIntake(FakeImages())
    FunctionOperations(registry, intake, images, links).register(operations)
    for family in (
        VersionOperations,
        AliasOperations,
        TagOperations,
        ConcurrencyOperations,
        FunctionOptionOperations,
        CodeSigningOperations,
    ):
        family(registry).register(operations)
    return Api(operations)


@pytest.fixture
async def deployed(api: Api, registry: Registry) -> Api:
    """With the function ``greeter``, active."""
    await api.call("CreateFunction", **MINIMAL)
    await settle(registry)
    return api


async def test_create_answers_exactly_the_keys_of_aws(api: Api) -> None:
    answer = await api.call("CreateFunction", **MINIMAL)
    assert len(answer.pop("RevisionId")) == 36
    runtime = answer.pop("RuntimeVersionConfig")["RuntimeVersionArn"]
    assert runtime.startswith(f"arn:aws:lambda:{REGION}::runtime:")
    assert len(runtime.rpartition(":")[2]) == 64
    assert len(answer.pop("CodeSha256")) == 44
    assert answer == {
        "Architectures": ["x86_64"],
        "CodeSize": len(ZIP),
        "Description": "",
        "EphemeralStorage": {"Size": 512},
        "FunctionArn": ARN,
        "FunctionName": "greeter",
        "Handler": "handler.handler",
        "LastModified": "2026-11-23T07:00:00.000+0000",
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/aws/lambda/greeter"},
        "MemorySize": 128,
        "PackageType": "Zip",
        "Role": ROLE,
        "Runtime": "python3.12",
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "State": "Pending",
        "StateReason": "The function is being created.",
        "StateReasonCode": "Creating",
        "Timeout": 3,
        "TracingConfig": {"Mode": "PassThrough"},
        "Version": "$LATEST",
    }


async def test_every_setting_is_stored_and_returned(api: Api, registry: Registry) -> None:
    layer = NewLayerVersion(key=(ACCOUNT, REGION, "tools"), package=ZIP)
    assert (await registry.layers.publish(layer)).arn == LAYER
    answer = await api.call(
        "CreateFunction",
        **MINIMAL,
        Description="hello",
        Timeout=30,
        MemorySize=1769,
        Environment={"Variables": {"A": "b"}},
        EphemeralStorage={"Size": 1024},
        Architectures=["arm64"],
        Layers=[LAYER],
        TracingConfig={"Mode": "Active"},
        LoggingConfig={"LogFormat": "JSON", "LogGroup": "/mine"},
        VpcConfig={"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
        DeadLetterConfig={"TargetArn": "arn:aws:sqs:eu-central-1:123456789012:q"},
        KMSKeyArn="arn:aws:kms:eu-central-1:123456789012:key/1",
    )
    assert answer["Environment"] == {"Variables": {"A": "b"}}
    assert answer["Layers"] == [{"Arn": LAYER, "CodeSize": len(ZIP)}]
    assert answer["EphemeralStorage"] == {"Size": 1024}
    assert answer["LoggingConfig"] == {
        "LogFormat": "JSON",
        "LogGroup": "/mine",
        "ApplicationLogLevel": "INFO",
        "SystemLogLevel": "INFO",
    }
    assert answer["VpcConfig"]["SubnetIds"] == ["subnet-1"]
    assert answer["VpcConfig"]["VpcId"].startswith("vpc-")
    assert answer["DeadLetterConfig"]["TargetArn"].endswith(":q")
    assert answer["KMSKeyArn"].endswith("key/1")


async def test_snap_start_is_stored_and_not_given_with_a_larger_tmp(api: Api) -> None:
    wanted = {**MINIMAL, "SnapStart": {"ApplyOn": "PublishedVersions"}}
    with pytest.raises(InvalidParameterValue, match="not supported for SnapStart"):
        await api.call("CreateFunction", **wanted, EphemeralStorage={"Size": 513})
    answer = await api.call("CreateFunction", **wanted)
    assert answer["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}


async def test_tenancy_is_set_for_good_and_does_not_go_with_snap_start(api: Api) -> None:
    tenancy = {"TenantIsolationMode": "PER_TENANT"}
    with pytest.raises(InvalidParameterValue, match=r"^TenancyConfig is not supported for SnapSt"):
        await api.call(
            "CreateFunction",
            **MINIMAL,
            TenancyConfig=tenancy,
            SnapStart={"ApplyOn": "PublishedVersions"},
        )
    created = await api.call("CreateFunction", **MINIMAL, TenancyConfig=tenancy)
    assert created["TenancyConfig"] == tenancy
    updated = await api.call("UpdateFunctionConfiguration", FunctionName="greeter", Timeout=9)
    assert updated["TenancyConfig"] == tenancy


async def test_code_can_come_from_s3(api: Api) -> None:
    code = {"S3Bucket": "code", "S3Key": "greeter.zip"}
    answer = await api.call("CreateFunction", **{**MINIMAL, "Code": code})
    assert answer["CodeSize"] == len(ZIP)


@pytest.mark.parametrize(
    ("params", "error", "sentence"),
    [
        ({"Code": {"ZipFile": b"no"}}, InvalidParameterValue, "^Could not unzip uploaded file."),
        ({"Code": {"ZipFile": b""}}, InvalidParameterValue, "must be a non-empty zip$"),
        ({"Code": {}}, InvalidParameterValue, "provide a source for function code"),
        (
            {"Code": {"ZipFile": ZIP, "S3Bucket": "code"}},
            InvalidParameterValue,
            "do not provide other FunctionCode parameters when providing a ZipFile",
        ),
        ({"Code": {"ImageUri": "x"}}, InvalidParameterValue, "ImageUri when creating a function"),
        *(
            (
                {"DeadLetterConfig": {"TargetArn": arn}},
                InvalidParameterValue,
                f"^The dead letter target ARN {arn} is invalid.$",
            )
            for arn in (
                "arn:aws:s3:::bucket",
                "arn:aws:lambda:eu-central-1:123456789012:function:f",
                "arn:aws:sqs:eu-central-1:123456789012:q.fifo",
                "arn:aws:sns:eu-central-1:123456789012:t.fifo",
            )
        ),
        ({"PackageType": "Image"}, InvalidParameterValue, "^Please provide ImageUri when creating"),
        (
            {"CodeSigningConfigArn": MISSING_SIGNING},
            CodeSigningConfigNotFound,
            f"not deleted: {MISSING_SIGNING}.$",
        ),
        (
            {"FunctionName": "a" * 65},
            InvalidParameterValue,
            "^1 validation error detected: Value 'a+' at 'functionName' failed to satisfy"
            " constraint: Member must have length less than or equal to 64$",
        ),
        (
            {"FunctionName": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:greeter"},
            ResourceNotFound,
            rf"Functions from 'us-east-1' are not reachable in this region \('{REGION}'\)",
        ),
        (
            {"FunctionName": "999999999999:function:greeter"},
            AccessDenied,
            "lambda:CreateFunction on resource",
        ),
    ],
)
async def test_what_aws_refuses_to_create_is_refused(
    api: Api, params: dict[str, Any], error: type[FireletError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        await api.call("CreateFunction", **{**MINIMAL, **params})


async def test_a_zip_over_the_limit_is_too_large(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CODE_ZIPPED_MAX_BYTES", len(ZIP) - 1)
    with pytest.raises(RequestEntityTooLarge, match=r"^Zipped size must be smaller than \d+ bytes"):
        await api.call("CreateFunction", **MINIMAL)


@pytest.mark.parametrize(
    "name", ["greeter", f"{ACCOUNT}:function:greeter", "function:greeter", ARN]
)
async def test_a_function_answers_to_every_form_of_its_name(deployed: Api, name: str) -> None:
    answer = await deployed.call("GetFunctionConfiguration", FunctionName=name)
    assert answer["FunctionArn"] == ARN


async def test_get_function_gives_state_tags_concurrency_and_a_link(
    deployed: Api, links: CodeLinks
) -> None:
    plain = await deployed.call("GetFunction", FunctionName="greeter")
    assert set(plain) == {"Configuration", "Code"}
    assert plain["Configuration"]["State"] == "Active"
    assert plain["Configuration"]["LastUpdateStatus"] == "Successful"
    assert plain["Code"]["RepositoryType"] == "S3"
    url = urlsplit(plain["Code"]["Location"])
    assert url.netloc == "localhost:4566"
    page = await links.page(Request(b"GET", url.path.encode(), {}, b"", ""))
    assert (page.status, page.body) == (200, ZIP)
    await deployed.call("TagResource", Resource=ARN, Tags={"a": "b"})
    await deployed.call(
        "PutFunctionConcurrency", FunctionName="greeter", ReservedConcurrentExecutions=0
    )
    full = await deployed.call("GetFunction", FunctionName="greeter")
    assert full["Tags"] == {"a": "b"}
    assert full["Concurrency"] == {"ReservedConcurrentExecutions": 0}


async def test_arns_carry_the_qualifier_that_was_asked_for(deployed: Api) -> None:
    await deployed.call("PublishVersion", FunctionName="greeter")
    await deployed.call("CreateAlias", FunctionName="greeter", Name="live", FunctionVersion="1")
    for name, qualifier, arn, version in (
        ("greeter", None, ARN, "$LATEST"),
        ("greeter", "$LATEST", f"{ARN}:$LATEST", "$LATEST"),
        ("greeter:1", None, f"{ARN}:1", "1"),
        ("greeter", "live", f"{ARN}:live", "1"),
        ("greeter:live", "live", f"{ARN}:live", "1"),
    ):
        params = {"FunctionName": name} | ({"Qualifier": qualifier} if qualifier else {})
        answer = await deployed.call("GetFunctionConfiguration", **params)
        assert (answer["FunctionArn"], answer["Version"]) == (arn, version)
    with pytest.raises(InvalidParameterValue, match="does not match the specified qualifier"):
        await deployed.call("GetFunction", FunctionName="greeter:1", Qualifier="live")
    with pytest.raises(ResourceNotFound, match=f"^Function not found: {ARN}:none$"):
        await deployed.call("GetFunction", FunctionName="greeter", Qualifier="none")


async def test_an_unknown_function_is_not_found_by_any_operation(api: Api) -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("GetFunction", {}),
        ("UpdateFunctionCode", {"ZipFile": ZIP}),
        ("UpdateFunctionConfiguration", {}),
        ("DeleteFunction", {}),
        ("ListVersionsByFunction", {}),
        ("ListAliases", {}),
        ("GetFunctionConcurrency", {}),
        ("GetFunctionCodeSigningConfig", {}),
    ]
    for operation, params in cases:
        with pytest.raises(ResourceNotFound) as caught:
            await api.call(operation, FunctionName="greeter", **params)
        assert caught.value.message == f"Function not found: {ARN}"


async def test_updates_answer_in_progress(deployed: Api, registry: Registry) -> None:
    code = await deployed.call("UpdateFunctionCode", FunctionName="greeter", ZipFile=OTHER_ZIP)
    assert code["LastUpdateStatus"] == "InProgress"
    assert code["LastUpdateStatusReasonCode"] == "Creating"
    # No waiter in between: the second call waits for the first.
    updated = await deployed.call(
        "UpdateFunctionConfiguration", FunctionName="greeter", Environment={"Variables": {}}
    )
    assert updated["Environment"] == {"Variables": {}}
    assert updated["CodeSha256"] == code["CodeSha256"]
    await settle(registry)
    done = await deployed.call("GetFunctionConfiguration", FunctionName="greeter")
    assert done["LastUpdateStatus"] == "Successful"
    assert "LastUpdateStatusReason" not in done


async def test_a_dry_run_changes_nothing(deployed: Api) -> None:
    before = await deployed.call("GetFunctionConfiguration", FunctionName="greeter")
    await deployed.call(
        "UpdateFunctionCode", FunctionName="greeter", ZipFile=OTHER_ZIP, DryRun=True
    )
    assert await deployed.call("GetFunctionConfiguration", FunctionName="greeter") == before


async def test_an_image_is_no_code_for_a_zip_function(deployed: Api) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        await deployed.call("UpdateFunctionCode", FunctionName="greeter", ImageUri="x")
    assert caught.value.message == (
        "Please don't provide ImageUri when updating a function with packageType Zip."
    )


async def test_the_key_of_a_package_is_that_of_its_deployment(api: Api) -> None:
    key = "arn:aws:kms:eu-central-1:123456789012:key/a"
    code = {"ZipFile": ZIP, "SourceKMSKeyArn": key}
    await api.call("CreateFunction", **{**MINIMAL, "Code": code})
    found = [await api.call("GetFunction", FunctionName="greeter")]
    changes: list[dict[str, Any]] = [{"SourceKMSKeyArn": f"{key}b", "Publish": True}, {}]
    for given in changes:
        await api.call("UpdateFunctionCode", FunctionName="greeter", ZipFile=OTHER_ZIP, **given)
        found.append(await api.call("GetFunction", FunctionName="greeter"))
    found.append(await api.call("GetFunction", FunctionName="greeter", Qualifier="1"))
    keys = [answer["Code"].get("SourceKMSKeyArn") for answer in found]
    assert keys == [key, f"{key}b", None, f"{key}b"]
    assert "SourceKMSKeyArn" not in found[0]["Configuration"]


async def test_settings_are_removed_by_empty_values(deployed: Api) -> None:
    queue = {"TargetArn": "arn:aws:sqs:eu-central-1:123456789012:q"}
    changes: list[dict[str, Any]] = [
        {"DeadLetterConfig": queue, "KMSKeyArn": "arn:aws:kms:k"},
        {"DeadLetterConfig": {}, "KMSKeyArn": ""},
    ]
    for params in changes:
        answer = await deployed.call(
            "UpdateFunctionConfiguration", FunctionName="greeter", **params
        )
    assert "DeadLetterConfig" not in answer
    assert "KMSKeyArn" not in answer


async def test_operations_on_functions_take_no_qualifier(deployed: Api) -> None:
    with pytest.raises(InvalidParameterValue, match="permitted on Lambda functions only"):
        await deployed.call(
            "PutFunctionConcurrency", FunctionName=f"{ARN}:1", ReservedConcurrentExecutions=1
        )


async def test_deleting_answers_204(deployed: Api) -> None:
    answer = await deployed.call("DeleteFunction", FunctionName="greeter")
    assert answer == Reply(status=204)
    with pytest.raises(ResourceNotFound):
        await deployed.call("GetFunction", FunctionName="greeter")


async def test_functions_are_listed_by_page_and_without_their_state(api: Api) -> None:
    for number in range(53):
        await api.call("CreateFunction", **{**MINIMAL, "FunctionName": f"f{number:02}"})
    first = await api.call("ListFunctions", MaxItems=10_000)
    assert len(first["Functions"]) == 50
    assert "State" not in first["Functions"][0]
    assert "RuntimeVersionConfig" not in first["Functions"][0]
    await api.call("DeleteFunction", FunctionName="f49")  # the one the marker is at
    second = await api.call("ListFunctions", Marker=first["NextMarker"])
    assert [item["FunctionName"] for item in second["Functions"]] == ["f50", "f51", "f52"]
    assert "NextMarker" not in second
    exact = await api.call("ListFunctions", MaxItems=3, Marker=first["NextMarker"])
    assert "NextMarker" not in exact
    assert (await api.call("ListFunctions", region="us-east-1")) == {"Functions": []}


@pytest.mark.parametrize("marker", ["nonsense", "W10=", "e30=", "WzFd", "\u00e9"])
async def test_a_marker_that_nobody_gave_is_refused(deployed: Api, marker: str) -> None:
    try:
        await deployed.call("ListFunctions", Marker=marker)
    except InvalidParameterValue:
        return
    assert marker == "W10="  # an empty key comes before everything


async def test_all_versions_can_be_listed_with_the_functions(deployed: Api) -> None:
    await deployed.call("PublishVersion", FunctionName="greeter")
    answer = await deployed.call("ListFunctions", FunctionVersion="ALL")
    assert [item["FunctionArn"] for item in answer["Functions"]] == [f"{ARN}:$LATEST", f"{ARN}:1"]
    assert await deployed.call("ListFunctions", MasterRegion="ALL") == {"Functions": []}


async def test_a_page_of_functions_with_their_versions_may_end_inside_a_function(api: Api) -> None:
    for name in ("c", "a", "b"):
        await api.call("CreateFunction", **{**MINIMAL, "FunctionName": name, "Publish": True})
    everything = (await api.call("ListFunctions", FunctionVersion="ALL"))["Functions"]
    arns = [item["FunctionArn"].partition(":function:")[2] for item in everything]
    assert arns == ["a:$LATEST", "a:1", "b:$LATEST", "b:1", "c:$LATEST", "c:1"]
    for size in range(1, 7):
        paged, marker = [], {}
        while True:
            page = await api.call("ListFunctions", FunctionVersion="ALL", MaxItems=size, **marker)
            paged += page["Functions"]
            if "NextMarker" not in page:
                break
            marker = {"Marker": page["NextMarker"]}
        assert paged == everything


async def test_versions_are_listed_in_the_order_of_their_numbers(
    deployed: Api, registry: Registry
) -> None:
    for number in range(11):
        await deployed.call(
            "UpdateFunctionConfiguration", FunctionName="greeter", Timeout=number + 10
        )
        await settle(registry)
        version = await deployed.call("PublishVersion", FunctionName="greeter")
    assert version["FunctionArn"] == f"{ARN}:11"
    assert version["State"] == "Active"
    answer = await deployed.call("ListVersionsByFunction", FunctionName="greeter", MaxItems=10_000)
    assert [item["Version"] for item in answer["Versions"]] == [
        "$LATEST",
        *(str(number) for number in range(1, 12)),
    ]
    first = await deployed.call("ListVersionsByFunction", FunctionName="greeter", MaxItems=10)
    rest = await deployed.call(
        "ListVersionsByFunction", FunctionName="greeter", Marker=first["NextMarker"]
    )
    assert [item["Version"] for item in rest["Versions"]] == ["10", "11"]


async def test_publishing_code_answers_the_version(deployed: Api) -> None:
    answer = await deployed.call(
        "UpdateFunctionCode", FunctionName="greeter", ZipFile=OTHER_ZIP, Publish=True
    )
    assert (answer["Version"], answer["FunctionArn"]) == ("1", f"{ARN}:1")


async def test_aliases_have_the_shape_of_aws(deployed: Api) -> None:
    await deployed.call("PublishVersion", FunctionName="greeter")
    created = await deployed.call(
        "CreateAlias", FunctionName="greeter", Name="live", FunctionVersion="1"
    )
    assert len(created.pop("RevisionId")) == 36
    assert created == {
        "AliasArn": f"{ARN}:live",
        "Name": "live",
        "FunctionVersion": "1",
        "Description": "",
    }
    await deployed.call("UpdateFunctionConfiguration", FunctionName="greeter", Timeout=9)
    await deployed.call("PublishVersion", FunctionName="greeter")
    updated = await deployed.call(
        "UpdateAlias",
        FunctionName="greeter",
        Name="live",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}},
    )
    assert updated["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.5}}
    assert await deployed.call("GetAlias", FunctionName="greeter", Name="live") == updated
    cleared = await deployed.call(
        "UpdateAlias", FunctionName="greeter", Name="live", RoutingConfig={}
    )
    assert "RoutingConfig" not in cleared
    listed = await deployed.call("ListAliases", FunctionName="greeter")
    assert listed == {"Aliases": [cleared]}
    answer = await deployed.call("DeleteAlias", FunctionName="greeter", Name="live")
    assert answer == Reply(status=204)


async def test_tags_go_by_the_arn_of_the_function(deployed: Api) -> None:
    await deployed.call("TagResource", Resource=ARN, Tags={"a": "1", "b": "2"})
    await deployed.call("UntagResource", Resource=ARN, TagKeys=["a"])
    assert await deployed.call("ListTags", Resource=ARN) == {"Tags": {"b": "2"}}
    with pytest.raises(InvalidParameterValue, match="aliases and versions are not supported"):
        await deployed.call("ListTags", Resource=f"{ARN}:1")
    mapping = ARN.replace("function:greeter", "event-source-mapping:1")
    with pytest.raises(ResourceNotFound, match=f"^Event source mapping not found: {mapping}$"):
        await deployed.call("ListTags", Resource=mapping)


async def test_concurrency_and_account_settings(deployed: Api) -> None:
    assert await deployed.call("GetFunctionConcurrency", FunctionName="greeter") == {}
    await deployed.call(
        "PutFunctionConcurrency", FunctionName="greeter", ReservedConcurrentExecutions=50
    )
    answer = await deployed.call("GetFunctionConcurrency", FunctionName="greeter")
    assert answer == {"ReservedConcurrentExecutions": 50}
    assert await deployed.call("GetAccountSettings") == {
        "AccountLimit": {
            "TotalCodeSize": 322122547200,
            "CodeSizeUnzipped": 262144000,
            "CodeSizeZipped": 52428800,
            "ConcurrentExecutions": 1000,
            "UnreservedConcurrentExecutions": 950,
        },
        "AccountUsage": {"TotalCodeSize": len(ZIP), "FunctionCount": 1},
    }
    gone = await deployed.call("DeleteFunctionConcurrency", FunctionName="greeter")
    assert gone == Reply(status=204)
    assert await deployed.call("GetFunctionConcurrency", FunctionName="greeter") == {}


async def test_what_terraform_reads_after_a_deployment_is_there(deployed: Api) -> None:
    signing = await deployed.call("GetFunctionCodeSigningConfig", FunctionName="greeter")
    assert signing == {}
    runtime = await deployed.call("GetRuntimeManagementConfig", FunctionName="greeter")
    assert runtime == {"UpdateRuntimeOn": "Auto", "FunctionArn": f"{ARN}:$LATEST"}
    before = await deployed.call("GetFunctionRecursionConfig", FunctionName="greeter")
    assert before == {"RecursiveLoop": "Terminate"}
    await deployed.call("PutFunctionRecursionConfig", FunctionName="greeter", RecursiveLoop="Allow")
    after = await deployed.call("GetFunctionRecursionConfig", FunctionName="greeter")
    assert after == {"RecursiveLoop": "Allow"}


def test_the_key_names_the_function_under_test() -> None:
    assert ARN.endswith(KEY[2])
