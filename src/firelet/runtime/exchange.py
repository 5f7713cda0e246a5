"""The rendezvous of one sandbox: an event goes in, the runtime's answer comes out.

``worker.slots`` dispatches events and awaits answers; ``runtime.api`` turns the runtime's HTTP
calls into the methods here. Hand-offs are Futures: nothing is polled or queued.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from firelet.model.streaming import ResponseSink
from firelet.runtime.phases import Event, Phase, advance
from firelet.wire.prompt import PromptFuture


@dataclass(frozen=True, slots=True)
class RuntimeEvent:
    """What ``GET next`` hands to the runtime. ``headers`` are complete."""

    request_id: str
    headers: tuple[tuple[bytes, bytes], ...]
    payload: bytes


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What is known of a response that the runtime streamed to the invocation's sink: how much of
    it came, when its first and last bytes did (``time.monotonic()``), and whether its connection
    was lost before its end."""

    produced_bytes: int
    first_byte_at: float
    last_byte_at: float
    was_lost: bool


@dataclass(frozen=True, slots=True)
class RuntimeAnswer:
    """What the runtime posted. ``error_type`` is set for errors, as the runtime named it. With
    ``stream``, the sink has had the response, and ``payload`` is empty or an error."""

    payload: bytes
    is_error: bool = False
    error_type: str | None = None
    stream: StreamFacts | None = None


class RuntimeEnded(Exception):
    """The runtime process ended, or was ended, before it answered."""


class EventNotTaken(RuntimeEnded):
    """It ended before it was handed the event: another runtime may have it."""


class DeadlinePassed(Exception):
    """The time that the runtime had is over."""


class Exchange:
    """One per sandbox. ``on_ready`` is called each time that the runtime asks for an event."""

    def __init__(self, on_ready: Callable[[], None]) -> None:
        self.phase = Phase.STOPPED
        self._on_ready = on_ready
        self._next: PromptFuture[RuntimeEvent] | None = None
        self._undelivered: RuntimeEvent | None = None
        self._answer: asyncio.Future[RuntimeAnswer] | None = None
        self._initialised: asyncio.Future[RuntimeAnswer | None] | None = None
        self.request_id: str | None = None
        # Who takes the response of the current event, if it is to be streamed.
        self.sink: ResponseSink | None = None
        self._cut: Callable[[], None] | None = None
        self._is_clone = False
        self._loop: asyncio.AbstractEventLoop

    # The worker's side.

    def start(self, *, is_clone: bool = False) -> asyncio.Future[RuntimeAnswer | None]:
        """INIT begins, or what a clone does in its place. The Future gives None when the runtime is
        ready (at its restore point, for a snapshot), the posted error when it reports one, and
        RuntimeEnded when the process ends first."""
        self.phase = advance(self.phase, Event.START)
        self._is_clone = is_clone
        # Asked for once: it costs a system call, in Python before 3.12.
        self._loop = asyncio.get_running_loop()
        self._initialised = self._loop.create_future()
        return self._initialised

    def dispatch(
        self, event: RuntimeEvent, sink: ResponseSink | None = None
    ) -> asyncio.Future[RuntimeAnswer]:
        """Hands an event to the waiting runtime; the Future gives its answer, of which ``sink``
        gets the bytes when the runtime streams them."""
        self.phase = advance(self.phase, Event.DISPATCH)
        self.sink = sink
        self.request_id = event.request_id
        answer = self._answer = self._loop.create_future()
        waiting, self._next = self._next, None
        # Last, since it is written to the runtime's connection before this returns, and requests
        # that wait there behind GET next are served at once.
        if waiting is not None and not waiting.done():
            waiting.set_result(event)
        else:
            self._undelivered = event
        return answer

    def expire(self) -> None:
        """The deadline of the current event, or of INIT, has passed."""
        self.abort(DeadlinePassed())

    def abort(self, error: Exception) -> None:
        """Whoever waits for the runtime gets ``error`` instead."""
        self._cut_stream()
        for waiting in (self._answer, self._initialised):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)

    def end(self) -> None:
        """The process is gone: whoever waits for it hears so."""
        self.phase = advance(self.phase, Event.ENDED)
        self.request_id = None
        self._cut_stream()
        ended = RuntimeEnded() if self._undelivered is None else EventNotTaken()
        self._undelivered = None
        if self._next is not None:
            self._next.cancel()
            self._next = None
        for waiting in (self._answer, self._initialised):
            if waiting is not None and not waiting.done():
                waiting.set_exception(ended)

    def _cut_stream(self) -> None:
        cut, self._cut = self._cut, None
        if cut is not None:
            cut()

    # The runtime's side.

    def next(self) -> PromptFuture[RuntimeEvent]:
        """GET next: the Future gives the next event. InvalidTransition while one is owed."""
        if self._undelivered is not None:
            late: PromptFuture[RuntimeEvent] = PromptFuture(loop=self._loop)
            late.set_result(self._undelivered)
            self._undelivered = None
            return late
        self.phase = advance(self.phase, Event.NEXT)
        self.request_id = None
        if self._next is not None:
            self._next.cancel()
        waiting = self._next = PromptFuture(loop=self._loop)
        if self._initialised is not None and not self._initialised.done():
            self._initialised.set_result(None)
        self._on_ready()
        return waiting

    def withdraw(self, waiting: PromptFuture[RuntimeEvent]) -> None:
        """The connection that asked is gone. It is ready all the same: the next event is kept
        until it asks again, or its time is over."""
        if self._next is waiting:
            self._next = None
        waiting.cancel()

    def respond(self, answer: RuntimeAnswer) -> None:
        """POST response or error for the current event."""
        self.phase = advance(self.phase, Event.ERROR if answer.is_error else Event.RESPONSE)
        assert self._answer is not None
        if not self._answer.done():
            self._answer.set_result(answer)

    def begin_stream(self, cut: Callable[[], None]) -> None:
        """POST response in streaming mode. ``cut`` is called when the invocation ends before
        ``end_stream``."""
        self.phase = advance(self.phase, Event.STREAM)
        self._cut = cut

    def end_stream(self, answer: RuntimeAnswer) -> None:
        """The stream is over, well or not."""
        self.phase = advance(self.phase, Event.STREAM_END)
        self._cut = None
        assert self._answer is not None
        if not self._answer.done():
            self._answer.set_result(answer)

    def restore_next(self) -> bool:
        """GET restore/next: INIT of a snapshot is done. False in a clone, which asks it too if its
        machine was put to rest while it waited for the answer."""
        if self._is_clone:
            return False
        self.phase = advance(self.phase, Event.RESTORE_NEXT)
        if self._initialised is not None and not self._initialised.done():
            self._initialised.set_result(None)
        return True

    def fail_init(self, answer: RuntimeAnswer) -> None:
        """POST init/error, or restore/error in a clone."""
        self.phase = advance(self.phase, Event.INIT_ERROR)
        if self._initialised is not None and not self._initialised.done():
            self._initialised.set_result(answer)
