"""A worker process: a sandbox driver and slots, on behalf of the control process that started it.

It does what it is asked over the socket that it inherits and decides nothing by itself. It ends
when it is told to, and when the control process is gone. Run as ``python -m firelet.app.worker``
with the socket's number, and its settings on standard input.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from firelet.app.driver import DriverParts, open_drivers
from firelet.app.microvm import open_disks
from firelet.app.worker_logs import LogForwarder
from firelet.app.worker_streams import ForwardingSink
from firelet.linux.kvm import KvmVerdict
from firelet.model import limits
from firelet.model.errors import PlatformError, SandboxEnded, Unavailable
from firelet.model.function import FunctionKey, FunctionVersion
from firelet.model.invocation import Invocation
from firelet.model.isolation import Isolation
from firelet.observe.log_records import StreamKey
from firelet.runtime.credentials import SessionCredentials
from firelet.sandbox.drivers import Drivers
from firelet.sandbox.embryos import Bounds
from firelet.sandbox.interpreters import Interpreter
from firelet.sandbox.microvm.config import MicrovmConfig
from firelet.sandbox.microvm.offer import MicrovmProbe
from firelet.store.blobs import BlobStore
from firelet.wire.rpc import Message, Peer
from firelet.wire.worker_messages import (
    Abandon,
    Activate,
    Alive,
    Changed,
    Close,
    Done,
    End,
    Expect,
    Finished,
    Freed,
    Freeze,
    Granted,
    Invoke,
    Invoked,
    Open,
    PauseResponse,
    ResumeResponse,
    Retire,
    Start,
    worker_codec,
)
from firelet.worker.codecache import CodeCache
from firelet.worker.images.store import image_blobs
from firelet.worker.node import EventWriter, Node, NodeParts
from firelet.worker.slots import Slot

log = logging.getLogger(__name__)


class WorkerSettings(msgspec.Struct, frozen=True):
    """What the control process knows of the host and has been configured to. ``kvm`` None: it has
    not been tried, because nothing has asked for it yet."""

    data_dir: Path
    is_rootless: bool
    cgroup_version: int | None
    interpreters: dict[str, Interpreter]
    embryos: Bounds
    log_level: int
    microvms: MicrovmConfig
    kvm: KvmVerdict | None = None
    isolation: Isolation = Isolation.NAMESPACES
    file_systems: dict[str, Path] = {}

    def format(self) -> bytes:
        return msgspec.json.encode(self, enc_hook=str)

    @staticmethod
    def parse(text: bytes) -> WorkerSettings:
        return msgspec.json.decode(text, type=WorkerSettings, dec_hook=_parse_path)


class _Held:
    """One environment, and what the control process was told of it."""

    def __init__(self, number: int, slot: Slot) -> None:
        self.number = number
        self.slot = slot
        self.is_free = True
        self.owes_note = False
        self.told = (True, True, 0.0)
        self.sink: ForwardingSink | None = None

    def pause(self) -> None:
        """The client of what it streams is slow."""
        if self.sink is not None:
            self.sink.pause()

    def resume(self) -> None:
        if self.sink is not None:
            self.sink.resume()


class Worker:
    """Answers the control process. ``ended`` is called when that has asked for the end."""

    def __init__(self, peer: Peer, settings: WorkerSettings, ended: Callable[[], None]) -> None:
        self._peer = peer
        self._settings = settings
        self._ended = ended
        self._logs = LogForwarder(peer.tell, lambda: peer.is_congested)
        self._resources = AsyncExitStack()
        self._driver: Drivers | None = None
        self._node: Node | None = None
        self._granted: dict[FunctionKey, SessionCredentials] = {}
        self._held: dict[int, _Held] = {}
        self._begun: set[asyncio.Task[None]] = set()

    async def answer(self, message: Message, payload: bytes) -> tuple[Message, bytes]:
        """See ``wire.worker_messages``."""
        match message:
            case Invoke():
                return await self._invoke(message, payload)
            case Start():
                await self._start(message)
            case Activate(version, granted):
                await self._ready_node(version, granted).activate(version)
            case Close(number):
                await self._close_one(number)
            case Open():
                await self._open()
            case End():
                await self.close()
                self._ended()
            case _:
                raise PlatformError(f"A worker process is not asked for {type(message).__name__}.")
        return Done(), b""

    def note(self, message: Message) -> None:
        match message:
            case Freeze(number):
                if number in self._held:
                    held = self._held[number]
                    held.slot.freeze()
                    self._tell_state(held)
            case PauseResponse(number):
                if number in self._held:
                    self._held[number].pause()
            case ResumeResponse(number):
                if number in self._held:
                    self._held[number].resume()
            case Abandon(number):
                self._begin(self._close_one(number))
            case Expect(runtime, isolation):
                if self._driver is not None:
                    self._begin(self._prepare(self._driver, runtime, isolation))
            case Retire(account, region, name, version):
                if self._node is not None:
                    self._node.retire((account, region, name), version)

    async def close(self) -> None:
        """Ends every environment and the driver. May be called again."""
        await asyncio.gather(*(self._close_one(number) for number in list(self._held)))
        await asyncio.gather(*self._begun)
        await self._resources.aclose()
        self._logs.send_all()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """What a note has asked for, and nobody waits for."""
        task = asyncio.create_task(work)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)

    async def _prepare(self, driver: Drivers, runtime: str, isolation: Isolation | None) -> None:
        try:
            await driver.prepare(runtime, isolation)
        except PlatformError as error:
            # Whoever starts something there meets it again.
            log.warning("not made ready runtime=%s: %s", runtime, error.message)

    async def _open(self) -> None:
        settings = self._settings
        code_store = settings.data_dir / "code"
        # Not opened: its directory is the control process's, and others are at work in it.
        code = CodeCache(
            code_store,
            BlobStore(settings.data_dir / "blobs"),
            BlobStore(image_blobs(settings.data_dir)),
        )
        self._resources.push_async_callback(code.close)
        self._driver = await open_drivers(
            DriverParts(
                code_store=code_store,
                disks=open_disks(settings.data_dir),
                is_rootless=settings.is_rootless,
                cgroup_version=settings.cgroup_version,
                interpreters=settings.interpreters,
                embryos=settings.embryos,
                microvms=MicrovmProbe(settings.microvms, settings.kvm),
                isolation=settings.isolation,
                file_systems=settings.file_systems,
            )
        )
        self._resources.push_async_callback(self._driver.close)
        self._node = Node(
            NodeParts(
                driver=self._driver,
                code=code,
                runtimes=settings.interpreters.keys(),
                open_log=self._open_log,
                credentials=lambda version: self._granted[version.function_key],
                revoke=lambda _access_key: None,  # the control process does
            )
        )
        self._resources.push_async_callback(self._node.close)
        gc.collect()
        gc.freeze()

    def _open_log(self, version: FunctionVersion, stream: str) -> EventWriter:
        key = StreamKey(version.account, version.region, version.logging.log_group, stream)
        return self._logs.open_stream(key)

    def _ready_node(self, version: FunctionVersion, granted: Granted) -> Node:
        """The node, which takes the credentials in the same turn of the loop."""
        if self._node is None:
            raise Unavailable("The worker process is not ready.")
        self._granted[version.function_key] = SessionCredentials(
            granted.access_key, granted.secret_key, granted.session_token, granted.expires_at
        )
        return self._node

    async def _start(self, request: Start) -> None:
        node = self._ready_node(request.version, request.granted)
        try:
            slot = await node.start(request.version, request.initialization)
        finally:
            self._logs.send()
        held = self._held[request.environment] = _Held(request.environment, slot)
        slot.on_exit = lambda: self._tell_state(held)
        self._tell_state(held)

    async def _invoke(self, request: Invoke, payload: bytes) -> tuple[Message, bytes]:
        held = self._held.get(request.environment)
        if held is None:
            raise SandboxEnded
        held.sink = ForwardingSink(held.number, self._peer) if request.is_streamed else None
        invocation = Invocation(
            request_id=request.request_id,
            function=held.slot.version,
            invoked_arn=request.invoked_arn,
            payload=payload,
            client_context=request.client_context,
            trace_id=request.trace_id,
            wants_tail=request.wants_tail,
            tenant_id=request.tenant_id,
            sink=held.sink,
            on_settled=lambda settled: self._peer.tell(
                Finished(held.number, settled.duration_ms, settled.extensions_ms)
            ),
        )
        held.is_free = held.owes_note = False
        try:
            outcome = await held.slot.invoke(invocation)
        except BaseException:
            held.owes_note = True
            raise
        finally:
            held.slot.when_free(lambda _: self._on_free(held))
            self._logs.send()
        held.owes_note = not held.is_free
        answer = Invoked(
            outcome.executed_version,
            outcome.function_error,
            outcome.error_type,
            outcome.log_tail,
            held.is_free,
            outcome.duration_ms,
            outcome.is_streamed,
            outcome.is_settling,
        )
        return answer, outcome.payload

    async def _close_one(self, number: int) -> None:
        held = self._held.pop(number, None)
        if held is not None:
            await held.slot.close()
            self._logs.send()

    def _on_free(self, held: _Held) -> None:
        held.is_free = True
        self._tell_state(held)
        if held.owes_note:
            self._peer.tell(Freed(held.number))

    def _tell_state(self, held: _Held) -> None:
        now = (held.slot.is_usable, held.slot.is_initialised, held.slot.idle_mib)
        if now != held.told:
            held.told = now
            self._peer.tell(Changed(held.number, *now))


async def run_worker(sock: socket.socket, settings: WorkerSettings) -> None:
    """Serves until the control process asks for the end, or has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # A service manager signals all processes of a unit: the control process says when to end,
        # after what is running has had its time.
        loop.add_signal_handler(number, log.info, "worker waits for the control process to end it")
    peer = Peer(sock, worker_codec())
    worker = Worker(peer, settings, ended.set)
    peer.open(worker, ended.set)
    reporting = asyncio.create_task(_report(peer))
    await ended.wait()
    await peer.flush()
    reporting.cancel()
    peer.close()
    await worker.close()


async def _report(peer: Peer) -> None:
    while True:
        peer.tell(Alive())
        await asyncio.sleep(limits.WORKER_REPORT_S)


def _parse_path(_kind: type, text: Any) -> Path:
    return Path(text)


def main() -> None:
    """The process."""
    settings = WorkerSettings.parse(sys.stdin.buffer.read())
    logging.basicConfig(
        stream=sys.stderr,
        level=settings.log_level,
        format="%(asctime)s %(levelname)s worker %(process)d %(name)s %(message)s",
    )
    with (
        socket.socket(fileno=int(sys.argv[1])) as sock,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(run_worker(sock, settings))


if __name__ == "__main__":
    main()
