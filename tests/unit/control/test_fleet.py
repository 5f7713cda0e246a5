"""The fleet: placement is asked, memory is not promised twice, lost workers come back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from firelet.control.fleet import Fleet, FleetSettings, pause_s
from firelet.control.manager import Manager
from firelet.control.placement import LOADED_PER_CORE, LOST_AFTER_S
from firelet.control.remote import RemoteEnvironment
from firelet.model import limits
from firelet.model.errors import FunctionError, PlatformError, Unavailable
from firelet.model.isolation import Isolation
from firelet.wire.worker_messages import Activate, Expect, Invoke, Retire, Start
from unit.control.fake_fleet import FakeClock
from unit.control.fake_workers import FakeLauncher, FakeProcess, Stays
from unit.versions import make_invocation, make_version
from unit.worker.loop_clock import LoopClock

VERSION = make_version(memory_mib=512)
SNAPPED = make_version(version="1", snap_start="PublishedVersions")


class World:
    """A fleet of two workers on a host with 4 cores and 4 GiB."""

    def __init__(self, *, overcommit: float = 1.0) -> None:
        self.clock = FakeClock()
        self.loop_clock = LoopClock(asyncio.get_running_loop())
        self.launcher = FakeLauncher()
        self.stays = Stays()
        self.fleet = Fleet(
            self.launcher,
            FleetSettings(workers=2, memory_mib=4_096, cores=4, overcommit=overcommit),
            self.stays.admit,
            lambda _events: None,
            self.clock,
        )

    def starts(self) -> dict[str, int]:
        return dict(Counter(p.name for p in self.launcher.made for _ in p.link.starts))

    async def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        await self.loop_clock.advance(seconds)

    async def turns(self) -> None:
        await self.loop_clock.advance(0)

    def worker(self, name: str) -> FakeProcess:
        return self.launcher.latest(name)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.fleet.open()
    yield world
    await world.fleet.close()
    world.loop_clock.restore()
    assert all(process.ends or process.kills for process in world.launcher.made)


def worker_of(environment: RemoteEnvironment) -> str:
    return environment._worker.name


async def test_every_worker_is_started_and_opened(world: World) -> None:
    assert [process.name for process in world.launcher.made] == ["worker-1", "worker-2"]
    assert all(process.link.is_opened for process in world.launcher.made)


async def test_a_fleet_of_which_a_worker_cannot_be_started_does_not_open() -> None:
    world = World()
    world.launcher.failures = 1
    with pytest.raises(ExceptionGroup) as caught:
        await world.fleet.open()
    world.loop_clock.restore()
    assert caught.group_contains(PlatformError)
    assert all(process.ends or process.kills for process in world.launcher.made)


async def test_what_a_worker_has_made_before_it_makes_again(world: World) -> None:
    first = await world.fleet.start(VERSION)
    assert worker_of(await world.fleet.start(VERSION)) == worker_of(first)


async def test_a_snapshot_is_made_once_and_restored_where_it_is(world: World) -> None:
    await world.fleet.activate(SNAPPED)
    assert sum(process.link.count(Activate) for process in world.launcher.made) == 1
    assert world.stays.held == 0
    holder = next(each for each in world.launcher.made if each.link.count(Activate))
    holder.link.hold(Start)
    starting = [asyncio.create_task(world.fleet.start(SNAPPED)) for _ in range(12)]
    await world.turns()
    assert world.starts() == {holder.name: 12}, "however busy that worker is"
    holder.link.gates[Start].set_result(None)
    await asyncio.gather(*starting)


async def test_a_snapshot_whose_init_fails_is_told_of(world: World) -> None:
    for process in world.launcher.made:
        process.link.errors[Activate] = FunctionError("x", b"{}")
    with pytest.raises(FunctionError):
        await world.fleet.activate(SNAPPED)
    assert world.stays.held == 0


async def test_a_snapshot_whose_worker_is_lost_is_made_in_another_one(world: World) -> None:
    for process in world.launcher.made:
        process.link.hold(Activate)
    activating = asyncio.create_task(world.fleet.activate(SNAPPED))
    await world.turns()
    lost = next(each for each in world.launcher.made if each.link.count(Activate))
    other = next(each for each in world.launcher.made if each is not lost)
    lost.link.lose()
    await world.turns()
    other.link.gates[Activate].set_result(None)
    await activating
    assert worker_of(await world.fleet.start(SNAPPED)) == other.name


async def test_a_function_that_is_gone_leaves_no_snapshot_behind(world: World) -> None:
    await world.fleet.activate(SNAPPED)
    world.fleet.retire((SNAPPED.account, SNAPPED.region, SNAPPED.name), "1")
    holder = next(each for each in world.launcher.made if each.link.count(Activate))
    holder.link.hold(Start)
    starting = [asyncio.create_task(world.fleet.start(SNAPPED)) for _ in range(8)]
    await world.turns()
    assert len(world.starts()) == 2, "any worker may make the next one"
    holder.link.gates[Start].set_result(None)
    await asyncio.gather(*starting)


async def test_every_worker_is_told_that_a_function_is_gone(world: World) -> None:
    world.fleet.retire(("1", "us-east-1", "hello"), None)
    for process in world.launcher.made:
        assert process.link.told == [Retire("1", "us-east-1", "hello", None)]


async def test_a_burst_is_spread(world: World) -> None:
    for process in world.launcher.made:
        process.link.hold(Start)
    starting = [asyncio.create_task(world.fleet.start(VERSION)) for _ in range(8)]
    await world.turns()
    assert world.starts() == {"worker-1": 4, "worker-2": 4}
    for process in world.launcher.made:
        process.link.gates[Start].set_result(None)
    await asyncio.gather(*starting)


async def test_a_busy_worker_is_spared(world: World) -> None:
    first = await world.fleet.start(VERSION)
    busy = world.worker(worker_of(first))
    busy.link.hold(Invoke)
    full = int(LOADED_PER_CORE * 2)
    environments = [first, *[await world.fleet.start(VERSION) for _ in range(full - 1)]]
    invoking = [asyncio.create_task(each.invoke(make_invocation())) for each in environments]
    await world.turns()
    assert worker_of(await world.fleet.start(VERSION)) != busy.name
    busy.link.gates[Invoke].set_result(None)
    await asyncio.gather(*invoking)


@pytest.mark.parametrize("overcommit", [1.0, 2.0])
async def test_memory_is_promised_once_over_all_workers(overcommit: float) -> None:
    world = World(overcommit=overcommit)
    await world.fleet.open()
    most = int(4_096 * overcommit / 512)
    environments = [await world.fleet.start(VERSION) for _ in range(most)]
    with pytest.raises(Unavailable, match="memory"):
        await world.fleet.start(VERSION)
    assert world.stays.held == most
    await environments[0].close()
    await world.fleet.start(VERSION)
    await world.fleet.close()
    world.loop_clock.restore()


async def test_one_large_function_may_have_what_no_other_has(world: World) -> None:
    await world.fleet.start(make_version(memory_mib=3_584))
    await world.fleet.start(VERSION)
    with pytest.raises(Unavailable, match="memory"):
        await world.fleet.start(make_version(memory_mib=128))


async def test_a_worker_that_is_silent_gets_nothing_new(world: World) -> None:
    first = await world.fleet.start(VERSION)
    silent = worker_of(first)
    world.clock.now += LOST_AFTER_S + 1
    for process in world.launcher.made:
        if process.name != silent:
            process.link.hear(Expect("alive"))
    assert worker_of(await world.fleet.start(VERSION)) != silent


async def test_a_worker_that_hangs_is_ended_and_replaced(world: World) -> None:
    environment = await world.fleet.start(VERSION)
    hanging = world.worker(worker_of(environment))
    other = next(each for each in world.launcher.made if each is not hanging)
    for _ in range(int(limits.WORKER_SILENT_S) + 2):
        other.link.hear(Expect("alive"))
        await world.pass_time(1.0)
    assert hanging.kills
    assert not other.kills
    assert not environment.is_usable
    assert world.worker(hanging.name) is not hanging


async def test_a_lost_worker_is_replaced_and_what_it_held_is_given_back(world: World) -> None:
    world.fleet.expect("python3.13", Isolation.MICROVM)
    kept = await world.fleet.start(VERSION)
    lost = world.worker(worker_of(kept))
    lost.link.lose()
    await world.turns()
    successor = world.worker(lost.name)
    assert successor is not lost
    assert lost.kills, "what is left of the process is collected"
    assert successor.link.told == [Expect("python3.13", Isolation.MICROVM)]
    assert world.stays.held == 0
    await world.fleet.start(VERSION)
    assert world.stays.held == 1


async def test_a_start_whose_worker_is_lost_goes_to_another_one(world: World) -> None:
    first, second = world.launcher.made
    for process in (first, second):
        process.link.hold(Start)
    starting = asyncio.create_task(world.fleet.start(VERSION))
    await world.turns()
    lost = first if first.link.starts else second
    other = second if lost is first else first
    lost.link.lose()
    await world.turns()
    for process in world.launcher.made:
        gate = process.link.gates.get(Start)
        if gate is not None and not gate.done():
            gate.set_result(None)
    environment = await starting
    assert environment.is_usable
    assert worker_of(environment) == other.name
    assert world.stays.held == 1


async def test_without_a_worker_a_start_waits_for_one(world: World) -> None:
    world.launcher.failures = 2
    for process in list(world.launcher.made):
        process.link.lose()
    await world.turns()
    starting = asyncio.create_task(world.fleet.start(VERSION))
    await world.turns()
    assert not starting.done()
    await world.pass_time(pause_s(2))
    assert (await starting).is_usable


async def test_without_a_worker_for_long_a_start_is_refused(world: World) -> None:
    world.launcher.failures = 1_000
    for process in list(world.launcher.made):
        process.link.lose()
    await world.turns()
    starting = asyncio.create_task(world.fleet.start(VERSION))
    await world.turns()
    await world.pass_time(limits.WORKER_WAIT_S + 1)
    with pytest.raises(Unavailable, match="No worker"):
        await starting
    assert world.stays.held == 0


async def test_a_worker_that_keeps_ending_is_started_ever_later(world: World) -> None:
    for _ in range(2):
        world.worker("worker-1").link.lose()
        await world.turns()
    made = len(world.launcher.made)
    await world.pass_time(pause_s(2) * 0.9)
    assert len(world.launcher.made) == made
    await world.pass_time(pause_s(2) * 0.2)
    assert len(world.launcher.made) == made + 1


def test_pauses_grow_to_a_limit() -> None:
    pauses = [pause_s(failures) for failures in range(50)]
    assert pauses[:5] == [0.0, 0.0, 0.5, 1.0, 2.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == limits.WORKER_PAUSE_MAX_S


async def test_recycling_lets_what_runs_finish_and_replaces_every_worker(world: World) -> None:
    manager = Manager(world.fleet, world.clock)
    environment = await manager.acquire(VERSION)
    assert isinstance(environment, RemoteEnvironment)
    before = list(world.launcher.made)
    busy = world.worker(worker_of(environment))
    gate = busy.link.hold(Invoke)
    invoking = asyncio.create_task(environment.invoke(make_invocation()))
    recycling = asyncio.create_task(world.fleet.recycle())
    await world.turns()
    assert not busy.ends
    meanwhile = await manager.acquire(VERSION)
    assert isinstance(meanwhile, RemoteEnvironment)
    assert worker_of(meanwhile) != busy.name
    manager.release(meanwhile)
    gate.set_result(None)
    assert (await invoking).payload == b"{}"
    manager.release(environment)
    for _ in range(5):
        await world.turns()
        manager.tend(1_000.0, 1_000.0)
    await recycling
    assert all(process.ends == 1 for process in before)
    assert {process.name for process in world.launcher.made[2:]} == {"worker-1", "worker-2"}
    await manager.close()
    assert world.stays.held == 0


async def test_closing_ends_every_worker(world: World) -> None:
    await world.fleet.close()
    assert [process.ends for process in world.launcher.made] == [1, 1]
