"""The durable queue: order, due times, and what a restart brings back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firelet.store.queue import EventQueue


class FakeClock:
    def __init__(self) -> None:
        self.now_ms = 10_000_000

    def __call__(self) -> float:
        return self.now_ms / 1000


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def queue(tmp_path: Path, clock: FakeClock) -> AsyncIterator[EventQueue]:
    queue = EventQueue(tmp_path / "queue.db", clock=clock)
    yield queue
    await queue.close()


async def bodies(queue: EventQueue, now_ms: int, limit: int = 100) -> list[bytes]:
    return [event.body for event in await queue.take(limit, now_ms)]


async def test_items_are_taken_once_and_in_order(queue: EventQueue, clock: FakeClock) -> None:
    await asyncio.gather(*(queue.put(str(n).encode()) for n in range(10)))
    assert await bodies(queue, clock.now_ms, limit=4) == [b"0", b"1", b"2", b"3"]
    assert await bodies(queue, clock.now_ms) == [b"4", b"5", b"6", b"7", b"8", b"9"]
    assert await bodies(queue, clock.now_ms) == []


async def test_an_item_tells_when_it_came_and_how_often_it_was_tried(
    queue: EventQueue, clock: FakeClock
) -> None:
    id_ = await queue.put(b"x")
    (event,) = await queue.take(1, clock.now_ms)
    assert (event.id, event.attempts, event.failures, event.enqueued_ms) == (id_, 0, 0, 10_000_000)
    await queue.retry(id_, 5)
    await queue.take(1, clock.now_ms)
    await queue.retry(id_, 7, is_failure=True)
    (event,) = await queue.take(1, clock.now_ms)
    assert (event.attempts, event.failures, event.due_ms) == (2, 1, 7)


async def test_an_item_is_not_taken_before_it_is_due(queue: EventQueue, clock: FakeClock) -> None:
    await queue.put(b"later", due_ms=clock.now_ms + 10)
    assert await bodies(queue, clock.now_ms + 9) == []
    assert await queue.next_due_ms() == clock.now_ms + 10
    assert await bodies(queue, clock.now_ms + 10) == [b"later"]
    assert await queue.next_due_ms() is None


async def test_new_items_do_not_overtake_a_retry_that_became_due_before_them(
    queue: EventQueue, clock: FakeClock
) -> None:
    first = await queue.put(b"retried")
    await queue.take(1, clock.now_ms)
    await queue.retry(first, clock.now_ms + 100)
    clock.now_ms += 200
    await queue.put(b"new")
    assert await bodies(queue, clock.now_ms) == [b"retried", b"new"]


async def test_a_clock_that_is_set_back_hides_nothing(queue: EventQueue, clock: FakeClock) -> None:
    await queue.put(b"x")
    clock.now_ms -= 3_600_000
    await queue.put(b"y")
    assert sorted(await bodies(queue, clock.now_ms)) == [b"x", b"y"]


async def test_a_clock_that_is_set_back_over_a_restart_hides_nothing(
    tmp_path: Path, clock: FakeClock
) -> None:
    queue = EventQueue(tmp_path / "q.db", clock=clock)
    await queue.put(b"x")
    await queue.close()
    clock.now_ms -= 3_600_000
    queue = EventQueue(tmp_path / "q.db", clock=clock)
    assert await bodies(queue, clock.now_ms) == [b"x"]
    await queue.close()


async def test_a_restart_brings_back_what_was_not_done(tmp_path: Path, clock: FakeClock) -> None:
    queue = EventQueue(tmp_path / "q.db", clock=clock)
    ids = [await queue.put(body) for body in (b"done", b"taken", b"waiting")]
    await queue.take(2, clock.now_ms)
    await queue.done(ids[:1])
    await queue.close()
    queue = EventQueue(tmp_path / "q.db", clock=clock)
    assert await bodies(queue, clock.now_ms) == [b"taken", b"waiting"]
    assert await queue.put(b"new") > ids[2]
    await queue.close()
