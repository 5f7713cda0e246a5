"""Asynchronous invocation with settings: retries, destinations, and loops that are stopped."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from firelet.model import limits
from running_platform import ACCOUNT, REGION, Deployer, Platform, wait_until

pytest_plugins = ("platform_fixtures",)

FAIL = "def handler(event, context):\n    raise ValueError(event)\n"
PRINT = "import json\ndef handler(event, context):\n    print('GOT ' + json.dumps(event))\n"


def arn_of(name: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


def printed(platform: Platform, name: str) -> list[Any]:
    """The events that a function which prints them has got."""
    found = []
    for line in platform.log_lines(f"/aws/lambda/{name}"):
        match = re.match(r"GOT (.*)", line)
        if match is not None:
            found.append(json.loads(match[1]))
    return found


@pytest.fixture
def listener(deploy: Deployer) -> str:
    """A function that prints what it is told."""
    return deploy(PRINT)


def test_a_success_is_told_to_another_function(
    deploy: Deployer, listener: str, platform: Platform, lambda_client: Any
) -> None:
    name = deploy("def handler(event, context):\n    return {'done': event}\n")
    lambda_client.put_function_event_invoke_config(
        FunctionName=name, DestinationConfig={"OnSuccess": {"Destination": arn_of(listener)}}
    )
    answer = platform.invoke(name, {"n": 1}, InvocationType="Event")
    (record,) = wait_until(lambda: printed(platform, listener), "the listener is told")
    context = record["requestContext"]
    assert context == {
        "requestId": answer.request_id,
        "functionArn": f"{arn_of(name)}:$LATEST",
        "condition": "Success",
        "approximateInvokeCount": 1,
    }
    assert record["requestPayload"] == {"n": 1}
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}
    assert record["responsePayload"] == {"done": {"n": 1}}


def test_a_failure_without_retries_is_told_at_once(
    deploy: Deployer, listener: str, platform: Platform, lambda_client: Any
) -> None:
    name = deploy(FAIL)
    lambda_client.put_function_event_invoke_config(
        FunctionName=name,
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": arn_of(listener)}},
    )
    platform.invoke(name, "why", InvocationType="Event")
    (record,) = wait_until(lambda: printed(platform, listener), "the listener is told")
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["responseContext"]["functionError"] == "Unhandled"
    assert record["responsePayload"]["errorType"] == "ValueError"


def test_an_event_of_a_function_that_is_switched_off_is_told_at_once(
    deploy: Deployer, listener: str, platform: Platform, lambda_client: Any
) -> None:
    name = deploy(FAIL)
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    lambda_client.put_function_event_invoke_config(
        FunctionName=name, DestinationConfig={"OnFailure": {"Destination": arn_of(listener)}}
    )
    platform.invoke(name, "why", InvocationType="Event")
    (record,) = wait_until(lambda: printed(platform, listener), "the listener is told")
    assert record["requestContext"]["condition"] == "ZeroReservedConcurrency"
    assert "responseContext" not in record


def test_two_functions_that_are_each_others_destination_are_stopped(
    deploy: Deployer, listener: str, platform: Platform, lambda_client: Any
) -> None:
    first, second = deploy(PRINT), deploy(PRINT)
    for name, other in ((first, second), (second, first)):
        lambda_client.put_function_event_invoke_config(
            FunctionName=name,
            DestinationConfig={
                "OnSuccess": {"Destination": arn_of(other)},
                "OnFailure": {"Destination": arn_of(listener)},
            },
        )
    platform.invoke(first, 0, InvocationType="Event")
    (record,) = wait_until(lambda: printed(platform, listener), "the loop is found out", 60)
    assert record["requestContext"]["condition"] == "RecursiveInvocation"
    assert record["requestContext"]["functionArn"] == f"{arn_of(first)}:$LATEST"
    assert len(printed(platform, first)) == limits.RECURSION_MAX


def test_a_synchronous_loop_is_refused_unless_it_is_allowed(
    deploy: Deployer, platform: Platform, lambda_client: Any
) -> None:
    name = deploy(
        "import os\ndef handler(event, context):\n    return os.environ['_X_AMZN_TRACE_ID']\n"
    )
    trace = platform.invoke(name).json
    client = platform.client("lambda")
    events = client.meta.events

    def add_trace(request: Any, **_: Any) -> None:
        request.headers["X-Amzn-Trace-Id"] = trace

    events.register("before-sign.lambda.Invoke", add_trace)
    try:
        for _ in range(limits.RECURSION_MAX - 1):
            trace = platform.invoke(name).json
        with pytest.raises(client.exceptions.RecursiveInvocationException):
            platform.invoke(name)
        lambda_client.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")
        assert platform.invoke(name).json != trace
    finally:
        events.unregister("before-sign.lambda.Invoke", add_trace)


def test_the_old_operation_for_events_still_works(
    listener: str, platform: Platform, lambda_client: Any
) -> None:
    answer = lambda_client.invoke_async(FunctionName=listener, InvokeArgs=b'{"old": 1}')
    assert answer["Status"] == 202
    assert wait_until(lambda: printed(platform, listener), "it has run") == [{"old": 1}]
