"""When a machine gives memory back, and what it does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from firelet.model.limits import MIB
from firelet.sandbox.cgroups import Cgroup
from firelet.sandbox.microvm import idle_memory
from firelet.sandbox.microvm.idle_memory import IdleMemory
from machines import FakeGroup

SMALL, LARGE = 40, 300


class Machine:
    """Frozen by its owner. ``told`` is what its guest has been told; ``on_thaw`` is called when
    it goes on."""

    def __init__(self) -> None:
        self.told: list[bool] = []
        self.on_thaw: Callable[[], None] = lambda: None
        self.group = FakeGroup(memory_mib=LARGE)
        self.thaws = 0
        self.group.thaw = self._thaw  # type: ignore[method-assign]
        self.idle = IdleMemory(cast(Cgroup, self.group), self.told.append)

    def freeze(self) -> None:
        self.group.freeze()
        self.idle.begin()

    def thaw(self) -> None:
        self.idle.end()
        self.group.is_frozen = False

    def _thaw(self) -> None:
        self.group.is_frozen = False
        self.thaws += 1
        self.on_thaw()

    def shrink(self, mib: int) -> None:
        self.group.memory_mib = mib


@pytest.fixture
async def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(idle_memory, "IDLE_S", 0.01)
    monkeypatch.setattr(idle_memory, "FIRST_QUIET_S", 0.05)
    monkeypatch.setattr(idle_memory, "QUIET_S", 0.05)
    monkeypatch.setattr(idle_memory, "_PAUSE_S", 0.005)
    machine = Machine()
    machine.on_thaw = lambda: machine.shrink(SMALL)
    return machine


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_an_idle_machine_goes_on_without_its_function_and_is_frozen_again(
    machine: Machine,
) -> None:
    machine.freeze()
    await until(lambda: machine.told == [True])
    assert not machine.group.is_frozen
    await until(lambda: machine.told == [True, False])
    assert machine.group.is_frozen


async def test_it_goes_on_as_long_as_something_comes_back(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.idle, "_quiet_s", 0.2)
    machine.on_thaw = lambda: None
    machine.freeze()
    await until(lambda: machine.told == [True])
    for mib in range(LARGE, SMALL, -10):
        machine.shrink(mib)
        await asyncio.sleep(0.02)
        assert machine.told == [True]
    await until(lambda: machine.told == [True, False])


async def test_it_does_not_go_on_for_ever(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_memory, "LONGEST_S", 0.1)
    monkeypatch.setattr(machine.idle, "_quiet_s", 1000.0)
    machine.freeze()
    await until(lambda: machine.told == [True, False])
    assert machine.group.is_frozen


async def test_whoever_needs_it_has_it_at_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.idle, "_quiet_s", 1000.0)
    machine.freeze()
    await until(lambda: machine.told == [True])
    machine.thaw()
    assert machine.told == [True, False]
    await asyncio.sleep(0.05)
    assert machine.told == [True, False]
    assert not machine.group.is_frozen


async def test_one_that_is_needed_before_is_left_alone(machine: Machine) -> None:
    machine.freeze()
    machine.thaw()
    await asyncio.sleep(0.05)
    assert machine.told == []


@pytest.mark.parametrize("mib", [0, SMALL, idle_memory.WORTHWHILE_BYTES // MIB - 1])
async def test_it_has_to_be_worth_while(machine: Machine, mib: int) -> None:
    machine.shrink(mib)
    machine.freeze()
    await asyncio.sleep(0.05)
    assert (machine.told, machine.group.is_frozen) == ([], True)


async def test_what_it_needs_is_not_asked_for_again(machine: Machine) -> None:
    machine.on_thaw = lambda: None
    machine.freeze()
    await until(lambda: machine.told == [True, False])
    machine.thaw()
    machine.freeze()
    await asyncio.sleep(0.1)
    machine.thaw()
    assert machine.thaws == 1
    machine.shrink(LARGE + 64)
    machine.freeze()
    await until(lambda: machine.thaws == 2)
    machine.thaw()
