"""Waiting until something holds, told of each change instead of asking again and again.

What is waited for (all extensions have registered, the runtime asks for its next event) is spread
over several objects; each of them says ``changed``, and whoever waits is woken when its condition
holds. Used for environments with extensions only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Conditions:
    """One per environment."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    async def until(self, holds: Callable[[], bool]) -> None:
        """Returns when ``holds`` does, at once if it does already; raises what ``abort`` gives."""
        if holds():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (holds, future)
        self._waiting.append(entry)
        try:
            await future
        finally:
            self._waiting.remove(entry)

    def changed(self) -> None:
        """Something that may be waited for has happened."""
        for holds, future in self._waiting:
            if not future.done() and holds():
                future.set_result(None)

    def abort(self, error: Exception) -> None:
        """Nobody needs to wait any longer."""
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(error)
