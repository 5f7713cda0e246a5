"""Tenant isolation through boto3: environments, context, and what does not go together."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from firelet.sandbox.interpreters import discover
from running_platform import Deployer, Platform, wait_until

pytest_plugins = ("platform_fixtures",)

NODES = sorted(name for name in discover() if name.startswith("nodejs"))
TENANCY = {"TenantIsolationMode": "PER_TENANT"}
REMEMBERS = """
import os
seen = []
def handler(event, context):
    seen.append(context.tenant_id)
    with open("/tmp/tenants", "a") as file:
        file.write(context.tenant_id + " ")
    print("served", context.tenant_id, event)
    return [seen, open("/tmp/tenants").read()]
"""


@pytest.fixture
def function(deploy: Deployer) -> str:
    return deploy(REMEMBERS, TenancyConfig=TENANCY)


def refusal(call: Any, **params: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**params)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_no_environment_serves_two_tenants(function: str, platform: Platform) -> None:
    said = [
        platform.invoke(function, TenantId=tenant).json
        for tenant in ("blue", "green", "blue", "a/b:c")
    ]
    assert said == [
        [["blue"], "blue "],
        [["green"], "green "],
        [["blue", "blue"], "blue blue "],
        [["a/b:c"], "a/b:c "],
    ]


def test_an_asynchronous_invocation_has_a_tenant_too(function: str, platform: Platform) -> None:
    client = platform.client("lambda")
    client.invoke(
        FunctionName=function, InvocationType="Event", TenantId="blue", Payload=json.dumps(7)
    )
    group = f"/aws/lambda/{function}"
    wait_until(lambda: "served blue 7\n" in platform.log_lines(group), "it was served")


def test_a_tenant_is_in_every_record_of_its_invocations(
    platform: Platform, deploy: Deployer, lambda_client: Any
) -> None:
    logging = {"LogFormat": "JSON", "SystemLogLevel": "DEBUG"}
    name = deploy(REMEMBERS, TenancyConfig=TENANCY, LoggingConfig=logging)
    answer = platform.invoke(name, TenantId="blue", LogType="Tail")
    records = [json.loads(line) for line in answer.log.splitlines() if line.startswith('{"time"')]
    assert {record["type"]: record["record"]["tenantId"] for record in records} == {
        "platform.start": "blue",
        "platform.runtimeDone": "blue",
        "platform.report": "blue",
    }
    configuration = lambda_client.get_function_configuration(FunctionName=name)
    assert records[0]["record"]["functionArn"] == configuration["FunctionArn"]


def test_a_tenant_is_named_where_tenants_are_kept_apart_and_only_there(
    function: str, deploy: Deployer, lambda_client: Any
) -> None:
    plain = deploy("def handler(event, context):\n    return context.tenant_id\n")
    assert refusal(lambda_client.invoke, FunctionName=function) == (
        "InvalidParameterValueException",
        "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your"
        " request and try again.",
    )
    code, _ = refusal(lambda_client.invoke, FunctionName=plain, TenantId="blue")
    assert code == "InvalidParameterValueException"
    assert json.loads(lambda_client.invoke(FunctionName=plain)["Payload"].read()) is None


def test_tenancy_is_returned_and_kept(function: str, deploy: Deployer, lambda_client: Any) -> None:
    lambda_client.update_function_configuration(FunctionName=function, Timeout=9)
    found = deploy.settle(function)
    assert (found["TenancyConfig"], found["Timeout"]) == (TENANCY, 9)


def test_a_version_with_tenants_has_nothing_provisioned(function: str, lambda_client: Any) -> None:
    version = lambda_client.publish_version(FunctionName=function)["Version"]
    lambda_client.get_waiter("published_version_active").wait(
        FunctionName=function, Qualifier=version
    )
    code, _ = refusal(
        lambda_client.put_provisioned_concurrency_config,
        FunctionName=function,
        Qualifier=version,
        ProvisionedConcurrentExecutions=1,
    )
    assert code == "InvalidParameterValueException"


def test_a_function_with_tenants_has_no_url(function: str, lambda_client: Any) -> None:
    code, _ = refusal(
        lambda_client.create_function_url_config, FunctionName=function, AuthType="NONE"
    )
    assert code == "InvalidParameterValueException"


@pytest.mark.skipif(not NODES, reason="there is no node on PATH")
def test_node_functions_know_their_tenant(deploy: Deployer, platform: Platform) -> None:
    name = deploy(
        {"app.js": "exports.handler = async (event, context) => context.tenantId\n"},
        Runtime=NODES[-1],
        TenancyConfig=TENANCY,
    )
    assert platform.invoke(name, TenantId="blue").json == "blue"


def test_all_tenants_together_have_so_many_environments(
    function: str, platform: Platform, lambda_client: Any
) -> None:
    """Five for two of concurrency; those that have one are served as before."""
    lambda_client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=2)
    for tenant in "abcde":
        platform.invoke(function, TenantId=tenant)
    assert refusal(lambda_client.invoke, FunctionName=function, TenantId="f") == (
        "TooManyRequestsException",
        "Rate Exceeded.",
    )
    assert platform.invoke(function, TenantId="a").json == [["a", "a"], "a a "]
