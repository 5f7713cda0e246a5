"""The rendezvous: an event in, an answer out, in whichever order the two sides arrive."""

from __future__ import annotations

import asyncio

import pytest

from firelet.runtime.exchange import (
    DeadlinePassed,
    EventNotTaken,
    Exchange,
    RuntimeAnswer,
    RuntimeEnded,
    RuntimeEvent,
)
from firelet.runtime.phases import InvalidTransition, Phase

EVENT = RuntimeEvent("id-1", ((b"a", b"b"),), b"{}")
OTHER = RuntimeEvent("id-2", (), b"[]")
ANSWER = RuntimeAnswer(b"42")
ERROR = RuntimeAnswer(b'{"errorType":"E"}', True, "E")


class ReadyCounter:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1


@pytest.fixture
def ready() -> ReadyCounter:
    return ReadyCounter()


@pytest.fixture
def exchange(ready: ReadyCounter) -> Exchange:
    return Exchange(ready)


@pytest.fixture
async def idle(exchange: Exchange) -> tuple[Exchange, asyncio.Future[RuntimeEvent]]:
    """An exchange whose runtime waits for its first event."""
    initialised = exchange.start()
    waiting = exchange.next()
    assert await initialised is None
    return exchange, waiting


async def test_init_is_over_when_the_runtime_asks_for_an_event(
    exchange: Exchange, ready: ReadyCounter
) -> None:
    initialised = exchange.start()
    assert not initialised.done()
    waiting = exchange.next()
    assert await initialised is None
    assert not waiting.done()
    assert ready.calls == 1
    assert exchange.phase is Phase.READY


async def test_init_may_be_waited_for_after_it_is_over(exchange: Exchange) -> None:
    initialised = exchange.start()
    exchange.fail_init(ERROR)
    assert await initialised is ERROR
    assert exchange.phase is Phase.INIT_FAILED


async def test_an_event_goes_to_the_runtime_that_waits_and_its_answer_comes_back(
    idle: tuple[Exchange, asyncio.Future[RuntimeEvent]],
) -> None:
    exchange, waiting = idle
    answer = exchange.dispatch(EVENT)
    assert await waiting is EVENT
    assert exchange.request_id == "id-1"
    exchange.respond(ANSWER)
    assert await answer is ANSWER
    assert exchange.phase is Phase.RESPONDED


async def test_an_answer_may_be_waited_for_after_it_has_come(
    idle: tuple[Exchange, asyncio.Future[RuntimeEvent]],
) -> None:
    exchange, _ = idle
    answer = exchange.dispatch(EVENT)
    exchange.respond(ERROR)
    exchange.next()
    assert await answer is ERROR


async def test_each_event_is_given_once(
    idle: tuple[Exchange, asyncio.Future[RuntimeEvent]], ready: ReadyCounter
) -> None:
    exchange, first = idle
    exchange.dispatch(EVENT)
    exchange.respond(ANSWER)
    second = exchange.next()
    assert ready.calls == 2
    exchange.dispatch(OTHER)
    assert (first.result(), await second) == (EVENT, OTHER)


async def test_there_is_no_dispatch_to_a_runtime_that_does_not_wait(exchange: Exchange) -> None:
    exchange.start()
    with pytest.raises(InvalidTransition):
        exchange.dispatch(EVENT)
    assert exchange.request_id is None


async def test_a_second_answer_is_refused_and_changes_nothing(
    idle: tuple[Exchange, asyncio.Future[RuntimeEvent]],
) -> None:
    exchange, _ = idle
    answer = exchange.dispatch(EVENT)
    exchange.respond(ANSWER)
    with pytest.raises(InvalidTransition):
        exchange.respond(ERROR)
    assert await answer is ANSWER


async def test_next_is_refused_while_an_answer_is_owed(
    idle: tuple[Exchange, asyncio.Future[RuntimeEvent]], ready: ReadyCounter
) -> None:
    exchange, _ = idle
    exchange.dispatch(EVENT)
    with pytest.raises(InvalidTransition):
        exchange.next()
    assert (exchange.phase, exchange.request_id, ready.calls) == (Phase.RUNNING, "id-1", 1)


async def test_a_runtime_that_asks_again_gets_the_event_on_the_newer_request(
    idle: tuple[Exchange, asyncio.Future[RuntimeEvent]],
) -> None:
    exchange, lost = idle
    waiting = exchange.next()
    exchange.dispatch(EVENT)
    assert lost.cancelled()
    assert await waiting is EVENT


async def test_the_request_id_lasts_from_dispatch_to_next(
    idle: tuple[Exchange, asyncio.Future[RuntimeEvent]],
) -> None:
    exchange, _ = idle
    exchange.dispatch(EVENT)
    exchange.respond(ANSWER)
    assert exchange.request_id == "id-1"
    exchange.next()
    assert exchange.request_id is None


async def test_the_end_of_the_process_reaches_who_waits_for_init(exchange: Exchange) -> None:
    initialised = exchange.start()
    exchange.end()
    with pytest.raises(RuntimeEnded):
        await initialised
    assert exchange.phase is Phase.STOPPED


async def test_the_end_of_the_process_reaches_who_waits_for_an_answer(
    idle: tuple[Exchange, asyncio.Future[RuntimeEvent]],
) -> None:
    exchange, _ = idle
    answer = exchange.dispatch(EVENT)
    exchange.end()
    with pytest.raises(RuntimeEnded):
        await answer
    assert exchange.request_id is None


@pytest.mark.parametrize("is_taken", [False, True])
async def test_an_event_that_was_kept_for_a_process_that_ended_was_not_taken(
    idle: tuple[Exchange, asyncio.Future[RuntimeEvent]], is_taken: bool
) -> None:
    exchange, waiting = idle
    exchange.withdraw(waiting)
    answer = exchange.dispatch(EVENT)
    if is_taken:
        exchange.next()
    exchange.end()
    with pytest.raises(RuntimeEnded) as caught:
        await answer
    assert isinstance(caught.value, EventNotTaken) is not is_taken


async def test_the_end_of_the_process_ends_its_wait_for_an_event(
    idle: tuple[Exchange, asyncio.Future[RuntimeEvent]],
) -> None:
    exchange, waiting = idle
    exchange.end()
    assert waiting.cancelled()


async def test_an_answer_that_came_before_the_end_stays(
    idle: tuple[Exchange, asyncio.Future[RuntimeEvent]],
) -> None:
    exchange, _ = idle
    answer = exchange.dispatch(EVENT)
    exchange.respond(ANSWER)
    exchange.end()
    assert await answer is ANSWER


async def test_the_deadline_reaches_who_waits_for_init(exchange: Exchange) -> None:
    initialised = exchange.start()
    exchange.expire()
    with pytest.raises(DeadlinePassed):
        await initialised


async def test_the_deadline_reaches_who_waits_for_an_answer(
    idle: tuple[Exchange, asyncio.Future[RuntimeEvent]],
) -> None:
    exchange, _ = idle
    answer = exchange.dispatch(EVENT)
    exchange.expire()
    with pytest.raises(DeadlinePassed):
        await answer


async def test_an_answer_after_the_deadline_is_taken_and_lost(
    idle: tuple[Exchange, asyncio.Future[RuntimeEvent]],
) -> None:
    exchange, _ = idle
    answer = exchange.dispatch(EVENT)
    exchange.expire()
    exchange.respond(ANSWER)
    exchange.end()
    with pytest.raises(DeadlinePassed):
        await answer


async def test_a_deadline_after_the_answer_changes_nothing(
    idle: tuple[Exchange, asyncio.Future[RuntimeEvent]],
) -> None:
    exchange, _ = idle
    answer = exchange.dispatch(EVENT)
    exchange.respond(ANSWER)
    exchange.expire()
    assert await answer is ANSWER


async def test_a_new_process_starts_after_the_end_of_the_last(
    idle: tuple[Exchange, asyncio.Future[RuntimeEvent]],
) -> None:
    exchange, _ = idle
    exchange.end()
    initialised = exchange.start()
    waiting = exchange.next()
    assert await initialised is None
    answer = exchange.dispatch(OTHER)
    assert await waiting is OTHER
    exchange.respond(ANSWER)
    assert await answer is ANSWER


async def test_an_event_whose_caller_gave_up_leaves_the_runtime_usable(
    idle: tuple[Exchange, asyncio.Future[RuntimeEvent]],
) -> None:
    exchange, _ = idle
    answer = exchange.dispatch(EVENT)
    answer.cancel()
    exchange.respond(ANSWER)
    exchange.next()
    assert exchange.phase is Phase.READY
