"""What the platform says to pid 1 of a guest (``guest/vm_init``) and hears from it.

What it is: requests as methods, answers matched to them, ends and output of programs. What it is
not: a connection (whoever runs the machine gives it a connected socket), nor the sandbox in the
guest, whose messages are handed on to ``on_event``.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import secrets
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from firelet.model.errors import PlatformError, SandboxEnded
from firelet.sandbox.microvm.guest_link import Carrier, GuestFault, GuestLink

SEED_BYTES = 64
OUTPUT_KEPT_BYTES = 1024 * 1024


class Hello(msgspec.Struct, frozen=True):
    """The guest is ready. ``uptime_s`` is its own clock's, since its kernel began."""

    kernel: str
    python: str
    uptime_s: float


class GuestExit(msgspec.Struct, frozen=True):
    """How a process of the guest ended: exactly one of ``code`` and ``signal``; and what it wrote
    to its standard streams, the first ``OUTPUT_KEPT_BYTES`` of it."""

    code: int | None
    signal: int | None
    output: bytes


class GuestChannel:
    """Owns ``sock``. Every waiting call ends with SandboxEnded when the guest has gone, and with
    GuestFault when it says something that cannot be. ``on_event`` gets what is not an answer to
    a call; ``on_open`` is that of ``GuestLink``; ``on_end`` is called when the guest has gone, and
    not for ``close``."""

    def __init__(
        self,
        sock: socket.socket,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        on_open: Callable[[int, dict[str, Any]], Carrier | None] = lambda _stream, _purpose: None,
        on_end: Callable[[PlatformError], None] = lambda _error: None,
    ) -> None:
        self._on_event = on_event
        self._on_end = on_end
        self._names = map(str, itertools.count(1))
        self._hello: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._outputs: dict[str, bytearray] = {}
        self._failure: PlatformError | None = None
        self._is_awakening = False
        self.link = GuestLink(sock, self._on_message, on_open, self._on_link_end)

    async def hello(self) -> Hello:
        """Waits until the guest is ready. One that was restored has said it before the snapshot and
        does not say it again: ``awaken`` is answered when it is ready."""
        return await asyncio.shield(self._hello)

    async def run(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        directory: str = "/",
    ) -> GuestExit:
        """Runs a program to its end. GuestFault with the kernel's reason if it cannot be started.
        With a caller that is cancelled the program is killed, and what shares its group."""
        name = next(self._names)
        self._outputs[name] = bytearray()
        try:
            return await self._ask(  # type: ignore[no-any-return]
                name,
                do="run",
                arguments=list(arguments),
                environment=dict(environment or {}),
                directory=directory,
            )
        except asyncio.CancelledError:
            with contextlib.suppress(PlatformError):  # the guest, and with it the program, has gone
                self.tell(do="signal", id=name, number=int(signal.SIGKILL))
            raise
        finally:
            del self._outputs[name]

    async def ping(self) -> None:
        """Returns when the guest has answered."""
        await self._ask(next(self._names), do="ping")

    async def rest(self) -> None:
        """Returns when the guest neither says nor does anything more until ``awaken``, which is for
        the channel of a clone: nothing else is said over this one."""
        await self._ask("resting", self.link.say_no_more, do="rest")

    async def awaken(self) -> None:
        """Tells a guest that was at rest the time, and makes its random state its own."""
        self._is_awakening = True
        await self._ask("awake", **_awaken_message())

    def begin_awakening(self) -> None:
        """The same for who does not wait for it: the guest does all that follows after it."""
        self._is_awakening = True
        self.tell(**_awaken_message())

    def set_clock(self) -> None:
        """Tells the guest the time: what it was told as the first was on its way for as long as it
        took to wake up, 0.1 s where it is emulated."""
        self.tell(do="clock", now_ns=time.time_ns())

    def power_off(self) -> None:
        """Asks the guest to end. SandboxEnded."""
        self.tell(do="power off")

    def tell(self, **message: Any) -> None:
        """Says it, without waiting for anything. SandboxEnded when the guest has gone."""
        if self._failure is not None:
            raise self._failure
        self.link.tell(message)

    def close(self) -> None:
        """Ends every call that waits. May be called again."""
        self._fail(SandboxEnded())
        self.link.close()

    async def _ask(
        self, name: str, on_told: Callable[[], None] = lambda: None, **message: Any
    ) -> Any:
        if name in self._waiting:
            raise GuestFault(f"The guest has not answered {name} yet.")
        answer = asyncio.get_running_loop().create_future()
        self._waiting[name] = answer
        try:
            self.tell(id=name, **message)
            on_told()
            return await answer
        finally:
            del self._waiting[name]

    def _on_link_end(self, error: PlatformError) -> None:
        self._fail(error)
        self._on_end(error)

    def _on_message(self, message: dict[str, Any]) -> None:
        match message["event"]:
            case "hello":
                if self._hello.done():
                    raise ValueError("a second hello")
                self._hello.set_result(msgspec.convert(message, Hello))
            case "output":
                self._keep_output(message["id"], base64.b64decode(message["data"], validate=True))
            case "exited program":
                output = bytes(self._outputs.get(message["id"], b""))
                end = msgspec.convert({**message, "output": b""}, GuestExit)
                self._answer(message["id"], msgspec.structs.replace(end, output=output))
            case "pong":
                self._answer(message["id"], None)
            case "awake":
                self._on_awake()
            case "resting":
                self._answer("resting", None)
            case "failed":
                self._refuse(message["id"], GuestFault(f"Not started: {message['reason']}."))
            case "started":
                return
            case "refused":
                raise ValueError(message["reason"])
            case unknown:
                if self._on_event is None:
                    raise ValueError(f"unknown event {unknown!r}")
                self._on_event(message)

    def _on_awake(self) -> None:
        if self._is_awakening:
            self._is_awakening = False
            self.set_clock()
        self._answer("awake", None)

    def _keep_output(self, name: str, data: bytes) -> None:
        kept = self._outputs.get(name)
        if kept is not None:
            kept += data[: OUTPUT_KEPT_BYTES - len(kept)]

    def _answer(self, name: str, value: Any) -> None:
        """One that nobody waits for any more is dropped: its caller was cancelled."""
        future = self._waiting.get(name)
        if future is not None and not future.done():
            future.set_result(value)

    def _refuse(self, name: str, error: PlatformError) -> None:
        future = self._waiting.get(name)
        if future is not None and not future.done():
            future.set_exception(error)

    def _fail(self, error: PlatformError) -> None:
        """The first failure is the one that is told."""
        if self._failure is None:
            self._failure = error
        for future in (self._hello, *self._waiting.values()):
            if not future.done():
                future.set_exception(self._failure)
        if self._hello.done() and not self._hello.cancelled():
            self._hello.exception()  # nobody may have asked for it


def _awaken_message() -> dict[str, Any]:
    seed = secrets.token_bytes(SEED_BYTES).hex()
    return {"do": "awaken", "seed": seed, "now_ns": time.time_ns()}
