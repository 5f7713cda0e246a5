"""The host's memory reaches the worker manager, again and again, whatever goes wrong once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from firelet.app.tending import watch_memory
from firelet.model import limits
from firelet.worker.memory import MemoryUse


class Memory:
    """Cannot be read the second time."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self) -> MemoryUse:
        self.reads += 1
        if self.reads == 2:
            raise OSError(5, "Input/output error")
        return MemoryUse(used_mib=self.reads, total_mib=100)


class Manager:
    def __init__(self) -> None:
        self.told: list[tuple[float, float]] = []

    def press(self, used_mib: float, memory_mib: float) -> None:
        self.told.append((used_mib, memory_mib))


async def test_the_manager_is_told_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MEMORY_LOOK_EVERY_S", 0.0)
    memory: Any = Memory()
    manager: Any = Manager()
    watching = asyncio.create_task(watch_memory(memory, manager))
    while len(manager.told) < 3:
        await asyncio.sleep(0)
    watching.cancel()
    assert manager.told[:3] == [(1, 100), (3, 100), (4, 100)]
