"""Host side of one zygote: starts the process, asks it to fork, hears how children end."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from firelet.linux import process
from firelet.model.errors import PlatformError, SandboxEnded
from firelet.sandbox.channel import Channel, close_all, make_pair
from firelet.sandbox.rootfs import RootPlan
from firelet.sandbox.seccomp_profile import Profile

log = logging.getLogger(__name__)

START_TIMEOUT_S = 30.0
# The kernel queues no more than net.unix.max_dgram_qlen messages, 10 by default, and the zygote
# forks one after the other anyway.
_SPAWNS_AT_ONCE = 4
_ENTER = Path(__file__).resolve().parent.parent / "guest" / "enter.py"


class Zygote:
    """One zygote process. ``spawn`` may be called as soon as ``start`` has returned."""

    def __init__(self, plan: RootPlan, profile: Profile, on_end: Callable[[], None]) -> None:
        self._plan = plan
        self._profile = profile
        self._on_end = on_end
        self._channel: Channel | None = None
        self._pidfd = -1
        self._ready: asyncio.Future[None] | None = None
        self._spawns: dict[str, asyncio.Future[int]] = {}
        self._turns = asyncio.Semaphore(_SPAWNS_AT_ONCE)

    async def start(self) -> None:
        """Starts both stages and waits until the second one answers. PlatformError with the
        failed step when the base root cannot be built."""
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        ours, theirs = make_pair()
        self._channel = Channel(ours, self._on_message, self._on_close)
        starting = asyncio.create_task(asyncio.to_thread(_start_first_stage, theirs))
        try:
            # Shielded: who gives up waiting cannot call back a thread that starts a process.
            await asyncio.shield(starting)
            self._channel.send(self._plan.message())
            self._channel.send(profile_message(self._profile))
            await self._await_ready(self._ready)
        except BaseException:
            await self.stop()
            raise
        finally:
            # The first stage ends by itself once the second runs, or when it has failed.
            await asyncio.to_thread((await starting).wait)

    async def _await_ready(self, ready: asyncio.Future[None]) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await ready
        except TimeoutError:
            raise PlatformError("A zygote did not start in time.") from None

    async def spawn(self, identity: str, request: dict[str, Any], fds: Sequence[int]) -> int:
        """Forks a child that becomes pid 1 of a sandbox; returns a pidfd that the caller owns."""
        if self._channel is None:
            raise PlatformError("The zygote was not started.")
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        async with self._turns:
            self._spawns[identity] = future
            try:
                self._channel.send({"op": "spawn", "id": identity, **request}, fds)
                return await future
            finally:
                self._spawns.pop(identity, None)

    async def stop(self) -> None:
        """Ends the zygote, and with it every sandbox that it made."""
        if self._channel is not None:
            self._channel.close()
        if self._pidfd >= 0:
            try:
                process.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                log.debug("zygote had ended already")
            self._forget_process()

    def _forget_process(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _on_message(self, message: dict[str, Any], fds: list[int]) -> None:
        event = message["event"]
        assert self._ready is not None
        if event == "spawned":
            future = self._spawns.get(message["id"])
            if future is None or future.done():
                close_all(fds)  # the caller gave up
            else:
                future.set_result(fds[0])
        elif event == "failed":
            future = self._spawns.get(message["id"])
            if future is not None and not future.done():
                future.set_exception(PlatformError(f"A sandbox failed at: {message['step']}"))
        elif event == "entered":
            self._pidfd = fds[0]
        elif event == "ready":
            self._ready.set_result(None)
        elif event == "error" and not self._ready.done():
            self._ready.set_exception(
                PlatformError(
                    f"The sandbox root cannot be built: {message['step']} {message['path'] or ''}"
                )
            )

    def _on_close(self) -> None:
        """The process ended by itself: nothing that it made is alive any more."""
        self._forget_process()
        error = SandboxEnded("The zygote has ended.")
        for future in self._spawns.values():
            if not future.done():
                future.set_exception(error)
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(error)
            return
        log.error("zygote ended interpreter=%s", self._plan.interpreter)
        self._on_end()


def _start_first_stage(channel: socket.socket) -> subprocess.Popen[bytes]:
    """Gives it its end of the channel, which is closed here."""
    with channel:
        # -I -S -B: no environment, no site, nothing written; enter.py finds its own package.
        # A session of its own keeps the terminal's Ctrl-C away from it.
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(_ENTER), str(channel.fileno())],
            pass_fds=[channel.fileno()],
            stdin=subprocess.DEVNULL,
            env={},
            start_new_session=True,
        )


def profile_message(profile: Profile) -> dict[str, Any]:
    """For the second stage, which reads it once it runs."""
    return {
        "inherited": None if profile.inherited is None else _encode(profile.inherited),
        "final": _encode(profile.final),
    }


def _encode(program: bytes) -> str:
    return base64.b64encode(program).decode()
