"""The telemetry of one environment: events come in, each subscriber gets those that it asked for.

Subscriptions are taken during INIT only. What happened before the first one is kept, within bounds,
until INIT is over, and handed to each subscriber when it comes.
Source: docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from firelet.model import limits
from firelet.runtime.extensions import Refused
from firelet.runtime.telemetry_delivery import Connect, Delivery
from firelet.runtime.telemetry_events import TelemetryEvent
from firelet.runtime.telemetry_subscriber import Subscriber
from firelet.runtime.telemetry_subscription import Api, InvalidSubscription, Subscription

# As AWS's runtime interface emulator words it, for each API.
_CLOSED = {
    Api.TELEMETRY: ("Telemetry.SubscriptionClosed", "Telemetry API subscription is closed"),
    Api.LOGS: ("Logs.SubscriptionClosed", "Logs API subscription is closed already"),
}


class Telemetry:
    """One per environment with extensions. ``connect`` connects to a port inside the sandbox;
    ``on_subscribed`` is told of each subscription."""

    def __init__(self, connect: Connect, on_subscribed: Callable[[Subscription], None]) -> None:
        self._connect = connect
        self._on_subscribed = on_subscribed
        self._subscribers: list[Subscriber] = []
        self._is_open = False
        self._backlog: deque[TelemetryEvent] = deque(maxlen=limits.TELEMETRY_BACKLOG_ITEMS)
        self._backlog_bytes = 0

    @property
    def is_pending(self) -> bool:
        return any(subscriber.is_pending for subscriber in self._subscribers)

    def begin(self) -> None:
        """INIT begins: subscriptions are taken, and what happens is kept for them."""
        self._is_open = True
        self._backlog.clear()
        self._backlog_bytes = 0

    def end_of_init(self) -> None:
        """No more subscriptions."""
        self._is_open = False
        self._backlog.clear()

    def emit(self, event: TelemetryEvent) -> None:
        """Something has happened."""
        if self._is_open:
            self._keep(event)
        for subscriber in self._subscribers:
            subscriber.take(event)

    def subscribe(self, subscription: Subscription) -> None:
        """Refused after INIT; InvalidSubscription for an extension that has one already."""
        if not self._is_open:
            raise Refused(*_CLOSED[subscription.api])
        if any(each.subscription.extension == subscription.extension for each in self._subscribers):
            raise InvalidSubscription(f"{subscription.extension} has subscribed already")
        delivery = Delivery(subscription.destination, self._connect)
        subscriber = Subscriber(subscription, delivery)
        for event in self._backlog:
            subscriber.take(event)
        self._subscribers.append(subscriber)
        self._on_subscribed(subscription)

    def flush(self) -> None:
        """Whatever is buffered leaves now."""
        for subscriber in self._subscribers:
            subscriber.flush()

    def pause(self) -> None:
        for subscriber in self._subscribers:
            subscriber.pause()

    def resume(self) -> None:
        for subscriber in self._subscribers:
            subscriber.resume()

    async def drain(self, timeout_s: float) -> None:
        """Flushes, and returns when all is delivered or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                for subscriber in self._subscribers:
                    await subscriber.emptied()
        except TimeoutError:
            return

    async def close(self) -> None:
        """Every process is gone, and with them who subscribed."""
        subscribers, self._subscribers = self._subscribers, []
        for subscriber in subscribers:
            await subscriber.close()
        self.end_of_init()

    def _keep(self, event: TelemetryEvent) -> None:
        size = len(event.record) if isinstance(event.record, str) else 512
        if self._backlog_bytes + size > limits.TELEMETRY_BACKLOG_BYTES:
            return
        self._backlog_bytes += size
        self._backlog.append(event)
