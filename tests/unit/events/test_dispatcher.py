"""The dispatcher over a real queue, with a clock and timers that only the tests move."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from firelet.events.destinations import Destinations
from firelet.events.dispatcher import Dispatcher
from firelet.events.queue import AsyncEvent, AsyncEventQueue
from firelet.model.errors import (
    FunctionSwitchedOff,
    PlatformError,
    RecursiveInvocation,
    ResourceNotFound,
    SnapStartNotReady,
    TooManyRequests,
)
from firelet.model.event_invoke import EventInvokeConfig
from firelet.model.function import FunctionKey
from firelet.model.invocation import Outcome
from firelet.store.queue import EventQueue

SUCCESS = Outcome(payload=b"null", executed_version="$LATEST")
FAILURE = Outcome(payload=b"{}", executed_version="$LATEST", function_error="Unhandled")
LISTENER = "arn:aws:lambda:eu-west-1:123456789012:function:listener"
THROTTLE = TooManyRequests("ConcurrentInvocationLimitExceeded")


@dataclass(eq=False)
class FakeTimer:
    due_ms: int
    callback: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class FakeClock:
    """Time in ms and the timers on it."""

    now_ms: int = 1_700_000_000_000
    timers: list[FakeTimer] = field(default_factory=list)
    timer_set: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self) -> float:
        return self.now_ms / 1000

    def call_later(self, delay: float, callback: Callable[[], None], /) -> FakeTimer:
        timer = FakeTimer(self.now_ms + round(delay * 1000), callback)
        self.timers.append(timer)
        self.timer_set.set()
        return timer

    async def next_timer(self) -> int:
        """Waits until something waits for the clock; for how many ms."""
        while not (pending := [timer for timer in self.timers if not timer.is_cancelled]):
            self.timer_set.clear()
            await self.timer_set.wait()
        return min(timer.due_ms for timer in pending) - self.now_ms

    def advance(self, ms: int) -> None:
        self.now_ms += ms
        due = [timer for timer in self.timers if timer.due_ms <= self.now_ms]
        self.timers = [timer for timer in self.timers if timer.due_ms > self.now_ms]
        for timer in due:
            if not timer.is_cancelled:
                timer.callback()


class FakeRunner:
    """Each run waits until the test answers it."""

    def __init__(self) -> None:
        self.runs: asyncio.Queue[tuple[AsyncEvent, asyncio.Future[Outcome]]] = asyncio.Queue()
        self.running = 0

    async def run(self, event: AsyncEvent) -> Outcome:
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.running += 1
        self.runs.put_nowait((event, answer))
        try:
            return await answer
        finally:
            self.running -= 1

    async def answer(self, outcome: Outcome | Exception) -> AsyncEvent:
        event, answer = await self.runs.get()
        if isinstance(outcome, Outcome):
            answer.set_result(outcome)
        else:
            answer.set_exception(outcome)
        return event


class WatchedQueue(AsyncEventQueue):
    """Tells when an event was settled, and refuses to settle while ``is_broken``."""

    def __init__(self, queue: EventQueue, clock: FakeClock) -> None:
        super().__init__(queue, clock=clock)
        self.settled: asyncio.Queue[str] = asyncio.Queue()
        self.is_broken = False

    async def done(self, id_: int) -> None:
        self._check()
        await super().done(id_)
        self.settled.put_nowait("done")

    async def retry(self, id_: int, due_ms: int, *, is_failure: bool) -> None:
        self._check()
        await super().retry(id_, due_ms, is_failure=is_failure)
        self.settled.put_nowait("retry")

    def _check(self) -> None:
        if self.is_broken:
            raise PlatformError("The disk is full.")


class Events:
    """A queue, a runner and a dispatcher between them."""

    def __init__(self, path: Path, clock: FakeClock, parallel_max: int = 10) -> None:
        self.clock = clock
        self.queue = WatchedQueue(EventQueue(path, clock=clock), clock)
        self.runner = FakeRunner()
        self.config: EventInvokeConfig | None = None
        self.dispatcher = Dispatcher(
            self.queue,
            self.runner,
            self,
            Destinations(self.queue),
            parallel_max=parallel_max,
            timers=clock,
        )

    def find(self, key: FunctionKey, qualifier: str | None) -> EventInvokeConfig | None:
        """The settings of ``f``; other functions have none."""
        return self.config if (key[2], qualifier) == ("f", "live") else None

    async def record(self) -> Any:
        """What the destination of ``f`` is told."""
        event = await self.runner.answer(SUCCESS)
        assert event.invoked_arn == LISTENER
        return json.loads(event.payload)

    async def put(self, name: str, payload: bytes = b"\x00\xff") -> None:
        await self.queue.put(
            AsyncEvent(
                account="123456789012",
                region="eu-west-1",
                function_name=name,
                qualifier="live",
                invoked_arn=f"arn:aws:lambda:eu-west-1:123456789012:function:{name}:live",
                payload=payload,
                client_context='{"a":1}',
                request_id=f"request-{name}",
                trace_id="Root=1",
                enqueued_ms=self.queue.now_ms(),
            )
        )

    async def close(self, drain_s: float = 0) -> None:
        await self.dispatcher.stop(drain_s)
        await self.queue.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def events(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Events]:
    async with AsyncExitStack() as stack:
        events = Events(tmp_path / "events.db", clock)
        stack.push_async_callback(events.close)
        await events.dispatcher.start()
        yield events


async def test_an_event_is_run_as_it_was_put_and_then_forgotten(events: Events) -> None:
    await events.put("f")
    event = await events.runner.answer(SUCCESS)
    assert (event.payload, event.qualifier, event.client_context) == (
        b"\x00\xff",
        "live",
        '{"a":1}',
    )
    assert await events.queue.settled.get() == "done"
    assert await events.queue.next_due_ms() is None


async def test_events_start_in_the_order_in_which_they_came(events: Events) -> None:
    for name in "abc":
        await events.put(name)
    started = [(await events.runner.answer(SUCCESS)).function_name for _ in "abc"]
    assert started == ["a", "b", "c"]


async def test_a_function_error_is_retried_twice_with_the_same_request_id(
    events: Events, clock: FakeClock
) -> None:
    await events.put("f")
    for delay_ms in (60_000, 120_000):
        event = await events.runner.answer(FAILURE)
        assert event.request_id == "request-f"
        assert await events.queue.settled.get() == "retry"
        assert await clock.next_timer() == delay_ms
        clock.advance(delay_ms)
    await events.runner.answer(FAILURE)
    assert await events.queue.settled.get() == "done"


@pytest.mark.parametrize(
    "error",
    [
        THROTTLE,
        PlatformError("no worker"),
        SnapStartNotReady("initializing"),
        RuntimeError("a bug in the runner"),
    ],
)
async def test_what_could_not_be_run_is_postponed_ever_longer(
    events: Events, clock: FakeClock, error: Exception
) -> None:
    await events.put("f")
    for delay_ms in (1_000, 2_000, 4_000):
        await events.runner.answer(error)
        assert await events.queue.settled.get() == "retry"
        assert await clock.next_timer() == delay_ms
        clock.advance(delay_ms)
    await events.runner.answer(SUCCESS)
    assert await events.queue.settled.get() == "done"


async def test_an_event_for_a_function_that_is_gone_is_discarded(events: Events) -> None:
    await events.put("f")
    await events.runner.answer(ResourceNotFound("Function not found"))
    assert await events.queue.settled.get() == "done"


async def test_an_event_that_waited_too_long_is_not_run(tmp_path: Path, clock: FakeClock) -> None:
    events = Events(tmp_path / "events.db", clock)
    await events.put("f")
    clock.advance(6 * 3_600_000 + 1)
    await events.dispatcher.start()
    assert await events.queue.settled.get() == "done"
    assert events.runner.runs.empty()
    await events.close()


async def test_no_more_events_run_at_once_than_allowed(tmp_path: Path, clock: FakeClock) -> None:
    events = Events(tmp_path / "events.db", clock, parallel_max=2)
    await events.dispatcher.start()
    for n in range(5):
        await events.put(str(n))
    for _ in range(5):
        assert events.runner.running <= 2
        await events.runner.answer(SUCCESS)
        assert await events.queue.settled.get() == "done"
    await events.close()


async def test_an_idle_dispatcher_waits_for_nothing_but_a_put(
    events: Events, clock: FakeClock
) -> None:
    await events.put("f")
    await events.runner.answer(SUCCESS)
    await events.queue.settled.get()
    assert [timer for timer in clock.timers if not timer.is_cancelled] == []


async def test_a_settlement_that_the_disk_refuses_is_repeated_without_running_again(
    events: Events, clock: FakeClock
) -> None:
    await events.put("f")
    events.queue.is_broken = True
    await events.runner.answer(SUCCESS)
    await clock.next_timer()
    events.queue.is_broken = False
    clock.advance(1_000)
    assert await events.queue.settled.get() == "done"
    assert events.runner.runs.empty()


async def test_stopping_lets_running_events_end(events: Events) -> None:
    await events.put("f")
    _, answer = await events.runner.runs.get()
    stopping = asyncio.ensure_future(events.dispatcher.stop(drain_s=60))
    await asyncio.sleep(0)
    await events.put("late")
    answer.set_result(SUCCESS)
    await stopping
    assert events.queue.settled.get_nowait() == "done"
    assert events.runner.runs.empty()


async def test_what_is_not_done_when_the_time_is_up_is_run_again_after_a_restart(
    tmp_path: Path, clock: FakeClock
) -> None:
    first = Events(tmp_path / "events.db", clock)
    await first.dispatcher.start()
    await first.put("f")
    await first.runner.runs.get()
    await first.close(drain_s=0)
    assert first.runner.running == 0
    second = Events(tmp_path / "events.db", clock)
    await second.dispatcher.start()
    assert (await second.runner.answer(SUCCESS)).function_name == "f"
    assert await second.queue.settled.get() == "done"
    await second.close()


async def test_a_message_that_cannot_be_read_does_not_stop_the_others(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = EventQueue(tmp_path / "events.db", clock=clock)
    await store.put(b"not a message")
    await store.close()
    events = Events(tmp_path / "events.db", clock)
    await events.dispatcher.start()
    await events.put("f")
    assert (await events.runner.answer(SUCCESS)).function_name == "f"
    assert "cannot be read" in caplog.text
    await events.close()


async def test_the_settings_of_a_function_bound_its_retries(events: Events) -> None:
    events.config = EventInvokeConfig(retries_max=0, last_modified=0)
    await events.put("f")
    await events.runner.answer(FAILURE)
    assert await events.queue.settled.get() == "done"


async def test_the_settings_of_a_function_bound_the_age_of_its_events(
    events: Events, clock: FakeClock
) -> None:
    events.config = EventInvokeConfig(age_max_s=60, on_failure=LISTENER, last_modified=0)
    await events.put("f", b"{}")
    for delay_ms in (1_000, 2_000, 4_000, 8_000, 16_000):
        await events.runner.answer(THROTTLE)
        assert await events.queue.settled.get() == "retry"
        assert await clock.next_timer() == delay_ms
        clock.advance(delay_ms)
    await events.runner.answer(THROTTLE)
    assert await events.queue.settled.get() == "done", "32 s more would be over a minute"
    record = await events.record()
    assert record["requestContext"]["condition"] == "EventAgeExceeded"
    assert record["requestContext"]["approximateInvokeCount"] == 0


async def test_the_destination_learns_of_the_end_and_not_of_each_attempt(
    events: Events, clock: FakeClock
) -> None:
    events.config = EventInvokeConfig(
        retries_max=1, on_failure=LISTENER, on_success=LISTENER, last_modified=0
    )
    await events.put("f", b"[]")
    await events.runner.answer(FAILURE)
    assert await events.queue.settled.get() == "retry"
    await clock.next_timer()
    clock.advance(60_000)
    await events.runner.answer(FAILURE)
    record = await events.record()
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 2
    assert record["responseContext"]["functionError"] == "Unhandled"


@pytest.mark.parametrize(
    ("error", "condition"),
    [
        (FunctionSwitchedOff(), "ZeroReservedConcurrency"),
        (RecursiveInvocation("a loop"), "RecursiveInvocation"),
    ],
)
async def test_what_waiting_does_not_help_is_told_to_the_destination_at_once(
    events: Events, error: Exception, condition: str
) -> None:
    events.config = EventInvokeConfig(on_failure=LISTENER, last_modified=0)
    await events.put("f", b"{}")
    await events.runner.answer(error)
    record = await events.record()
    assert record["requestContext"]["condition"] == condition
    assert "responseContext" not in record
