"""The members of every answer, in the JSON as it is sent: none too many, none missing, none null.

One walk calls every operation that is served, with success. Each answer is held to the output
shape of botocore's model, and to the members that AWS sends in that state.
Source: aws-lambda API reference, botocore's ``examples-1`` for lambda, and recorded answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore import xform_name
from botocore.model import Shape

from conformance.samples import MODEL
from firelet.app.parity import Standing, list_coverage
from running_platform import PYTHON, REGION, Platform, pack, wait_until

pytest_plugins = ("platform_fixtures",)

ACCOUNT = "555555555555"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}"
SIGNER = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/a/0123456789"
CODE = "def handler(event, context): return {}"
# Its answer is an event stream, which has tests of its own.
STREAMED = "InvokeWithResponseStream"
SERVED = [
    item.operation
    for item in list_coverage()
    if item.standing is not Standing.MISSING and item.operation != STREAMED
]

_JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "long": int,
    "boolean": bool,
    "double": (int, float),
    "timestamp": (int, float),
    "blob": str,
}

# Paths of members: a list is ``name[]``, an empty structure ``name{}``.
CONFIGURATION = """
    FunctionName FunctionArn Runtime Role Handler CodeSize Description Timeout MemorySize
    LastModified CodeSha256 Version TracingConfig.Mode RevisionId PackageType Architectures[]
    EphemeralStorage.Size SnapStart.ApplyOn SnapStart.OptimizationStatus
    LoggingConfig.LogFormat LoggingConfig.LogGroup
"""
STATE = f"{CONFIGURATION} State RuntimeVersionConfig.RuntimeVersionArn"
PENDING = f"{STATE} StateReason StateReasonCode"
SETTLED = f"{STATE} LastUpdateStatus"
UPDATING = f"{SETTLED} LastUpdateStatusReason LastUpdateStatusReasonCode"
ALIAS = "AliasArn Name FunctionVersion Description RevisionId"
ROUTED = f"{ALIAS} RoutingConfig.AdditionalVersionWeights.1"
LISTED_LAYER = "LayerVersionArn Version Description CreatedDate"
LAYER = f"""
    {LISTED_LAYER} LayerArn Content.Location Content.CodeSha256 Content.CodeSize
"""
ALLOCATION = """
    RequestedProvisionedConcurrentExecutions AvailableProvisionedConcurrentExecutions
    AllocatedProvisionedConcurrentExecutions Status LastModified
"""
SQS_MAPPING = """
    UUID BatchSize MaximumBatchingWindowInSeconds EventSourceArn EventSourceMappingArn FunctionArn
    FunctionResponseTypes[] LastModified State StateTransitionReason
"""
STREAM_MAPPING = f"""
    {SQS_MAPPING} StartingPosition ParallelizationFactor BisectBatchOnFunctionError
    MaximumRetryAttempts MaximumRecordAgeInSeconds TumblingWindowInSeconds LastProcessingResult
    DestinationConfig.OnFailure{{}}
"""
NEW_URL = "FunctionUrl FunctionArn AuthType CreationTime"
URL = f"{NEW_URL} LastModifiedTime"
EVENT_INVOKE = """
    LastModified FunctionArn MaximumRetryAttempts DestinationConfig.OnSuccess{}
    DestinationConfig.OnFailure{}
"""
SIGNING = """
    CodeSigningConfigId CodeSigningConfigArn AllowedPublishers.SigningProfileVersionArns[]
    CodeSigningPolicies.UntrustedArtifactOnDeployment LastModified
"""
ACCOUNT_SETTINGS = """
    AccountLimit.TotalCodeSize AccountLimit.CodeSizeUnzipped AccountLimit.CodeSizeZipped
    AccountLimit.ConcurrentExecutions AccountLimit.UnreservedConcurrentExecutions
    AccountUsage.TotalCodeSize AccountUsage.FunctionCount
"""


def below(prefix: str, members: str) -> str:
    return " ".join(f"{prefix}.{member}" for member in members.split())


# What the answers of the walk have. Empty: no body at all.
EXPECTED = {
    "AddLayerVersionPermission": "Statement RevisionId",
    "AddPermission": "Statement",
    "CreateAlias": ALIAS,
    "CreateCodeSigningConfig": below("CodeSigningConfig", SIGNING),
    "CreateEventSourceMapping": SQS_MAPPING,
    "CreateFunction": PENDING,
    "CreateFunctionUrlConfig": NEW_URL,
    "DeleteAlias": "",
    "DeleteCodeSigningConfig": "",
    "DeleteEventSourceMapping": SQS_MAPPING,
    "DeleteFunction": "",
    "DeleteFunctionCodeSigningConfig": "",
    "DeleteFunctionConcurrency": "",
    "DeleteFunctionEventInvokeConfig": "",
    "DeleteFunctionUrlConfig": "",
    "DeleteLayerVersion": "",
    "DeleteProvisionedConcurrencyConfig": "",
    "DeleteResourcePolicy": "",
    "GetAccountSettings": ACCOUNT_SETTINGS,
    "GetAlias": ALIAS,
    "GetCodeSigningConfig": below("CodeSigningConfig", SIGNING),
    "GetEventSourceMapping": SQS_MAPPING,
    "GetFunction": f"{below('Configuration', SETTLED)} Code.RepositoryType Code.Location",
    "GetFunctionCodeSigningConfig": "CodeSigningConfigArn FunctionName",
    "GetFunctionConcurrency": "ReservedConcurrentExecutions",
    "GetFunctionConfiguration": SETTLED,
    "GetFunctionEventInvokeConfig": EVENT_INVOKE,
    "GetFunctionRecursionConfig": "RecursiveLoop",
    "GetFunctionUrlConfig": f"{URL} InvokeMode",
    "GetLayerVersion": LAYER,
    "GetLayerVersionByArn": LAYER,
    "GetLayerVersionPolicy": "Policy RevisionId",
    "GetPolicy": "Policy RevisionId",
    "GetProvisionedConcurrencyConfig": ALLOCATION,
    "GetResourcePolicy": "Policy RevisionId",
    "GetRuntimeManagementConfig": "UpdateRuntimeOn FunctionArn",
    "Invoke": "{}",
    "InvokeAsync": "",
    "ListAliases": below("Aliases[]", ALIAS),
    "ListCodeSigningConfigs": below("CodeSigningConfigs[]", SIGNING),
    "ListEventSourceMappings": below("EventSourceMappings[]", SQS_MAPPING),
    "ListFunctionEventInvokeConfigs": below("FunctionEventInvokeConfigs[]", EVENT_INVOKE),
    "ListFunctionUrlConfigs": below("FunctionUrlConfigs[]", f"{URL} InvokeMode"),
    "ListFunctions": below("Functions[]", CONFIGURATION),
    "ListFunctionsByCodeSigningConfig": "FunctionArns[]",
    "ListLayerVersions": below("LayerVersions[]", LISTED_LAYER),
    "ListLayers": f"""
        Layers[].LayerName Layers[].LayerArn {below("Layers[].LatestMatchingVersion", LISTED_LAYER)}
    """,
    "ListProvisionedConcurrencyConfigs": below(
        "ProvisionedConcurrencyConfigs[]", f"FunctionArn {ALLOCATION}"
    ),
    "ListTags": "Tags.team",
    "ListVersionsByFunction": below("Versions[]", CONFIGURATION),
    "PublishLayerVersion": LAYER,
    "PublishVersion": SETTLED,
    "PutFunctionCodeSigningConfig": "CodeSigningConfigArn FunctionName",
    "PutFunctionConcurrency": "ReservedConcurrentExecutions",
    "PutFunctionEventInvokeConfig": EVENT_INVOKE,
    "PutFunctionRecursionConfig": "RecursiveLoop",
    "PutProvisionedConcurrencyConfig": ALLOCATION,
    "PutResourcePolicy": "Policy RevisionId",
    "PutRuntimeManagementConfig": "UpdateRuntimeOn FunctionArn",
    "RemoveLayerVersionPermission": "",
    "RemovePermission": "",
    "TagResource": "",
    "UntagResource": "",
    "UpdateAlias": ROUTED,
    "UpdateCodeSigningConfig": below("CodeSigningConfig", f"{SIGNING} Description"),
    "UpdateEventSourceMapping": SQS_MAPPING,
    "UpdateFunctionCode": UPDATING,
    "UpdateFunctionConfiguration": UPDATING,
    "UpdateFunctionEventInvokeConfig": f"{EVENT_INVOKE} MaximumEventAgeInSeconds",
    "UpdateFunctionUrlConfig": f"{URL} Cors.AllowOrigins[]",
}


@dataclass(frozen=True)
class Sent:
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Walk:
    """Calls operations; ``first`` has the first answer to each, ``last`` the last."""

    client: Any
    first: dict[str, Sent] = field(default_factory=dict)
    last: dict[str, Sent] = field(default_factory=dict)

    def note(self, operation_model: Any, response_dict: Any, **_: Any) -> None:
        headers = {name.lower(): value for name, value in response_dict["headers"].items()}
        body = response_dict["body"]
        sent = Sent(
            response_dict["status_code"], headers, body if isinstance(body, bytes) else b"{}"
        )
        self.first.setdefault(operation_model.name, sent)
        self.last[operation_model.name] = sent

    def __call__(self, operation: str, **params: Any) -> Any:
        return getattr(self.client, xform_name(operation))(**params)


@pytest.fixture(scope="module")
def role(platform: Platform) -> str:
    return platform.make_role(account=ACCOUNT)


@pytest.fixture(scope="module")
def walk(platform: Platform, role: str) -> Iterator[Walk]:
    client = platform.client("lambda", account=ACCOUNT)
    walk = Walk(client)
    client.meta.events.register("before-parse.lambda", walk.note)
    yield walk
    client.meta.events.unregister("before-parse.lambda", walk.note)
    for function in client.list_functions()["Functions"]:
        client.delete_function(FunctionName=function["FunctionName"])


@pytest.fixture(scope="module")
def walked(walk: Walk, role: str) -> Walk:
    """After the whole walk."""
    code = pack({"app.py": CODE})
    settings = {"Runtime": PYTHON, "Role": role, "Handler": "app.handler"}
    f = {"FunctionName": "f"}
    walk("CreateFunction", **f, **settings, Code={"ZipFile": code})
    walk.client.get_waiter("function_active_v2").wait(**f)
    walk.first.pop("GetFunction")
    for operation in ("GetFunction", "GetFunctionConfiguration", "ListFunctions"):
        walk(operation, **({} if operation == "ListFunctions" else f))
    _walk_invocations_and_updates(walk, code)
    _walk_aliases(walk)
    _walk_layers(walk)
    _walk_concurrency(walk)
    _walk_mappings(walk)
    _walk_what_hangs_on_a_function(walk)
    _walk_policies(walk)
    _walk_signing(walk)
    walk("DeleteFunction", **f)
    return walk


def _walk_invocations_and_updates(walk: Walk, code: bytes) -> None:
    f = {"FunctionName": "f"}
    walk("Invoke", **f, Payload=b"{}")
    walk("InvokeAsync", **f, InvokeArgs=b"{}")
    walk("UpdateFunctionCode", **f, ZipFile=code)
    walk("UpdateFunctionConfiguration", **f, Timeout=5)
    walk("PublishVersion", **f)
    walk("ListVersionsByFunction", **f)


def _walk_aliases(walk: Walk) -> None:
    alias = {"FunctionName": "f", "Name": "live"}
    walk("UpdateFunctionConfiguration", FunctionName="f", Timeout=6)
    walk("PublishVersion", FunctionName="f")
    walk("CreateAlias", **alias, FunctionVersion="2")
    walk("GetAlias", **alias)
    walk("ListAliases", FunctionName="f")
    weights = {"AdditionalVersionWeights": {"1": 0.5}}
    walk("UpdateAlias", **alias, RoutingConfig=weights)
    walk("DeleteAlias", **alias)


def _walk_layers(walk: Walk) -> None:
    layer = {"LayerName": "layer"}
    made = walk(
        "PublishLayerVersion", **layer, Content={"ZipFile": pack({"python/one.py": "ONE = 1"})}
    )
    version = {**layer, "VersionNumber": made["Version"]}
    walk("GetLayerVersion", **version)
    walk("GetLayerVersionByArn", Arn=made["LayerVersionArn"])
    walk("ListLayers")
    walk("ListLayerVersions", **layer)
    walk(
        "AddLayerVersionPermission",
        **version,
        StatementId="s",
        Action="lambda:GetLayerVersion",
        Principal="*",
    )
    walk("GetLayerVersionPolicy", **version)
    walk("RemoveLayerVersionPermission", **version, StatementId="s")
    walk("DeleteLayerVersion", **version)


def _walk_concurrency(walk: Walk) -> None:
    f = {"FunctionName": "f"}
    walk("GetAccountSettings")
    walk("PutFunctionConcurrency", **f, ReservedConcurrentExecutions=2)
    walk("GetFunctionConcurrency", **f)
    walk("DeleteFunctionConcurrency", **f)
    version = {**f, "Qualifier": "1"}
    walk("PutProvisionedConcurrencyConfig", **version, ProvisionedConcurrentExecutions=1)
    walk("GetProvisionedConcurrencyConfig", **version)
    walk("ListProvisionedConcurrencyConfigs", **f)
    walk("DeleteProvisionedConcurrencyConfig", **version)


def _walk_mappings(walk: Walk) -> None:
    source = f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue"
    made = walk("CreateEventSourceMapping", FunctionName="f", EventSourceArn=source)
    mapping = {"UUID": made["UUID"]}
    walk("GetEventSourceMapping", **mapping)
    walk("ListEventSourceMappings")
    walk("UpdateEventSourceMapping", **mapping, BatchSize=3)
    walk("DeleteEventSourceMapping", **mapping)


def _walk_what_hangs_on_a_function(walk: Walk) -> None:
    f, resource = {"FunctionName": "f"}, {"Resource": f"{ARN}:function:f"}
    walk("TagResource", **resource, Tags={"team": "red"})
    walk("ListTags", **resource)
    walk("UntagResource", **resource, TagKeys=["team"])
    walk("CreateFunctionUrlConfig", **f, AuthType="NONE")
    walk("GetFunctionUrlConfig", **f)
    walk("ListFunctionUrlConfigs", **f)
    walk("UpdateFunctionUrlConfig", **f, Cors={"AllowOrigins": ["*"]})
    walk("DeleteFunctionUrlConfig", **f)
    walk("PutFunctionEventInvokeConfig", **f, MaximumRetryAttempts=1)
    walk("GetFunctionEventInvokeConfig", **f)
    walk("ListFunctionEventInvokeConfigs", **f)
    walk("UpdateFunctionEventInvokeConfig", **f, MaximumEventAgeInSeconds=60)
    walk("DeleteFunctionEventInvokeConfig", **f)
    walk("GetFunctionRecursionConfig", **f)
    walk("PutFunctionRecursionConfig", **f, RecursiveLoop="Allow")
    walk("GetRuntimeManagementConfig", **f)
    walk("PutRuntimeManagementConfig", **f, UpdateRuntimeOn="FunctionUpdate")


def _walk_policies(walk: Walk) -> None:
    f, resource = {"FunctionName": "f"}, {"ResourceArn": f"{ARN}:function:f"}
    walk(
        "AddPermission",
        **f,
        StatementId="s",
        Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com",
    )
    policy = walk("GetPolicy", **f)["Policy"]
    walk("RemovePermission", **f, StatementId="s")
    walk("PutResourcePolicy", **resource, Policy=policy)
    walk("GetResourcePolicy", **resource)
    walk("DeleteResourcePolicy", **resource)


def _walk_signing(walk: Walk) -> None:
    f = {"FunctionName": "f"}
    publishers = {"SigningProfileVersionArns": [SIGNER]}
    made = walk("CreateCodeSigningConfig", AllowedPublishers=publishers)["CodeSigningConfig"]
    config = {"CodeSigningConfigArn": made["CodeSigningConfigArn"]}
    walk("GetCodeSigningConfig", **config)
    walk("ListCodeSigningConfigs")
    walk("UpdateCodeSigningConfig", **config, Description="signed")
    walk("PutFunctionCodeSigningConfig", **f, **config)
    walk("GetFunctionCodeSigningConfig", **f)
    walk("ListFunctionsByCodeSigningConfig", **config)
    walk("DeleteFunctionCodeSigningConfig", **f)
    walk("DeleteCodeSigningConfig", **config)


def paths(value: Any, prefix: str = "") -> set[str]:
    """The members of a JSON value, at any depth."""
    if isinstance(value, dict):
        if not value:
            return {f"{prefix}{{}}"}
        dot = f"{prefix}." if prefix else ""
        return {path for name, inner in value.items() for path in paths(inner, f"{dot}{name}")}
    if isinstance(value, list):
        return {path for inner in value for path in paths(inner, f"{prefix}[]")} or {f"{prefix}[]"}
    return {prefix}


def check_modelled(value: Any, shape: Shape, path: str) -> None:
    """Every member is one of the model, of its type, and not null."""
    assert value is not None, f"{path} is null"
    if shape.type_name == "structure":
        extra = {name for name in value if name not in shape.members}
        assert not extra, f"{path} has {extra}"
        for name, inner in value.items():
            check_modelled(inner, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for inner in value:
            check_modelled(inner, shape.member, f"{path}[]")
    elif shape.type_name == "map":
        for key, inner in value.items():
            check_modelled(inner, shape.value, f"{path}.{key}")
    else:
        assert isinstance(value, _JSON_TYPES[shape.type_name]), f"{path} is {value!r}"


def test_the_table_has_every_operation_that_is_served() -> None:
    assert sorted(EXPECTED) == SERVED


@pytest.mark.parametrize("operation", SERVED)
def test_an_answer_has_the_members_of_aws(walked: Walk, operation: str) -> None:
    sent, model = walked.first[operation], MODEL.operation_model(operation)
    if not EXPECTED[operation]:
        assert sent.body == b""
        return
    body = json.loads(sent.body)
    if operation != "Invoke":  # what the function returned
        check_modelled(body, model.output_shape, operation)
    assert paths(body) == set(EXPECTED[operation].split())


@pytest.mark.parametrize("operation", SERVED)
def test_an_answer_has_the_status_and_headers_of_aws(walked: Walk, operation: str) -> None:
    """The model says 200 for DeleteFunction; AWS sends 204 (recorded)."""
    sent, model = walked.first[operation], MODEL.operation_model(operation)
    expected = 204 if operation == "DeleteFunction" else model.http["responseCode"]
    assert sent.status == expected
    assert len(sent.headers["x-amzn-requestid"]) == 36
    assert "date" in sent.headers
    if EXPECTED[operation]:
        assert sent.headers["content-type"] == "application/json"


FULL = f"""
    {PENDING} Environment.Variables.MODE KMSKeyArn DeadLetterConfig.TargetArn Layers[].Arn
    Layers[].CodeSize VpcConfig.SubnetIds[] VpcConfig.SecurityGroupIds[] VpcConfig.VpcId
    VpcConfig.Ipv6AllowedForDualStack LoggingConfig.ApplicationLogLevel
    LoggingConfig.SystemLogLevel
"""


def test_a_function_with_everything_set_says_so(walk: Walk, role: str) -> None:
    layer = walk("PublishLayerVersion", LayerName="x", Content={"ZipFile": pack({"a": "b"})})
    walk(
        "CreateFunction",
        FunctionName="full",
        Runtime=PYTHON,
        Role=role,
        Handler="app.handler",
        Code={"ZipFile": pack({"app.py": CODE})},
        Environment={"Variables": {"MODE": "x"}},
        KMSKeyArn=f"arn:aws:kms:{REGION}:{ACCOUNT}:key/a",
        DeadLetterConfig={"TargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:dead"},
        Layers=[layer["LayerVersionArn"]],
        VpcConfig={"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
        LoggingConfig={"LogFormat": "JSON"},
        TracingConfig={"Mode": "Active"},
        Tags={"team": "red"},
    )
    body = json.loads(walk.last["CreateFunction"].body)
    assert paths(body) == set(FULL.split())
    walk.client.get_waiter("function_active_v2").wait(FunctionName="full")
    walk("PutFunctionConcurrency", FunctionName="full", ReservedConcurrentExecutions=1)
    walk("GetFunction", FunctionName="full")
    found = json.loads(walk.last["GetFunction"].body)
    assert (found["Tags"], found["Concurrency"]) == (
        {"team": "red"},
        {"ReservedConcurrentExecutions": 1},
    )


def test_what_was_taken_away_is_no_longer_there(walk: Walk, role: str) -> None:
    """An empty Environment or VpcConfig stays as one that is empty; the rest goes."""
    name = {"FunctionName": "bare"}
    walk(
        "CreateFunction",
        **name,
        Runtime=PYTHON,
        Role=role,
        Handler="app.handler",
        Code={"ZipFile": pack({"app.py": CODE})},
        DeadLetterConfig={"TargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:dead"},
        KMSKeyArn=f"arn:aws:kms:{REGION}:{ACCOUNT}:key/a",
    )
    walk(
        "UpdateFunctionConfiguration",
        **name,
        DeadLetterConfig={"TargetArn": ""},
        KMSKeyArn="",
        Environment={"Variables": {}},
        Layers=[],
    )
    body = json.loads(walk.last["UpdateFunctionConfiguration"].body)
    assert paths(body) == set(f"{UPDATING} Environment.Variables{{}}".split())


def test_a_stream_has_the_options_of_streams(walk: Walk, role: str) -> None:
    settings = {"Runtime": PYTHON, "Role": role, "Handler": "app.handler"}
    walk("CreateFunction", FunctionName="s", **settings, Code={"ZipFile": pack({"app.py": CODE})})
    made = walk(
        "CreateEventSourceMapping",
        FunctionName="s",
        EventSourceArn=f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s",
        StartingPosition="LATEST",
    )
    assert paths(json.loads(walk.last["CreateEventSourceMapping"].body)) == set(
        STREAM_MAPPING.split()
    )
    walk("DeleteEventSourceMapping", UUID=made["UUID"])


def test_a_failed_function_says_why(walk: Walk, role: str) -> None:
    settings = {"Runtime": "dotnet6", "Role": role, "Handler": "app.handler"}
    walk("CreateFunction", FunctionName="x", **settings, Code={"ZipFile": pack({"app.py": CODE})})
    wait_until(
        lambda: walk("GetFunctionConfiguration", FunctionName="x")["State"] == "Failed", "it fails"
    )
    body = json.loads(walk.last["GetFunctionConfiguration"].body)
    assert paths(body) == set(f"{PENDING} {UPDATING}".split())
