"""An environment of a worker process is, for the manager, an environment."""

from __future__ import annotations

import asyncio
import time

import pytest

from firelet.control.pool import Environment
from firelet.control.remote import RemoteEnvironment, RemoteWorker
from firelet.model.errors import FunctionError, PlatformError
from firelet.model.function import InitializationType
from firelet.model.invocation import Settled
from firelet.model.streaming import StreamHead, StreamSource
from firelet.wire.rpc import PeerLost
from firelet.wire.worker_messages import (
    Abandon,
    Changed,
    Close,
    Finished,
    Freed,
    Freeze,
    Granted,
    Invoke,
    Logged,
    PauseResponse,
    ResponseBegan,
    ResponsePiece,
    ResumeResponse,
    Start,
    StreamEvents,
)
from unit.control.fake_fleet import FakeClock
from unit.control.fake_workers import EXPIRES_AT, FakeLink, FakeStay
from unit.versions import REQUEST_ID, make_invocation, make_version

ON_DEMAND = InitializationType.ON_DEMAND


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def events() -> list[StreamEvents]:
    return []


@pytest.fixture
async def worker(link: FakeLink, events: list[StreamEvents]) -> RemoteWorker:
    worker = RemoteWorker("one", link, lambda: 0.0, events.append)
    await worker.open()
    return worker


@pytest.fixture
def stay() -> FakeStay:
    return FakeStay()


@pytest.fixture
async def environment(worker: RemoteWorker, stay: FakeStay) -> RemoteEnvironment:
    return await worker.start(make_version(), ON_DEMAND, stay)


def frees_of(environment: RemoteEnvironment) -> list[Environment]:
    """Filled when the environment is free."""
    freed: list[Environment] = []
    environment.when_free(freed.append)
    return freed


async def test_a_start_brings_the_credentials_and_the_version(
    link: FakeLink, environment: RemoteEnvironment
) -> None:
    start = link.starts[0]
    assert (start.version, start.initialization) == (make_version(), ON_DEMAND)
    assert start.granted == Granted("key", "secret", "token", EXPIRES_AT)
    assert environment.is_usable
    assert environment.is_initialised


async def test_memory_is_reserved_from_the_start_to_the_end(
    link: FakeLink, worker: RemoteWorker, stay: FakeStay
) -> None:
    gate = link.hold(Start)
    starting = asyncio.create_task(worker.start(make_version(memory_mib=512), ON_DEMAND, stay))
    await asyncio.sleep(0)
    assert (worker.reserved_mib, worker.active) == (512, 1)
    gate.set_result(None)
    environment = await starting
    assert (worker.reserved_mib, worker.active) == (512, 0)
    await environment.close()
    await environment.close()
    assert (worker.reserved_mib, stay.ends, link.closed) == (0, 1, [environment.number])


@pytest.mark.parametrize("error", [PlatformError("no sandbox"), FunctionError("x", b"{}")])
async def test_a_start_that_fails_leaves_nothing(
    link: FakeLink, worker: RemoteWorker, stay: FakeStay, error: Exception
) -> None:
    link.errors[Start] = error
    with pytest.raises(type(error)):
        await worker.start(make_version(), ON_DEMAND, stay)
    assert (worker.reserved_mib, worker.active, stay.ends) == (0, 0, 0)


async def test_a_start_that_is_cancelled_is_abandoned_over_there(
    link: FakeLink, worker: RemoteWorker, stay: FakeStay
) -> None:
    link.hold(Start)
    starting = asyncio.create_task(worker.start(make_version(), ON_DEMAND, stay))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert link.told == [Abandon(link.starts[0].environment)]
    assert worker.reserved_mib == 0


async def test_an_invocation_is_one_call(link: FakeLink, environment: RemoteEnvironment) -> None:
    environment.is_frozen = True
    invocation = make_invocation(payload=b"[1]", wants_tail=True, trace_id="Root=1")
    asked = len(link.asked)
    outcome = await environment.invoke(invocation)
    assert link.asked[asked:] == [
        Invoke(environment.number, REQUEST_ID, invocation.invoked_arn, None, "Root=1", True)
    ]
    assert link.told == []
    assert (outcome.payload, outcome.log_tail, outcome.executed_version) == (
        b"[1]",
        b"tail",
        "$LATEST",
    )
    assert not environment.is_frozen
    assert frees_of(environment) == [environment]


async def test_it_is_free_when_the_worker_says_so(
    link: FakeLink, environment: RemoteEnvironment
) -> None:
    link.is_free = False
    await environment.invoke(make_invocation())
    freed = frees_of(environment)
    assert freed == []
    link.hear(Freed(environment.number))
    link.hear(Freed(environment.number))
    assert freed == [environment]


async def test_it_is_free_when_that_came_in_one_packet_with_the_answer(
    link: FakeLink, environment: RemoteEnvironment
) -> None:
    link.is_free = False
    gate = link.hold(Invoke)
    invoking = asyncio.create_task(environment.invoke(make_invocation()))
    await asyncio.sleep(0)
    gate.set_result(None)
    link.hear(Freed(environment.number))  # before the invocation has had a turn
    await invoking
    assert frees_of(environment) == [environment]


@pytest.mark.parametrize("is_first", [True, False], ids=["before the answer", "after it"])
async def test_what_extensions_took_is_told_once(
    link: FakeLink, environment: RemoteEnvironment, is_first: bool
) -> None:
    link.is_settling = True
    settled: list[Settled] = []
    gate = link.hold(Invoke)
    invoking = asyncio.create_task(environment.invoke(make_invocation(on_settled=settled.append)))
    await asyncio.sleep(0)
    if is_first:
        link.hear(Finished(environment.number, 80.0, 60.0))
    gate.set_result(None)
    assert (await invoking).is_settling
    if not is_first:
        assert settled == []
        link.hear(Finished(environment.number, 80.0, 60.0))
    link.hear(Finished(environment.number, 1.0, 1.0))
    link.lose()
    assert settled == [Settled(duration_ms=80.0, extensions_ms=60.0)]


@pytest.mark.parametrize("is_settling", [True, False])
async def test_of_a_worker_that_is_lost_the_duration_of_the_answer_is_what_is_known(
    link: FakeLink, environment: RemoteEnvironment, is_settling: bool
) -> None:
    link.is_settling = is_settling
    settled: list[Settled] = []
    outcome = await environment.invoke(make_invocation(on_settled=settled.append))
    link.lose()
    known = [Settled(duration_ms=outcome.duration_ms, extensions_ms=0.0)]
    assert settled == (known if is_settling else [])


async def test_what_the_worker_says_of_it_is_known(
    link: FakeLink, environment: RemoteEnvironment
) -> None:
    link.hear(Changed(environment.number, True, False))
    assert (environment.is_usable, environment.is_initialised) == (True, False)
    link.hear(Changed(environment.number, False, False))
    assert not environment.is_usable
    link.hear(Changed(environment.number, True, True))
    assert not environment.is_usable, "dead stays dead"


async def test_it_is_given_up_before_its_credentials_expire(link: FakeLink, stay: FakeStay) -> None:
    """They are renewed for nobody: an environment of such an age is replaced."""
    clock = FakeClock()
    worker = RemoteWorker("one", link, clock, lambda _events: None)
    await worker.open()
    environment = await worker.start(make_version(), ON_DEMAND, stay)
    lasts_s = EXPIRES_AT - time.time()
    clock.now += lasts_s * 0.49
    assert environment.is_usable
    clock.now += lasts_s * 0.02
    assert not environment.is_usable
    assert frees_of(environment) == [environment]


async def test_freezing_is_told_once_it_is_idle(
    link: FakeLink, environment: RemoteEnvironment
) -> None:
    environment.freeze()
    assert link.told == [Freeze(environment.number)]
    assert environment.is_frozen


async def test_a_draining_worker_is_empty_when_what_runs_has_ended(
    link: FakeLink, worker: RemoteWorker, environment: RemoteEnvironment
) -> None:
    gate = link.hold(Invoke)
    invoking = asyncio.create_task(environment.invoke(make_invocation()))
    draining = asyncio.create_task(worker.drain())
    await asyncio.sleep(0)
    assert not environment.is_usable
    gate.set_result(None)
    assert (await invoking).payload == b"{}"
    assert not draining.done()
    await environment.close()
    await draining


async def test_the_end_of_the_worker_fails_what_ran_in_it_and_gives_all_back(
    link: FakeLink, worker: RemoteWorker, environment: RemoteEnvironment, stay: FakeStay
) -> None:
    link.hold(Invoke)
    invoking = asyncio.create_task(environment.invoke(make_invocation()))
    await asyncio.sleep(0)
    freed = frees_of(environment)
    link.lose()
    with pytest.raises(PeerLost):
        await invoking
    assert freed == [environment]
    assert not environment.is_usable
    assert (stay.ends, worker.reserved_mib, worker.active) == (1, 0, 0)
    await environment.close()
    assert stay.ends == 1
    assert link.count(Close) == 0


async def test_an_environment_that_could_not_be_reached_is_of_no_use(
    link: FakeLink, environment: RemoteEnvironment
) -> None:
    link.is_alive = False  # nobody has said so yet
    with pytest.raises(PeerLost):
        await environment.invoke(make_invocation())
    assert not environment.is_usable


async def test_a_worker_that_ends_while_it_closes_one_is_no_error(
    link: FakeLink, worker: RemoteWorker, environment: RemoteEnvironment, stay: FakeStay
) -> None:
    link.hold(Close)
    closing = asyncio.create_task(environment.close())
    await asyncio.sleep(0)
    link.lose()
    await closing
    assert (stay.ends, worker.reserved_mib) == (1, 0)


async def test_an_end_in_one_packet_with_the_answer_to_a_start(
    link: FakeLink, worker: RemoteWorker, stay: FakeStay
) -> None:
    gate = link.hold(Start)
    starting = asyncio.create_task(worker.start(make_version(), ON_DEMAND, stay))
    await asyncio.sleep(0)
    gate.set_result(None)
    link.lose()
    with pytest.raises(PeerLost):
        await starting
    assert stay.ends == 0, "it is still the caller's, who may try another worker"


async def test_what_is_said_of_environments_that_are_gone_is_ignored(
    link: FakeLink, worker: RemoteWorker
) -> None:
    link.hear(Freed(99))
    link.hear(Changed(99, False, False))
    assert worker.reserved_mib == 0


async def test_log_events_are_passed_on(
    link: FakeLink, worker: RemoteWorker, events: list[StreamEvents]
) -> None:
    stream = StreamEvents("1", "us-east-1", "/aws/lambda/f", "s", [(1, "line")])
    link.hear(Logged([stream]))
    assert events == [stream]


async def test_a_worker_may_not_ask(worker: RemoteWorker) -> None:
    with pytest.raises(PlatformError, match="may not ask"):
        await worker.answer(Freed(1), b"")


class Sink:
    def __init__(self) -> None:
        self.said: list[object] = []
        self.source: StreamSource

    def begin(self, head: StreamHead, source: StreamSource) -> None:
        self.said.append(head)
        self.source = source

    def write(self, piece: bytes) -> None:
        self.said.append(piece)


async def test_a_streamed_response_comes_in_notes_and_may_be_held_up(
    link: FakeLink, environment: RemoteEnvironment
) -> None:
    gate = link.hold(Invoke)
    sink, number = Sink(), environment.number
    invoking = asyncio.create_task(environment.invoke(make_invocation(sink=sink)))
    await asyncio.sleep(0)
    assert link.asked[-1].is_streamed  # type: ignore[attr-defined]
    link.hear(ResponseBegan(number, "text/plain"))
    link.hear(ResponsePiece(number, b"one"))
    assert sink.said == [StreamHead("text/plain"), b"one"]
    for _ in range(2):  # told once
        sink.source.pause()
    for _ in range(2):
        sink.source.resume()
    assert link.told == [PauseResponse(number), ResumeResponse(number)]
    gate.set_result(None)
    await invoking
    # What comes late, or is asked late, is of no invocation any more.
    link.hear(ResponsePiece(number, b"late"))
    sink.source.pause()
    assert sink.said[-1] == b"one"
    assert len(link.told) == 2


async def test_notes_of_environments_that_are_gone_are_nobodys(
    link: FakeLink, environment: RemoteEnvironment
) -> None:
    await environment.close()
    link.hear(ResponseBegan(environment.number, "text/plain"))
    link.hear(ResponsePiece(environment.number, b"x"))
    link.hear(ResponsePiece(99, b"x"))
