"""One subscriber of an environment's telemetry: its buffer, and the task that empties it.

A batch leaves when the subscription's items, bytes or time are reached, or at once when it is told
to flush. What the subscriber does not take is tried again a few times and then dropped, and so is
what does not fit into a bounded buffer meanwhile; a platform.logsDropped says how much.
"""

from __future__ import annotations

import asyncio
import time

from firelet.model import limits
from firelet.runtime.telemetry_delivery import Delivery, NotDelivered
from firelet.runtime.telemetry_events import TelemetryEvent, encode
from firelet.runtime.telemetry_subscription import Subscription

_FELL_BEHIND = "Consumer seems to have fallen behind as it has not acknowledged receipt of logs."


class Subscriber:
    """Owned by ``Telemetry``."""

    def __init__(self, subscription: Subscription, delivery: Delivery) -> None:
        self.subscription = subscription
        self._delivery = delivery
        self._buffer: list[bytes] = []
        self._buffered_bytes = 0
        self._dropped_items = self._dropped_bytes = 0
        self._is_due = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._may_send = asyncio.Event()
        self._may_send.set()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_pending(self) -> bool:
        """Whether something was not delivered yet."""
        return not self._is_empty.is_set()

    def take(self, event: TelemetryEvent) -> None:
        """Buffers an event, if it is one that the subscription is for."""
        subscription = self.subscription
        for item in encode(event, subscription):
            if (
                self._buffered_bytes + len(item)
                > limits.TELEMETRY_PENDING_BATCHES * subscription.max_bytes
            ):
                self._drop([item])
                continue
            self._buffer.append(item)
            self._buffered_bytes += len(item)
        if not self._buffer:
            return
        self._is_empty.clear()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        if (
            len(self._buffer) >= subscription.max_items
            or self._buffered_bytes >= subscription.max_bytes
        ):
            self._is_due.set()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(subscription.timeout_s, self._is_due.set)

    def flush(self) -> None:
        """Whatever is buffered leaves now."""
        if self._buffer:
            self._is_due.set()

    async def emptied(self) -> None:
        """Flushes, and returns when nothing is left."""
        self.flush()
        await self._is_empty.wait()

    def pause(self) -> None:
        """The environment is frozen: nobody is there to take anything."""
        self._may_send.clear()

    def resume(self) -> None:
        self._may_send.set()

    async def close(self) -> None:
        """Drops what is left."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._delivery.close()
        self._buffer.clear()

    async def _run(self) -> None:
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            while self._buffer:
                await self._deliver(self._next_batch())
            self._is_empty.set()

    def _next_batch(self) -> list[bytes]:
        """As much as one batch may hold, and at least one event."""
        count = size = 0
        for item in self._buffer[: self.subscription.max_items]:
            if count and size + len(item) > self.subscription.max_bytes:
                break
            count += 1
            size += len(item)
        batch = self._buffer[:count]
        del self._buffer[:count]
        self._buffered_bytes -= size
        return batch

    async def _deliver(self, batch: list[bytes]) -> None:
        for attempt in range(limits.TELEMETRY_ATTEMPTS):
            await self._may_send.wait()
            try:
                await self._delivery.send(batch)
            except NotDelivered:
                if attempt + 1 < limits.TELEMETRY_ATTEMPTS:
                    await asyncio.sleep(limits.TELEMETRY_RETRY_S)
            else:
                self._tell_of_dropped()
                return
        self._drop(batch)

    def _drop(self, items: list[bytes]) -> None:
        self._dropped_items += len(items)
        self._dropped_bytes += sum(map(len, items))

    def _tell_of_dropped(self) -> None:
        """Once it takes something again."""
        if not self._dropped_items:
            return
        record = {
            "droppedBytes": self._dropped_bytes,
            "droppedRecords": self._dropped_items,
            "reason": _FELL_BEHIND,
        }
        self._dropped_items = self._dropped_bytes = 0
        self.take(TelemetryEvent(time.time(), "platform.logsDropped", record))
