"""A message channel to a process of the guest, on the event loop: one packet, one callback."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from firelet.linux import messages
from firelet.model.errors import PlatformError, SandboxEnded

OnMessage = Callable[[dict[str, Any], list[int]], None]


class Channel:
    """Owns one end of a SOCK_SEQPACKET pair. ``on_close`` is called once, when the peer ends."""

    def __init__(
        self,
        sock: socket.socket,
        on_message: OnMessage,
        on_close: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._on_message = on_message
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._read)
        self.is_open = True

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Sends at once. SandboxEnded when the peer is gone, PlatformError if it does not read."""
        if not self.is_open:
            raise SandboxEnded
        try:
            messages.send(self._socket, message, fds)
        except ConnectionError:
            raise SandboxEnded from None
        except OSError as error:
            raise PlatformError(f"The sandbox cannot be reached: {error}") from error

    def close(self) -> None:
        """Closes this end; ``on_close`` is not called for it."""
        if self.is_open:
            self.is_open = False
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _read(self) -> None:
        while self.is_open:
            try:
                message, fds = messages.receive(self._socket)
            except BlockingIOError:
                return
            except (OSError, EOFError, ValueError):
                # ValueError: not JSON. A peer that breaks the protocol is treated as gone.
                self.close()
                self._on_close()
                return
            self._on_message(message, fds)


def make_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a new channel: ours, and the one for the guest."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
