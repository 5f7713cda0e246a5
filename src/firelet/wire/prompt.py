"""A Future whose result reaches its one listener at once.

asyncio tells of a result in the next turn of the loop, which costs a callback, a poll of all
sockets and some microseconds for each hand-off. A warm invocation has three of them between the
caller's socket and the runtime's; with these Futures both sockets are written to in the turn in
which the result is known. Used by ``http1_connection``, ``runtime.exchange`` and the Invoke
operation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


class PromptFuture(asyncio.Future[Result]):
    """Like any Future for whoever awaits it or adds callbacks.

    Whoever sets the result runs the listener: it must be done with its own changes by then.
    """

    _listener: Callable[[Any], object] | None = None

    def listen(self, listener: Callable[[PromptFuture[Result]], object]) -> None:
        """Calls back once with this Future when it has a result or is cancelled, or in the next
        turn of the loop if it is so already. There is one listener at most."""
        if self.done():
            self.get_loop().call_soon(listener, self)
        else:
            self._listener = listener

    def set_result(self, result: Result) -> None:
        super().set_result(result)
        listener, self._listener = self._listener, None
        if listener is not None:
            listener(self)

    def cancel(self, msg: Any | None = None) -> bool:
        is_cancelled = super().cancel(msg)
        listener, self._listener = self._listener, None
        if listener is not None:
            # Not at once: it is often the listener who cancels, and who is not finished then.
            self.get_loop().call_soon(listener, self)
        return is_cancelled
