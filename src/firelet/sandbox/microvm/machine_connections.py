"""Connections from the platform to ports of a sandbox that is in a machine.

Its pid 1 makes the socket, in its own network; over a stream of the link come the answer, whether
somebody listens there, and then the bytes. Called by ``machine_sandbox``; the other end is
``guest/vm_sandbox``.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any

from firelet.model.errors import PlatformError
from firelet.sandbox.microvm.guest_link import GuestLink, SocketCarrier


class MachineConnections:
    """Those of one machine that wait for their answers."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[None]] = {}

    async def open(self, link: GuestLink, port: int) -> socket.socket:
        """Connected, non-blocking, the caller's. ConnectionRefusedError when nothing listens; what
        ``fail`` was given."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            stream = link.open_stream(
                {"for": "connect", "port": port},
                lambda number: SocketCarrier(link, number, theirs),
            )
        except BaseException:
            ours.close()
            theirs.close()
            raise
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[stream] = answer
        try:
            await answer
        except BaseException:
            ours.close()
            link.give_up(stream)
            raise
        finally:
            del self._waiting[stream]
        return ours

    def on_answer(self, message: dict[str, Any]) -> None:
        """What the guest says of one: ``connected``, or ``not connected`` and why."""
        waiting = self._waiting.get(message["stream"])
        if waiting is None or waiting.done():
            return  # whoever asked gave up
        if message["event"] == "connected":
            waiting.set_result(None)
        elif message["errno"] == errno.ECONNREFUSED:
            waiting.set_exception(ConnectionRefusedError(errno.ECONNREFUSED, "nothing listens"))
        else:
            waiting.set_exception(OSError(message["errno"], os.strerror(message["errno"])))

    def fail(self, error: PlatformError) -> None:
        """There will be no answers."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
                future.exception()  # there may be nobody left to look at it
