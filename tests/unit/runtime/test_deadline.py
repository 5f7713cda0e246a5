"""The deadline of an invocation: called once if it passes, and one timer for many of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from firelet.runtime.deadline import Deadline
from unit.worker.loop_clock import LoopClock


class Passed:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


@pytest.fixture
def passed() -> Passed:
    return Passed()


@pytest.fixture
def deadline(passed: Passed) -> Deadline:
    return Deadline(passed)


@pytest.fixture
async def clock() -> AsyncIterator[LoopClock]:
    clock = LoopClock(asyncio.get_running_loop())
    yield clock
    clock.restore()


def start(deadline: Deadline, after_s: float) -> None:
    deadline.set(asyncio.get_running_loop(), after_s)


async def test_it_passes_once(deadline: Deadline, passed: Passed, clock: LoopClock) -> None:
    start(deadline, 3)
    await clock.advance(2.9)
    assert passed.times == 0
    await clock.advance(0.2)
    assert passed.times == 1
    await clock.advance(10)
    assert passed.times == 1


async def test_what_was_done_in_time_has_none(
    deadline: Deadline, passed: Passed, clock: LoopClock
) -> None:
    start(deadline, 3)
    deadline.clear()
    await clock.advance(10)
    assert passed.times == 0


async def test_the_timer_of_an_earlier_one_does_not_cut_a_later_one_short(
    deadline: Deadline, passed: Passed, clock: LoopClock
) -> None:
    start(deadline, 3)
    deadline.clear()
    await clock.advance(2)
    start(deadline, 3)
    await clock.advance(2)
    assert passed.times == 0
    await clock.advance(1.1)
    assert passed.times == 1


async def test_one_that_comes_sooner_than_the_timer_is_kept(
    deadline: Deadline, passed: Passed, clock: LoopClock
) -> None:
    start(deadline, 60)
    deadline.clear()
    start(deadline, 1)
    await clock.advance(1.1)
    assert passed.times == 1


async def test_many_in_a_row_share_one_timer(
    deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    armed: list[float] = []
    call_at = loop.call_at
    monkeypatch.setattr(
        loop, "call_at", lambda when, *rest: armed.append(when) or call_at(when, *rest)
    )
    for _ in range(100):
        deadline.set(loop, 60)
        deadline.clear()
    deadline.close()
    assert len(armed) == 1


async def test_nothing_rings_after_the_close(
    deadline: Deadline, passed: Passed, clock: LoopClock
) -> None:
    start(deadline, 3)
    deadline.close()
    await clock.advance(10)
    assert passed.times == 0
