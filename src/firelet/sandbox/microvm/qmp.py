"""QEMU's machine protocol: one JSON object a line, over a connected socket.

What it is: commands with their answers, one at a time, and descriptors with a command. Events are
read and dropped: what is waited for is asked for. Source: QEMU's "QMP protocol specification".
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from firelet.sandbox.microvm.vmm import VmmEnded, VmmRefused, VmmSilent

ANSWER_TIMEOUT_S = 30.0
_LINE_MAX_BYTES = 4 * 1024 * 1024
_READ_BYTES = 65_536
_ABSENT = msgspec.Raw()


class QmpFault(msgspec.Struct, frozen=True):
    kind: str = msgspec.field(name="class")
    desc: str


class QmpNumbers(msgspec.Struct, frozen=True):
    major: int
    minor: int
    micro: int


class QmpVersion(msgspec.Struct, frozen=True):
    """``package`` is the distributor's own, or empty."""

    qemu: QmpNumbers
    package: str = ""

    @property
    def text(self) -> str:
        numbers = f"{self.qemu.major}.{self.qemu.minor}.{self.qemu.micro}"
        return f"{numbers} ({self.package})" if self.package else numbers


class QmpGreeting(msgspec.Struct, frozen=True):
    version: QmpVersion


class QmpLine(msgspec.Struct, frozen=True):
    """Any line of QEMU's: the greeting, the answer to a command, its refusal, or an event."""

    greeting: QmpGreeting | None = msgspec.field(name="QMP", default=None)
    result: msgspec.Raw = msgspec.field(name="return", default=_ABSENT)
    error: QmpFault | None = None
    id: int | None = None


class Qmp:
    """Owns ``sock``. ``open`` comes first. VmmEnded when QEMU has gone, VmmRefused when it says no,
    VmmSilent when it does not answer."""

    def __init__(self, sock: socket.socket, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._timeout_s = timeout_s
        self._buffer = bytearray()
        self._numbers = itertools.count(1)
        self._turn = asyncio.Lock()
        self._decoder = msgspec.json.Decoder(QmpLine)

    async def open(self) -> str:
        """Takes the greeting and leaves the mode in which nothing else is allowed. The version, as
        ``--version`` prints it."""
        async with self._turn, _limit(self._timeout_s, "greeting"):
            greeting = (await self._line()).greeting
        if greeting is None:
            raise VmmRefused("Protocol", "the first line is not a greeting")
        await self.execute("qmp_capabilities")
        return greeting.version.text

    async def execute(
        self,
        command: str,
        arguments: dict[str, Any] | None = None,
        *,
        fds: Sequence[int] = (),
    ) -> msgspec.Raw:
        """The answer to one command, undecoded. ``fds`` are passed along with it."""
        number = next(self._numbers)
        request: dict[str, Any] = {"execute": command, "id": number}
        if arguments is not None:
            request["arguments"] = arguments
        async with self._turn, _limit(self._timeout_s, command):
            await self._send(msgspec.json.encode(request) + b"\n", fds)
            while True:
                line = await self._line()
                if line.id != number:
                    continue  # an event, or the late answer to a command that was given up
                if line.error is not None:
                    raise VmmRefused(line.error.kind, line.error.desc)
                return line.result

    def close(self) -> None:
        self._socket.close()

    async def _send(self, data: bytes, fds: Sequence[int]) -> None:
        loop = asyncio.get_running_loop()
        try:
            if fds:
                # Descriptors go with the first bytes. One command is far below the socket's
                # buffer, which is empty: QEMU has answered the command before.
                sent = socket.send_fds(self._socket, [data], list(fds))
                data = data[sent:]
            await loop.sock_sendall(self._socket, data)
        except OSError as error:
            raise VmmEnded(f"QEMU cannot be reached: {error}.") from error

    async def _line(self) -> QmpLine:
        loop = asyncio.get_running_loop()
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _LINE_MAX_BYTES:
                raise VmmRefused("Protocol", "a line without end")
            # Where there is always something to read, reading never waits: a QEMU that a guest has
            # taken over could keep this loop, and its time limit, from ever running again.
            await asyncio.sleep(0)
            try:
                data = await loop.sock_recv(self._socket, _READ_BYTES)
            except OSError as error:
                raise VmmEnded(f"QEMU cannot be reached: {error}.") from error
            if not data:
                raise VmmEnded("QEMU has closed its monitor.")
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            return self._decoder.decode(line)
        except msgspec.DecodeError as error:
            raise VmmRefused("Protocol", str(error)) from error


@contextlib.asynccontextmanager
async def _limit(seconds: float, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise VmmSilent(f"QEMU has not answered {what} within {seconds:g} s.") from None
