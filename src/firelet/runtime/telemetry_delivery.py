"""The way of telemetry into a sandbox: one connection to a port that an extension listens on.

The sandbox makes the connection: it ends inside and can reach nothing else. At its other end is
customer code, which may send anything, never read and never answer: everything here has a bound in
time (``limits.TELEMETRY_DELIVERY_S`` for one batch) and in memory.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence

from firelet.model import limits
from firelet.runtime.telemetry_subscription import Destination

Connect = Callable[[int], Awaitable[socket.socket]]

_HEAD_MAX_BYTES = 16 * limits.KIB
_READ_BYTES = 16 * limits.KIB
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[^\r\n]*close", re.IGNORECASE)


class NotDelivered(Exception):
    """The subscriber could not be reached, or did not take it."""


class Delivery:
    """Sends batches one after another. ``connect`` gives a connection to a port of the sandbox's
    loopback, non-blocking."""

    def __init__(self, destination: Destination, connect: Connect) -> None:
        self._destination = destination
        self._connect = connect
        self._socket: socket.socket | None = None

    async def send(self, items: Sequence[bytes]) -> None:
        """One batch of JSON objects. NotDelivered when it did not get there in time."""
        try:
            async with asyncio.timeout(limits.TELEMETRY_DELIVERY_S):
                await self._send(items)
        except (OSError, TimeoutError) as error:
            raise NotDelivered(str(error) or "too late") from error

    def close(self) -> None:
        """Gives up the connection; the next batch makes another one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _send(self, items: Sequence[bytes]) -> None:
        is_fresh = self._socket is None
        try:
            await self._try(items)
        except OSError as error:
            if is_fresh or isinstance(error, TimeoutError):
                raise
            # The subscriber has closed the connection since the last batch.
            await self._try(items)

    async def _try(self, items: Sequence[bytes]) -> None:
        loop = asyncio.get_running_loop()
        if self._socket is None:
            self._socket = await self._connect(self._destination.port)
        try:
            if self._destination.path is None:
                await loop.sock_sendall(self._socket, b"\n".join([*items, b""]))
            else:
                await loop.sock_sendall(self._socket, self._request(items))
                await self._read_answer(self._socket)
        except BaseException:
            self.close()
            raise

    def _request(self, items: Sequence[bytes]) -> bytes:
        destination = self._destination
        body = b"[" + b",".join(items) + b"]"
        head = (
            f"{destination.method} {destination.path} HTTP/1.1\r\nHost: {destination.host}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode("ascii") + body

    async def _read_answer(self, sock: socket.socket) -> None:
        """Any 2xx is taken as received. A body is read and dropped, if its length is known and
        small; else the connection is not used again."""
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            if len(received) > _HEAD_MAX_BYTES:
                raise ConnectionError("the answer's head has no end")
            received += await self._read(sock)
        status = _STATUS.match(received)
        if status is None:
            raise ConnectionError("the answer is not HTTP")
        head = received[: end + 2]
        length = _LENGTH.search(head)
        missing = int(length[1]) - (len(received) - end - 4) if length else -1
        if missing < 0 or missing > limits.TELEMETRY_ANSWER_BYTES or _CLOSE.search(head):
            self.close()
        else:
            while missing > 0:
                missing -= len(await self._read(sock))
        if status[1][:1] != b"2":
            raise NotDelivered(f"answered {status[1].decode()}")

    async def _read(self, sock: socket.socket) -> bytes:
        data = await asyncio.get_running_loop().sock_recv(sock, _READ_BYTES)
        if not data:
            raise ConnectionResetError("the subscriber closed the connection")
        return data
