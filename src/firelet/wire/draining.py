"""Work that outlives the client who asked for it: waited for when a server closes, then given up.

Called by whoever serves invocations: the Invoke endpoints and the gateways. Each keeps its own set
of tasks, which a task leaves when it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any


async def drain(running: Collection[asyncio.Task[Any]], timeout_s: float) -> None:
    """Returns when all have ended; those that still run after ``timeout_s`` are cancelled."""
    if running:
        _, late = await asyncio.wait(running, timeout=timeout_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
