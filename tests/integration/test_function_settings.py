"""What hangs on a function, through boto3: policies, URLs, code signing, runtime management."""

from __future__ import annotations

import json
from typing import Any

import pytest

from running_platform import ACCOUNT, REGION, Deployer, Platform
from signed_packages import make_signer, sign_package

pytest_plugins = ("platform_fixtures",)

ECHO = "def handler(event, context):\n    return event\n"
GRANT = {"StatementId": "s3", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
PROFILE = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/release/abcdefghij"
JOB = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-jobs/01234567-89ab-cdef-0123-456789abcdef"
SIGNER = make_signer()
SIGNED = sign_package({"app.py": ECHO}, SIGNER, PROFILE, JOB)
CHANGED = sign_package({"app.py": ""}, SIGNER, PROFILE, JOB, changed={"app.py": ECHO})


def arn_of(name: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


def error_of(caught: pytest.ExceptionInfo[Any]) -> tuple[str, str]:
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


@pytest.fixture
def aliased(deploy: Deployer, lambda_client: Any) -> str:
    """A function with version 1 and the alias ``live``."""
    name = deploy(ECHO, Publish=True)
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    return name


def test_permissions_by_statement_and_as_a_document(aliased: str, lambda_client: Any) -> None:
    added = lambda_client.add_permission(
        FunctionName=f"{aliased}:live", **GRANT, SourceArn="arn:aws:s3:::b", SourceAccount=ACCOUNT
    )
    arn = f"{arn_of(aliased)}:live"
    assert added["Statement"] == (
        '{"Sid":"s3","Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},'
        f'"Action":"lambda:InvokeFunction","Resource":"{arn}",'
        f'"Condition":{{"StringEquals":{{"AWS:SourceAccount":"{ACCOUNT}"}},'
        '"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::b"}}}'
    )
    found = lambda_client.get_policy(FunctionName=aliased, Qualifier="live")
    alias = lambda_client.get_alias(FunctionName=aliased, Name="live")
    assert found["RevisionId"] == alias["RevisionId"]
    document = lambda_client.get_resource_policy(ResourceArn=arn)
    assert document["Policy"] == found["Policy"]
    replaced = lambda_client.put_resource_policy(
        ResourceArn=arn, Policy=document["Policy"], RevisionId=document["RevisionId"]
    )
    with pytest.raises(lambda_client.exceptions.PreconditionFailedException):
        lambda_client.delete_resource_policy(ResourceArn=arn, RevisionId=document["RevisionId"])
    lambda_client.delete_resource_policy(ResourceArn=arn, RevisionId=replaced["RevisionId"])
    with pytest.raises(lambda_client.exceptions.ResourceNotFoundException):
        lambda_client.get_policy(FunctionName=aliased, Qualifier="live")


def test_the_errors_of_policies_have_their_shapes(aliased: str, lambda_client: Any) -> None:
    lambda_client.add_permission(FunctionName=aliased, **GRANT)
    with pytest.raises(lambda_client.exceptions.ResourceConflictException) as caught:
        lambda_client.add_permission(FunctionName=aliased, **GRANT)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409
    source = "arn:aws:s3:::" + "b" * 9_900
    second = {**GRANT, "StatementId": "second", "SourceArn": source}
    lambda_client.add_permission(FunctionName=aliased, **second)
    third = {**second, "StatementId": "third", "SourceArn": f"{source}bbbbb"}
    with pytest.raises(lambda_client.exceptions.PolicyLengthExceededException):
        lambda_client.add_permission(FunctionName=aliased, **third, SourceAccount=ACCOUNT)
    with pytest.raises(lambda_client.exceptions.InvalidParameterValueException) as caught:
        lambda_client.add_permission(FunctionName=aliased, Qualifier="$LATEST", **GRANT)
    assert error_of(caught)[1] == "We currently do not support adding policies for $LATEST."


def test_function_urls_are_made_listed_changed_and_deleted(
    aliased: str, lambda_client: Any, platform: Platform
) -> None:
    cors = {"AllowOrigins": ["*"], "AllowMethods": ["GET", "POST"], "MaxAge": 300}
    for options in ({}, {"Qualifier": "live", "Cors": cors, "InvokeMode": "RESPONSE_STREAM"}):
        created = lambda_client.create_function_url_config(
            FunctionName=aliased, AuthType="NONE", **options
        )
        assert created["FunctionUrl"].endswith(f".lambda-url.{REGION}.localhost:{platform.port}/")
    pages = lambda_client.get_paginator("list_function_url_configs").paginate(
        FunctionName=aliased, PaginationConfig={"PageSize": 1}
    )
    listed = [item for page in pages for item in page["FunctionUrlConfigs"]]
    assert [item["FunctionArn"] for item in listed] == [
        arn_of(aliased),
        f"{arn_of(aliased)}:live",
    ]
    assert (listed[1]["Cors"], listed[1]["InvokeMode"]) == (cors, "RESPONSE_STREAM")
    updated = lambda_client.update_function_url_config(
        FunctionName=aliased, Qualifier="live", AuthType="AWS_IAM"
    )
    assert (updated["AuthType"], updated["Cors"]) == ("AWS_IAM", cors)
    lambda_client.delete_function_url_config(FunctionName=aliased, Qualifier="live")
    with pytest.raises(lambda_client.exceptions.ResourceNotFoundException):
        lambda_client.get_function_url_config(FunctionName=aliased, Qualifier="live")


def test_code_signing_lets_in_what_is_signed(
    deploy: Deployer, lambda_client: Any, platform: Platform
) -> None:
    config = lambda_client.create_code_signing_config(
        AllowedPublishers={"SigningProfileVersionArns": [PROFILE]},
        CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Enforce"},
        Tags={"team": "a"},
    )["CodeSigningConfig"]
    arn = config["CodeSigningConfigArn"]
    with pytest.raises(lambda_client.exceptions.CodeVerificationFailedException):
        deploy.create(deploy.name(), ECHO, CodeSigningConfigArn=arn)
    name = deploy(SIGNED, CodeSigningConfigArn=arn)
    found = lambda_client.get_function_configuration(FunctionName=name)
    assert (found["SigningProfileVersionArn"], found["SigningJobArn"]) == (PROFILE, JOB)
    with pytest.raises(lambda_client.exceptions.InvalidCodeSignatureException):
        lambda_client.update_function_code(FunctionName=name, ZipFile=CHANGED)
    assert platform.invoke(name, [1]).json == [1]
    pages = lambda_client.get_paginator("list_functions_by_code_signing_config").paginate(
        CodeSigningConfigArn=arn
    )
    assert [item for page in pages for item in page["FunctionArns"]] == [arn_of(name)]
    listed = lambda_client.get_paginator("list_code_signing_configs").paginate(
        PaginationConfig={"PageSize": 1}
    )
    assert config in [item for page in listed for item in page["CodeSigningConfigs"]]
    assert lambda_client.list_tags(Resource=arn)["Tags"] == {"team": "a"}
    lambda_client.delete_function_code_signing_config(FunctionName=name)
    assert "CodeSigningConfigArn" not in lambda_client.get_function_code_signing_config(
        FunctionName=name
    )
    lambda_client.delete_code_signing_config(CodeSigningConfigArn=arn)
    with pytest.raises(lambda_client.exceptions.CodeSigningConfigNotFoundException):
        lambda_client.put_function_code_signing_config(FunctionName=name, CodeSigningConfigArn=arn)


def test_runtime_management_is_kept_by_version(aliased: str, lambda_client: Any) -> None:
    found = lambda_client.get_function_configuration(FunctionName=aliased, Qualifier="1")
    build = found["RuntimeVersionConfig"]["RuntimeVersionArn"]
    put = lambda_client.put_runtime_management_config(
        FunctionName=aliased, Qualifier="1", UpdateRuntimeOn="Manual", RuntimeVersionArn=build
    )
    assert put["RuntimeVersionArn"] == build
    latest = lambda_client.get_runtime_management_config(FunctionName=aliased)
    assert latest["UpdateRuntimeOn"] == "Auto"


def test_what_hangs_on_a_function_survives_a_crash_and_ends_with_it(
    make_platform: Any,
) -> None:
    platform = make_platform()
    deploy = Deployer(platform)
    client = platform.client("lambda")
    name = deploy(ECHO)
    client.add_permission(FunctionName=name, **GRANT)
    url = client.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]
    client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    platform.kill()
    platform.start()
    client = platform.client("lambda")
    statements = json.loads(client.get_policy(FunctionName=name)["Policy"])["Statement"]
    assert [statement["Sid"] for statement in statements] == ["s3"]
    again = client.get_function_url_config(FunctionName=name)["FunctionUrl"]
    assert again.partition(".")[0] == url.partition(".")[0], "the port is another one"
    client.delete_function(FunctionName=name)
    deploy(ECHO, FunctionName=name)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_policy(FunctionName=name)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function_url_config(FunctionName=name)
    assert (
        client.list_function_event_invoke_configs(FunctionName=name)["FunctionEventInvokeConfigs"]
        == []
    )
