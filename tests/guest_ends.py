"""A guest's end of a link, played by a test: the real protocol, and whatever else is to be said."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import socket
import struct
from collections.abc import Callable
from typing import Any

from firelet.linux import multiplex

PATIENCE_S = 30.0


class GuestEnd:
    """Keeps what has come: ``messages``, ``opened`` (stream and purpose), ``received``, ``ended``
    and ``reset`` by stream. Reads only in ``until``, and gives credit only in ``take``."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.mux = multiplex.Multiplexer(1)
        self.messages: list[dict[str, Any]] = []
        self.opened: list[tuple[int, dict[str, Any]]] = []
        self.received: dict[int, bytearray] = collections.defaultdict(bytearray)
        self.ended: set[int] = set()
        self.reset: set[int] = set()
        self.is_cut_off = False

    async def send(self) -> None:
        """Sends what the multiplexer has collected."""
        data, self.mux.outgoing = self.mux.outgoing, bytearray()
        await self.send_raw(bytes(data))

    async def send_raw(self, data: bytes) -> None:
        """Whether or not it makes sense."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def say(self, **message: Any) -> None:
        self.mux.message(message)
        await self.send()

    async def open(self, **purpose: Any) -> int:
        stream = self.mux.open(purpose)
        await self.send()
        return stream

    async def until(self, holds: Callable[[], bool]) -> None:
        """Reads until it holds. Fails when the link ends before."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                assert not self.is_cut_off, "cut off"
                await self._read()
                await self.send()

    async def until_cut_off(self) -> None:
        """Until the platform has closed the link."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.is_cut_off:
                await self._read()

    def take(self, stream: int, count: int) -> bytes:
        """Takes that many bytes of what has come on a stream."""
        data = bytes(self.received[stream][:count])
        del self.received[stream][:count]
        self.mux.consume(stream, len(data))
        return data

    async def carry(self, stream: int, data: bytes) -> None:
        """Sends all of it, as credit comes, and takes whatever comes meanwhile."""
        view = memoryview(data)
        while view:
            await self.until(lambda: self.mux.credit(stream) > 0)
            count = min(self.mux.credit(stream), len(view), 60_000)
            self.mux.send(stream, bytes(view[:count]))
            view = view[count:]
            await self.send()

    async def _read(self) -> None:
        try:
            data = await asyncio.get_running_loop().sock_recv(self.socket, 256 * 1024)
        except ConnectionError:
            data = b""
        if not data:
            self.is_cut_off = True
        for frame in self.mux.feed(data):
            if frame.kind == multiplex.MESSAGE:
                self.messages.append(frame.content)
            elif frame.kind == multiplex.OPEN:
                self.opened.append((frame.stream, frame.content))
            elif frame.kind == multiplex.DATA:
                self.received[frame.stream] += frame.content
            elif frame.kind == multiplex.END:
                self.ended.add(frame.stream)
            elif frame.kind == multiplex.RESET:
                self.reset.add(frame.stream)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()


def frame(kind: int, stream: int, content: bytes = b"") -> bytes:
    """One frame, however wrong."""
    return struct.pack(">IHB", len(content), stream, kind) + content


def message(**content: Any) -> bytes:
    """One frame that is a message."""
    return frame(multiplex.MESSAGE, 0, json.dumps(content).encode())


def opening(stream: int, **purpose: Any) -> bytes:
    """One frame that opens a stream."""
    return frame(multiplex.OPEN, stream, json.dumps(purpose).encode())
