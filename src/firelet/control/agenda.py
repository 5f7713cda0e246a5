"""Which pools are to be looked at again, and when. A heap; the worker manager is its only user."""

from __future__ import annotations

import math
from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Agenda(Generic[K]):
    """One time for each key: the earliest that was asked for since the key was due last."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, K]] = []
        self._at: dict[K, float] = {}
        self._turn = 0  # orders equal times: keys need not be comparable

    def put(self, key: K, at: float) -> None:
        """Looks at ``key`` at the latest then. Cheap when it is to be looked at sooner anyway:
        this is asked for each request."""
        if at < self._at.get(key, math.inf):
            self._at[key] = at
            self._turn += 1
            heappush(self._heap, (at, self._turn, key))

    def pop_due(self, now: float) -> list[K]:
        """The keys whose time has come, which are then on it no more."""
        due = []
        heap = self._heap
        while heap and heap[0][0] <= now:
            at, _, key = heappop(heap)
            if self._at.get(key) == at:  # else it was put forward, and was due earlier
                del self._at[key]
                due.append(key)
        return due

    def drop(self, key: K) -> None:
        """The key is of no interest any more."""
        self._at.pop(key, None)
