"""SnapStart: published versions whose environments are clones of one that has been through INIT."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from firelet.sandbox.host import HostFacts
from running_platform import Deployer, Platform, pack, wait_until

pytest_plugins = ("platform_fixtures",)

SNAP_START = {"ApplyOn": "PublishedVersions"}

COUNTS = """
import os, random, time, uuid
made = uuid.uuid4().hex
drawn = random.random()
open("/tmp/from-init", "w").write("init")
calls = 0
def handler(event, context):
    global calls
    calls += 1
    if event and event.get("sleep"):
        time.sleep(event["sleep"])
    return {
        "made": made, "calls": calls, "random": random.random(), "drawn": drawn,
        "pid": os.getpid(), "tmp": sorted(os.listdir("/tmp")), "env": dict(os.environ),
    }
"""


@pytest.fixture
def runtime(host: HostFacts) -> str:
    found = sorted(name for name in ("python3.12", "python3.13") if name in host.interpreters)
    if not found:
        pytest.skip("SnapStart is for Python 3.12 and later, and this host has neither 3.12 nor 3.13")
    return found[-1]


def publish(
    deploy: Deployer, client: Any, runtime: str, code: str, **settings: Any
) -> tuple[str, str]:
    """A function with SnapStart and its first version, Active."""
    name = deploy.name()
    deploy.create(
        name, pack({"app.py": code}), Runtime=runtime, SnapStart=SNAP_START, **settings
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name)
    version = client.publish_version(FunctionName=name)["Version"]
    client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier=version)
    return name, version


def test_environments_of_a_published_version_continue_from_its_init(
    deploy: Deployer, platform: Platform, lambda_client: Any, runtime: str
) -> None:
    name, version = publish(deploy, lambda_client, runtime, COUNTS)

    first = platform.invoke(name, {}, Qualifier=version).json
    second = platform.invoke(name, {}, Qualifier=version).json

    assert first["made"] == second["made"]
    assert (first["calls"], second["calls"]) == (1, 2)
    assert first["tmp"] == ["from-init"]
    assert first["env"]["AWS_LAMBDA_INITIALIZATION_TYPE"] == "snap-start"
