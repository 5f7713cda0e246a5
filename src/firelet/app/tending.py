"""The two tasks that keep a platform tidy: idle environments are tended, memory is watched.

Supervisors: what goes wrong once is logged and tried again. What there is to decide is decided by
``control.manager``. Run by ``standalone``.
"""

from __future__ import annotations

import asyncio
import logging

from firelet.app.config import PlatformConfig
from firelet.control.manager import Manager
from firelet.model import limits
from firelet.worker.memory import HostMemory

log = logging.getLogger(__name__)

_TEND_EVERY_S = 0.1


async def tend_environments(manager: Manager, config: PlatformConfig) -> None:
    while True:
        await asyncio.sleep(_TEND_EVERY_S)
        try:
            manager.tend(config.freeze_after_s, config.idle_stop_after_s)
        except Exception:
            # The supervisor of idle environments: one that cannot be tended must not end us.
            log.exception("idle environments not tended")


async def watch_memory(memory: HostMemory, manager: Manager) -> None:
    while True:
        await asyncio.sleep(limits.MEMORY_LOOK_EVERY_S)
        try:
            use = memory.read()
            manager.press(use.used_mib, use.total_mib)
        except Exception:
            # The supervisor of memory: what cannot be read now may be read the next time.
            log.exception("memory not watched")
