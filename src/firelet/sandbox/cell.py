"""One sandbox of the namespaces driver, from embryo to its end: the host's side of ``pid1``."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from firelet.linux import process
from firelet.model import limits
from firelet.model.errors import PlatformError, SandboxEnded
from firelet.sandbox.awaited_event import AwaitedEvent
from firelet.sandbox.cgroups import Cgroup, Limits
from firelet.sandbox.channel import Channel, close_all, make_pair
from firelet.sandbox.driver import (
    ExtensionStart,
    ExtensionWatcher,
    RuntimeExit,
    RuntimeStart,
    SandboxSpec,
)
from firelet.sandbox.pid1_messages import (
    Preload,
    assign_message,
    extension_message,
    parse_ending,
    parse_wait_status,
    spawn_request,
    start_message,
    step_error,
)
from firelet.sandbox.removal import Remains, Removals
from firelet.sandbox.rootfs import file_system_source

log = logging.getLogger(__name__)

STEP_TIMEOUT_S = 10.0
KILL_GRACE_S = 1.0


class Spawner(Protocol):
    """Who can fork a pid 1: a zygote, or a snapshot."""

    async def spawn(self, identity: str, request: dict[str, Any], fds: Sequence[int]) -> int:
        """The new process, as a pidfd that the caller owns."""


class Cell:
    """Implements ``Sandbox``. Calls that change it come from one coroutine at a time."""

    def __init__(
        self,
        identity: str,
        uid: int,
        cgroup: Cgroup | None,
        removals: Removals,
        is_rootless: bool,
        on_ended: Callable[[Cell], None],
        on_stopped: Callable[[Cell], None],
    ) -> None:
        self.id = identity
        self.uid = uid
        self.is_dead = False
        self._cgroup = cgroup
        self._removals = removals
        self._is_rootless = is_rootless
        self._on_ended = on_ended
        self._on_stopped = on_stopped
        self._channel: Channel | None = None
        self._pidfd = -1
        self._listener: socket.socket | None = None
        self._output = self._log = -1
        self._awaited = AwaitedEvent("sandbox", STEP_TIMEOUT_S)
        self._on_exit: Callable[[RuntimeExit], None] | None = None
        self._watcher: ExtensionWatcher | None = None
        self._sockets: dict[int, asyncio.Future[int]] = {}
        self._is_frozen = False
        self._is_killing = False
        self._oom_kills = 0
        self._is_stopped = False

    @property
    def _processes(self) -> int | None:
        """What the user of the sandbox may have: no other sandbox has the same one."""
        return limits.PIDS_MAX

    @property
    def listener(self) -> socket.socket:
        assert self._listener is not None
        return self._listener

    @property
    def output_fd(self) -> int:
        return self._output

    @property
    def log_fd(self) -> int:
        return self._log

    @property
    def rests_at_next(self) -> bool:
        """Its clones are forked by its runtime, which has to wait for that at its restore
        point."""
        return False

    @property
    def pidfd(self) -> int:
        """A descriptor for pid 1 of the sandbox; the cell owns it."""
        return self._pidfd

    async def hatch(self, parent: Spawner, preload: Preload | None) -> None:
        """Forks pid 1 from its parent and waits until its namespaces stand."""
        ours, theirs = make_pair()
        self._channel = Channel(ours, self._on_message, self._on_close)
        self._output, output = os.pipe2(os.O_CLOEXEC)
        self._log, framed = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._output, False)
        os.set_blocking(self._log, False)
        answer = self._awaited.expect("embryo")
        procs = [] if self._cgroup is None else self._cgroup.procs_fds
        request = spawn_request(
            self.uid, is_rootless=self._is_rootless, processes=self._processes, preload=preload
        )
        try:
            self._pidfd = await parent.spawn(
                self.id, request, [theirs.fileno(), output, framed, *procs]
            )
        finally:
            theirs.close()
            close_all([output, framed])
        await self._awaited.wait(answer)
        if self._cgroup is not None:
            self._cgroup.close_procs()

    async def assign(self, spec: SandboxSpec) -> None:
        """Makes the embryo a sandbox of one function: code, limits, user, system calls."""
        if self._cgroup is not None:
            self._cgroup.set_limits(Limits(memory_mib=spec.memory_mib, vcpus=None))
        answer = self._awaited.expect("assigned")
        self._send(
            assign_message(
                self.uid,
                code=spec.code,
                layers=spec.layers,
                image=spec.image,
                tmp_mib=spec.tmp_mib,
                file_systems=[(file_system_source(arn), path) for arn, path in spec.file_systems],
                data_bytes=None if self._cgroup else spec.memory_mib * limits.MIB,
            )
        )
        await self._awaited.wait(answer)

    def watch(self, on_exit: Callable[[RuntimeExit], None]) -> None:
        self._on_exit = on_exit

    def start_runtime(self, start: RuntimeStart) -> None:
        self._send(start_message(start))

    def start_extension(self, start: ExtensionStart, watcher: ExtensionWatcher) -> int:
        self._watcher = watcher
        ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(theirs, True)
        try:
            self._send(extension_message(start), [theirs])
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return ours

    def signal_runtime(self, number: int) -> None:
        self._send({"op": "signal runtime", "number": number})

    async def connect(self, port: int) -> socket.socket:
        sock = await self._open_socket()
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        return sock

    async def _open_socket(self) -> socket.socket:
        """A TCP socket of the sandbox's network, made by its pid 1 and not connected: whoever
        connects it reaches that network and nothing else."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        identity = id(future)
        self._sockets[identity] = future
        try:
            self._send({"op": "socket", "id": identity})
            return socket.socket(fileno=await future)
        finally:
            del self._sockets[identity]

    async def kill_processes(self) -> None:
        self.thaw()  # a frozen process of cgroup version 1 cannot even be killed
        answer = self._awaited.expect("killed")
        self._send({"op": "kill"})
        self._is_killing = True
        try:
            await asyncio.wait([answer], timeout=KILL_GRACE_S)
            if self._cgroup is not None and not answer.done():
                # Among a thousand processes that fork, pid 1 gets its turn too late.
                self._cgroup.end_all_but(process.pid_of(self._pidfd))
            await self._awaited.wait(answer)
        finally:
            self._is_killing = False
            if self._cgroup is not None and not self._is_stopped:
                self._cgroup.allow_forks()

    def set_vcpus(self, vcpus: float | None) -> None:
        if self._cgroup is not None and not self.is_dead:
            self._cgroup.set_vcpus(vcpus)

    def freeze(self) -> None:
        if self.is_dead or self._is_frozen:
            return
        self._is_frozen = True
        if self._cgroup is not None:
            self._cgroup.freeze()
        else:
            self._send({"op": "signal", "number": signal.SIGSTOP})

    def thaw(self) -> None:
        if self.is_dead or not self._is_frozen:
            return
        self._is_frozen = False
        if self._cgroup is not None:
            self._cgroup.thaw()
        else:
            self._send({"op": "signal", "number": signal.SIGCONT})

    def memory_peak_bytes(self) -> int:
        """The cgroup's own high-water mark; 0 where there is no cgroup to ask."""
        return 0 if self._cgroup is None or self._is_stopped else self._cgroup.memory_peak_bytes()

    def memory_bytes(self) -> int:
        return 0 if self._cgroup is None or self._is_stopped else self._cgroup.memory_bytes()

    def kill(self) -> None:
        self.thaw()
        self.is_dead = True
        self._awaited.fail(PlatformError("The sandbox was stopped."))
        if self._pidfd >= 0:
            try:
                process.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                log.debug("sandbox had ended already id=%s", self.id)
        # After the signal: pid 1 is not to be woken by the end of the channel first.
        if self._channel is not None:
            self._channel.close()

    async def stop(self) -> None:
        if self._is_stopped:
            return
        self._is_stopped = True
        self.kill()
        if self._listener is not None:
            self._listener.close()
        close_all([fd for fd in (self._output, self._log) if fd >= 0])
        self._output = self._log = -1
        pidfd, self._pidfd = self._pidfd, -1
        await self._removals.remove(Remains(self._cgroup, pidfd))
        self._on_stopped(self)

    def _send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        if self._channel is None or self.is_dead:
            raise SandboxEnded
        self._channel.send(message, fds)

    def _on_message(self, message: dict[str, Any], fds: list[int]) -> None:
        event = message["event"]
        if event == "embryo":
            self._listener = socket.socket(fileno=fds[0])
            self._listener.setblocking(False)
        if event == "exited":
            if self._is_killing:
                return  # pid 1 saw the end of the runtime before it read that it is to end it
            self._tell(parse_ending(message))
        elif event == "extension exited":
            if self._watcher is not None:
                self._watcher.on_exited(
                    message["name"], self._with_cause(parse_wait_status(message["status"]))
                )
        elif event == "extension failed":
            if self._watcher is not None:
                reason = os.strerror(message["errno"]).lower()
                self._watcher.on_launch_failed(message["name"], reason)
        elif event == "socket":
            waiting = self._sockets.get(message["id"])
            if waiting is None or waiting.done():
                close_all(fds)  # whoever asked gave up
            else:
                waiting.set_result(fds[0])
        elif event == "error":
            what = f"{message['step']} {message['path'] or ''}".strip()
            log.error("sandbox failed id=%s: %s", self.id, what)
            # Of a traceback the caller is told the last line only.
            self._awaited.fail(step_error(what.splitlines()[-1]))
        else:
            self._awaited.on_event(event)

    def _on_close(self) -> None:
        """Pid 1 has ended, and with it every process of the sandbox."""
        self.is_dead = True
        self._awaited.fail(SandboxEnded())
        for waiting in self._sockets.values():
            if not waiting.done():
                waiting.set_exception(SandboxEnded())
        self._tell(RuntimeExit(None, None))
        self._on_ended(self)

    def _tell(self, ending: RuntimeExit) -> None:
        ending = self._with_cause(ending)
        if self._on_exit is not None:
            self._on_exit(ending)

    def _with_cause(self, ending: RuntimeExit) -> RuntimeExit:
        if self._cgroup is not None and not self._is_stopped:
            kills = self._cgroup.oom_kills()
            if kills > self._oom_kills:
                self._oom_kills = kills
                return replace(ending, is_out_of_memory=True)
        return ending
