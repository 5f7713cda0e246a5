"""A transport without a socket: keeps what is written and does what it is told."""

from __future__ import annotations

import asyncio
from typing import Any


class FakeTransport(asyncio.Transport):
    """``is_stuck`` makes it behave like a client that does not read: nothing leaves."""

    def __init__(self, protocol: asyncio.Protocol, peer: Any = ("192.0.2.7", 4711)) -> None:
        super().__init__()
        self._protocol = protocol
        self._peer = peer
        self.written = bytearray()
        self.writes: list[bytes] = []
        self.unsent = 0
        self.is_stuck = False
        self.is_closed = False
        self.was_aborted = False
        self.has_sent_eof = False
        self.is_reading_paused = False
        protocol.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._peer if name == "peername" else default

    def write(self, data: Any) -> None:
        assert not self.has_sent_eof, "write after write_eof"
        self.writes.append(bytes(data))
        self.written += data
        if self.is_stuck:
            self.unsent += len(data)
            self._protocol.pause_writing()

    def read_by_client(self, size: int) -> None:
        """The client takes ``size`` bytes of what is stuck."""
        self.unsent = max(0, self.unsent - size)
        if not self.unsent:
            self._protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """What is stuck is too much at once, whatever the limits are."""

    def write_eof(self) -> None:
        self.has_sent_eof = True

    def pause_reading(self) -> None:
        assert not self.is_reading_paused
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        assert self.is_reading_paused
        self.is_reading_paused = False

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.was_aborted = True
        self.close()

    def is_closing(self) -> bool:
        return self.is_closed

    def hang_up(self) -> None:
        """The client closes its side."""
        if not self._protocol.eof_received():
            self.close()

    def forget(self) -> None:
        """Lets go of the protocol, as real transports do when they are lost."""
        del self._protocol
