"""A way to end what blocks in other threads: connections and programs that fetch images.

Owned by the platform through ``images.store``, which interrupts when it is closed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from firelet.worker.images.errors import RegistryFailed


class Interrupts:
    """Thread-safe. ``during`` is for the threads that block."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[object, Callable[[], None]] = {}
        self._is_over = False

    @contextmanager
    def during(self, end: Callable[[], None]) -> Iterator[None]:
        """Has ``end`` called, from another thread, if all is to end before the block does.
        RegistryFailed when it is to already."""
        key = object()
        with self._lock:
            if self._is_over:
                raise RegistryFailed("firelet stops")
            self._ends[key] = end
        try:
            yield
        finally:
            with self._lock:
                del self._ends[key]

    def interrupt(self) -> None:
        """Ends what is under way, and what begins later."""
        with self._lock:
            self._is_over = True
            for end in self._ends.values():
                end()
