"""Many invocations at a time: environments, throttles, freezing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from running_platform import Answer, Deployer, Platform, wait_until

pytest_plugins = ("platform_fixtures",)

# Says who it is, and stays for as long as the event says.
SLEEPER = (
    "import time, uuid\nme = uuid.uuid4().hex\n"
    "def handler(event, context):\n    time.sleep(event)\n    return me\n"
)
# Says how long a thread of it that wakes up all the time has not run, at the longest since it was
# asked last.
TICKER = """
import threading, time
last, longest_s = time.monotonic(), 0.0
def tick():
    global last, longest_s
    now = time.monotonic()
    longest_s, last = max(longest_s, now - last), now
def run():
    while True:
        time.sleep(0.01)
        tick()
threading.Thread(target=run, daemon=True).start()
def handler(event, context):
    global longest_s
    tick()
    found, longest_s = longest_s, 0.0
    return found
"""


# Draws without a seed of its own, and says whether it knows its own thread.
GAMBLER = """
import random, threading, time
drawn = random.random()
def handler(event, context):
    time.sleep(event)
    thread = threading.main_thread()
    return [drawn, thread.native_id == threading.get_native_id()]
"""


@pytest.fixture
def at_once() -> Iterator[Callable[..., list[Future[Answer]]]]:
    """``at_once(call, n)``: starts n calls in threads of their own."""
    pool = ThreadPoolExecutor(32)

    def start(call: Callable[[], Answer], count: int) -> list[Future[Answer]]:
        gate = threading.Barrier(count)

        def go() -> Answer:
            gate.wait()
            return call()

        return [pool.submit(go) for _ in range(count)]

    yield start
    pool.shutdown()


def test_invocations_at_the_same_time_get_environments_of_their_own(
    deploy: Deployer, platform: Platform, at_once: Callable[..., list[Future[Answer]]]
) -> None:
    name = deploy(SLEEPER, Timeout=20)

    answers = [call.result() for call in at_once(lambda: platform.invoke(name, 3.0), 8)]

    assert len({answer.json for answer in answers}) == 8


def test_environments_draw_numbers_of_their_own_and_know_their_own_thread(
    deploy: Deployer, platform: Platform, at_once: Callable[..., list[Future[Answer]]]
) -> None:
    name = deploy(GAMBLER, Timeout=20)

    answers = [call.result().json for call in at_once(lambda: platform.invoke(name, 3.0), 8)]

    assert len({drawn for drawn, _ in answers}) == 8
    assert all(knows for _, knows in answers)


def test_invocations_one_after_another_share_one_environment(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy(SLEEPER)

    assert len({platform.invoke(name, 0).json for _ in range(10)}) == 1


def test_reserved_concurrency_of_0_switches_a_function_off(
    deploy: Deployer, platform: Platform, lambda_client: Any
) -> None:
    name = deploy(SLEEPER)
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)

    with pytest.raises(lambda_client.exceptions.TooManyRequestsException) as caught:
        platform.invoke(name, 0)

    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert response["Error"]["Message"] == "Rate Exceeded."
    assert response["Type"] == "User"
    lambda_client.delete_function_concurrency(FunctionName=name)
    assert platform.invoke(name, 0).error is None


def test_reserved_concurrency_of_1_lets_one_through_and_throttles_the_others(
    deploy: Deployer,
    platform: Platform,
    lambda_client: Any,
    at_once: Callable[..., list[Future[Answer]]],
) -> None:
    name = deploy(SLEEPER, Timeout=20)
    platform.invoke(name, 0)
    put = lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    assert put["ReservedConcurrentExecutions"] == 1

    # One for all, and the others while that one is being served.
    calls = at_once(lambda: platform.invoke(name, 3), 6)

    errors = [call.exception() for call in calls]
    assert errors.count(None) == 1
    for error in errors:
        if error is not None:
            assert isinstance(error, lambda_client.exceptions.TooManyRequestsException)
            reason = error.response["Reason"]
            assert reason == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert platform.invoke(name, 0).error is None, "the lease was given back"
    found = lambda_client.get_function(FunctionName=name)["Concurrency"]
    assert found == {"ReservedConcurrentExecutions": 1}


def test_reservations_leave_100_for_all_others(deploy: Deployer, lambda_client: Any) -> None:
    name = deploy(SLEEPER)

    with pytest.raises(lambda_client.exceptions.InvalidParameterValueException) as caught:
        lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=901)

    assert caught.value.response["Error"]["Message"] == (
        "Specified ReservedConcurrentExecutions for function decreases account's"
        " UnreservedConcurrentExecution below its minimum value of [100]."
    )


def test_account_concurrency_is_a_limit_for_all_functions(
    make_platform: Callable[..., Platform], at_once: Callable[..., list[Future[Answer]]]
) -> None:
    platform = make_platform(FIRELET_ACCOUNT_CONCURRENCY="2")
    name = Deployer(platform)(SLEEPER, Timeout=20)
    throttled = platform.client("lambda").exceptions.TooManyRequestsException

    calls = at_once(lambda: platform.invoke(name, 4), 5)

    errors = [error for call in calls if (error := call.exception()) is not None]
    assert len(errors) == 3
    for error in errors:
        assert isinstance(error, throttled)
        assert error.response["Reason"] == "ConcurrentInvocationLimitExceeded"


def test_an_idle_function_does_not_run(deploy: Deployer, platform: Platform) -> None:
    name = deploy(TICKER)
    platform.invoke(name)
    wait_until(lambda: platform.status_of(name)["frozen"], "it is frozen")

    time.sleep(1.0)

    assert platform.invoke(name).json >= 1.0


def test_two_hundred_quick_invocations_are_all_answered(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy("def handler(event, context):\n    return event\n", Timeout=20)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: platform.invoke(name, number).json, range(200)))

    assert answers == list(range(200))


def test_environments_go_when_their_function_is_deleted(
    deploy: Deployer, platform: Platform, lambda_client: Any
) -> None:
    name = deploy("import os\ndef handler(event, context):\n    return 1\n")
    platform.invoke(name)
    before = platform.processes()

    lambda_client.delete_function(FunctionName=name)

    wait_until(lambda: len(before - platform.processes()) >= 2, "init and runtime have ended")
