"""The live connections of one HTTP/1.1 server, and what they share.

``Connections`` has the application, the limits, the heads written this second, and the one sweep
that counts the quiet seconds of all; a closing server drains and ends them here. It serves no
request (``http1_connection``) and does not listen (``http1``).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from firelet.wire.http1_head import Heads
from firelet.wire.http1_message import (
    App,
    BodyLimit,
    HttpLimits,
    OnReject,
    Rejection,
    Response,
    plain_rejection,
)
from firelet.wire.http1_stream import OpenBody

logger = logging.getLogger(__name__)

SWEEP_S = 1.0
EVICTED_AT_ONCE = 64  # connections, when there are too many


class LiveConnection(Protocol):
    """A connection as its server ends it, whatever is spoken on it."""

    @property
    def is_busy(self) -> bool:
        """It is in the middle of what a closing server waits for."""

    @property
    def is_spare(self) -> bool:
        """It asks for nothing now, or has stopped in the middle of asking."""

    @property
    def worth(self) -> tuple[bool, float]:
        """Of spare connections, those with less are ended first."""

    def drain(self) -> None:
        """Closes now, or after the answer that is due."""

    def abort(self) -> None:
        """Closes without another byte."""

    def on_sweep(self, elapsed_s: float) -> bool:
        """``elapsed_s`` more have passed. False: nothing here can time out."""


class Connections:
    """The live connections of one server and what they share."""

    def __init__(
        self,
        app: App,
        limits: HttpLimits,
        on_reject: OnReject,
        body_limit: BodyLimit | None,
        open_body: OpenBody | None = None,
    ) -> None:
        self.app = app
        self.limits = limits
        self.body_limit = body_limit
        self.open_body = open_body
        self.live: dict[LiveConnection, None] = {}  # in the order of arrival
        self.heads = Heads(on_dated=self.arm)
        self._on_reject = on_reject
        self._timer: asyncio.TimerHandle | None = None
        self._all_gone = asyncio.Event()

    def release(self, connection: LiveConnection) -> None:
        """The connection is lost and its handler has ended."""
        self.live.pop(connection, None)
        if not self.live:
            self._all_gone.set()

    def make_room(self, newcomer: LiveConnection) -> None:
        """Ends connections that ask for nothing, those first that have done so for longest, so
        that whoever holds thousands of them keeps nobody out. Many at once, since finding them
        means to look at all. Where silence may last for ever, nothing is ended."""
        if self.limits.keep_alive_s is None:
            return
        spare = [
            connection
            for connection in self.live
            if connection is not newcomer and connection.is_spare
        ]
        spare.sort(key=lambda connection: connection.worth)
        for connection in spare[:EVICTED_AT_ONCE]:
            del self.live[connection]
            connection.abort()

    def reject(self, rejection: Rejection) -> Response:
        """The answer to a rejection; the default one if the application's own wording fails."""
        try:
            return self._on_reject(rejection)
        except Exception:
            logger.exception("http rejection not worded reason=%s", rejection.reason.name)
            return plain_rejection(rejection)

    def arm(self) -> None:
        """Makes sure that a sweep comes. A server without any deadline pending never wakes."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self.sweep)

    def sweep(self) -> None:
        """Ends what has been quiet for too long, and the second that Date was written for."""
        self.heads.expire()
        self._timer = None
        # Copied: a connection may leave the set while it is looked at.
        waiting = [connection.on_sweep(SWEEP_S) for connection in list(self.live)]
        if any(waiting):
            self.arm()

    async def close(self, drain_s: float, flush_s: float) -> None:
        """Ends all connections; ``flush_s`` is for answers already written to leave."""
        for connection in list(self.live):
            connection.drain()
        await self._wait_until_gone(drain_s)
        for connection in list(self.live):
            if connection.is_busy:
                connection.abort()
        await self._wait_until_gone(flush_s)
        for connection in list(self.live):
            connection.abort()
        # A handler that cleans up after its cancellation is waited for.
        await self._wait_until_gone(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _wait_until_gone(self, timeout_s: float | None) -> None:
        if not self.live or timeout_s == 0:
            return
        self._all_gone.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._all_gone.wait()
        except TimeoutError:
            return
