"""The one event of a sandbox that its driver waits for: ``embryo``, ``assigned``, ``killed``.

Calls that change a sandbox come one after the other, so that there is one at a time.
Called by ``cell`` and ``microvm/machine_sandbox``.
"""

from __future__ import annotations

import asyncio

from firelet.model.errors import PlatformError


class AwaitedEvent:
    """``kind`` is what a sentence calls the sandbox."""

    def __init__(self, kind: str, timeout_s: float) -> None:
        self._kind = kind
        self._timeout_s = timeout_s
        self._event = ""
        self._future: asyncio.Future[None] | None = None

    def expect(self, event: str) -> asyncio.Future[None]:
        """Before it is asked for: the answer may come while that is said."""
        self._event = event
        self._future = asyncio.get_running_loop().create_future()
        return self._future

    async def wait(self, answer: asyncio.Future[None]) -> None:
        """Until it has come. PlatformError when it does not in time; what ``fail`` was given."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await answer
        except TimeoutError:
            raise PlatformError(f"A {self._kind} did not reach '{self._event}' in time.") from None

    def on_event(self, event: str) -> None:
        """Something has come; others than the one that is awaited are nobody's."""
        if event == self._event and self._future is not None and not self._future.done():
            self._future.set_result(None)

    def fail(self, error: PlatformError) -> None:
        """It will not come."""
        if self._future is not None and not self._future.done():
            self._future.set_exception(error)
            self._future.exception()  # there may be nobody left to look at it
