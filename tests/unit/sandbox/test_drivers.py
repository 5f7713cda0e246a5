"""Several drivers as one: each sandbox comes from the driver of the isolation that it asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from firelet.model.errors import IsolationMissing
from firelet.model.isolation import Isolation
from firelet.sandbox.driver import SandboxDriver, SandboxSpec
from firelet.sandbox.drivers import Drivers
from unit.worker.fake_sandbox import FakeDriver, Runtime

SPEC = SandboxSpec(runtime="python3.13", code="ab" * 32, memory_mib=128, tmp_mib=512)
MACHINE = replace(SPEC, isolation=Isolation.MICROVM)


class House:
    """Two fakes behind ``Drivers``; ``missing`` keeps the second from being opened, ``gate`` holds
    its opening back."""

    def __init__(self, default: Isolation = Isolation.NAMESPACES) -> None:
        self.namespaces = FakeDriver(Runtime.hang)
        self.microvm = FakeDriver(Runtime.hang)
        self.missing: Exception | None = None
        self.opened: list[Isolation] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.drivers = Drivers(
            {
                Isolation.NAMESPACES: self.open_namespaces,
                Isolation.MICROVM: self.open_microvm,
            },
            default,
        )

    async def open_namespaces(self) -> SandboxDriver:
        self.opened.append(Isolation.NAMESPACES)
        return self.namespaces  # type: ignore[return-value]

    async def open_microvm(self) -> SandboxDriver:
        self.opened.append(Isolation.MICROVM)
        await self.gate.wait()
        if self.missing is not None:
            raise self.missing
        return self.microvm  # type: ignore[return-value]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    await house.drivers.open()
    yield house
    house.gate.set()
    await house.drivers.close()


async def test_a_sandbox_comes_from_the_driver_that_it_asks_for(house: House) -> None:
    plain = await house.drivers.create(SPEC)
    machine = await house.drivers.create(MACHINE)
    named = await house.drivers.create(replace(SPEC, isolation=Isolation.NAMESPACES))
    assert house.namespaces.sandboxes == [plain, named]
    assert house.microvm.sandboxes == [machine]


async def test_only_the_platform_s_own_driver_is_opened_before_another_is_wanted(
    house: House,
) -> None:
    assert house.opened == [Isolation.NAMESPACES]
    await asyncio.gather(*(house.drivers.create(MACHINE) for _ in range(3)))
    assert house.opened == [Isolation.NAMESPACES, Isolation.MICROVM]


async def test_what_asks_for_nothing_gets_what_the_platform_is_set_to() -> None:
    house = House(Isolation.MICROVM)
    await house.drivers.open()
    machine = await house.drivers.create(SPEC)
    assert house.microvm.sandboxes == [machine]
    assert house.opened == [Isolation.MICROVM]
    await house.drivers.close()


async def test_a_platform_whose_own_driver_cannot_be_opened_is_told() -> None:
    house = House(Isolation.MICROVM)
    house.missing = IsolationMissing("no QEMU")
    with pytest.raises(IsolationMissing, match="no QEMU"):
        await house.drivers.open()
    await house.drivers.close()


async def test_one_that_cannot_be_opened_is_told_and_no_other_stands_in(house: House) -> None:
    house.missing = IsolationMissing("no QEMU")
    for attempt in (
        house.drivers.create(MACHINE),
        house.drivers.create_snapshot(MACHINE),
        house.drivers.prepare("python3.13", Isolation.MICROVM),
    ):
        with pytest.raises(IsolationMissing, match="no QEMU"):
            await attempt
    assert house.namespaces.sandboxes == []
    assert house.namespaces.expected == []


async def test_one_that_could_not_be_opened_is_tried_again(house: House) -> None:
    house.missing = IsolationMissing("no QEMU")
    with pytest.raises(IsolationMissing):
        await house.drivers.create(MACHINE)
    house.missing = None
    machine = await house.drivers.create(MACHINE)
    assert house.microvm.sandboxes == [machine]


async def test_who_gives_up_does_not_take_it_away_from_others(house: House) -> None:
    house.gate.clear()
    impatient = asyncio.create_task(house.drivers.create(MACHINE))
    patient = asyncio.create_task(house.drivers.create(MACHINE))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.sleep(0)
    house.gate.set()
    assert await patient in house.microvm.sandboxes
    assert house.opened.count(Isolation.MICROVM) == 1


async def test_a_runtime_is_expected_by_the_driver_of_its_isolation(house: House) -> None:
    await house.drivers.prepare("python3.13", None)
    await house.drivers.prepare("nodejs22.x", Isolation.MICROVM)
    assert house.namespaces.expected == ["python3.13"]
    assert house.microvm.expected == ["nodejs22.x"]


async def test_a_snapshot_is_sealed_and_cloned_by_the_driver_that_made_it(house: House) -> None:
    snapshot = await house.drivers.create_snapshot(MACHINE)
    await house.drivers.seal(snapshot)
    clone = await house.drivers.clone(snapshot, MACHINE)
    assert house.microvm.sealed == [snapshot]
    assert house.microvm.cloned_from == [snapshot]
    assert clone in house.microvm.sandboxes
    assert house.namespaces.sandboxes == []


async def test_all_that_were_opened_are_closed(house: House) -> None:
    await house.drivers.create(MACHINE)
    await house.drivers.close()
    assert house.namespaces.is_closed
    assert house.microvm.is_closed


async def test_one_that_is_being_opened_is_given_up_at_the_end(house: House) -> None:
    house.gate.clear()
    waiting = asyncio.create_task(house.drivers.create(MACHINE))
    await asyncio.sleep(0)
    await house.drivers.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not house.microvm.is_closed
