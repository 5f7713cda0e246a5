"""What else than idle environments is given up when memory is short: reserves, and last."""

from __future__ import annotations

from firelet.control.evict import Candidate, Standing
from firelet.control.manager import Manager
from unit.control.fake_fleet import FakeClock, FakeFleet
from unit.control.test_manager import settle
from unit.versions import make_version

VERSION = make_version(version="1")


class FakeReserves:
    """Snapshots of so many MiB each, by id."""

    def __init__(self, **sizes: float) -> None:
        self.sizes = sizes
        self.ended: list[str] = []

    def candidates(self) -> list[Candidate]:
        return [
            Candidate(
                id=name, memory_mib=size, start_s=1.0, idle_since=0.0, standing=Standing.SNAPSHOT
            )
            for name, size in self.sizes.items()
        ]

    def end(self, identity: str) -> None:
        del self.sizes[identity]
        self.ended.append(identity)


async def test_they_go_after_the_idle_environments_and_no_more_than_it_takes() -> None:
    clock, fleet, reserves = FakeClock(), FakeFleet(), FakeReserves(one=100.0, two=100.0)
    manager = Manager(fleet, clock, reserves=reserves)
    environment = await manager.acquire(VERSION)
    manager.release(environment)
    fleet.made[0].idle_mib = 60.0

    manager.press(850, 1_000)
    assert reserves.ended == []
    manager.press(910, 1_000)
    await settle()

    assert fleet.made[0].closes == 1
    assert reserves.ended == ["one"]
    await manager.close()


async def test_idle_environments_alone_may_be_enough() -> None:
    clock, fleet, reserves = FakeClock(), FakeFleet(), FakeReserves(one=100.0)
    manager = Manager(fleet, clock, reserves=reserves)
    environment = await manager.acquire(VERSION)
    manager.release(environment)
    fleet.made[0].idle_mib = 200.0

    manager.press(910, 1_000)
    await settle()

    assert fleet.made[0].closes == 1
    assert reserves.ended == []
    await manager.close()
