"""Joins the invoke path and the durable queue of asynchronous invocations, both ways."""

from __future__ import annotations

import logging
import time

from firelet.control.invoke import Invoker
from firelet.control.registry import Registry
from firelet.events.queue import AsyncEvent, AsyncQueue
from firelet.events.retry import Result
from firelet.frontend.invoke import AsyncInvocation
from firelet.model.arn import FunctionRef
from firelet.model.errors import FireletError, ResourceNotFound
from firelet.model.invocation import Invocation

log = logging.getLogger(__name__)


class QueueSink:
    """The frontend's ``AsyncSink``: an accepted invocation becomes a queued event."""

    def __init__(self, queue: AsyncQueue) -> None:
        self._queue = queue

    async def put(self, event: AsyncInvocation) -> None:
        await self._queue.put(
            AsyncEvent(
                account=event.account,
                region=event.region,
                function=event.ref.name,
                qualifier=event.ref.qualifier,
                request_id=event.request_id,
                payload=event.payload,
                client_context=event.client_context,
                trace_id=event.trace_id,
            )
        )


class QueuedRunner:
    """The dispatcher's ``Runner``: a queued event becomes an invocation."""

    def __init__(self, registry: Registry, invoker: Invoker) -> None:
        self._registry = registry
        self._invoker = invoker

    async def run(self, event: AsyncEvent) -> Result:
        """One attempt. An alias is resolved anew each time: it may point elsewhere by now."""
        ref = FunctionRef(event.function, event.qualifier)
        try:
            resolved = self._registry.resolve(event.account, event.region, ref)
            outcome = await self._invoker.invoke(
                Invocation(
                    request_id=event.request_id,
                    function=resolved.version,
                    invoked_arn=resolved.invoked_arn,
                    payload=event.payload or b"{}",
                    client_context=event.client_context,
                    trace_id=event.trace_id,
                    received=time.monotonic(),
                ),
                resolved.function_key,
                resolved.reserved_concurrency,
            )
        except ResourceNotFound:
            return Result.GONE
        except FireletError as error:
            log.info("asynchronous attempt put off function=%s: %s", event.function, error.message)
            return Result.THROTTLED
        return Result.SUCCEEDED if outcome.function_error is None else Result.FUNCTION_FAILED
