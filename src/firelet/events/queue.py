"""Asynchronous events: Event invocations that were accepted and wait to be run.

What it is: the message that is kept on disk, and the queue of such messages; ``put`` returns when
the event is durable, and only then may the caller be told 202. What it is not: retries or running;
that is the dispatcher's. Written to by the frontend (through an adapter in ``app``).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from firelet.store.queue import EventQueue

log = logging.getLogger(__name__)


class AsyncEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One Event invocation. ``payload`` is as the caller sent it; ``client_context`` is JSON text.

    ``qualifier`` is what the caller named, None for none: an alias is resolved when the event runs.
    All attempts keep ``request_id``. Stored as a map: members may be added, never renamed.
    """

    account: str
    region: str
    function_name: str
    qualifier: str | None = None
    invoked_arn: str
    payload: bytes
    client_context: str | None = None
    request_id: str
    trace_id: str | None = None
    tenant_id: str | None = None
    enqueued_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenEvent:
    """An event that is to be run now. ``failures`` of the function and ``postponements`` so far."""

    id: int
    event: AsyncEvent
    failures: int
    postponements: int


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(AsyncEvent)


class AsyncEventQueue:
    """Events over a durable queue, which it owns and closes. ``clock`` gives epoch seconds."""

    def __init__(self, queue: EventQueue, *, clock: Callable[[], float] = time.time) -> None:
        self._queue = queue
        self._clock = clock
        self._on_put: Callable[[], None] = lambda: None

    def now_ms(self) -> int:
        """Epoch milliseconds, for ``AsyncEvent.enqueued_ms``."""
        return int(self._clock() * 1000)

    def subscribe(self, on_put: Callable[[], None]) -> None:
        """``on_put`` is called after each event that became durable. There is one subscriber."""
        self._on_put = on_put

    async def put(self, event: AsyncEvent) -> None:
        """Returns when ``event`` is on the disk."""
        await self._queue.put(_ENCODER.encode(event))
        self._on_put()

    async def take(self, limit: int) -> list[TakenEvent]:
        """Up to ``limit`` events that are due, in the order they became due."""
        taken = []
        for queued in await self._queue.take(limit, self.now_ms()):
            try:
                event = _DECODER.decode(queued.body)
            except msgspec.DecodeError:
                # It stays in the file, taken: nothing accepted is thrown away unseen.
                log.exception("queued event cannot be read: id=%d", queued.id)
                continue
            taken.append(
                TakenEvent(
                    id=queued.id,
                    event=event,
                    failures=queued.failures,
                    postponements=queued.attempts - queued.failures,
                )
            )
        return taken

    async def next_due_ms(self) -> int | None:
        """When the next event that is not taken is due; None if there is none."""
        return await self._queue.next_due_ms()

    async def done(self, id_: int) -> None:
        """The event will not be run again."""
        await self._queue.done([id_])

    async def retry(self, id_: int, due_ms: int, *, is_failure: bool) -> None:
        """The event may be taken again when it is due."""
        await self._queue.retry(id_, due_ms, is_failure=is_failure)

    async def close(self) -> None:
        await self._queue.close()
