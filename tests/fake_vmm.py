"""Machines without a machine: a ``Vmm`` whose process does nothing, and whose guest is a thread.

The guest speaks over the real ``guest/vm_link``; what ``vm_init``, ``vm_sandbox`` and pid 1 would
do there is played by a script. At rest a guest is the state that it was in, as text: a restored one
begins with it. Used with the contract of sandboxes, and by the tests of the microVM driver.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from firelet.guest.vm_link import Link, Loop, Relay
from firelet.guest.vm_port import SerialPort
from firelet.linux import process
from firelet.model import limits
from firelet.sandbox.microvm.console import Console
from firelet.sandbox.microvm.vm_snapshot import SnapshotDamaged, SnapshotForeign
from firelet.sandbox.microvm.vmm import (
    HeldSnapshot,
    VmEvent,
    VmmEnded,
    VmSnapshot,
    VmSpec,
    VmState,
    WrongState,
    advance,
)

HELLO = {"event": "hello", "kernel": "6.1", "python": "3.11.7", "uptime_s": 1.5}
PEAK_BYTES = 40 * 2**20


class Process:
    """What a program of the guest can do. Ends with the wait status that the program returns, or
    goes on until it is killed if that is None."""

    def __init__(self, environment: dict[str, str], output: int, log: int) -> None:
        self.environment = environment
        self._output = output
        self._log = log

    def print(self, data: bytes) -> None:
        os.write(self._output, data)

    def log(self, data: bytes) -> None:
        os.write(self._log, data)


Program = Callable[[Process], int | None]


@dataclass
class FakeHost:
    """Makes machines. ``program`` is their runtime, ``extensions`` are by name.

    ``withheld`` are events that guests do not tell; ``hanging`` and ``failing`` are steps of
    machines (``boot``, ``restore``, ``pause``, ``resume``, ``snapshot``, ``load``) that never end,
    or raise. ``steps`` counts those that were begun, ``heard`` what guests were told to do.
    """

    program: Program = lambda _process: None
    extensions: dict[str, Program] = field(default_factory=dict)
    withheld: set[str] = field(default_factory=set)
    hanging: set[str] = field(default_factory=set)
    failing: dict[str, Exception] = field(default_factory=dict)
    steps: Counter[str] = field(default_factory=Counter)
    heard: Counter[str] = field(default_factory=Counter)
    machines: list[FakeVmm] = field(default_factory=list)
    _hung: list[asyncio.Future[None]] = field(default_factory=list)

    def make(self, spec: VmSpec) -> FakeVmm:
        machine = FakeVmm(spec, self)
        self.machines.append(machine)
        return machine

    async def step(self, name: str) -> None:
        self.steps[name] += 1
        if name in self.failing:
            raise self.failing[name]
        if name in self.hanging:
            self._hung.append(asyncio.get_running_loop().create_future())
            await self._hung[-1]

    def release(self) -> None:
        """Lets what hangs go on."""
        self.hanging.clear()
        for future in self._hung:
            if not future.done():
                future.set_result(None)


class FakeVmm:
    """Implements ``Vmm``."""

    def __init__(self, spec: VmSpec, host: FakeHost) -> None:
        self.spec = spec
        self.state = VmState.NEW
        self.console = Console()
        self.guest: Guest | None = None
        self._host = host
        self._child: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._channel: socket.socket | None = None
        self._ended: asyncio.Future[int] | None = None
        self._is_at_work = False

    @property
    def pidfd(self) -> int:
        if self._pidfd < 0:
            raise WrongState("The machine is not there.")
        return self._pidfd

    def take_channel(self) -> socket.socket:
        if self._channel is None:
            raise WrongState("The machine has no channel to give.")
        channel, self._channel = self._channel, None
        return channel

    async def boot(self) -> None:
        await self._start(VmEvent.BOOT, "boot", None)

    async def restore(self, snapshot: VmSnapshot) -> None:
        assert snapshot.held is not None
        os.fstat(snapshot.held.state)
        state = json.loads(snapshot.state.read_text())["guest"]
        await self._start(VmEvent.RESTORE, "restore", state)

    async def pause(self) -> None:
        state = advance(self.state, VmEvent.PAUSE)
        await self._step("pause")
        self.state = state

    async def resume(self) -> None:
        state = advance(self.state, VmEvent.RESUME)
        await self._step("resume")
        self.state = state

    async def snapshot(self, directory: Path) -> VmSnapshot:
        advance(self.state, VmEvent.SNAPSHOT)
        assert self.guest is not None
        state = {"guest": self.guest.at_rest(), "image": self.spec.image}
        (directory / "state").write_text(json.dumps(state))
        await self._step("snapshot")
        (directory / "memory").touch()
        await self.stop()
        return _hold(directory)

    async def load(self, directory: Path) -> VmSnapshot:
        await self._host.step("load")
        try:
            state = json.loads((directory / "state").read_text())
        except (OSError, ValueError) as error:
            raise SnapshotDamaged(str(error)) from None
        if state["image"] != self.spec.image:
            raise SnapshotForeign(directory, ["image"])
        return _hold(directory)

    async def wait(self) -> int:
        assert self._ended is not None
        return await asyncio.shield(self._ended)

    async def stop(self) -> None:
        assert not self._is_at_work
        self.state = VmState.STOPPED
        if self._ended is not None:
            with contextlib.suppress(ProcessLookupError):
                process.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            await self.wait()
            self._ended = None
            os.close(self._pidfd)
            self._pidfd = -1
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def _start(self, event: VmEvent, step: str, at_rest: dict[str, Any] | None) -> None:
        state = advance(self.state, event)
        loop = asyncio.get_running_loop()
        self._channel, port = socket.socketpair()
        self._channel.setblocking(False)
        self.guest = Guest(port, self._host, at_rest)
        self._child = subprocess.Popen(["/bin/sleep", "1000"], stdin=subprocess.DEVNULL)
        self._pidfd = process.pidfd_open(self._child.pid)
        self._ended = loop.create_future()
        loop.add_reader(self._pidfd, self._on_end)
        self.console.write(b"the last words of the console")
        try:
            await self._step(step)
        except BaseException:
            await self.stop()
            raise
        self.state = state
        self.guest.start()

    async def _step(self, name: str) -> None:
        """Ends with the machine. Nobody may stop it meanwhile: its descriptors are in use."""
        assert self._ended is not None
        step = asyncio.ensure_future(self._host.step(name))
        self._is_at_work = True
        try:
            await asyncio.wait([step, self._ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._is_at_work = False
            step.cancel()
        if self._ended.done():
            raise VmmEnded("The machine has ended meanwhile.")
        step.result()

    def _on_end(self) -> None:
        assert self._child is not None
        assert self._ended is not None
        assert self.guest is not None
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self.state = VmState.STOPPED
        self.guest.end()
        self._ended.set_result(self._child.wait())


def _hold(directory: Path) -> VmSnapshot:
    state, memory = directory / "state", directory / "memory"
    fds = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in (state, memory)]
    return VmSnapshot(state, memory, HeldSnapshot(*fds))


class _Port:
    """As far as ``Link`` needs one."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def renew(self) -> None:
        raise EOFError


class Guest(threading.Thread):
    """Owns ``port``. ``at_rest`` is the state of one that is restored."""

    def __init__(self, port: socket.socket, host: FakeHost, at_rest: dict[str, Any] | None) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._host = host
        self._at_rest = at_rest
        self._has_entered = False
        self._has_runtime = False
        self._extensions: dict[str, int] = {}
        self._pipes: list[Relay] = []
        self._write_ends: list[int] = []
        self._relays: list[Relay] = []

    def run(self) -> None:
        loop = Loop()
        self._link = Link(
            loop, cast(SerialPort, _Port(self._port.fileno())), self._obey, self._open
        )
        # The machine was ended; or pid 1 ends because the platform answers what others have said.
        with contextlib.suppress(ConnectionError, ValueError):
            if self._at_rest is None:
                self._tell(**HELLO)
            while not self._link.is_over:
                loop.turn()
        for relay in self._relays:
            with contextlib.suppress(OSError):
                relay.close()
        for fd in (*self._write_ends, *self._extensions.values()):
            os.close(fd)
        loop._poll.close()
        self._port.close()

    def end(self) -> None:
        """Returns when nothing is left of it."""
        if self.ident is None:
            self._port.close()
        else:
            with contextlib.suppress(OSError):
                self._port.shutdown(socket.SHUT_RDWR)
            self.join()

    def at_rest(self) -> dict[str, Any]:
        return {"has_entered": self._has_entered, "has_runtime": self._has_runtime}

    async def say_raw(self, data: bytes) -> None:
        """Whatever it is. OSError when the platform does not want to hear the end of it."""
        await asyncio.to_thread(self._port.sendall, data)

    async def say_event(self, **content: Any) -> None:
        """What it has withheld."""
        self._link.mux.message(content)
        data, self._link.mux.outgoing = bytes(self._link.mux.outgoing), bytearray()
        await self.say_raw(data)

    def _tell(self, **content: Any) -> None:
        if content["event"] not in self._host.withheld:
            for pipe in self._pipes:
                pipe.drain()
            self._link.tell(**content)

    def _obey(self, message: dict[str, Any]) -> None:
        kind = message["do"]
        self._host.heard[kind] += 1
        if kind == "enter":
            self._has_entered = True
            self._make_pipes()
            self._tell(event="embryo")
        elif kind == "rest":
            self._tell(event="resting")
        elif kind == "awaken":
            assert self._at_rest is not None
            self._has_entered = self._at_rest["has_entered"]
            self._has_runtime = self._at_rest["has_runtime"]
            self._tell(event="awake")
            self._make_pipes()
        elif kind == "assign":
            assert self._has_entered
            self._tell(event="memory", peak_bytes=PEAK_BYTES)
            self._tell(event="assigned")
        elif kind == "tell":
            self._obey_pid1(message["message"])
        elif kind == "extension":
            self._start_extension(message["message"])

    def _obey_pid1(self, message: dict[str, Any]) -> None:
        operation = message["op"]
        self._host.heard[operation] += 1
        if operation in ("start", "continue"):
            output, log = self._write_ends
            self._has_runtime = True
            self._end_runtime(self._host.program(Process(message["environment"], output, log)))
        elif operation == "signal runtime" and self._has_runtime:
            self._end_runtime(message["number"])
        elif operation == "kill":
            self._has_runtime = False
            while self._extensions:
                os.close(self._extensions.popitem()[1])
            self._tell(event="killed")

    def _end_runtime(self, status: int | None) -> None:
        if status is not None:
            self._has_runtime = False
            self._tell(event="exited", status=status, launch=None, out_of_memory=False)

    def _start_extension(self, message: dict[str, Any]) -> None:
        name = message["name"]
        output, theirs = os.pipe()
        relay = self._relay(Relay(output, {"for": "extension", "name": name}))
        program = self._host.extensions.get(name)
        if program is None:
            os.close(theirs)
            self._tell(event="extension failed", name=name, errno=errno.ENOENT)
            return
        status = program(Process(message["environment"], theirs, theirs))
        if status is None:
            self._extensions[name] = theirs
            return
        os.close(theirs)
        relay.drain()
        self._tell(event="extension exited", name=name, status=status, out_of_memory=False)

    def _open(self, stream: int, purpose: dict[str, Any]) -> None:
        if purpose["port"] != limits.RUNTIME_API_PORT:
            self._tell(event="not connected", stream=stream, errno=errno.ECONNREFUSED)
            self._link.mux.reset(stream)
            return
        caller, called = socket.socketpair()
        self._tell(event="connected", stream=stream)
        self._relay(Relay(caller.detach(), {"for": "connect"}), stream)
        self._relay(Relay(called.detach(), {"for": "api"}))

    def _make_pipes(self) -> None:
        for kind in ("output", "log"):
            ours, theirs = os.pipe()
            self._write_ends.append(theirs)
            self._pipes.append(self._relay(Relay(ours, {"for": kind}, is_kept=True)))

    def _relay(self, relay: Relay, stream: int | None = None) -> Relay:
        self._relays.append(relay)
        self._link.relay(relay, stream)
        return relay
