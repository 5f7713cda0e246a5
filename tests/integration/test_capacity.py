"""Capacity on a real platform: memory that may be promised, rates, and what the policy wants."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from firelet.worker.memory import HostMemory
from running_platform import Deployer, Platform, wait_until

pytest_plugins = ("platform_fixtures",)

SLEEPER = (
    "import time, uuid\nme = uuid.uuid4().hex\n"
    "def handler(event, context):\n    time.sleep(event or 0)\n    return me\n"
)
ROOM_MIB = 300


def held(platform: Platform, name: str) -> int:
    status = platform.status_of(name)
    return sum(status.get(state, 0) for state in ("starting", "busy", "idle", "frozen"))


@pytest.fixture
def narrow(make_platform: Callable[..., Platform]) -> Platform:
    """A platform with room for two environments of 128 MiB."""
    ratio = ROOM_MIB / HostMemory().read().total_mib
    return make_platform(FIRELET_MEMORY_OVERCOMMIT=f"{ratio:.9f}")


def test_idle_environments_of_others_make_room(narrow: Platform) -> None:
    deploy = Deployer(narrow)
    names = [deploy(SLEEPER) for _ in range(4)]
    for name in names:
        assert narrow.invoke(name, 0).error is None
        assert sum(held(narrow, each) for each in names) <= 2
    assert held(narrow, names[-1]) == 1


def test_who_finds_no_room_waits_for_it(narrow: Platform) -> None:
    name = Deployer(narrow)(SLEEPER, Timeout=20)
    with ThreadPoolExecutor(6) as callers:
        answers = list(callers.map(lambda _: narrow.invoke(name, 1.0), range(6)))
    assert [answer.error for answer in answers] == [None] * 6
    assert len({answer.json for answer in answers}) == 2


def test_what_this_host_never_has_room_for_is_aws_s_error(narrow: Platform) -> None:
    name = Deployer(narrow)(SLEEPER, MemorySize=512)
    client = narrow.client("lambda")
    with pytest.raises(client.exceptions.EC2ThrottledException) as caught:
        narrow.invoke(name)
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 502
    assert response["Error"]["Message"].startswith("Amazon EC2 throttled Lambda")


def test_a_reservation_takes_ten_requests_a_second_for_each_unit(
    deploy: Deployer, platform: Platform, lambda_client: Any
) -> None:
    name = deploy("def handler(event, context):\n    return 1\n")
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    path = f"/2015-03-31/functions/{name}/invocations"
    request = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode()
    received = b""
    # All at once, to be run one after another: no client is slow enough to keep below the rate.
    with socket.create_connection(("127.0.0.1", platform.port), timeout=60) as connection:
        connection.sendall(request * 100)
        while not (refused := re.search(rb"HTTP/1.1 429 .*?\r\n\r\n(\{.*?\})", received, re.S)):
            piece = connection.recv(65_536)
            assert piece, "none of the requests was refused"
            received += piece
    error = json.loads(refused[1])
    assert error["message"] == "Rate Exceeded."
    assert error["Reason"] == "ReservedFunctionInvocationRateLimitExceeded"
    assert platform.invoke(deploy(SLEEPER), 0).error is None


def test_one_environment_is_wanted_of_a_function_that_was_called_once(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy(SLEEPER)
    platform.invoke(name, 0)
    wait_until(lambda: platform.status_of(name)["wanted"] == 1, "the policy has decided", 40.0)
    assert held(platform, name) == 1


def test_a_fixed_time_ends_what_the_policy_would_keep(
    make_platform: Callable[..., Platform],
) -> None:
    platform = make_platform(FIRELET_IDLE_STOP_AFTER_S="0.5")
    name = Deployer(platform)(SLEEPER)
    first = platform.invoke(name, 0).json
    # It may have ended before, and have been made for this one.
    cold = platform.status_of(name)["cold"]
    wait_until(lambda: held(platform, name) == 0, "it is ended")
    assert platform.invoke(name, 0).json != first
    assert platform.status_of(name)["cold"] == cold + 1
