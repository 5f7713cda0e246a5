"""One machine, run by Firecracker.

What it is: a ``Vmm`` made of a process (``firecracker_process``), its API, the console and a stream
to the guest's pid 1. What it is not: a choice; ``choice`` says whether Firecracker is there.
The guest's pid 1 listens on a vsock port (``guest/vm_port``); the host connects when it has
started or resumed the machine. A snapshot's stream is not that of its clones: each connects anew.
It has been tested against a program that takes Firecracker's API by its description
(``tests/fake_firecracker.py``). **It has not met a real Firecracker** (``docs/firecracker.md``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path

from firelet.sandbox.microvm import firecracker_api as api
from firelet.sandbox.microvm import firecracker_requests as requests
from firelet.sandbox.microvm import vm_snapshot, vsock_stream
from firelet.sandbox.microvm.console import Console
from firelet.sandbox.microvm.firecracker_client import FirecrackerClient
from firelet.sandbox.microvm.firecracker_identity import identify, program_version
from firelet.sandbox.microvm.firecracker_metrics import FirecrackerMetrics, parse_last
from firelet.sandbox.microvm.firecracker_process import FirecrackerProcess
from firelet.sandbox.microvm.jailer import PROGRAM as JAILER
from firelet.sandbox.microvm.jailer import JailPolicy
from firelet.sandbox.microvm.page_server import PageServer
from firelet.sandbox.microvm.vmm import (
    HeldSnapshot,
    VmEvent,
    VmmEnded,
    VmmError,
    VmmRefused,
    VmmSilent,
    VmSnapshot,
    VmSpec,
    VmState,
    WrongState,
    advance,
)

READY_TIMEOUT_S = 30.0
METRICS_TIMEOUT_S = 2.0
PAGES = "pages"
_POLL_S = 0.005


class FirecrackerVmm:
    """A ``Vmm``. Constructing it does nothing; ValueError for a user of ``spec`` that is not that
    of ``policy``. ``boot`` returns when the guest's pid 1 has taken the stream, and so does
    ``resume`` of a restored machine.

    With a ``policy`` it runs in a jail, which needs root. ``slots`` are the numbers of the disks
    that the guest of a snapshot had not mounted, and that may be others in a restored machine.
    A restored machine maps the memory's file, or with ``has_page_server`` has its pages from a
    thread of this process. ``ready_timeout_s``: how long pid 1 may take.
    """

    def __init__(
        self,
        spec: VmSpec,
        *,
        program: Path,
        policy: JailPolicy | None = None,
        jailer: str = JAILER,
        slots: Collection[int] = (),
        has_page_server: bool = False,
        ready_timeout_s: float = READY_TIMEOUT_S,
    ) -> None:
        if spec.user is not None and (policy is None or policy.uid != spec.user):
            raise ValueError(f"only a jail runs a machine as user {spec.user}")
        self._spec = spec
        self._program = program
        self._policy = policy
        self._slots = slots
        self._has_page_server = has_page_server
        self._pages: PageServer | None = None
        self._ready_timeout_s = ready_timeout_s
        self._state = VmState.NEW
        self._vmm = FirecrackerProcess(
            spec.directory,
            program=program,
            policy=policy,
            jailer_program=jailer,
            cgroup_files=spec.cgroup_files,
        )
        self._channel: socket.socket | None = None
        self._is_connected = False

    @property
    def state(self) -> VmState:
        """That of a machine that has ended by itself is STOPPED, whether or not it was asked."""
        return VmState.STOPPED if self._vmm.has_ended else self._state

    @property
    def pid(self) -> int:
        """Of the process that started it, which ends with it. WrongState before that."""
        return self._vmm.process.pid

    @property
    def pidfd(self) -> int:
        process = self._vmm.process
        if process.pidfd < 0:
            raise WrongState("The machine has been stopped.")
        return process.pidfd

    @property
    def console(self) -> Console:
        return self._vmm.console

    @property
    def client(self) -> FirecrackerClient:
        """For what is Firecracker's own: balloon, metadata. WrongState before it was started."""
        return self._vmm.client

    def take_channel(self) -> socket.socket:
        """WrongState also for a restored machine that has not been resumed."""
        if self._channel is None:
            raise WrongState("The machine has no channel to give: not running, or given already.")
        channel, self._channel = self._channel, None
        return channel

    async def boot(self) -> None:
        state = advance(self._state, VmEvent.BOOT)
        files = {requests.KERNEL: self._spec.kernel, requests.INITRD: self._spec.initrd}
        async with self._ended_on_failure():
            await self._launch(files)
            for request in requests.before_start(self._spec):
                await self.client.send(request)
            await self.client.send(api.Action(action_type="InstanceStart"))
            await self._connect()
        self._state = state

    async def restore(self, snapshot: VmSnapshot) -> None:
        state = advance(self._state, VmEvent.RESTORE)
        async with self._ended_on_failure():
            memory = snapshot.memory
            if self._has_page_server:
                memory = self._spec.directory / PAGES
                self._pages = PageServer(snapshot.memory, memory)
                policy = self._policy
                self._pages.start(None if policy is None else (policy.uid, policy.gid))
            await self._launch({requests.STATE: snapshot.state, requests.MEMORY: memory})
            await self.client.send(requests.load(self._spec, is_served=self._has_page_server))
            for request in requests.after_load(self._spec, self._slots):
                await self.client.send(request)
        self._state = state

    async def pause(self) -> None:
        state = self._advance(VmEvent.PAUSE)
        await self.client.send(api.VmStateChange(state="Paused"))
        self._state = state

    async def resume(self) -> None:
        state = self._advance(VmEvent.RESUME)
        await self.client.send(api.VmStateChange(state="Resumed"))
        if not self._is_connected:
            async with self._ended_on_failure():
                await self._connect()
        self._state = state

    async def snapshot(self, directory: Path) -> VmSnapshot:
        """A refusal leaves the machine as it was, paused. Nothing of the snapshot is held."""
        self._advance(VmEvent.SNAPSHOT)
        version = await self.client.version()
        state = self._vmm.root / requests.NEW_STATE
        memory = self._vmm.root / requests.NEW_MEMORY
        try:
            await self.client.send(
                api.SnapshotCreate(
                    snapshot_path=requests.NEW_STATE, mem_file_path=requests.NEW_MEMORY
                )
            )
        except VmmError:
            for file in (state, memory):
                file.unlink(missing_ok=True)
            raise
        try:
            await self._vmm.kill()
            saving = asyncio.ensure_future(
                asyncio.to_thread(self._save, state, memory, directory, version)
            )
            try:
                return await asyncio.shield(saving)
            finally:
                await asyncio.wait([saving])  # it reads what is removed next
        finally:
            await self.stop()

    def _save(self, state: Path, memory: Path, directory: Path, version: str) -> VmSnapshot:
        """Copies what Firecracker has written, without what is zero, and describes it."""
        identity = identify(self._spec, version)
        with state.open("rb") as from_state, memory.open("rb") as from_memory:
            written = HeldSnapshot(from_state.fileno(), from_memory.fileno())
            saved = vm_snapshot.save_snapshot(directory, identity, written)
        if self._policy is not None:
            # Clones are other users, which share a group.
            for file in (saved.state, saved.memory):
                os.chown(file, -1, self._policy.gid)
                file.chmod(0o440)
        return VmSnapshot(saved.state, saved.memory)

    async def load(self, directory: Path) -> VmSnapshot:
        return await asyncio.to_thread(self._load, directory)

    def _load(self, directory: Path) -> VmSnapshot:
        """Nothing of it is held: Firecracker opens the files itself, and only to read."""
        expected = identify(self._spec, program_version(self._program))
        return vm_snapshot.load_snapshot(directory, expected, is_held=False)

    async def wait(self) -> int:
        return await self._vmm.process.wait()

    async def stop(self) -> None:
        self._state = VmState.STOPPED
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        await self._vmm.close()
        if self._pages is not None:
            await asyncio.to_thread(self._pages.close)

    async def read_metrics(self) -> FirecrackerMetrics:
        """What it has counted since it was last asked, or since it wrote by itself. VmmSilent;
        VmmRefused for a line that is not what it should be."""
        await self.client.send(api.Action(action_type="FlushMetrics"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(METRICS_TIMEOUT_S):
                while True:
                    try:
                        found = parse_last(self._vmm.output(requests.METRICS))
                    except ValueError as error:
                        raise VmmRefused("Protocol", str(error)) from error
                    if found is not None:
                        return found
                    await asyncio.sleep(_POLL_S)
        raise VmmSilent("Firecracker has written no metrics.")

    def _advance(self, event: VmEvent) -> VmState:
        """VmmEnded for one that has ended by itself."""
        if self.state is VmState.STOPPED and self._state is not VmState.STOPPED:
            raise VmmEnded("The machine has ended.", self._vmm.tail())
        return advance(self._state, event)

    async def _launch(self, files: Mapping[str, Path]) -> None:
        drives = {requests.drive_id(i): drive.path for i, drive in enumerate(self._spec.drives)}
        await self._vmm.start({**files, **drives})
        await self.client.send(api.Logger(log_path=requests.LOG, level="Warning"))
        await self.client.send(api.Metrics(metrics_path=requests.METRICS))

    async def _connect(self) -> None:
        """Until the guest's pid 1 listens there is nobody: it is asked again and again."""
        path = self._vmm.path_of(requests.VSOCK)
        try:
            async with asyncio.timeout(self._ready_timeout_s):
                while self._channel is None:
                    try:
                        self._channel = await vsock_stream.connect(path, requests.GUEST_PORT)
                    except OSError as error:
                        if self._vmm.has_ended:
                            raise VmmEnded(
                                "The machine ended before its guest was ready."
                            ) from error
                        await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise VmmSilent(
                f"The guest was not ready within {self._ready_timeout_s:g} s."
            ) from None
        self._is_connected = True

    @contextlib.asynccontextmanager
    async def _ended_on_failure(self) -> AsyncIterator[None]:
        """Ends the machine when something fails, and says what was on its console."""
        try:
            yield
        except BaseException as error:
            await self._vmm.kill()
            tail = self._vmm.tail()
            await self.stop()
            if isinstance(error, VmmEnded) and not error.console:
                raise VmmEnded(error.message, tail) from error
            if isinstance(error, VmmSilent):
                raise VmmSilent(f"{error.message} {tail}".rstrip()) from error
            raise
