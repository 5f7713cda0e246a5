"""TracingConfig and RuntimeVersionConfig, as the function and its log see them."""

from __future__ import annotations

import re
from typing import Any

from running_platform import Deployer, Platform, wait_until

pytest_plugins = ("platform_fixtures",)

TRACE = """
import os

def handler(event, context):
    return os.environ["_X_AMZN_TRACE_ID"]
"""
ROOT = r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}"


def test_active_tracing_samples_what_nobody_has_decided(
    platform: Platform, deploy: Deployer, lambda_client: Any
) -> None:
    name = deploy(TRACE, TracingConfig={"Mode": "Active"})
    answer = platform.invoke(name)
    assert re.fullmatch(
        rf"{ROOT};Parent=[0-9a-f]{{16}};Sampled=1;Lineage=[0-9a-f]{{8}}:0", answer.json
    )
    assert answer.headers["x-amzn-trace-id"] == answer.json
    lambda_client.update_function_configuration(
        FunctionName=name, TracingConfig={"Mode": "PassThrough"}
    )
    lambda_client.get_waiter("function_updated_v2").wait(FunctionName=name)
    assert re.fullmatch(rf"{ROOT};Sampled=0;Lineage=[0-9a-f]{{8}}:0", platform.invoke(name).json)


def test_the_log_names_the_build_of_the_runtime_that_the_configuration_does(
    platform: Platform, deploy: Deployer, lambda_client: Any
) -> None:
    name = deploy(TRACE)
    platform.invoke(name)
    found = lambda_client.get_function_configuration(FunctionName=name)
    arn = found["RuntimeVersionConfig"]["RuntimeVersionArn"]
    lines = wait_until(lambda: platform.log_lines(f"/aws/lambda/{name}"), "the log")
    assert lines[0].rstrip().endswith(f"Runtime Version ARN: {arn}")
