"""Provisioned concurrency on a real platform: ready before it is needed, and always there."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from running_platform import Answer, Deployer, Platform, wait_until

pytest_plugins = ("platform_fixtures",)

# Says who it is and how it came to be; stays, crashes or exits when it is told to.
WORKER = """
import os, time, uuid
me = uuid.uuid4().hex
print("made", me)
def handler(event, context):
    event = event or {}
    if "exit" in event:
        os._exit(event["exit"])
    time.sleep(event.get("sleep", 0))
    return {
        "me": me,
        "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"],
        "version": context.function_version,
    }
"""
BROKEN = "raise RuntimeError('no database')\ndef handler(event, context):\n    return 1\n"


class Function:
    """A function with version 1, and what is provisioned of it."""

    def __init__(self, platform: Platform, name: str) -> None:
        self.platform = platform
        self.name = name
        self.client = platform.client("lambda")
        self.client.publish_version(FunctionName=name)

    def provide(self, count: int, qualifier: str = "1") -> Any:
        return self.client.put_provisioned_concurrency_config(
            FunctionName=self.name, Qualifier=qualifier, ProvisionedConcurrentExecutions=count
        )

    def found(self, qualifier: str = "1") -> Any:
        found = self.client.get_provisioned_concurrency_config(
            FunctionName=self.name, Qualifier=qualifier
        )
        del found["ResponseMetadata"]
        return found

    def wait_for(self, status: str, qualifier: str = "1") -> Any:
        def reached() -> Any:
            found = self.found(qualifier)
            return found if found["Status"] == status else None

        return wait_until(reached, f"the status is {status}")

    def invoke(self, qualifier: str = "1", **event: Any) -> Answer:
        return self.platform.invoke(self.name, event, Qualifier=qualifier)

    def lines(self, prefix: str) -> list[str]:
        lines = self.platform.log_lines(f"/aws/lambda/{self.name}")
        return [line for line in lines if line.startswith(prefix)]

    def wait_for_lines(self, prefix: str, count: int) -> None:
        """Logs reach the disk a moment later."""
        wait_until(lambda: len(self.lines(prefix)) >= count, f"{count} lines say {prefix}")

    def publish(self, code: str) -> str:
        """The number of a new version."""
        Deployer(self.platform).update(self.name, code)
        number = self.client.publish_version(FunctionName=self.name)["Version"]
        return str(number)


@pytest.fixture
def function(deploy: Deployer, platform: Platform) -> Function:
    """With nothing provisioned yet."""
    return Function(platform, deploy(WORKER, Timeout=20))


def test_environments_are_initialised_before_the_first_call(function: Function) -> None:
    put = function.provide(2)
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert put["Status"] == "IN_PROGRESS"
    assert put["RequestedProvisionedConcurrentExecutions"] == 2

    ready = function.wait_for("READY")

    assert ready["AvailableProvisionedConcurrentExecutions"] == 2
    assert ready["AllocatedProvisionedConcurrentExecutions"] == 2
    assert "StatusReason" not in ready
    function.wait_for_lines("INIT_REPORT Init Duration: ", 2)
    assert function.lines("START") == [], "nothing has been invoked"

    answer = function.invoke(sleep=0)
    assert answer.json["type"] == "provisioned-concurrency"
    function.wait_for_lines("REPORT", 1)
    assert "\tInit Duration: " in function.lines("REPORT")[0]


def test_what_is_not_provisioned_is_on_demand(function: Function) -> None:
    function.provide(1)
    function.wait_for("READY")

    assert function.invoke("$LATEST").json["type"] == "on-demand"


def test_one_invocation_more_than_there_are_environments_is_served_on_demand(
    function: Function,
) -> None:
    function.provide(2)
    function.wait_for("READY")

    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(function.invoke, sleep=3) for _ in range(3)]
        types = sorted(answer.result().json["type"] for answer in answers)

    assert types == ["on-demand", "provisioned-concurrency", "provisioned-concurrency"]


def test_one_that_exits_is_replaced_before_it_is_needed(function: Function) -> None:
    function.provide(1)
    function.wait_for("READY")
    before = function.invoke().json["me"]

    assert function.invoke(exit=3).error == "Unhandled"

    function.wait_for_lines("INIT_REPORT Init Duration: ", 2)
    function.wait_for("READY")
    after = function.invoke().json
    assert after["type"] == "provisioned-concurrency"
    assert after["me"] != before


def test_it_is_never_stopped_for_being_idle(make_platform: Callable[..., Platform]) -> None:
    platform = make_platform(FIRELET_IDLE_STOP_AFTER_S="0.5", FIRELET_FREEZE_AFTER_S="0.1")
    function = Function(platform, Deployer(platform)(WORKER))
    function.provide(1)
    function.wait_for("READY")
    before = function.invoke().json

    time.sleep(1.5)

    assert function.invoke().json == before


@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
def test_a_restart_of_the_platform_brings_them_back(
    make_platform: Callable[..., Platform], is_killed: bool
) -> None:
    platform = make_platform()
    function = Function(platform, Deployer(platform)(WORKER))
    function.provide(2)
    before = function.wait_for("READY")
    if is_killed:
        platform.kill()
        wait_until(lambda: not platform.leftovers(), "a killed platform is cleaned up after")
    else:
        assert platform.stop() == 0

    platform.start()

    function.client = platform.client("lambda")
    assert function.wait_for("READY") == before
    assert function.lines("START") == []
    assert function.invoke().json["type"] == "provisioned-concurrency"


def test_an_init_that_fails_is_reported_and_not_repeated_silently(
    deploy: Deployer, platform: Platform
) -> None:
    function = Function(platform, deploy(BROKEN))
    function.wait_for_lines("INIT_START", 2)  # ahead of the first calls of $LATEST and 1
    function.provide(3)

    failed = function.wait_for("FAILED")

    assert failed["StatusReason"] == "FUNCTION_ERROR_INIT_FAILURE"
    assert failed["AvailableProvisionedConcurrentExecutions"] == 0
    function.wait_for_lines("INIT_START", 5)  # each of the three is begun once
    time.sleep(1.0)
    assert len(function.lines("INIT_START")) == 5
    assert function.invoke().error == "Unhandled"


def test_an_alias_takes_its_environments_with_it_when_it_moves(function: Function) -> None:
    function.client.create_alias(FunctionName=function.name, Name="live", FunctionVersion="1")
    function.provide(1, "live")
    function.wait_for("READY", "live")
    assert function.invoke("live").json["type"] == "provisioned-concurrency"
    number = function.publish(WORKER + "\n# changed\n")

    function.client.update_alias(FunctionName=function.name, Name="live", FunctionVersion=number)

    function.wait_for("READY", "live")
    moved = function.invoke("live").json
    assert (moved["version"], moved["type"]) == (number, "provisioned-concurrency")
    assert function.invoke("1").json["type"] == "on-demand"


def test_nothing_is_provisioned_any_more_after_a_delete(function: Function) -> None:
    function.provide(1)
    function.wait_for("READY")

    deleted = function.client.delete_provisioned_concurrency_config(
        FunctionName=function.name, Qualifier="1"
    )

    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(
        function.client.exceptions.ProvisionedConcurrencyConfigNotFoundException
    ) as caught:
        function.found()
    assert caught.value.response["Error"]["Message"] == (
        "No Provisioned Concurrency Config found for this function"
    )
    assert function.invoke().json["type"] == "on-demand"


def test_what_is_provisioned_of_a_reservation_is_not_there_for_latest(
    function: Function,
) -> None:
    client = function.client
    client.put_function_concurrency(FunctionName=function.name, ReservedConcurrentExecutions=1)
    function.provide(1)
    function.wait_for("READY")

    with pytest.raises(client.exceptions.TooManyRequestsException) as caught:
        function.invoke("$LATEST")

    reason = caught.value.response["Reason"]
    assert reason == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert function.invoke("1").error is None


def test_a_number_below_1_is_refused_by_the_model(function: Function, platform: Platform) -> None:
    loose = platform.client("lambda", is_strict=False)
    with pytest.raises(loose.exceptions.ClientError) as caught:
        loose.put_provisioned_concurrency_config(
            FunctionName=function.name, Qualifier="1", ProvisionedConcurrentExecutions=0
        )
    error = caught.value.response["Error"]
    assert error["Code"] == "ValidationException"
    assert error["Message"] == (
        "1 validation error detected: Value '0' at 'provisionedConcurrentExecutions' failed to"
        " satisfy constraint: Member must have value greater than or equal to 1"
    )


def test_configurations_are_listed_in_pages(function: Function) -> None:
    client = function.client
    number = function.publish(WORKER + "\n# changed\n")
    for qualifier in ("1", number):
        function.provide(1, qualifier)

    pages = client.get_paginator("list_provisioned_concurrency_configs").paginate(
        FunctionName=function.name, PaginationConfig={"PageSize": 1}
    )
    listed = [page["ProvisionedConcurrencyConfigs"] for page in pages]

    arn = client.get_function_configuration(FunctionName=function.name)["FunctionArn"]
    assert [[item["FunctionArn"] for item in page] for page in listed] == [
        [f"{arn}:1"],
        [f"{arn}:{number}"],
    ]
