"""Every waiter of botocore's ``lambda``: what it waits for comes, fails, or is not there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import WaiterError
from botocore.loaders import Loader

from running_platform import Deployer, Platform

pytest_plugins = ("platform_fixtures",)

WAITERS = sorted(Loader().load_service_model("lambda", "waiters-2")["waiters"])
CODE = "def handler(event, context): return {}"
ABSENT = "dotnet6"  # may be asked for, and no machine that runs these tests has it
# One poll: what a waiter is here for is there when it first asks.
ONCE = {"Delay": 1, "MaxAttempts": 1}

OF_UPDATES = ("FunctionUpdated", "FunctionUpdatedV2")
OF_STATES = ("FunctionActive", "FunctionActiveV2", "PublishedVersionActive")


@pytest.fixture(scope="module")
def deployer(platform: Platform) -> Iterator[Deployer]:
    made = Deployer(platform)
    yield made
    made.close()


@pytest.fixture(scope="module")
def active(deployer: Deployer) -> str:
    return deployer(CODE, Publish=True)


def wait(client: Any, waiter: str, name: str, **options: Any) -> None:
    client.get_waiter(xform_name(waiter)).wait(FunctionName=name, WaiterConfig=ONCE, **options)


def test_these_are_all_of_them() -> None:
    assert sorted(("FunctionExists", *OF_STATES, *OF_UPDATES)) == WAITERS


@pytest.mark.parametrize("qualifier", ["$LATEST", "1"])
@pytest.mark.parametrize("waiter", WAITERS)
def test_the_first_poll_finds_what_is_ready(
    lambda_client: Any, active: str, waiter: str, qualifier: str
) -> None:
    wait(lambda_client, waiter, active, Qualifier=qualifier)


@pytest.mark.parametrize("waiter", WAITERS)
def test_the_first_poll_after_a_change_finds_it_done(
    lambda_client: Any, deployer: Deployer, waiter: str
) -> None:
    name = deployer.name()
    deployer.create(name, CODE)
    wait(lambda_client, waiter, name)
    lambda_client.update_function_configuration(FunctionName=name, Timeout=7)
    wait(lambda_client, waiter, name)
    number = lambda_client.publish_version(FunctionName=name)["Version"]
    wait(lambda_client, waiter, name, Qualifier=number)


def test_the_first_poll_does_not_wait_for_an_init_that_takes_long(
    lambda_client: Any, deployer: Deployer
) -> None:
    name = deployer.name()
    deployer.create(name, f"import time\ntime.sleep(5)\n{CODE}")
    wait(lambda_client, "FunctionActiveV2", name)
    lambda_client.update_function_configuration(FunctionName=name, Description="again")
    wait(lambda_client, "FunctionUpdatedV2", name)
    number = lambda_client.publish_version(FunctionName=name)["Version"]
    wait(lambda_client, "PublishedVersionActive", name, Qualifier=number)


@pytest.mark.parametrize("waiter", OF_STATES)
def test_a_function_that_has_failed_ends_the_waiting(
    lambda_client: Any, deployer: Deployer, waiter: str
) -> None:
    name = deployer(CODE, Runtime=ABSENT)
    with pytest.raises(WaiterError, match="terminal failure state") as caught:
        wait(lambda_client, waiter, name)
    found = caught.value.last_response
    state = found.get("Configuration", found)
    assert (state["State"], state["StateReasonCode"]) == ("Failed", "InvalidRuntime")


@pytest.mark.parametrize("waiter", OF_UPDATES)
def test_an_update_that_has_failed_ends_the_waiting(
    lambda_client: Any, deployer: Deployer, waiter: str
) -> None:
    name = deployer(CODE)
    lambda_client.update_function_configuration(FunctionName=name, Runtime=ABSENT)
    with pytest.raises(WaiterError, match="terminal failure state") as caught:
        wait(lambda_client, waiter, name)
    found = caught.value.last_response
    state = found.get("Configuration", found)
    assert (state["State"], state["LastUpdateStatus"]) == ("Active", "Failed")
    assert state["LastUpdateStatusReasonCode"] == "InvalidRuntime"


@pytest.mark.parametrize("waiter", WAITERS)
def test_a_function_that_is_not_there_is_an_error_or_waited_for(
    lambda_client: Any, waiter: str
) -> None:
    """``FunctionExists`` asks again; the others end with the error."""
    expected = (
        "Max attempts exceeded" if waiter == "FunctionExists" else "ResourceNotFoundException"
    )
    with pytest.raises(WaiterError, match=expected):
        wait(lambda_client, waiter, "nobody")
