"""Room: never more promised than there is, first come first served, and nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from firelet.control.room import Room
from firelet.model import limits
from firelet.model.errors import EC2Throttled


class Line:
    """Those who wait for room, in a test that says what time it is."""

    def __init__(self, room: Room) -> None:
        self.room = room

    async def ask(self, memory_mib: int, now: float = 0.0) -> asyncio.Task[None]:
        claim = self.room.claim(memory_mib, now)
        task = asyncio.create_task(self.room.granted(claim))
        await asyncio.sleep(0)
        return task


@pytest.fixture
def room() -> Room:
    return Room(1_000)


@pytest.fixture
def line(room: Room) -> Line:
    return Line(room)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_there_is_room_until_all_is_taken(room: Room) -> None:
    assert room.take(600)
    assert not room.take(401)
    assert room.take(400)
    room.give(600)
    assert room.taken_mib == 400


def test_without_a_limit_there_is_always_room() -> None:
    assert Room().take(10**9)


async def test_who_waits_is_served_in_turn_and_not_overtaken(room: Room, line: Line) -> None:
    room.take(900)
    large, small = await line.ask(500), await line.ask(50)
    assert not room.take(50), "one that came later went first"
    assert not small.done()
    room.give(400)
    await settle()
    assert (large.done(), small.done()) == (True, False)
    room.give(500)
    await settle()
    assert small.done()
    assert room.taken_mib == 550


async def test_what_is_short_is_what_nobody_has_sent_away_yet(room: Room, line: Line) -> None:
    assert room.short_mib == 0
    room.take(1_000)
    assert room.short_mib == 0, "nobody waits"
    asked = await line.ask(300)
    assert room.short_mib == 300
    room.leave(200)
    assert room.short_mib == 100
    room.left(200)
    assert room.short_mib == 100
    room.give(100)
    await asked
    assert room.short_mib == 0


async def test_who_waits_too_long_is_refused_as_by_aws(room: Room, line: Line) -> None:
    room.take(1_000)
    early, late = await line.ask(100, now=0.0), await line.ask(100, now=5.0)
    room.refuse_late(limits.ROOM_WAIT_S)
    with pytest.raises(EC2Throttled) as caught:
        await early
    assert (caught.value.code, caught.value.status) == ("EC2ThrottledException", 502)
    assert not late.done()
    room.give(1_000)
    await late
    assert room.taken_mib == 100


async def test_those_behind_one_that_is_refused_get_what_there_is(room: Room, line: Line) -> None:
    room.take(900)
    large, small = await line.ask(500, now=0.0), await line.ask(50, now=5.0)
    room.refuse_late(limits.ROOM_WAIT_S)
    await small
    with pytest.raises(EC2Throttled):
        await large


def test_what_this_host_never_has_is_refused_at_once(room: Room) -> None:
    with pytest.raises(EC2Throttled):
        room.claim(1_001, 0.0)


async def test_who_gives_up_lets_those_behind_go_on(room: Room, line: Line) -> None:
    room.take(900)
    large, small = await line.ask(500), await line.ask(50)
    large.cancel()
    await settle()
    assert small.done()
    assert room.taken_mib == 950


@pytest.mark.parametrize("is_first", [True, False])
async def test_who_gives_up_in_the_turn_in_which_it_is_granted_keeps_nothing(
    room: Room, line: Line, is_first: bool
) -> None:
    room.take(1_000)
    asked = await line.ask(500)
    if is_first:
        asked.cancel()
    room.give(600)
    if not is_first:
        asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert room.taken_mib == 400
    assert room.take(600)


async def test_who_gives_up_in_the_turn_in_which_it_is_refused_is_no_trouble(
    room: Room, line: Line
) -> None:
    room.take(1_000)
    asked = await line.ask(500)
    asked.cancel()
    room.refuse_late(1_000.0)
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert room.taken_mib == 1_000
