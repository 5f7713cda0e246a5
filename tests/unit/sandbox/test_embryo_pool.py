"""The pool of embryos with embryos that are made when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from firelet.model.errors import PlatformError
from firelet.sandbox.embryo_pool import EmbryoPool
from firelet.sandbox.embryos import MEMORY_S, Bounds
from unit.worker.loop_clock import LoopClock


class FakeEmbryo:
    def __init__(self) -> None:
        self.is_dead = False

    async def stop(self) -> None:
        self.is_dead = True


class Nursery:
    """Makes embryos as soon as they are asked for, or when ``gate`` opens."""

    def __init__(self) -> None:
        self.made: list[FakeEmbryo] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.under_way = 0
        self.most_under_way = 0
        self.error: PlatformError | None = None

    async def make(self) -> FakeEmbryo:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.gate.wait()
            if self.error is not None:
                raise self.error
        finally:
            self.under_way -= 1
        self.made.append(FakeEmbryo())
        return self.made[-1]


@pytest.fixture
async def clock() -> LoopClock:
    return LoopClock(asyncio.get_running_loop())


@pytest.fixture(autouse=True)
def _restored(clock: LoopClock) -> Iterator[None]:
    yield
    clock.restore()


@pytest.fixture
async def nursery() -> Nursery:
    return Nursery()


def pool_of(nursery: Nursery, least: int = 2, most: int = 16) -> EmbryoPool[FakeEmbryo]:
    return EmbryoPool("python3.13", nursery.make, Bounds(least, most))


async def test_the_least_are_made_ahead(nursery: Nursery) -> None:
    pool = pool_of(nursery)
    pool.fill()
    pool.fill()
    await pool.settle()
    assert list(pool.waiting) == nursery.made
    assert len(nursery.made) == 2
    await pool.close()


async def test_who_waited_longest_is_taken_first_and_replaced(nursery: Nursery) -> None:
    pool = pool_of(nursery)
    pool.fill()
    await pool.settle()
    assert await pool.take() is nursery.made[0]
    await pool.settle()
    assert nursery.made[0] not in pool.waiting
    assert len(pool.waiting) >= 2
    await pool.close()


async def test_while_starts_are_rare_it_is_filled_later_and_sooner_if_none_is_left(
    nursery: Nursery, clock: LoopClock
) -> None:
    pool = pool_of(nursery)
    pool.fill()
    await pool.settle()
    nursery.gate.clear()
    await pool.take()
    await clock.advance(0.05)
    assert nursery.under_way == 0
    await clock.advance(0.06)
    assert nursery.under_way > 0
    nursery.gate.set()
    await pool.settle()
    nursery.gate.clear()
    # The starts of before are forgotten by now.
    await clock.advance(60)
    await pool.settle()
    for _ in range(2):
        await pool.take()
    assert not pool.waiting
    await clock.advance(0.01)
    assert nursery.under_way == 0
    await clock.advance(0.01)
    assert nursery.under_way > 0
    await pool.close()


async def test_while_many_are_taken_it_is_filled_at_once(
    nursery: Nursery, clock: LoopClock
) -> None:
    pool = pool_of(nursery)
    nursery.gate.clear()
    takers = [asyncio.create_task(pool.take()) for _ in range(20)]
    await clock.advance(0)  # they begin
    await clock.advance(1.0)
    nursery.gate.set()
    await asyncio.gather(*takers)
    await pool.settle()
    nursery.gate.clear()
    while nursery.under_way == 0:
        await pool.take()
        await clock.advance(0)
    assert pool.waiting, "it was filled only when none was left"
    await pool.close()


async def test_an_empty_pool_makes_one_for_who_asks(nursery: Nursery) -> None:
    pool = pool_of(nursery, least=0, most=0)
    assert await pool.take() is nursery.made[0]
    await pool.settle()
    assert len(nursery.made) == 1
    await pool.close()


async def test_a_dead_one_is_passed_over(nursery: Nursery) -> None:
    pool = pool_of(nursery)
    pool.fill()
    await pool.settle()
    nursery.made[0].is_dead = True
    assert await pool.take() is nursery.made[1]
    await pool.close()


async def test_more_wait_while_many_are_taken_and_go_when_it_is_over(
    nursery: Nursery, clock: LoopClock
) -> None:
    pool = pool_of(nursery)
    pool.fill()
    await pool.settle()
    nursery.gate.clear()
    takers = [asyncio.create_task(pool.take()) for _ in range(30)]
    await clock.advance(0)  # they begin
    await clock.advance(0.5)
    nursery.gate.set()
    taken = await asyncio.gather(*takers)
    await pool.settle()
    assert 3 < len(pool.waiting) <= 16
    for _ in range(30):
        await clock.advance(MEMORY_S)
    assert len(pool.waiting) == 2
    gone = [embryo for embryo in nursery.made if embryo.is_dead]
    assert len(gone) == len(nursery.made) - len(taken) - 2
    assert not set(gone) & set(taken)
    await pool.close()


async def test_no_more_are_under_way_ahead_than_a_zygote_forks_at_a_time(nursery: Nursery) -> None:
    pool = pool_of(nursery, least=10)
    nursery.gate.clear()
    pool.fill()
    pool.fill()
    for _ in range(3):
        await asyncio.sleep(0)
    assert nursery.under_way == 4
    nursery.gate.set()
    await pool.settle()
    assert len(pool.waiting) == 10
    assert nursery.most_under_way == 4
    await pool.close()


async def test_one_that_ended_by_itself_is_stopped_if_it_waited(nursery: Nursery) -> None:
    pool = pool_of(nursery)
    pool.fill()
    await pool.settle()
    waiting, taken = nursery.made[1], await pool.take()
    assert pool.drop(waiting)
    assert not pool.drop(taken)
    await pool.close()
    assert waiting.is_dead
    assert not taken.is_dead


async def test_a_failure_is_told_to_who_asks_and_ends_the_making_ahead(nursery: Nursery) -> None:
    pool = pool_of(nursery)
    nursery.error = PlatformError("no")
    pool.fill()
    await pool.settle()
    with pytest.raises(PlatformError, match="no"):
        await pool.take()
    assert pool.waiting == ()
    nursery.error = None
    await pool.take()
    await pool.settle()
    assert pool.waiting
    await pool.close()


async def test_a_closed_pool_makes_no_more(nursery: Nursery) -> None:
    pool = pool_of(nursery)
    nursery.gate.clear()
    pool.fill()
    await asyncio.sleep(0)
    await pool.close()
    nursery.gate.set()
    pool.fill()
    await pool.settle()
    assert nursery.made == []
