"""Constraint failures, in the sentences that were recorded from the real service."""

from __future__ import annotations

from typing import Any

import pytest

from firelet.model.errors import CallerError, InvalidParameterValue, ValidationError
from firelet.wire.aws.java import PRINTED_MAX_CHARS
from firelet.wire.aws.model import load_services
from firelet.wire.aws.validate import Validator

SERVICES = {service.name: service for service in load_services()}
ROLE = "arn:aws:iam::111111111111:role/r"
CREATE = {"FunctionName": "f", "Role": ROLE, "Code": {"ZipFile": b"PK"}}
ALIAS_PATTERN = r"((?!^\d+$)^[0-9a-zA-Z-_]+$)"
FUNCTION_PATTERN = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?"
    r"(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?"
)


def refusal(operation: str, params: dict[str, Any], service: str = "lambda") -> CallerError:
    with pytest.raises(CallerError) as caught:
        Validator().check(SERVICES[service].operations[operation], params)
    return caught.value


def one(value: str, path: str, constraint: str) -> str:
    return (
        f"1 validation error detected: Value {value} at '{path}' failed to satisfy constraint:"
        f" {constraint}"
    )


@pytest.mark.parametrize(
    ("operation", "params", "sentence"),
    [
        (
            "PublishVersion",
            {"FunctionName": "f", "Description": "d", "RevisionId": "r", "PublishTo": ""},
            one("''", "publishTo", "Member must satisfy enum value set: [LATEST_PUBLISHED]"),
        ),
        (
            "PutProvisionedConcurrencyConfig",
            {"FunctionName": "f", "Qualifier": "1", "ProvisionedConcurrentExecutions": 0},
            one(
                "'0'",
                "provisionedConcurrentExecutions",
                "Member must have value greater than or equal to 1",
            ),
        ),
        (
            "CreateAlias",
            {"FunctionName": "f", "Name": "2024", "FunctionVersion": "1"},
            one(
                "'2024'",
                "name",
                "Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)",
            ),
        ),
        (
            "PutFunctionRecursionConfig",
            {"FunctionName": "f", "RecursiveLoop": "InvalidValue"},
            one(
                "'InvalidValue'",
                "recursiveLoop",
                "Member must satisfy enum value set: [Terminate, Allow]",
            ),
        ),
        (
            "CreateFunction",
            CREATE | {"VpcConfig": {"SecurityGroupIds": ["x"]}},
            one(
                "'[x]'",
                "vpcConfig.securityGroupIds",
                "Member must satisfy constraint: [Member must have length less than or equal to"
                " 1024, Member must have length greater than or equal to 0, Member must satisfy"
                " regular expression pattern: sg-[0-9a-zA-Z]*]",
            ),
        ),
        (
            "CreateFunction",
            CREATE | {"VpcConfig": {"SubnetIds": ["x"]}},
            one(
                "'[x]'",
                "vpcConfig.subnetIds",
                "Member must satisfy constraint: [Member must have length less than or equal to"
                " 1024, Member must have length greater than or equal to 0, Member must satisfy"
                " regular expression pattern: subnet-[0-9a-z]*]",
            ),
        ),
        (
            "CreateFunction",
            CREATE | {"Architectures": ["X86_64"]},
            one(
                "'[X86_64]'",
                "architectures",
                "Member must satisfy constraint: [Member must satisfy enum value set: [x86_64,"
                " arm64], Member must not be null]",
            ),
        ),
        (
            "CreateFunction",
            CREATE | {"Architectures": ["x86_64", "arm64"]},
            one(
                "'[x86_64, arm64]'",
                "architectures",
                "Member must have length less than or equal to 1",
            ),
        ),
        (
            "ListLayers",
            {"CompatibleArchitecture": "archdoesnotexist"},
            one(
                "'archdoesnotexist'",
                "compatibleArchitecture",
                "Member must satisfy enum value set: [x86_64, arm64]",
            ),
        ),
        (
            "GetFunctionConcurrency",
            {"FunctionName": "f" * 141},
            one(
                f"'{'f' * 141}'",
                "functionName",
                "Member must have length less than or equal to 140",
            ),
        ),
        (
            "ListFunctions",
            {"FunctionVersion": "invalid"},
            one("'invalid'", "functionVersion", "Member must satisfy enum value set: [ALL]"),
        ),
        (
            "CreateFunctionUrlConfig",
            {"FunctionName": "f", "Qualifier": "$LATEST", "AuthType": "NONE"},
            one(
                "'$LATEST'",
                "qualifier",
                f"Member must satisfy regular expression pattern: {ALIAS_PATTERN}",
            ),
        ),
        (
            "GetFunctionConcurrency",
            {"FunctionName": "invalid:function:name"},
            one(
                "'invalid:function:name'",
                "functionName",
                f"Member must satisfy regular expression pattern: {FUNCTION_PATTERN}",
            ),
        ),
        (
            "CreateFunction",
            CREATE | {"SnapStart": {"ApplyOn": "invalidOption"}},
            one(
                "'invalidOption'",
                "snapStart.applyOn",
                "Member must satisfy enum value set: [PublishedVersions, None]",
            ),
        ),
        (
            "CreateFunction",
            CREATE | {"Role": "r1"},
            one(
                "'r1'",
                "role",
                "Member must satisfy regular expression pattern:"
                r" arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
            ),
        ),
        (
            "AddLayerVersionPermission",
            {
                "LayerName": "l",
                "VersionNumber": 1,
                "StatementId": "s",
                "Action": "*",
                "Principal": "*",
            },
            one(
                "'*'",
                "action",
                "Member must satisfy regular expression pattern: lambda:GetLayerVersion",
            ),
        ),
        (
            "CreateAlias",
            {
                "FunctionName": "f",
                "Name": "a",
                "FunctionVersion": "1",
                "RoutingConfig": {"AdditionalVersionWeights": {"$LATEST": 0.5}},
            },
            one(
                "'{$LATEST=0.5}'",
                "routingConfig.additionalVersionWeights",
                "Map keys must satisfy constraint: [Member must have length less than or equal to"
                " 1024, Member must have length greater than or equal to 1, Member must satisfy"
                " regular expression pattern: [0-9]+]",
            ),
        ),
        (
            "CreateAlias",
            {
                "FunctionName": "f",
                "Name": "a",
                "FunctionVersion": "1",
                "RoutingConfig": {"AdditionalVersionWeights": {"2": 2}},
            },
            one(
                "'{2=2.0}'",
                "routingConfig.additionalVersionWeights",
                "Map value must satisfy constraint: [Member must have value less than or equal to"
                " 1.0, Member must have value greater than or equal to 0.0, Member must not be"
                " null]",
            ),
        ),
        (
            "UntagResource",
            {"Resource": "arn:aws:lambda:us-east-1:111111111111:function:f"},
            one("null", "tagKeys", "Member must not be null"),
        ),
    ],
)
def test_a_failed_constraint_is_refused_in_the_recorded_sentence(
    operation: str, params: dict[str, Any], sentence: str
) -> None:
    error = refusal(operation, params)
    assert error.message == sentence
    assert error.code == "ValidationException"


def test_several_failures_are_counted_and_joined() -> None:
    error = refusal("CreateFunction", {"FunctionName": "f", "Role": "r1", "Timeout": 0})
    assert error.message.startswith("3 validation errors detected: Value 'r1' at 'role' failed")
    assert error.message.endswith(
        "; Value null at 'code' failed to satisfy constraint: Member must not be null;"
        " Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater"
        " than or equal to 1"
    )


def test_an_unknown_runtime_has_a_code_and_sentence_of_its_own() -> None:
    error = refusal("CreateFunction", CREATE | {"Runtime": "PYTHON3.9"})
    assert isinstance(error, InvalidParameterValue)
    assert error.code == "InvalidParameterValueException"
    assert error.message.startswith(
        "Value PYTHON3.9 at 'runtime' failed to satisfy constraint:"
        " Member must satisfy enum value set: ["
    )
    assert error.message.endswith("] or be a valid ARN")


def test_an_unknown_runtime_is_told_only_when_the_rest_is_valid() -> None:
    error = refusal("CreateFunction", CREATE | {"Runtime": "x", "Timeout": 0})
    assert isinstance(error, ValidationError)
    assert error.message.startswith("1 validation error detected: Value '0' at 'timeout'")


def test_unknown_compatible_runtimes_are_told_without_a_member_clause() -> None:
    error = refusal(
        "PublishLayerVersion",
        {
            "LayerName": "l",
            "Content": {"ZipFile": b"PK"},
            "CompatibleRuntimes": ["invalidruntime"],
            "CompatibleArchitectures": ["invalidarch"],
        },
    )
    assert "2 validation errors detected: " in error.message
    assert (
        "Value '[invalidruntime]' at 'compatibleRuntimes' failed to satisfy constraint:"
        " Member must satisfy enum value set: ["
    ) in error.message
    assert (
        "Value '[invalidarch]' at 'compatibleArchitectures' failed to satisfy constraint:"
        " Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64]]"
    ) in error.message


def test_members_of_structures_in_lists_are_numbered_from_one() -> None:
    error = refusal(
        "CreateFunction",
        CREATE | {"FileSystemConfigs": [{"Arn": "x" * 201, "LocalMountPath": "/mnt/a"}]},
    )
    assert "at 'fileSystemConfigs.1.member.arn' failed" in error.message


def test_a_null_in_a_list_of_values_is_refused() -> None:
    error = refusal("CreateFunction", CREATE | {"Architectures": [None]})
    assert "Value '[null]' at 'architectures'" in error.message


def test_a_null_in_a_map_is_refused() -> None:
    arn = "arn:aws:lambda:us-east-1:111111111111:function:f"
    error = refusal("TagResource", {"Resource": arn, "Tags": {"a": None}})
    assert "Value '{a=null}' at 'tags' failed to satisfy constraint: Map value must" in (
        error.message
    )


def test_a_secret_is_not_repeated() -> None:
    error = refusal("CreateLoginProfile", {"UserName": "u", "Password": "x" * 200}, service="iam")
    assert "xxx" not in error.message
    assert "Value at 'password' failed to satisfy constraint" in error.message


def test_a_long_value_is_repeated_in_part() -> None:
    error = refusal("GetFunction", {"FunctionName": "f" * 1_000_000})
    assert len(error.message) < PRINTED_MAX_CHARS + 1_000


@pytest.mark.parametrize(
    ("service", "operation", "code"),
    [
        ("iam", "CreateRole", "ValidationError"),
        ("sts", "AssumeRole", "ValidationError"),
        ("logs", "CreateLogGroup", "InvalidParameterException"),
        ("lambda", "CreateFunction", "ValidationException"),
    ],
)
def test_each_service_has_its_code_for_a_failed_constraint(
    service: str, operation: str, code: str
) -> None:
    assert refusal(operation, {}, service=service).code == code


@pytest.mark.parametrize(
    "params",
    [
        CREATE,
        CREATE | {"Runtime": "python3.12", "Handler": "a.b", "Timeout": 3, "MemorySize": 128},
        CREATE | {"Environment": {"Variables": {"NAME": "b"}}, "Layers": []},
        CREATE | {"Tags": {"größe": "1"}},
    ],
)
def test_valid_parameters_pass(params: dict[str, Any]) -> None:
    Validator().check(SERVICES["lambda"].operations["CreateFunction"], params)
