"""What a machine writes to its console: read all of it, keep the last of it.

A guest can write without end; what is kept is bounded, and how much was dropped is known.
"""

from __future__ import annotations

KEPT_BYTES = 64 * 1024


class Console:
    """The end of one stream, which ``vmm_process`` reads."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._data = bytearray()
        self.dropped_bytes = 0

    def write(self, data: bytes) -> None:
        self._data += data
        excess = len(self._data) - self._kept_bytes
        if excess > 0:
            del self._data[:excess]
            self.dropped_bytes += excess

    def text(self) -> str:
        """What is kept, for people: bytes that are no UTF-8 are replaced."""
        return self._data.decode(errors="replace")
