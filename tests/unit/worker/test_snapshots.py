"""SnapStart on a node of fakes: one snapshot for a version, and what is made from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from firelet.model.errors import (
    FunctionError,
    PlatformError,
    SnapStartFailed,
    SnapStartTimeout,
)
from firelet.model.function import FunctionVersion
from firelet.model.isolation import Isolation
from unit.versions import make_invocation, make_version
from unit.worker.fake_sandbox import Exited, Runtime
from unit.worker.loop_clock import LoopClock
from unit.worker.test_node import Host

VERSION = make_version(version="1", snap_start="PublishedVersions")
KEY = (VERSION.account, VERSION.region, VERSION.name)


class SnapHost(Host):
    """A node whose snapshots stop at their restore point; ``after`` is what clones do first."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reaches_restore_point = True
        self.init_error: bytes | None = None
        self.after: Any = None

    async def run(self, runtime: Runtime) -> None:
        self.starts.append(runtime.start)
        environment = runtime.start.environment
        if "AWS_LAMBDA_INITIALIZATION_TYPE" in environment:
            if self.init_error is not None:
                await runtime.fail_init(self.init_error)
                raise Exited(1)
            if self.reaches_restore_point:
                await runtime.restore_next()
                await runtime.hang()
        elif self.after is not None:
            await self.after(runtime)
        while True:
            event = await runtime.next()
            await runtime.respond(event, event.body)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[SnapHost]:
    host = SnapHost(tmp_path)
    yield host
    await host.node.close()
    await host.driver.close()


async def serve(host: SnapHost, version: FunctionVersion = VERSION) -> Any:
    """One environment, used once and closed; its outcome."""
    slot = await host.node.start(version)
    try:
        return await slot.invoke(make_invocation(version, payload=b"7"))
    finally:
        await slot.close()


async def test_one_snapshot_serves_all_who_ask(host: SnapHost) -> None:
    await host.node.activate(VERSION)

    outcomes = await asyncio.gather(*(serve(host) for _ in range(3)))

    assert [outcome.payload for outcome in outcomes] == [b"7"] * 3
    assert len(host.driver.snapshots) == 1
    assert host.driver.cloned_from == host.driver.snapshots * 3


async def test_latest_is_not_cloned(host: SnapHost) -> None:
    host.reaches_restore_point = False
    latest = make_version(snap_start="PublishedVersions")

    await host.node.activate(latest)
    await serve(host, latest)

    assert host.driver.snapshots == []


async def test_variables_of_a_snapshot_hold_no_credentials(host: SnapHost) -> None:
    await serve(host)

    snapshot, clone = (start.environment for start in host.starts)
    assert snapshot["AWS_LAMBDA_INITIALIZATION_TYPE"] == "snap-start"
    assert snapshot["AWS_CONTAINER_CREDENTIALS_FULL_URI"].startswith("http://127.0.0.1:9001/")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_LAMBDA_LOG_STREAM_NAME"):
        assert name not in snapshot
    # Some runtimes cannot be told another one when they are restored.
    token = "AWS_CONTAINER_AUTHORIZATION_TOKEN"
    assert snapshot[token] == clone[token]


async def test_a_snapshot_that_died_is_made_again(host: SnapHost) -> None:
    await serve(host)
    host.driver.snapshots[0].die()

    assert (await serve(host)).payload == b"7"
    assert len(host.driver.snapshots) == 2


async def test_one_that_dies_while_it_is_cloned_costs_no_invocation(host: SnapHost) -> None:
    await host.node.activate(VERSION)
    ended = []

    async def end_once(runtime: Runtime) -> None:
        if not ended:
            ended.append(True)
            raise Exited(None, 9)

    host.after = end_once

    assert (await serve(host)).payload == b"7"
    assert len(host.driver.snapshots) == 2


async def test_an_init_that_fails_is_told_and_tried_again_the_next_time(host: SnapHost) -> None:
    host.init_error = b'{"errorType": "ValueError", "errorMessage": "no"}'
    with pytest.raises(FunctionError) as caught:
        await host.node.activate(VERSION)
    assert caught.value.error_type == "ValueError"

    host.init_error = None
    await host.node.activate(VERSION)
    assert (await serve(host)).payload == b"7"


async def test_a_runtime_that_does_not_stop_makes_no_snapshot(host: SnapHost) -> None:
    host.reaches_restore_point = False

    with pytest.raises(PlatformError, match="restore point"):
        await host.node.activate(VERSION)

    assert all(sandbox.is_stopped for sandbox in host.driver.sandboxes)
    assert host.driver.sealed == []


async def test_it_may_be_one_where_its_runtime_asks_for_an_event_if_the_driver_says_so(
    host: SnapHost,
) -> None:
    host.reaches_restore_point = False
    host.driver.rests_at_next = True

    assert (await serve(host)).payload == b"7"
    assert (await serve(host)).payload == b"7"

    assert host.driver.cloned_from == host.driver.snapshots * 2
    assert host.driver.sealed == host.driver.snapshots


async def test_it_is_sealed_before_it_is_cloned(host: SnapHost) -> None:
    await host.node.activate(VERSION)

    assert host.driver.sealed == host.driver.snapshots
    assert host.driver.cloned_from == []


async def test_one_that_cannot_be_sealed_is_told_and_ended(host: SnapHost) -> None:
    host.driver.seal_error = PlatformError("no room for the snapshot")

    with pytest.raises(PlatformError, match="no room"):
        await host.node.activate(VERSION)
    await host.node.close()

    assert all(sandbox.is_stopped for sandbox in host.driver.snapshots)
    assert host.revoked == ["ASIAEXAMPLE"]


async def test_an_environment_that_is_no_snapshot_does_not_become_one_by_waiting(
    host: SnapHost,
) -> None:
    host.reaches_restore_point = False
    host.driver.rests_at_next = True
    latest = make_version(snap_start="PublishedVersions")

    slot = await host.node.start(latest)

    assert slot.is_initialised
    assert not slot.is_snapshot
    await slot.close()


async def test_a_hook_that_fails_is_the_functions_fault(host: SnapHost) -> None:
    async def fail(runtime: Runtime) -> None:
        await runtime.fail_restore(b'{"errorType": "ValueError"}')
        raise Exited(65)

    host.after = fail

    with pytest.raises(SnapStartFailed):
        await serve(host)
    lines = [line for stream in host.streams.values() for line in stream.messages]
    assert any(
        line.startswith("RESTORE_REPORT") and "Error Type: ValueError" in line for line in lines
    )
    assert len(host.driver.snapshots) == 1


async def test_a_restore_has_ten_seconds(host: SnapHost) -> None:
    clock = LoopClock(asyncio.get_running_loop())
    host.after = Runtime.hang
    try:
        await host.node.activate(VERSION)
        starting = asyncio.create_task(serve(host))
        await clock.until(lambda: len(host.starts) == 2)
        await clock.advance(10.1)
        with pytest.raises(SnapStartTimeout):
            await starting
    finally:
        clock.restore()


async def test_a_clone_without_its_runtime_does_not_serve_again(host: SnapHost) -> None:
    slot = await host.node.start(VERSION)
    host.driver.sandboxes[-1].die()

    assert not slot.is_usable
    await slot.close()


@pytest.mark.parametrize("version", ["1", None])
async def test_with_the_version_goes_the_snapshot(host: SnapHost, version: str | None) -> None:
    await host.node.activate(VERSION)

    host.node.retire(KEY, "2")
    assert not host.driver.snapshots[0].is_stopped
    host.node.retire(KEY, version)
    await host.node.close()

    assert host.driver.snapshots[0].is_stopped


async def test_with_another_isolation_comes_another_snapshot(host: SnapHost) -> None:
    await serve(host)
    machine = replace(VERSION, isolation=Isolation.MICROVM)

    assert (await serve(host, machine)).payload == b"7"

    plain, other = host.driver.snapshots
    assert host.driver.cloned_from == [plain, other]
    assert [spec.isolation for spec in host.driver.specs] == [None, None, *["microvm"] * 2]
    host.node.retire(KEY, "1")
    await host.node.close()
    assert plain.is_stopped
    assert other.is_stopped


async def test_it_stays_as_long_as_one_of_its_clones(host: SnapHost) -> None:
    slot = await host.node.start(VERSION)
    host.node.retire(KEY, "1")
    await asyncio.sleep(0)
    assert not host.driver.snapshots[0].is_stopped

    await slot.close()
    await host.node.close()
    assert host.driver.snapshots[0].is_stopped


async def test_credentials_end_with_their_environment(host: SnapHost) -> None:
    await serve(host)
    assert host.revoked == ["ASIAEXAMPLE"]  # the clone's; the snapshot lives

    await host.node.close()
    assert host.revoked == ["ASIAEXAMPLE"] * 2


async def test_only_a_snapshot_without_clones_rests(host: SnapHost) -> None:
    await host.node.activate(VERSION)
    (resting,) = host.node.resting_snapshots()
    assert resting.memory_mib == 8
    assert resting.start_s >= 0

    slot = await host.node.start(VERSION)
    assert host.node.resting_snapshots() == []
    await slot.close()
    (again,) = host.node.resting_snapshots()
    assert again.since >= resting.since


async def test_one_that_was_ended_is_made_again(host: SnapHost) -> None:
    await host.node.activate(VERSION)
    (resting,) = host.node.resting_snapshots()

    host.node.end_snapshot(resting.id)

    assert host.node.resting_snapshots() == []
    assert (await serve(host)).payload == b"7"
    assert len(host.driver.snapshots) == 2


async def test_a_failed_restore_gives_its_lease_back(host: SnapHost) -> None:
    async def fail(runtime: Runtime) -> None:
        await runtime.fail_restore(b"{}")
        raise Exited(65)

    host.after = fail
    with pytest.raises(SnapStartFailed):
        await serve(host)

    assert len(host.node.resting_snapshots()) == 1
