"""A sandbox without isolation: its runtime is a coroutine of the test, its Runtime API a real
listener on the loopback, its pipes are real pipes. Passes ``sandbox_contract``."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NoReturn

from firelet.model.errors import PlatformError, SandboxEnded
from firelet.model.isolation import Isolation
from firelet.sandbox.driver import (
    ExtensionStart,
    ExtensionWatcher,
    RuntimeExit,
    RuntimeStart,
    SandboxSpec,
)

_BASE = "/2018-06-01/runtime"


class Exited(Exception):
    """The runtime process ends like this."""

    def __init__(
        self, code: int | None = None, signal: int | None = None, *, is_out_of_memory: bool = False
    ) -> None:
        super().__init__()
        self.ending = RuntimeExit(code, signal, is_out_of_memory)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the Runtime API."""

    status: int
    headers: dict[str, str]
    body: bytes


class Runtime:
    """What a runtime process can do: speak to the Runtime API and write to its descriptors."""

    def __init__(
        self, sandbox: FakeSandbox, start: RuntimeStart | ExtensionStart, output: int | None = None
    ) -> None:
        self.start = start
        self._sandbox = sandbox
        self._output = output
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        """One request on the kept connection."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._sandbox.address)
        reader, writer = self._streams
        lines = [f"{method} {path} HTTP/1.1", "host: runtime", f"content-length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        status, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        named = {}
        for line in rest:
            name, _, value = line.partition(":")
            named[name.lower()] = value.strip()
        data = await reader.readexactly(int(named.get("content-length", "0")))
        return Reply(int(status.split()[1]), named, data)

    async def next(self) -> Reply:
        return await self.request("GET", f"{_BASE}/invocation/next")

    async def respond(self, event: Reply, body: bytes = b"null") -> Reply:
        return await self.request("POST", f"{_BASE}/invocation/{_id(event)}/response", body)

    async def fail(self, event: Reply, body: bytes) -> Reply:
        return await self.request("POST", f"{_BASE}/invocation/{_id(event)}/error", body)

    async def restore_next(self) -> Reply:
        return await self.request("GET", f"{_BASE}/restore/next")

    async def fail_restore(self, body: bytes) -> Reply:
        return await self.request("POST", f"{_BASE}/restore/error", body)

    async def fail_init(self, body: bytes) -> Reply:
        return await self.request("POST", f"{_BASE}/init/error", body)

    def print(self, text: str) -> None:
        """Writes to the standard streams."""
        fd = self._sandbox.output if self._output is None else self._output
        os.write(fd, text.encode())

    def log(self, text: str) -> None:
        """Writes a framed record."""
        self.log_bytes(frame(text))

    def log_bytes(self, data: bytes) -> None:
        os.write(self._sandbox.log, data)

    async def hang(self) -> NoReturn:
        """Never comes back."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


Program = Callable[[Runtime], Awaitable[None]]


def frame(text: str) -> bytes:
    """A record as a runtime client writes it to the log pipe."""
    data = text.encode()
    return struct.pack(">IIQ", 0xA55A0003, len(data), int(time.time() * 1e6)) + data


def _id(event: Reply) -> str:
    return event.headers["lambda-runtime-aws-request-id"]


@dataclass(eq=False)
class FakeSandbox:
    """Implements ``Sandbox``. ``program`` is what a start runs, ``extensions`` what those of
    extensions do, by name; ``calls`` tells what was asked."""

    program: Program
    extensions: dict[str, Program] = field(default_factory=dict)
    id: str = "0" * 32
    calls: list[str] = field(default_factory=list)
    peak_bytes: int = 40 * 2**20
    held_bytes: int = 8 * 2**20
    refuses_to_reset: bool = False
    ignores_sigterm: bool = False
    rests_at_next: bool = False
    is_dead: bool = False
    is_stopped: bool = False

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.output_fd, self.output = os.pipe()
        self.log_fd, self.log = os.pipe()
        for fd in (self.output_fd, self.log_fd):
            os.set_blocking(fd, False)
        self._on_exit: Callable[[RuntimeExit], None] | None = None
        self._process: asyncio.Task[None] | None = None
        self._extensions: set[asyncio.Task[None]] = set()

    @property
    def has_process(self) -> bool:
        return self._process is not None and not self._process.done()

    def watch(self, on_exit: Callable[[RuntimeExit], None]) -> None:
        self._on_exit = on_exit

    def start_runtime(self, start: RuntimeStart) -> None:
        self._check()
        assert not self.has_process, "a second runtime was started beside the first"
        self.calls.append("start")
        self._process = asyncio.create_task(self._run(start))

    def start_extension(self, start: ExtensionStart, watcher: ExtensionWatcher) -> int:
        self._check()
        self.calls.append(f"extension {start.name}")
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        task = asyncio.create_task(self._run_extension(start, watcher, theirs))
        self._extensions.add(task)
        task.add_done_callback(self._extensions.discard)
        return ours

    def signal_runtime(self, number: int) -> None:
        self._check()
        self.calls.append(f"signal {number}")
        if number == signal.SIGTERM and self.ignores_sigterm:
            return
        if self._process is not None and self.has_process:
            self._process.cancel()
            if self._on_exit is not None:
                asyncio.get_running_loop().call_soon(self._on_exit, RuntimeExit(None, number))

    async def connect(self, port: int) -> socket.socket:
        """Its loopback is the host's."""
        self._check()
        sock = socket.socket()
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        return sock

    async def kill_processes(self) -> None:
        self._check()
        self.calls.append("kill")
        if self.refuses_to_reset:
            raise PlatformError("A sandbox did not reach 'killed' in time.")
        await self._end_process()

    def set_vcpus(self, vcpus: float | None) -> None:
        if not self.is_dead:
            self.calls.append(f"vcpus {vcpus if vcpus is None else round(vcpus, 3)}")

    def freeze(self) -> None:
        if not self.is_dead:
            self.calls.append("freeze")

    def thaw(self) -> None:
        if not self.is_dead:
            self.calls.append("thaw")

    def memory_peak_bytes(self) -> int:
        return 0 if self.is_stopped else self.peak_bytes

    def memory_bytes(self) -> int:
        return 0 if self.is_stopped else self.held_bytes

    def kill(self) -> None:
        self.is_dead = True
        if self._process is not None:
            self._process.cancel()

    async def stop(self) -> None:
        if self.is_stopped:
            return
        self.is_stopped = self.is_dead = True
        self.calls.append("stop")
        await self._end_process()
        self.listener.close()
        for fd in (self.output_fd, self.output, self.log_fd, self.log):
            os.close(fd)
        self.output_fd = self.log_fd = -1

    def die(self) -> None:
        """The whole sandbox ends by itself, as when its pid 1 is killed."""
        self.is_dead = True
        if self._process is not None:
            self._process.cancel()
        if self._on_exit is not None:
            self._on_exit(RuntimeExit(None, None))

    async def _run(self, start: RuntimeStart) -> None:
        runtime = Runtime(self, start)
        ending = RuntimeExit(0, None)
        try:
            await self.program(runtime)
        except Exited as exited:
            ending = exited.ending
        except asyncio.CancelledError:
            await runtime.close()
            raise
        await runtime.close()
        if self._on_exit is not None and not self.is_dead:
            self._on_exit(ending)

    async def _run_extension(
        self, start: ExtensionStart, watcher: ExtensionWatcher, output: int
    ) -> None:
        program = self.extensions.get(start.name)
        runtime = Runtime(self, start, output)
        ending = RuntimeExit(0, None)
        try:
            if program is None:
                watcher.on_launch_failed(start.name, "no such file or directory")
                return
            await program(runtime)
        except Exited as exited:
            ending = exited.ending
        finally:
            await runtime.close()
            os.close(output)
        watcher.on_exited(start.name, ending)

    async def _end_process(self) -> None:
        extensions = list(self._extensions)
        for task in extensions:
            task.cancel()
        await asyncio.gather(*extensions, return_exceptions=True)
        process, self._process = self._process, None
        if process is not None:
            process.cancel()
            await asyncio.gather(process, return_exceptions=True)

    def _check(self) -> None:
        if self.is_dead:
            raise SandboxEnded


class FakeDriver:
    """Implements ``SandboxDriver`` and ``SandboxDrivers``: sandboxes that run ``program``."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.expected: list[str] = []
        self.prepared: list[tuple[str, Isolation | None]] = []
        self.specs: list[SandboxSpec] = []
        self.sandboxes: list[FakeSandbox] = []
        self.snapshots: list[FakeSandbox] = []
        self.sealed: list[FakeSandbox] = []
        self.rests_at_next = False
        self.seal_error: Exception | None = None
        self.missing: Exception | None = None
        self.is_closed = False
        self.cloned_from: list[FakeSandbox] = []

    async def open(self) -> None:
        return

    def expect(self, runtime: str) -> None:
        self.expected.append(runtime)

    async def prepare(self, runtime: str, isolation: Isolation | None) -> None:
        if self.missing is not None:
            raise self.missing
        self.prepared.append((runtime, isolation))

    async def create(self, spec: SandboxSpec) -> FakeSandbox:
        self.specs.append(spec)
        sandbox = FakeSandbox(self.program, id=f"{len(self.sandboxes):032x}")
        sandbox.rests_at_next = self.rests_at_next
        self.sandboxes.append(sandbox)
        return sandbox

    async def create_snapshot(self, spec: SandboxSpec) -> FakeSandbox:
        self.snapshots.append(await self.create(spec))
        return self.snapshots[-1]

    async def seal(self, snapshot: FakeSandbox) -> None:
        if self.seal_error is not None:
            raise self.seal_error
        self.sealed.append(snapshot)

    async def clone(self, snapshot: FakeSandbox, spec: SandboxSpec) -> FakeSandbox:
        snapshot._check()
        self.cloned_from.append(snapshot)
        return await self.create(spec)

    async def close(self) -> None:
        self.is_closed = True
        for sandbox in self.sandboxes:
            await sandbox.stop()
