"""Many callers at once on a function that nobody has called before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from running_platform import Deployer, Platform

pytest_plugins = ("platform_fixtures",)

CALLERS = 60


def test_a_burst_on_a_cold_function_is_served_in_full(deploy: Deployer, platform: Platform) -> None:
    name = deploy(
        "import time, uuid\n"
        "ME = uuid.uuid4().hex\n"
        "def handler(event, context):\n    time.sleep(3)\n    return ME\n",
        Timeout=60,
    )
    with ThreadPoolExecutor(CALLERS) as callers:
        answers = list(callers.map(lambda _: platform.invoke(name), range(CALLERS)))
    assert [answer.error for answer in answers] == [None] * CALLERS
    # More than the kernel queues messages for one zygote: each waiting start had its turn.
    assert len({answer.json for answer in answers}) > 20
