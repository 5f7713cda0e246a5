"""A function's tags say what isolates it: checked by the registry, and in force from then on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from firelet.control.configuration import Settings
from firelet.control.floor import FloorView
from firelet.control.registry import Registry
from firelet.control.versions import last_published
from firelet.model.arn import parse_function_ref
from firelet.model.errors import InvalidParameterValue, IsolationMissing
from firelet.model.function import FunctionVersion, State, UpdateStatus
from firelet.model.isolation import TAG, Isolation
from firelet.store.blobs import BlobStore
from firelet.store.documents import MemoryDocuments
from registry_parts import ACCOUNT, KEY, REGION, FakeActivator, new_function, settle

MICROVM = {TAG: "microvm"}
NO_QEMU = IsolationMissing("microVMs are not available on this host: no QEMU.")


def running(registry: Registry, reference: str = "greeter") -> FunctionVersion:
    """What an invocation would run."""
    return registry.resolve(ACCOUNT, REGION, parse_function_ref(reference)).version


async def test_a_function_may_be_created_with_it(
    registry: Registry, activator: FakeActivator
) -> None:
    await registry.functions.create(new_function(tags=MICROVM, publish=True))
    await settle(registry)
    assert running(registry).isolation is Isolation.MICROVM
    assert running(registry, "greeter:1").isolation is Isolation.MICROVM
    assert {version.isolation for version in activator.activated} == {Isolation.MICROVM}
    assert registry.tags.all(KEY) == MICROVM


async def test_a_function_that_asks_for_what_there_is_not_is_not_created(
    registry: Registry,
) -> None:
    with pytest.raises(InvalidParameterValue, match=TAG):
        await registry.functions.create(new_function(tags={TAG: "docker"}))
    assert list(registry.functions.all(ACCOUNT, REGION)) == []


async def test_a_wrong_tag_changes_nothing(deployed: Registry, activator: FakeActivator) -> None:
    before = deployed.functions.get(KEY)
    with pytest.raises(InvalidParameterValue, match=TAG):
        await deployed.tags.add(KEY, {"team": "red", TAG: "docker"})
    assert deployed.functions.get(KEY) is before
    assert activator.retired == []


async def test_what_runs_is_replaced_and_made_ready_anew(
    deployed: Registry, activator: FakeActivator
) -> None:
    await deployed.versions.publish(KEY)
    await settle(deployed)
    activator.activated.clear()
    activator.retired.clear()

    await deployed.tags.add(KEY, MICROVM)
    assert activator.retired[0] == (KEY, None)
    assert running(deployed).isolation is Isolation.MICROVM
    assert running(deployed, "greeter:1").isolation is Isolation.MICROVM
    await settle(deployed)

    assert [version.version for version in activator.activated] == ["$LATEST"]
    assert activator.activated[0].isolation is Isolation.MICROVM
    assert running(deployed).state is State.ACTIVE


async def test_snapshots_are_made_anew_too(deployed: Registry, activator: FakeActivator) -> None:
    await deployed.functions.update_configuration(
        KEY, Settings(snap_start="PublishedVersions"), None
    )
    await settle(deployed)
    await deployed.versions.publish(KEY)
    await settle(deployed)
    activator.activated.clear()
    await deployed.tags.add(KEY, MICROVM)
    await settle(deployed)
    made = {version.version: version.isolation for version in activator.activated}
    assert made == {"$LATEST": Isolation.MICROVM, "1": Isolation.MICROVM}


async def test_other_tags_replace_nothing(deployed: Registry, activator: FakeActivator) -> None:
    await deployed.tags.add(KEY, MICROVM)
    await settle(deployed)
    activator.retired.clear()
    activator.activated.clear()
    await deployed.tags.add(KEY, {"team": "red", **MICROVM})
    await deployed.tags.remove(KEY, ["team"])
    await settle(deployed)
    assert (activator.retired, activator.activated) == ([], [])


async def test_without_the_tag_it_is_the_platform_s_again(deployed: Registry) -> None:
    await deployed.tags.add(KEY, MICROVM)
    await deployed.tags.remove(KEY, [TAG])
    await settle(deployed)
    assert running(deployed).isolation is None


async def test_updates_and_versions_keep_it(deployed: Registry, activator: FakeActivator) -> None:
    await deployed.tags.add(KEY, MICROVM)
    await settle(deployed)
    await deployed.functions.update_configuration(KEY, Settings(timeout_s=9), None)
    await settle(deployed)
    await deployed.versions.publish(KEY)
    await settle(deployed)
    assert running(deployed, "greeter:1").isolation is Isolation.MICROVM
    assert activator.activated[-1].isolation is Isolation.MICROVM


async def test_it_is_no_reason_to_publish_again(deployed: Registry) -> None:
    first = await deployed.versions.publish(KEY)
    await settle(deployed)
    await deployed.tags.add(KEY, MICROVM)
    await settle(deployed)
    repeated = last_published(deployed.functions.get(KEY))
    assert repeated is not None
    assert repeated.version == first.version


async def test_it_outlives_a_restart(
    deployed: Registry, documents: MemoryDocuments, blobs: BlobStore
) -> None:
    await deployed.versions.publish(KEY)
    await settle(deployed)
    await deployed.tags.add(KEY, MICROVM)
    await settle(deployed)
    again = Registry(documents, blobs, activator=FakeActivator())
    await again.load()
    assert running(again).isolation is Isolation.MICROVM
    assert running(again, "greeter:1").isolation is Isolation.MICROVM
    await again.close()


async def test_a_host_without_it_fails_the_function_and_says_why(
    registry: Registry, activator: FakeActivator
) -> None:
    activator.failures.append(NO_QEMU)
    await registry.functions.create(new_function(tags=MICROVM))
    await settle(registry)
    failed = running(registry)
    assert (failed.state, failed.state_reason_code) == (State.FAILED, "InvalidConfiguration")
    assert failed.state_reason == NO_QEMU.message


async def test_the_tag_gone_it_can_be_activated(
    registry: Registry, activator: FakeActivator
) -> None:
    activator.failures.append(NO_QEMU)
    await registry.functions.create(new_function(tags=MICROVM))
    await settle(registry)
    await registry.tags.remove(KEY, [TAG])
    await settle(registry)
    assert running(registry).state is State.ACTIVE


async def test_a_function_that_cannot_have_it_does_not_go_on_with_less(
    deployed: Registry, activator: FakeActivator
) -> None:
    activator.failures.append(NO_QEMU)
    await deployed.tags.add(KEY, MICROVM)
    await settle(deployed)
    now = running(deployed)
    assert now.isolation is Isolation.MICROVM
    assert now.state is State.ACTIVE
    assert now.last_update_status is UpdateStatus.FAILED
    assert now.last_update_reason == NO_QEMU.message


async def test_after_a_restart_it_is_tried_again(
    registry: Registry, activator: FakeActivator, documents: MemoryDocuments, blobs: BlobStore
) -> None:
    activator.failures.append(NO_QEMU)
    await registry.functions.create(new_function(tags=MICROVM))
    await settle(registry)
    again = Registry(documents, blobs, activator=FakeActivator())
    await again.load()
    await settle(again)
    assert running(again).state is State.ACTIVE


async def test_an_activation_that_is_under_way_is_begun_anew(
    deployed: Registry, activator: FakeActivator
) -> None:
    activator.gate.clear()
    await deployed.functions.update_configuration(KEY, Settings(timeout_s=9), None)
    await deployed.tags.add(KEY, MICROVM)
    await asyncio.sleep(0)
    activator.gate.set()
    await settle(deployed)
    now = running(deployed)
    assert (now.timeout_s, now.isolation) == (9, Isolation.MICROVM)
    assert now.last_update_status is UpdateStatus.SUCCESSFUL
    assert activator.activated[-1].isolation is Isolation.MICROVM


async def test_provisioned_environments_are_asked_for_again(
    tmp_path: Path, activator: FakeActivator
) -> None:
    orders: list[tuple[str, Isolation | None, int]] = []

    class Provider:
        def provide(self, version: FunctionVersion, count: int) -> None:
            assert activator.retired == [], "environments end after the floor knows better"
            orders.append((version.version, version.isolation, count))

        def provided(self, version: FunctionVersion) -> FloorView:
            return FloorView()

    registry = Registry(
        MemoryDocuments(),
        BlobStore(tmp_path / "blobs"),
        activator=activator,
        provider=Provider(),
    )
    await registry.load()
    await registry.functions.create(new_function(publish=True))
    await settle(registry)
    await registry.provisioned.put(KEY, "1", 3)
    orders.clear()
    activator.retired.clear()
    await registry.tags.add(KEY, MICROVM)
    assert orders == [("1", Isolation.MICROVM, 3)]
    await registry.close()
