"""Joins the invoke path and the durable queue of asynchronous invocations, both ways."""

from __future__ import annotations

import time

from firelet.control.invoke import Invoker
from firelet.control.registry import Registry
from firelet.events.queue import AsyncEvent, AsyncEventQueue
from firelet.frontend.invoke import AsyncInvocation
from firelet.model.arn import FunctionRef
from firelet.model.invocation import Invocation, Outcome
from firelet.observe.invocation_meter import InvocationMeter


class QueueSink:
    """The frontend's ``AsyncSink``: an accepted invocation becomes a queued event."""

    def __init__(self, queue: AsyncEventQueue, meter: InvocationMeter) -> None:
        self._queue = queue
        self._meter = meter

    async def put(self, event: AsyncInvocation) -> None:
        """Returns when the event is on disk."""
        await self._queue.put(
            AsyncEvent(
                account=event.account,
                region=event.region,
                function_name=event.ref.name,
                qualifier=event.ref.qualifier,
                invoked_arn=event.invoked_arn,
                payload=event.payload,
                client_context=event.client_context,
                request_id=event.request_id,
                trace_id=event.trace_id,
                tenant_id=event.tenant_id,
                enqueued_ms=self._queue.now_ms(),
            )
        )
        key = (event.account, event.region, event.ref.name)
        self._meter.note(key, event.ref.qualifier, "AsyncEventsReceived", 1)


class QueuedRunner:
    """The dispatcher's ``Runner``: a queued event becomes an invocation."""

    def __init__(self, registry: Registry, invoker: Invoker, meter: InvocationMeter) -> None:
        self._registry = registry
        self._meter = meter
        self._invoker = invoker

    async def run(self, event: AsyncEvent) -> Outcome:
        """One attempt. An alias is resolved anew each time: it may point elsewhere by now."""
        resolved = self._registry.resolve(
            event.account, event.region, FunctionRef(event.function_name, event.qualifier)
        )
        age_ms = time.time() * 1_000 - event.enqueued_ms
        self._meter.note(resolved.function_key, event.qualifier, "AsyncEventAge", age_ms)
        return await self._invoker.invoke(
            Invocation(
                request_id=event.request_id,
                function=resolved.version,
                invoked_arn=event.invoked_arn,
                payload=event.payload or b"{}",
                client_context=event.client_context,
                trace_id=None if event.trace_id is None else resolved.trace(event.trace_id),
                tenant_id=event.tenant_id,
                received=time.monotonic(),
            ),
            resolved.function_key,
            resolved.reserved_concurrency,
        )
