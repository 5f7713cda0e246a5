"""Looks for the packages that functions refer to: a supervised task.

What follows from it is ``control.references``. Made by ``app.standalone``.
"""

from __future__ import annotations

import asyncio
import logging

from firelet.control.references import References

log = logging.getLogger(__name__)


class ReferenceWatch:
    """``start`` once the registry has loaded."""

    def __init__(self, references: References, every_s: float) -> None:
        self._references = references
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._look_often())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look_often(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self._references.look()
            except Exception:
                # The supervisor of these looks: one that fails must not be the last.
                log.exception("source objects not looked for")
