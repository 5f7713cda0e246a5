"""Joins the invoke path and the metric store: empties the meter, and looks each second at
how much is used of what is provisioned."""

from __future__ import annotations

import asyncio
import logging
from itertools import count
from pathlib import Path

from firelet.control.registry import Registry
from firelet.observe.invocation_meter import InvocationMeter, Share
from firelet.observe.metric_tables import METRIC_MIGRATIONS
from firelet.observe.metrics import MetricStore
from firelet.store.sqlite import Database

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_DRAIN_EVERY = 3  # looks


def open_metrics(path: Path) -> MetricStore:
    """The store in that file."""
    return MetricStore(Database(path, "metrics", METRIC_MIGRATIONS))


class Measuring:
    """Owns ``store``. ``start`` once the registry has loaded, ``close`` after the last call."""

    def __init__(self, store: MetricStore, meter: InvocationMeter, registry: Registry) -> None:
        self._store = store
        self._meter = meter
        self._registry = registry
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._store.start()
        self._task = asyncio.create_task(self._measure())

    async def close(self) -> None:
        """Nothing that was measured is lost."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for _ in self._meter.drain(self._store):
            continue
        await self._store.close()

    async def _measure(self) -> None:
        for number in count(1):
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                shares = self._registry.provisioned.shares()
                self._meter.look(self._store, (Share(*share) for share in shares))
                if number % _DRAIN_EVERY == 0:
                    for _ in self._meter.drain(self._store):
                        await asyncio.sleep(0)
            except Exception:
                # The supervisor of the meter: what cannot be drained must not end the measuring.
                log.exception("meter not drained")
