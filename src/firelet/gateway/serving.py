"""Answers that outlive their clients: as on AWS, a function whose client has gone runs on.

What it is: tasks and the Futures that connections wait on. Owned by ``app``, which drains it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from firelet.gateway.answers import message_response
from firelet.wire.draining import drain
from firelet.wire.http1 import Response
from firelet.wire.prompt import PromptFuture

log = logging.getLogger(__name__)

Answer: TypeAlias = PromptFuture[Response]


class Serving:
    """Runs each answer in a task of its own."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, Response]) -> Answer:
        """What ``work`` returns. Cancelling the Future does not stop it; what it raises is logged
        and answered with 500, since everything that a caller may know was answered before."""

        async def finish(answer: Answer) -> None:
            response = await work
            if not answer.done():
                answer.set_result(response)

        return self.start_open(finish)

    def start_open(self, work: Callable[[Answer], Coroutine[Any, Any, None]]) -> Answer:
        """The same for ``work`` that sets the answer itself and goes on, as for streams."""
        loop = asyncio.get_running_loop()
        answer: Answer = PromptFuture(loop=loop)
        task = loop.create_task(_run(work(answer), answer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return answer

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Work that nobody waits for; what it raises is logged."""
        task = asyncio.get_running_loop().create_task(_run(work, None))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def drain(self, timeout_s: float) -> None:
        """Waits for what runs, then gives up what still does."""
        await drain(self._running, timeout_s)


async def _run(work: Coroutine[Any, Any, None], answer: Answer | None) -> None:
    try:
        await work
    except Exception:
        # The supervisor of the gateways: nothing that is not foreseen may leave a client waiting.
        log.exception("gateway request failed")
        if answer is not None and not answer.done():
            answer.set_result(message_response(500, "Internal Server Error"))
