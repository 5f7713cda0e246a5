"""From a tag to a sandbox: registry, manager and node as ``app`` joins them, on two fakes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from firelet.app.registry_ports import Activator, Provider
from firelet.control.configuration import Settings
from firelet.control.counting import Counting
from firelet.control.manager import Manager
from firelet.control.registry import Registry
from firelet.model.arn import parse_function_ref
from firelet.model.errors import IsolationMissing
from firelet.model.function import State, UpdateStatus
from firelet.model.isolation import TAG, Isolation
from firelet.runtime.credentials import SessionCredentials
from firelet.sandbox.driver import SandboxDriver
from firelet.sandbox.drivers import Drivers
from firelet.store.blobs import BlobStore
from firelet.store.documents import MemoryDocuments
from firelet.worker.node import Node, NodeParts
from registry_parts import ACCOUNT, KEY, REGION, new_function, settle
from unit.versions import make_invocation
from unit.worker.fake_sandbox import FakeDriver, Runtime
from unit.worker.test_node import Packages, Stream

MICROVM = {TAG: "microvm"}


class Platform:
    """``missing`` is why there are no microVMs; None: there are."""

    def __init__(self, root: Path) -> None:
        self.missing: Exception | None = None
        self.namespaces = FakeDriver(self.run)
        self.microvm = FakeDriver(self.run)
        (root / "extracted").mkdir()
        self.node = Node(
            NodeParts(
                driver=Drivers(
                    {
                        Isolation.NAMESPACES: self.open_namespaces,
                        Isolation.MICROVM: self.open_microvm,
                    },
                    Isolation.NAMESPACES,
                ),
                code=Packages(root / "extracted"),
                runtimes=("python3.12",),
                open_log=lambda _version, _name: Stream(),
                credentials=lambda _version: SessionCredentials("key", "secret", "token", 4e9),
                revoke=lambda _key: None,
            )
        )
        self.manager = Manager(self.node, time.monotonic)
        self.registry = Registry(
            MemoryDocuments(),
            BlobStore(root / "blobs"),
            activator=Activator(self.node, self.manager, None),  # type: ignore[arg-type]
            provider=Provider(self.manager, Counting(1_000)),
        )

    async def open_namespaces(self) -> SandboxDriver:
        return self.namespaces  # type: ignore[return-value]

    async def open_microvm(self) -> SandboxDriver:
        if self.missing is not None:
            raise self.missing
        return self.microvm  # type: ignore[return-value]

    async def run(self, runtime: Runtime) -> None:
        environment = runtime.start.environment
        if environment.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
            await runtime.restore_next()
            await runtime.hang()
        while True:
            event = await runtime.next()
            await runtime.respond(event, event.body)

    async def invoke(self, reference: str = "greeter") -> bytes:
        resolved = self.registry.resolve(ACCOUNT, REGION, parse_function_ref(reference))
        environment = await self.manager.acquire(resolved.version)
        try:
            outcome = await environment.invoke(make_invocation(resolved.version, payload=b"7"))
        finally:
            self.manager.release(environment)
        return outcome.payload

    def alive(self) -> dict[str, int]:
        """How many sandboxes there are of each isolation."""
        return {
            name: sum(not sandbox.is_dead for sandbox in driver.sandboxes)
            for name, driver in (("namespaces", self.namespaces), ("microvm", self.microvm))
        }


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    platform = Platform(tmp_path)
    await platform.registry.load()
    yield platform
    await platform.registry.close()
    await platform.manager.close()
    await platform.node.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def settle_ends(platform: Platform) -> None:
    await settle(platform.registry)
    await platform.manager._starts.ended()


async def test_warm_environments_are_replaced_by_those_of_the_other_isolation(
    platform: Platform,
) -> None:
    await platform.registry.functions.create(new_function())
    await settle_ends(platform)
    assert await platform.invoke() == b"7"
    assert platform.alive() == {"namespaces": 1, "microvm": 0}

    await platform.registry.tags.add(KEY, MICROVM)
    await settle_ends(platform)
    assert await platform.invoke() == b"7"
    assert platform.alive() == {"namespaces": 0, "microvm": 1}

    await platform.registry.tags.remove(KEY, [TAG])
    await settle_ends(platform)
    assert await platform.invoke() == b"7"
    assert platform.alive() == {"namespaces": 1, "microvm": 0}


async def test_one_that_serves_serves_to_its_end_and_not_again(platform: Platform) -> None:
    await platform.registry.functions.create(new_function())
    await settle_ends(platform)
    resolved = platform.registry.resolve(ACCOUNT, REGION, parse_function_ref("greeter"))
    busy = await platform.manager.acquire(resolved.version)

    await platform.registry.tags.add(KEY, MICROVM)
    outcome = await busy.invoke(make_invocation(resolved.version, payload=b"8"))
    assert outcome.payload == b"8"
    platform.manager.release(busy)

    await until(lambda: platform.alive() == {"namespaces": 0, "microvm": 1})


async def test_provisioned_environments_are_replaced(platform: Platform) -> None:
    await platform.registry.functions.create(new_function(publish=True))
    await settle_ends(platform)
    await platform.registry.provisioned.put(KEY, "1", 3)
    await until(lambda: platform.registry.provisioned.get(KEY, "1").available == 3)

    await platform.registry.tags.add(KEY, MICROVM)
    await settle_ends(platform)
    await until(lambda: platform.registry.provisioned.get(KEY, "1").available == 3)

    assert [spec.isolation for spec in platform.microvm.specs].count(Isolation.MICROVM) >= 3
    assert platform.alive()["namespaces"] == 0


async def test_a_snapshot_is_made_anew_and_the_old_one_ends(platform: Platform) -> None:
    await platform.registry.functions.create(new_function(snap_start="PublishedVersions"))
    await settle_ends(platform)
    await platform.registry.versions.publish(KEY)
    await settle_ends(platform)
    assert await platform.invoke("greeter:1") == b"7"

    await platform.registry.tags.add(KEY, MICROVM)
    await settle_ends(platform)
    assert await platform.invoke("greeter:1") == b"7"

    assert len(platform.microvm.snapshots) == 1
    assert platform.microvm.sealed == platform.microvm.snapshots
    await platform.node._snapshots.close()
    assert platform.alive()["namespaces"] == 0


async def test_where_there_are_no_microvms_the_function_fails_and_nothing_else_runs_it(
    platform: Platform,
) -> None:
    platform.missing = IsolationMissing("microVMs are not available on this host: no QEMU.")
    await platform.registry.functions.create(new_function(tags=MICROVM))
    await settle_ends(platform)
    latest = platform.registry.functions.version(KEY)
    assert (latest.state, latest.state_reason) == (State.FAILED, platform.missing.message)
    with pytest.raises(IsolationMissing, match="no QEMU"):
        await platform.invoke()
    assert platform.alive() == {"namespaces": 0, "microvm": 0}

    platform.missing = None
    await platform.registry.functions.update_configuration(KEY, Settings(timeout_s=9), None)
    await settle_ends(platform)
    assert await platform.invoke() == b"7"
    assert platform.alive() == {"namespaces": 0, "microvm": 1}


async def test_one_that_runs_does_not_go_on_behind_the_walls_that_it_does_not_want(
    platform: Platform,
) -> None:
    await platform.registry.functions.create(new_function())
    await settle_ends(platform)
    platform.missing = IsolationMissing("microVMs are not available on this host: no QEMU.")
    await platform.registry.tags.add(KEY, MICROVM)
    await settle_ends(platform)
    with pytest.raises(IsolationMissing, match="no QEMU"):
        await platform.invoke()
    latest = platform.registry.functions.version(KEY)
    assert latest.last_update_status is UpdateStatus.FAILED
    assert platform.alive() == {"namespaces": 0, "microvm": 0}
