"""A worker process and its environments, as the control process sees them.

What it is: the near end of one worker. An environment here is a proxy: what the worker says of the
real one is noted when it arrives, so that nothing has to be asked on the way of an invocation,
which crosses to the worker once and comes back. What it is not: the choice of a worker or its
processes (``fleet``).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Protocol

from firelet.model.errors import PlatformError
from firelet.model.function import FunctionKey, FunctionVersion, InitializationType
from firelet.model.invocation import Invocation, Outcome, Settled
from firelet.model.streaming import ResponseSink, StreamHead
from firelet.runtime.credentials import SessionCredentials
from firelet.wire.rpc import M, Message, PeerLost, Service
from firelet.wire.worker_messages import (
    Abandon,
    Activate,
    Changed,
    Close,
    Done,
    Finished,
    Freed,
    Freeze,
    Granted,
    Invoke,
    Invoked,
    Logged,
    Open,
    PauseResponse,
    ResponseBegan,
    ResponsePiece,
    ResumeResponse,
    Retire,
    Start,
    StreamEvents,
)


class Link(Protocol):
    """What ``wire.rpc.Peer`` offers."""

    def open(self, service: Service, on_lost: Callable[[], None]) -> None: ...
    async def call(self, request: Message, expected: type[M], payload: bytes = b"") -> M: ...
    async def call_for_payload(
        self, request: Message, expected: type[M], payload: bytes = b""
    ) -> tuple[M, bytes]: ...
    def tell(self, message: Message) -> None: ...


class RoleSession(Protocol):
    """The session of an execution role, of which there are always valid credentials."""

    def current(self) -> SessionCredentials: ...


class Stay(Protocol):
    """What an environment has from its start to its end; see ``worker.custody``."""

    @property
    def credentials(self) -> RoleSession: ...
    @property
    def end(self) -> Callable[[], None]: ...


class RemoteEnvironment:
    """Implements ``control.pool.Environment`` over an environment of a worker process."""

    def __init__(
        self, number: int, version: FunctionVersion, worker: RemoteWorker, retire_at: float
    ) -> None:
        self.id = f"{worker.name}-{number}"
        self.number = number
        self.version = version
        self.idle_since = 0.0
        self.idle_mib = 0.0
        self.is_frozen = False
        self.is_initialised = True
        self.on_closed: Callable[[], None] | None = None
        self._worker = worker
        self._retire_at = retire_at
        self._is_usable = True
        self._is_free = True
        self._is_closed = False
        self._on_free: Callable[[RemoteEnvironment], None] | None = None
        self._sink: ResponseSink | None = None
        self._on_settled: Callable[[Settled], None] | None = None
        self._answered_ms: float | None = None  # of an invocation whose extensions run on

    @property
    def is_usable(self) -> bool:
        """Not while its worker is being drained, and not once its credentials grow old, which are
        not renewed over there: it is given up as soon as it is free."""
        if self._worker.is_draining or self._worker.now() >= self._retire_at:
            return False
        return self._is_usable

    async def invoke(self, invocation: Invocation) -> Outcome:
        """As ``worker.slots.Slot.invoke``; PeerLost when the worker ends meanwhile."""
        self.is_frozen = False
        self._is_free = False
        request = Invoke(
            self.number,
            invocation.request_id,
            invocation.invoked_arn,
            invocation.client_context,
            invocation.trace_id,
            invocation.wants_tail,
            invocation.tenant_id,
            invocation.sink is not None,
        )
        self._sink = invocation.sink
        self._on_settled = invocation.on_settled
        self._answered_ms = None
        self._worker.active += 1
        try:
            answer, payload = await self._worker.link.call_for_payload(
                request, Invoked, invocation.payload
            )
        except PeerLost:
            self._is_usable = False
            raise
        finally:
            self._worker.active -= 1
            self._sink = None
        if answer.is_settling and self._on_settled is not None:
            self._answered_ms = answer.duration_ms
        if answer.is_free:
            self._is_free = True
        return Outcome(
            payload=payload,
            executed_version=answer.executed_version,
            function_error=answer.function_error,
            error_type=answer.error_type,
            log_tail=answer.log_tail,
            duration_ms=answer.duration_ms,
            is_streamed=answer.is_streamed,
            is_settling=answer.is_settling,
        )

    def when_free(self, callback: Callable[[RemoteEnvironment], None]) -> None:
        """Calls back once, as soon as it can take another invocation or is of no use."""
        if self._is_free or not self._is_usable:
            callback(self)
        else:
            self._on_free = callback

    def freeze(self) -> None:
        if self._is_usable:
            self._worker.link.tell(Freeze(self.number))
            self.is_frozen = True

    async def close(self) -> None:
        """Ends the environment. May be called again."""
        if self._is_closed:
            return
        self._is_closed = True
        self._is_usable = False
        try:
            with contextlib.suppress(PeerLost):  # it has ended then
                await self._worker.link.call(Close(self.number), Done)
        finally:
            self._worker.forget(self)
            self.on_freed()
            self._end()

    def on_response_began(self, content_type: str) -> None:
        """Notes of an invocation that was given up meanwhile are nobody's."""
        if self._sink is not None:
            self._sink.begin(StreamHead(content_type), _RemoteSource(self, self._sink))

    def on_response_piece(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink.write(data)

    def tell_of(self, sink: ResponseSink, message: PauseResponse | ResumeResponse) -> None:
        """Unless another response is streamed by now."""
        if self._sink is sink:
            self._worker.link.tell(message)

    def on_finished(self, duration_ms: float, extensions_ms: float) -> None:
        """The extensions of the last invocation are done."""
        callback, self._on_settled = self._on_settled, None
        self._answered_ms = None
        if callback is not None:
            callback(Settled(duration_ms=duration_ms, extensions_ms=extensions_ms))

    def on_changed(self, changed: Changed) -> None:
        self._is_usable = self._is_usable and changed.is_usable
        self.is_initialised = changed.is_initialised
        self.idle_mib = changed.idle_mib

    def on_freed(self) -> None:
        self._is_free = True
        callback, self._on_free = self._on_free, None
        if callback is not None:
            callback(self)

    def on_worker_lost(self) -> None:
        """It is gone; whoever waits for it is told, and what it held is given back."""
        self._is_closed = True
        self._is_usable = False
        if self._answered_ms is not None:
            self.on_finished(self._answered_ms, 0.0)  # what is known of it
        self.on_freed()
        self._end()

    def _end(self) -> None:
        callback, self.on_closed = self.on_closed, None
        if callback is not None:
            callback()


class _RemoteSource:
    """The source of the response that ``sink`` takes."""

    def __init__(self, environment: RemoteEnvironment, sink: ResponseSink) -> None:
        self._environment = environment
        self._sink = sink
        self._is_paused = False

    def pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._environment.tell_of(self._sink, PauseResponse(self._environment.number))

    def resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._environment.tell_of(self._sink, ResumeResponse(self._environment.number))


class RemoteWorker:
    """One worker process from its start to its end; implements the ``Service`` of its link.

    ``reserved_mib`` is the sum of the memory sizes of its environments, ``active`` how many of
    them are starting or busy; ``codes`` are the packages that it has made environments of, and
    ``snapshots`` the versions that it has snapshots of. ``now`` is the clock.
    """

    def __init__(
        self,
        name: str,
        link: Link,
        clock: Callable[[], float],
        on_events: Callable[[StreamEvents], None],
    ) -> None:
        self.name = name
        self.link = link
        self.seen_at = clock()
        self.now = clock
        self.reserved_mib = 0
        self.active = 0
        self.codes: set[str] = set()
        self.snapshots: set[tuple[str, str, str, str]] = set()
        self.is_draining = False
        self.ended = asyncio.Event()
        self._on_events = on_events
        self._numbers = itertools.count(1)
        self._environments: dict[int, RemoteEnvironment] = {}
        self._emptied = asyncio.Event()
        self._emptied.set()

    async def open(self) -> None:
        """Returns when it is ready to make environments."""
        self.link.open(self, self.lose)
        await self.link.call(Open(), Done)

    async def start(
        self, version: FunctionVersion, initialization: InitializationType, stay: Stay
    ) -> RemoteEnvironment:
        """An environment that has been through INIT. PeerLost when the worker ends meanwhile;
        ``stay`` is still the caller's when this fails."""
        granted = _grant(stay)
        retire_at = self.now() + (granted.expires_at - time.time()) / 2
        environment = RemoteEnvironment(next(self._numbers), version, self, retire_at)
        self._remember(environment)
        self.active += 1
        try:
            await self.link.call(Start(environment.number, version, initialization, granted), Done)
        except BaseException:
            # It may be there all the same, when the answer crossed with a cancellation.
            self.link.tell(Abandon(environment.number))
            self.forget(environment)
            raise
        finally:
            self.active -= 1
        if self.ended.is_set():
            # Its end came in the same packet as the answer, before this had a turn.
            self.forget(environment)
            raise PeerLost("The worker process has ended.")
        environment.on_closed = stay.end
        self.codes.add(version.code.digest)
        if version.has_snap_start:
            self._has_snapshot_of(version)
        return environment

    def forget(self, environment: RemoteEnvironment) -> None:
        """It has ended, or never was."""
        if self._environments.pop(environment.number, None) is not None:
            self.reserved_mib -= environment.version.memory_mib
        if not self._environments:
            self._emptied.set()

    async def activate(self, version: FunctionVersion, stay: Stay) -> None:
        """Makes the snapshot of a version with SnapStart. FunctionError when its INIT fails."""
        await self.link.call(Activate(version, _grant(stay)), Done)
        self._has_snapshot_of(version)

    def retire(self, function: FunctionKey, version: str | None) -> None:
        """A version, or all of a function, is gone: so are its snapshots."""
        self.link.tell(Retire(*function, version))
        self.snapshots = {
            key for key in self.snapshots if key[:3] != function or version not in (None, key[3])
        }

    async def drain(self) -> None:
        """Takes no new environments and no new invocations; returns when nothing is left."""
        self.is_draining = True
        await self._emptied.wait()

    def lose(self) -> None:
        """The process has ended: nothing that ran in it is alive."""
        self.ended.set()
        environments = list(self._environments.values())
        self._environments.clear()
        self.reserved_mib = 0
        self._emptied.set()
        for environment in environments:
            environment.on_worker_lost()

    async def answer(self, message: Message, payload: bytes) -> tuple[Message, bytes]:
        raise PlatformError(f"A worker process may not ask for {type(message).__name__}.")

    def note(self, message: Message) -> None:
        """What the worker tells by itself."""
        self.seen_at = self.now()
        match message:
            case Logged(streams):
                for events in streams:
                    self._on_events(events)
            case ResponsePiece(number, data):
                if number in self._environments:
                    self._environments[number].on_response_piece(data)
            case ResponseBegan(number, content_type):
                if number in self._environments:
                    self._environments[number].on_response_began(content_type)
            case Changed(number):
                if number in self._environments:
                    self._environments[number].on_changed(message)
            case Finished(number, duration_ms, extensions_ms):
                if number in self._environments:
                    self._environments[number].on_finished(duration_ms, extensions_ms)
            case Freed(number):
                if number in self._environments:
                    self._environments[number].on_freed()

    def _has_snapshot_of(self, version: FunctionVersion) -> None:
        self.snapshots.add(version.key)

    def _remember(self, environment: RemoteEnvironment) -> None:
        self._environments[environment.number] = environment
        self.reserved_mib += environment.version.memory_mib
        self._emptied.clear()


def _grant(stay: Stay) -> Granted:
    credentials = stay.credentials.current()
    return Granted(
        credentials.access_key,
        credentials.secret_key,
        credentials.session_token,
        credentials.expires_at,
    )
