"""The queue of asynchronous invocations: typed events over the durable queue of ``store``."""

from __future__ import annotations

import asyncio

import msgspec

from firelet.store.queue import EventQueue, QueuedEvent


class AsyncEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One Event invocation as it was accepted. All attempts keep ``request_id``."""

    account: str
    region: str
    function: str
    qualifier: str | None
    request_id: str
    payload: bytes
    client_context: str | None = None
    trace_id: str | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AsyncEvent)


class AsyncQueue:
    """Accepts events and hands them to the dispatcher. Owns the store's queue."""

    def __init__(self, queue: EventQueue) -> None:
        self.store = queue
        self.has_more = asyncio.Event()

    async def put(self, event: AsyncEvent) -> None:
        """Returns when the event is on disk: what is accepted is not lost."""
        await self.store.put(_encoder.encode(event))
        self.has_more.set()

    async def close(self) -> None:
        await self.store.close()


def decode_event(item: QueuedEvent) -> AsyncEvent:
    """The event in a queued item."""
    return _decoder.decode(item.body)
