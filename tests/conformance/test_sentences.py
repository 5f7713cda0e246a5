"""Every refusal that has been recorded on AWS, provoked through the API and compared by the letter.

The rows are in the order of the record, by code and then by sentence. A sentence that ends with
``…`` is compared up to there: the record is cut, or goes on with the runtimes of its day. Patterns
are those of today's model: that of layer versions' ARNs has got brackets since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from firelet.model.runtimes import OFFERED
from running_platform import PYTHON, REGION, Platform, pack

pytest_plugins = ("platform_fixtures",)

ACCOUNT = "444444444444"
OTHER_REGION = "ap-southeast-1"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}"
F, FUNCTION = f"{ARN}:function:f", {"FunctionName": "f"}
NONE = f"{ARN}:function:none"
LAYER = f"{ARN}:layer:layer"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/lambda-role"
ZIP = pack({"app.py": "def handler(event, context): return {}"})
NEW: dict[str, Any] = {
    "FunctionName": "new",
    "Runtime": PYTHON,
    "Role": ROLE,
    "Handler": "app.handler",
    "Code": {"ZipFile": ZIP},
}
UUID = "00000000-0000-4000-8000-000000000000"
CSC = f"{ARN}:code-signing-config:csc-{'0' * 17}"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue"
STREAM = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/t/stream/2026-01-01T00:00:00.000"
SHARDS = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s"
KAFKA = {
    "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["kafka:1000"]}},
    "SourceAccessConfigurations": [
        {"Type": "BASIC_AUTH", "URI": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:s"}
    ],
    "Topics": ["topic"],
}
PERMISSION = {"Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
LAYER_PERMISSION = {"Action": "lambda:GetLayerVersion", "Principal": "*", "StatementId": "s3"}
VERSION = {"LayerName": "layer", "VersionNumber": 1}
NO_VERSION = {"LayerName": "layer", "VersionNumber": 9}
STALE = {"RevisionId": UUID}

INVALID = (400, "InvalidParameterValueException")
STALE_REVISION = (412, "PreconditionFailedException")
CONFLICT = (409, "ResourceConflictException")
MISSING = (404, "ResourceNotFoundException")
CONSTRAINT = (400, "ValidationException")

_REVISION = "The Revision Id provided does not match the latest Revision Id. Call the"
_ONE = "1 validation error detected: Value"
_FAILED = "failed to satisfy constraint: Member must"
_PATTERN = f"{_FAILED} satisfy regular expression pattern:"
_NAME_PATTERN = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?"
    r"(\d{12}:)?(function:)?"
)
_RESOURCE_PATTERN = (
    r"arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:"
    r"(function:[a-zA-Z0-9-_]+(:(\$LATEST|[a-zA-Z0-…"
)
_RUNTIMES = (
    "nodejs20.x, python3.14, provided.al2023, python3.12, python3.13, nodejs24.x, nodejs22.x,"
    " java25, python3.10, python3.11, java21, ruby3.3, ruby3.4, ruby3.2, python3.8, python3.9,"
    " java17, nodejs16.x, dotnet10, dotnet8, java11, dotnet6, …"
)
_NO_PROVISIONED = "No Provisioned Concurrency Config found for this function"
_MISSING_FUNCTION = f"Function not found: {NONE}"
_GONE = "The resource you requested does not exist."
_FUNCTIONS_ONLY = (
    "This operation is permitted on Lambda functions only. Aliases and versions do not support"
    " this operation. Please specify either a function name or an unqualified function ARN."
)
_DIGIT_QUALIFIER = r"((?!^\d+$)^[0-9a-zA-Z-_]+$)"

# Recorded, and not provoked here: "Error occurred while DescribeSecurityGroups" and
# "DescribeSubnets" (firelet takes both as given); "Error occurred while GetObject"
# (integration/test_code_from_s3); "Unzipped size must be smaller" (test_hostile_packages); "Please
# provide ImageUri" (images); "An update is in progress" (unit/control/test_functions: it takes a
# start that is held back).


@dataclass(frozen=True)
class Refusal:
    """One call, and what AWS says to it."""

    operation: str
    params: dict[str, Any]
    answer: tuple[int, str]
    sentence: str

    def __str__(self) -> str:
        return f"{self.operation}-{self.sentence[:40]}"


def refusals(answer: tuple[int, str], *rows: tuple[str, dict[str, Any], str]) -> list[Refusal]:
    return [Refusal(operation, params, answer, sentence) for operation, params, sentence in rows]


def alias(name: str = "new", **params: Any) -> dict[str, Any]:
    return {**FUNCTION, "Name": name, **params}


def weights(**by_version: float) -> dict[str, Any]:
    named = {name.removeprefix("v"): weight for name, weight in by_version.items()}
    return {"RoutingConfig": {"AdditionalVersionWeights": named}}


def destinations(**sides: str) -> dict[str, Any]:
    return {
        **FUNCTION,
        "DestinationConfig": {name: {"Destination": arn} for name, arn in sides.items()},
    }


def provision(qualifier: str, amount: int = 1, name: str = "f") -> dict[str, Any]:
    return {
        "FunctionName": name,
        "Qualifier": qualifier,
        "ProvisionedConcurrentExecutions": amount,
    }


def source(arn: str, **params: Any) -> dict[str, Any]:
    return {**FUNCTION, "EventSourceArn": arn, **params}


def layers(*arns: str) -> dict[str, Any]:
    return {**NEW, "Layers": list(arns)}


IAM_ARN = f"arn:aws:iam:{REGION}:{ACCOUNT}:function:f"
LONG = "a" * 65

INVALID_PARAMETERS = refusals(
    INVALID,
    (
        "CreateAlias",
        alias(FunctionVersion="$LATEST", **weights(v1=0.5)),
        "$LATEST is not supported for an alias pointing to more than 1 version",
    ),
    (
        "DeleteFunction",
        {**FUNCTION, "Qualifier": "$LATEST"},
        "$LATEST version cannot be deleted without deleting the function.",
    ),
    (
        "DeleteFunction",
        {**FUNCTION, "Qualifier": "live"},
        "Deletion of aliases is not currently supported.",
    ),
    (
        "CreateFunction",
        {**NEW, "FunctionName": LONG},
        f"{_ONE} '{LONG}' at 'functionName' {_FAILED} have length less than or equal to 64",
    ),
    (
        "CreateEventSourceMapping",
        source(SHARDS),
        f"{_ONE} null at 'startingPosition' {_FAILED} not be null.",
    ),
    (
        "TagResource",
        {"Resource": F, "Tags": {}},
        "An error occurred and the request cannot be processed.",
    ),
    (
        "CreateFunction",
        layers(*(f"{ARN}:layer:layer{number}:1" for number in range(6))),
        "Cannot reference more than 5 layers.",
    ),
    (
        "PublishVersion",
        {**FUNCTION, "CodeSha256": "somenonexistentsha256"},
        "CodeSHA256 (somenonexistentsha256) is different from current CodeSHA256 in $LATEST"
        " (<code-sha256>). Please try again with the CodeSHA256 in $LATEST.",
    ),
    (
        "CreateFunction",
        {**NEW, "Code": {"ZipFile": b"no zip"}},
        "Could not unzip uploaded file. Please check your file, then try to upload again.",
    ),
    (
        "CreateEventSourceMapping",
        {
            "FunctionName": "none",
            "EventSourceArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue",
        },
        "Function does not exist",
    ),
    (
        "UpdateAlias",
        alias("live", FunctionVersion="1", **weights(v1=0.5)),
        "Invalid function version 1. Function version 1 is already included in routing"
        " configuration.",
    ),
    (
        "CreateFunction",
        {**NEW, "Environment": {"Variables": {"NAME": "v" * 4_096}}},
        "Lambda was unable to configure your environment variables because the environment"
        " variables you have provided exceeded the 4KB limit. String measured:"
        f' {{"NAME":"{"v" * 4_096}"}}',
    ),
    ("GetLayerVersion", {**VERSION, "VersionNumber": 0}, "Layer Version Cannot be less than 1"),
    ("CreateFunction", layers(f"{LAYER}:9"), f"Layer version {LAYER}:9 does not exist."),
    (
        "UpdateFunctionConfiguration",
        {**FUNCTION, "Layers": [f"{ARN}:layer:doesnotexist:1"]},
        f"Layer version {ARN}:layer:doesnotexist:1 does not exist.",
    ),
    (
        "CreateFunction",
        layers(f"{LAYER}:1".replace(REGION, OTHER_REGION)),
        "Layers are not in the same region as the function. Layers are expected to be in region"
        f" {REGION}.",
    ),
    (
        "CreateAlias",
        alias(FunctionVersion="1", **weights(v1=0.2, v2=0.3)),
        "Number of items in AdditionalVersionWeights cannot be greater than 1",
    ),
    (
        "TagResource",
        {"Resource": F, "Tags": {f"tag{number}": "" for number in range(51)}},
        "Number of tags exceeds resource tag limit.",
    ),
    (
        "UpdateFunctionCode",
        {**FUNCTION, "ImageUri": "image"},
        "Please don't provide ImageUri when updating a function with packageType Zip.",
    ),
    (
        "PutProvisionedConcurrencyConfig",
        provision("$LATEST"),
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
    ),
    (
        "CreateEventSourceMapping",
        {**FUNCTION, **KAFKA, "SourceAccessConfigurations": []},
        "Required 'sourceAccessConfigurations' parameter is missing.",
    ),
    (
        "PutProvisionedConcurrencyConfig",
        provision("1", 950),
        "Specified ConcurrentExecutions for function decreases account's"
        " UnreservedConcurrentExecution below its minimum value of [100].",
    ),
    (
        "PutProvisionedConcurrencyConfig",
        provision("1", 1_001),
        "Specified ConcurrentExecutions for function is greater than account's unreserved"
        " concurrency [998].",
    ),
    (
        "PutFunctionConcurrency",
        {**FUNCTION, "ReservedConcurrentExecutions": 901},
        "Specified ReservedConcurrentExecutions for function decreases account's"
        " UnreservedConcurrentExecution below its minimum value of [100].",
    ),
    (
        "ListTags",
        {"Resource": f"{F}:live"},
        "Tags on function aliases and versions are not supported. Please specify a function ARN.",
    ),
    (
        "GetFunction",
        {"FunctionName": "f:live", "Qualifier": "1"},
        "The derived qualifier from the function name does not match the specified qualifier.",
    ),
    (
        "PutFunctionEventInvokeConfig",
        destinations(OnSuccess=f"{ARN}:function:doesnotexist"),
        f"The destination ARN {ARN}:function:doesnotexist is invalid.",
    ),
    (
        "GetProvisionedConcurrencyConfig",
        {**FUNCTION, "Qualifier": "$LATEST"},
        "The function resource provided must be an alias or a published version.",
    ),
    (
        "PutFunctionEventInvokeConfig",
        destinations(OnSuccess=IAM_ARN),
        "The provided destination config DestinationConfig(onSuccess=OnSuccess(destination="
        f"{IAM_ARN}), onFailure=null) is invalid.",
    ),
    (
        "AddPermission",
        {**FUNCTION, **PERMISSION, "StatementId": "p", "Principal": "invalid.nowhere.com"},
        "The provided principal was invalid. Please check the principal and try again.",
    ),
    (
        "CreateFunction",
        {**NEW, "Runtime": "python3.7"},
        "The runtime parameter of python3.7 is no longer supported for creating or updating AWS"
        " Lambda functions. We recommend you use a supported runtime while creating or updating"
        " functions.",
    ),
    ("PutFunctionConcurrency", {"FunctionName": "f:1", "ReservedConcurrentExecutions": 1}, ""),
    (
        "CreateFunction",
        layers(f"{LAYER}:1", f"{LAYER}:1"),
        "Two different versions of the same layer are not allowed to be referenced in the same"
        f" function. {LAYER}:1 and {LAYER}:1 are versions of the same layer.",
    ),
    (
        "CreateFunction",
        layers(f"{LAYER}:1", f"{LAYER}:2"),
        "Two different versions of the same layer are not allowed to be referenced in the same"
        f" function. {LAYER}:1 and {LAYER}:2 are versions of the same layer.",
    ),
    (
        "CreateEventSourceMapping",
        source(f"arn:aws:unknown:{REGION}:{ACCOUNT}:queue"),
        "Unrecognized event source.",
    ),
    (
        "CreateEventSourceMapping",
        source(
            SHARDS,
            StartingPosition="LATEST",
            DestinationConfig={"OnSuccess": {"Destination": f"arn:aws:sqs:{REGION}:{ACCOUNT}:q"}},
        ),
        "Unsupported DestinationConfig parameter for given event source mapping type.",
    ),
    (
        "CreateEventSourceMapping",
        source(SHARDS, StartingPosition="LATEST", StartingPositionTimestamp=1),
        "Timestamp only valid with StartingPosition AT_TIMESTAMP",
    ),
    (
        "CreateEventSourceMapping",
        source(SHARDS, StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=-1),
        "Received Exception while reading from provided stream. class java.lang.Long can not be"
        " converted to a Timestamp",
    ),
    (
        "CreateEventSourceMapping",
        source(QUEUE, StartingPosition="LATEST", StartingPositionTimestamp=1),
        "StartingPosition is not valid for SQS event sources.",
    ),
    ("CreateEventSourceMapping", FUNCTION, "Unrecognized event source."),
    (
        "CreateEventSourceMapping",
        source(STREAM, StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=1),
        f"Unsupported starting position for arn type: {STREAM}",
    ),
    (
        "CreateFunction",
        {**NEW, "Runtime": "PYTHON3.9"},
        f"Value PYTHON3.9 at 'runtime' {_FAILED} satisfy enum value set: [{_RUNTIMES}",
    ),
    (
        "UpdateFunctionConfiguration",
        {**FUNCTION, "Runtime": "non-existent-runtime"},
        f"Value non-existent-runtime at 'runtime' {_FAILED} satisfy enum value set: [{_RUNTIMES}",
    ),
    (
        "AddPermission",
        {**FUNCTION, **PERMISSION, "StatementId": "l", "Qualifier": "$LATEST"},
        "We currently do not support adding policies for $LATEST.",
    ),
    (
        "PutFunctionEventInvokeConfig",
        destinations(OnFailure=F),
        "You can't specify the function as a destination for itself.",
    ),
    (
        "PutFunctionEventInvokeConfig",
        FUNCTION,
        "You must specify at least one of error handling or destination setting.",
    ),
)
INVALID_PARAMETERS = [
    row if row.sentence else Refusal(row.operation, row.params, row.answer, _FUNCTIONS_ONLY)
    for row in INVALID_PARAMETERS
]

OTHERS = [
    *refusals(
        (404, "CodeSigningConfigNotFoundException"),
        (
            "PutFunctionCodeSigningConfig",
            {**FUNCTION, "CodeSigningConfigArn": CSC},
            "The code signing configuration cannot be found. Check that the provided configuration"
            f" is not deleted: {CSC}.",
        ),
    ),
    *refusals(
        STALE_REVISION,
        *(
            (operation, params, f"{_REVISION} {api} API to retrieve the latest Revision Id")
            for operation, params, api in (
                ("UpdateFunctionCode", {**FUNCTION, "ZipFile": ZIP}, "GetFunction/GetAlias"),
                ("UpdateFunctionConfiguration", FUNCTION, "GetFunction/GetAlias"),
                ("PublishVersion", FUNCTION, "GetFunction/GetAlias"),
                ("UpdateAlias", alias("live"), "GetFunction/GetAlias"),
                ("AddLayerVersionPermission", {**VERSION, **LAYER_PERMISSION}, "GetLayerPolicy"),
                (
                    "RemoveLayerVersionPermission",
                    {**VERSION, "StatementId": "s3"},
                    "GetLayerPolicy",
                ),
                ("AddPermission", {**FUNCTION, **PERMISSION, "StatementId": "r"}, "GetPolicy"),
                (
                    "RemovePermission",
                    {**FUNCTION, "StatementId": "s1"},
                    "GetFunction/GetAlias",
                ),
            )
        ),
    ),
    *refusals(
        (404, "ProvisionedConcurrencyConfigNotFoundException"),
        ("GetProvisionedConcurrencyConfig", {**FUNCTION, "Qualifier": "1"}, _NO_PROVISIONED),
    ),
    *refusals(
        (413, "RequestEntityTooLargeException"),
        (
            "CreateFunction",
            {**NEW, "Code": {"ZipFile": bytes(52_428_801)}},
            "Zipped size must be smaller than 52428800 bytes",
        ),
    ),
]

CONFLICTS = refusals(
    CONFLICT,
    ("CreateAlias", alias("live", FunctionVersion="1"), f"Alias already exists: {F}:live"),
    ("CreateFunction", {**NEW, "FunctionName": "f"}, "Function already exist: f"),
    (
        "PutProvisionedConcurrencyConfig",
        provision("to-1", name="pc"),
        "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned"
        " version",
    ),
    (
        "CreateEventSourceMapping",
        {**FUNCTION, **KAFKA},
        f'An event source mapping with event source ("kafka:1000"), function ("{F}"), topics'
        ' ("topic") already exists. Please update or delete the existing mapping with UUID'
        " <uuid>",
    ),
    (
        "CreateFunctionUrlConfig",
        {**FUNCTION, "AuthType": "NONE"},
        f"Failed to create function url config for [functionArn = {F}]. Error message:"
        "  FunctionUrlConfig exists for this Lambda function",
    ),
    (
        "AddPermission",
        {**FUNCTION, **PERMISSION, "StatementId": "s1"},
        "The statement id (s1) provided already exists. Please provide a new statement id, or"
        " remove the existing statement.",
    ),
    (
        "AddLayerVersionPermission",
        {**VERSION, **LAYER_PERMISSION},
        "The statement id (s3) provided already exists. Please provide a new statement id, or"
        " remove the existing statement.",
    ),
    (
        "PutProvisionedConcurrencyConfig",
        provision("2", name="pc"),
        "Version is pointed by a Provisioned Concurrency alias",
    ),
)

NOT_FOUND = refusals(
    MISSING,
    ("UpdateAlias", alias("non-existent"), f"Alias not found: {F}:non-existent"),
    ("GetAlias", alias("doesnotexist"), f"Cannot find alias arn: {F}:doesnotexist"),
    (
        "PutProvisionedConcurrencyConfig",
        provision("noalias"),
        f"Cannot find alias arn: {F}:noalias",
    ),
    (
        "PutProvisionedConcurrencyConfig",
        provision("noalias", name="doesnotexist"),
        f"Cannot find alias arn: {ARN}:function:doesnotexist:noalias",
    ),
    (
        "AddPermission",
        {**FUNCTION, **PERMISSION, "StatementId": "a", "Qualifier": "alias-doesnotexist"},
        f"Cannot find alias arn: {F}:alias-doesnotexist",
    ),
    (
        "ListTags",
        {"Resource": f"{ARN}:capacity-provider:none"},
        f"Capacity provider not found: {ARN}:capacity-provider:none",
    ),
    (
        "ListTags",
        {"Resource": f"{ARN}:event-source-mapping:{UUID}"},
        f"Event source mapping not found: {ARN}:event-source-mapping:{UUID}",
    ),
    (
        "CreateFunctionUrlConfig",
        {"FunctionName": "none", "AuthType": "NONE"},
        "Function does not exist",
    ),
    (
        "GetFunction",
        {"FunctionName": "none", "Qualifier": "1"},
        f"Function not found: {ARN}:function:none:1",
    ),
    ("Invoke", {"FunctionName": "none"}, f"Function not found: {ARN}:function:none:$LATEST"),
    (
        "PutFunctionConcurrency",
        {"FunctionName": "none", "ReservedConcurrentExecutions": 5_000},
        f"Function not found: {ARN}:function:none:$LATEST",
    ),
    (
        "GetFunction",
        {"FunctionName": F.replace(REGION, OTHER_REGION)},
        f"Functions from '{OTHER_REGION}' are not reachable in this region ('{REGION}')",
    ),
    (
        "AddLayerVersionPermission",
        {**NO_VERSION, **LAYER_PERMISSION},
        f"Layer version {LAYER}:9 does not exist.",
    ),
    (
        "GetLayerVersionPolicy",
        {"LayerName": "layer-doesnotexist", "VersionNumber": 1},
        f"Layer version {LAYER}-doesnotexist:1 does not exist.",
    ),
    (
        "RemovePermission",
        {"FunctionName": "doesnotexist", "StatementId": "s1"},
        f"No policy found for: {ARN}:function:doesnotexist",
    ),
    (
        "RemovePermission",
        {"FunctionName": "pc", "StatementId": "s1"},
        "No policy is associated with the given resource.",
    ),
    (
        "GetLayerVersionPolicy",
        {**VERSION, "VersionNumber": 2},
        "No policy is associated with the given resource.",
    ),
    (
        "RemovePermission",
        {**FUNCTION, "StatementId": "doesnotexist"},
        "Statement doesnotexist is not found in resource policy.",
    ),
    (
        "RemoveLayerVersionPermission",
        {**VERSION, "StatementId": "non-existent"},
        "Statement non-existent is not found in resource policy.",
    ),
    (
        "GetCodeSigningConfig",
        {"CodeSigningConfigArn": CSC},
        f"The Lambda code signing configuration {CSC} can not be found.",
    ),
    *(
        (
            "GetFunctionEventInvokeConfig",
            {**FUNCTION, "Qualifier": qualifier},
            f"The function {F}:{qualifier} doesn't have an EventInvokeConfig",
        )
        for qualifier in ("1221", "$LATEST", "1", "doesnotexist", "live")
    ),
    (
        "GetFunctionEventInvokeConfig",
        {"FunctionName": "doesnotexist"},
        f"The function {ARN}:function:doesnotexist:$LATEST doesn't have an EventInvokeConfig",
    ),
    (
        "PutFunctionEventInvokeConfig",
        {"FunctionName": "doesnotexist", "MaximumRetryAttempts": 0},
        "The function doesn't exist.",
    ),
    *(
        (
            ("GetFunctionConcurrency", {"FunctionName": "none"}, _MISSING_FUNCTION),
            ("GetFunctionCodeSigningConfig", {"FunctionName": "none"}, _MISSING_FUNCTION),
            ("DeleteFunction", {"FunctionName": "none"}, _MISSING_FUNCTION),
            ("GetPolicy", {"FunctionName": "none"}, _MISSING_FUNCTION),
            ("ListProvisionedConcurrencyConfigs", {"FunctionName": "none"}, _MISSING_FUNCTION),
            ("TagResource", {"Resource": NONE, "Tags": {"a": "b"}}, _MISSING_FUNCTION),
            ("UntagResource", {"Resource": NONE, "TagKeys": ["a"]}, _MISSING_FUNCTION),
            ("GetFunctionUrlConfig", {"FunctionName": "none"}, _GONE),
            ("DeleteFunctionUrlConfig", {"FunctionName": "none"}, _GONE),
            ("UpdateFunctionUrlConfig", {"FunctionName": "none"}, "Function does not exist"),
            ("ListFunctionUrlConfigs", {"FunctionName": "none"}, "Function does not exist"),
            (
                "ListFunctionEventInvokeConfigs",
                {"FunctionName": "none"},
                "The function doesn't exist.",
            ),
        )
    ),
    *(
        (operation, {**FUNCTION, "Qualifier": qualifier}, sentence)
        for operation in ("GetProvisionedConcurrencyConfig", "DeleteProvisionedConcurrencyConfig")
        for qualifier, sentence in (
            ("noalias", f"Cannot find alias arn: {F}:noalias"),
            ("10", f"Function not found: {F}:10"),
        )
    ),
    (
        "AddPermission",
        {**FUNCTION, **PERMISSION, "StatementId": "v", "Qualifier": "42"},
        f"Function not found: {F}:42",
    ),
    (
        "AddPermission",
        {**FUNCTION, **PERMISSION, "StatementId": "v", "Qualifier": "valid-with-$-inside"},
        f"Function not found: {F}:valid-with-$-inside",
    ),
    ("GetPolicy", {**FUNCTION, "Qualifier": "42"}, _GONE),
    *(
        (
            operation,
            {"FunctionName": F.replace(REGION, OTHER_REGION)},
            f"Functions from '{OTHER_REGION}' are not reachable in this region ('{REGION}')",
        )
        for operation in (
            "GetFunctionConfiguration",
            "GetFunctionUrlConfig",
            "GetFunctionCodeSigningConfig",
            "GetFunctionEventInvokeConfig",
            "GetFunctionConcurrency",
            "DeleteFunction",
            "Invoke",
        )
    ),
    ("GetEventSourceMapping", {"UUID": UUID}, _GONE),
    ("GetPolicy", {"FunctionName": "pc"}, _GONE),
    ("GetFunctionUrlConfig", {"FunctionName": "pc"}, _GONE),
    ("GetLayerVersion", NO_VERSION, _GONE),
)

CONSTRAINTS = refusals(
    CONSTRAINT,
    *(
        (
            "CreateFunctionUrlConfig",
            {**FUNCTION, "AuthType": "NONE", "Qualifier": qualifier},
            f"{_ONE} '{qualifier}' at 'qualifier' {_PATTERN} {_DIGIT_QUALIFIER}",
        )
        for qualifier in ("$LATEST", "1", "2")
    ),
    (
        "AddLayerVersionPermission",
        {**VERSION, **LAYER_PERMISSION, "Action": "*"},
        f"{_ONE} '*' at 'action' {_PATTERN} lambda:GetLayerVersion",
    ),
    (
        "PutProvisionedConcurrencyConfig",
        provision("1", 0),
        f"{_ONE} '0' at 'provisionedConcurrentExecutions' {_FAILED} have value greater than or"
        " equal to 1",
    ),
    (
        "CreateAlias",
        alias("2024", FunctionVersion="1"),
        f"{_ONE} '2024' at 'name' {_PATTERN} (?!^[0-9]+$)([a-zA-Z0-9-_]+)",
    ),
    (
        "PutFunctionRecursionConfig",
        {**FUNCTION, "RecursiveLoop": "InvalidValue"},
        f"{_ONE} 'InvalidValue' at 'recursiveLoop' {_FAILED} satisfy enum value set:"
        " [Terminate, Allow]",
    ),
    (
        "CreateFunction",
        {**NEW, "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["bad"]}},
        f"{_ONE} '[bad]' at 'vpcConfig.securityGroupIds' {_FAILED} satisfy constraint: [Member must"
        " have length less than or equal to 1024, Member must have length greater than or equal to"
        " 0, Member must satisfy regular expression pattern: sg-[0-9a-zA-Z]*]",
    ),
    (
        "CreateFunction",
        {**NEW, "VpcConfig": {"SubnetIds": ["bad"], "SecurityGroupIds": ["sg-1"]}},
        f"{_ONE} '[bad]' at 'vpcConfig.subnetIds' {_FAILED} satisfy constraint: [Member must have"
        " length less than or equal to 1024, Member must have length greater than or equal to 0,"
        " Member must satisfy regular expression pattern: subnet-[0-9a-z]*]",
    ),
    (
        "CreateFunction",
        {**NEW, "Architectures": ["X86_64"]},
        f"{_ONE} '[X86_64]' at 'architectures' {_FAILED} satisfy constraint: [Member must satisfy"
        " enum value set: [x86_64, arm64], Member must not be null]",
    ),
    (
        "CreateFunction",
        layers(LAYER),
        f"{_ONE} '[{LAYER}]' at 'layers' {_FAILED} satisfy constraint: [Member must have length"
        " less than or equal to 2048, Member must have length greater than or equal to 1, Member"
        " must satisfy regular expression pattern: …",
    ),
    (
        "UpdateFunctionCode",
        {**FUNCTION, "ZipFile": ZIP, "Architectures": ["x86_64", "arm64"]},
        f"{_ONE} '[x86_64, arm64]' at 'architectures' {_FAILED} have length less than or equal to"
        " 1",
    ),
    (
        "ListLayers",
        {"CompatibleArchitecture": "archdoesnotexist"},
        f"{_ONE} 'archdoesnotexist' at 'compatibleArchitecture' {_FAILED} satisfy enum value set:"
        " [x86_64, arm64]",
    ),
    (
        "PutFunctionEventInvokeConfig",
        destinations(OnFailure=f"arn:aws:_-/!lambda:{REGION}:111111111111:function:f"),
        f"{_ONE} 'arn:aws:_-/!lambda:{REGION}:111111111111:function:f' at"
        f" 'destinationConfig.onFailure.destination' {_PATTERN}"
        r" $|kafka://([^.]([a-zA-Z0-9\-_.]{0,248}))|arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\-])+:"
        "((eusc-)?[a-z…",
    ),
    *(
        (
            "ListTags",
            {"Resource": resource},
            f"{_ONE} '{resource}' at 'resource' {_PATTERN} {_RESOURCE_PATTERN}",
        )
        for resource in (
            f"{ARN}:capacity-provider:name:alias",
            f"{ARN}:event-source-mapping:{UUID}:alias",
            f"{ARN}:foobar:name",
            "arn:aws:something",
        )
    ),
    (
        "CreateFunction",
        {**NEW, "FunctionName": f"{ARN}:function:{'a' * 150}"},
        f"{_ONE} '{ARN}:function:{'a' * 150}' at 'functionName' {_FAILED} have length less than or"
        " equal to 140",
    ),
    (
        "GetLayerVersionByArn",
        {"Arn": LAYER},
        f"{_ONE} '{LAYER}' at 'arn' {_PATTERN} ((arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{{2}}"
        r"((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+)|"
        "(arn:[a-zA-Z0-9-]+:lamb…",
    ),
    (
        "GetFunction",
        {"FunctionName": f"arn:aws:lambda:{REGION}:123400000000@function:myfn"},
        f"{_ONE} 'arn:aws:lambda:{REGION}:123400000000@function:myfn' at 'functionName' {_PATTERN}"
        rf" {_NAME_PATTERN}([a-zA-Z0-9-_\.]+)(:(\$LATES…",
    ),
    (
        "AddLayerVersionPermission",
        {**VERSION, **LAYER_PERMISSION, "StatementId": "example.com"},
        f"{_ONE} 'example.com' at 'statementId' {_PATTERN} ([a-zA-Z0-9-_]+)",
    ),
    (
        "ListFunctions",
        {"FunctionVersion": "invalid"},
        f"{_ONE} 'invalid' at 'functionVersion' {_FAILED} satisfy enum value set: [ALL]",
    ),
    (
        "CreateEventSourceMapping",
        source(SHARDS, StartingPosition="invalid"),
        f"{_ONE} 'invalid' at 'startingPosition' {_FAILED} satisfy enum value set: [LATEST,"
        " AT_TIMESTAMP, TRIM_HORIZON]",
    ),
    (
        "GetFunction",
        {**FUNCTION, "Qualifier": "invalid-qualifier-with-?-char"},
        f"{_ONE} 'invalid-qualifier-with-?-char' at 'qualifier' {_PATTERN}"
        r" \$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+",
    ),
    (
        "CreateFunction",
        {**NEW, "FunctionName": "invalid:function:name"},
        f"{_ONE} 'invalid:function:name' at 'functionName' {_PATTERN}"
        rf" {_NAME_PATTERN}([a-zA-Z0-9-_]+)(:(\$LATEST…",
    ),
    (
        "CreateFunction",
        {**NEW, "SnapStart": {"ApplyOn": "invalidOption"}},
        f"{_ONE} 'invalidOption' at 'snapStart.applyOn' {_FAILED} satisfy enum value set:"
        " [PublishedVersions, None]",
    ),
    (
        "CreateFunction",
        {**NEW, "Role": "r1"},
        f"{_ONE} 'r1' at 'role' {_PATTERN}"
        r" arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
    ),
    (
        "ListLayers",
        {"CompatibleRuntime": "runtimedoesnotexist"},
        f"{_ONE} 'runtimedoesnotexist' at 'compatibleRuntime' {_FAILED} satisfy enum value set: […",
    ),
    (
        "CreateAlias",
        alias(FunctionVersion="1", RoutingConfig={"AdditionalVersionWeights": {"$LATEST": 0.5}}),
        f"{_ONE} '{{$LATEST=0.5}}' at 'routingConfig.additionalVersionWeights' failed to satisfy"
        " constraint: Map keys must satisfy constraint: [Member must have length less than or equal"
        " to 1024, Member must have length greater than or equal to 1, Member must satisfy regular"
        " expression pattern: [0-9]+]",
    ),
    *(
        (
            "CreateAlias",
            alias(FunctionVersion="1", **weights(v2=weight)),
            f"{_ONE} '{{2={weight}}}' at 'routingConfig.additionalVersionWeights' failed to satisfy"
            " constraint: Map value must satisfy constraint: [Member must have value less than or"
            " equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be"
            " null]",
        )
        for weight in (-1.0, 2.0)
    ),
    (
        "UntagResource",
        {"Resource": F, "TagKeys": []},
        f"{_ONE} null at 'tagKeys' {_FAILED} not be null",
    ),
    (
        "PublishLayerVersion",
        {
            "LayerName": "layer",
            "Content": {"ZipFile": ZIP},
            "CompatibleRuntimes": ["invalidruntime", "invalidruntime2", "nodejs20.x"],
            "CompatibleArchitectures": ["invalidarch"],
        },
        "2 validation errors detected: Value '[invalidruntime, invalidruntime2, nodejs20.x]' at"
        f" 'compatibleRuntimes' {_FAILED} satisfy enum value set: [{', '.join(OFFERED)}]; Value"
        f" '[invalidarch]' at 'compatibleArchitectures' {_FAILED} satisfy constraint: [Member must"
        " satisfy enum value set: [x86_64, arm64]]",
    ),
)

REFUSALS = [*INVALID_PARAMETERS, *OTHERS, *CONFLICTS, *NOT_FOUND, *CONSTRAINTS]


@dataclass(frozen=True)
class World:
    """What the refusals are about."""

    client: Any
    sha256: str
    mapping: str

    def fill(self, sentence: str) -> str:
        return sentence.replace("<code-sha256>", self.sha256).replace("<uuid>", self.mapping)


@pytest.fixture(scope="module")
def world(platform: Platform) -> Iterator[World]:
    """``f`` has two versions, an alias, a URL, a policy and a mapping; ``pc`` has provisioned
    concurrency on version 1 and on the alias of version 2; one of two layer versions is shared."""
    client = platform.client("lambda", account=ACCOUNT, is_strict=False)
    platform.make_role(account=ACCOUNT)
    sha256 = ""
    for name in ("f", "pc"):
        sha256 = client.create_function(**{**NEW, "FunctionName": name})["CodeSha256"]
        for timeout in (4, 5):
            client.update_function_configuration(FunctionName=name, Timeout=timeout)
            client.publish_version(FunctionName=name)
    client.create_alias(**alias("live", FunctionVersion="1"))
    client.create_function_url_config(**FUNCTION, AuthType="NONE")
    client.add_permission(**FUNCTION, **PERMISSION, StatementId="s1")
    made = client.create_event_source_mapping(**FUNCTION, **KAFKA)
    for number in (1, 2):
        client.create_alias(FunctionName="pc", Name=f"to-{number}", FunctionVersion=str(number))
    client.put_provisioned_concurrency_config(**provision("1", name="pc"))
    client.put_provisioned_concurrency_config(**provision("to-2", name="pc"))
    for _ in range(2):
        client.publish_layer_version(LayerName="layer", Content={"ZipFile": ZIP})
    client.add_layer_version_permission(**VERSION, **LAYER_PERMISSION)
    yield World(client, sha256, made["UUID"])
    client.delete_event_source_mapping(UUID=made["UUID"])
    for name in ("f", "pc"):
        client.delete_function(FunctionName=name)


def refuse(client: Any, operation: str, params: dict[str, Any]) -> tuple[tuple[int, str], str]:
    """Status and code, and the sentence."""
    call: Callable[..., Any] = getattr(client, xform_name(operation))
    with pytest.raises(ClientError) as caught:
        call(**params)
    error, meta = caught.value.response["Error"], caught.value.response["ResponseMetadata"]
    return (meta["HTTPStatusCode"], error["Code"]), error["Message"]


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_a_refusal_has_the_words_of_aws(world: World, refusal: Refusal) -> None:
    params = refusal.params
    if refusal.answer == STALE_REVISION:
        params = {**params, **STALE}
    answer, sentence = refuse(world.client, refusal.operation, params)
    expected = world.fill(refusal.sentence)
    if expected.endswith("…"):
        sentence, expected = sentence[: len(expected) - 1], expected[:-1]
    assert (answer, sentence) == (refusal.answer, expected)


@pytest.mark.parametrize(
    "operation",
    [
        "PutFunctionConcurrency",
        "GetFunctionConcurrency",
        "DeleteFunctionConcurrency",
        "ListAliases",
        "ListVersionsByFunction",
        "UpdateFunctionConfiguration",
        "PublishVersion",
    ],
)
@pytest.mark.parametrize("name", ["f:1", f"{F}:live", "f:$LATEST"])
def test_what_is_of_whole_functions_takes_no_qualifier(
    world: World, operation: str, name: str
) -> None:
    is_put = operation == "PutFunctionConcurrency"
    more = {"ReservedConcurrentExecutions": 1} if is_put else {}
    answer = refuse(world.client, operation, {"FunctionName": name, **more})
    assert answer == (INVALID, _FUNCTIONS_ONLY)
