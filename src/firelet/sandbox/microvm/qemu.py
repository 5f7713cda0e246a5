"""One machine, run by QEMU: with KVM where that is real, emulated elsewhere.

What it is: the process, its monitor, the console and the guest's channel, joined to a ``Vmm``. What
it is not: a choice; ``choice`` says which program and whether with KVM.
A snapshot is the memory file of the machine, which was mapped shared, and a file of its devices'
state; a restored machine maps that memory privately, so that clones share what they do not write.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from pathlib import Path

import msgspec

from firelet.sandbox.microvm.console import Console
from firelet.sandbox.microvm.qemu_command import (
    MEMORY_FILE,
    PROGRAM,
    QemuFds,
    build_command,
    parse_counter_khz,
)
from firelet.sandbox.microvm.qmp import Qmp
from firelet.sandbox.microvm.vmm import (
    VmEvent,
    VmmEnded,
    VmmMissing,
    VmmRefused,
    VmmSilent,
    VmSnapshot,
    VmSpec,
    VmState,
    WrongState,
    advance,
)
from firelet.sandbox.microvm.vmm_process import VmmProcess, start

MIGRATION_TIMEOUT_S = 60.0
_STATE_FILE = "state"
_POLL_S = 0.01
_CONSOLE_TAIL = 2_000


class _Migration(msgspec.Struct, frozen=True):
    """What ``query-migrate`` says; ``status`` is missing before the first."""

    status: str = "none"
    error_desc: str = msgspec.field(name="error-desc", default="no reason given")


class QemuVmm:
    """A ``Vmm``. Constructing it does nothing."""

    def __init__(self, spec: VmSpec, *, has_kvm: bool, program: str = PROGRAM) -> None:
        self._spec = spec
        self._has_kvm = has_kvm
        self._program = program
        self._state = VmState.NEW
        self._process: VmmProcess | None = None
        self._qmp: Qmp | None = None
        self._channel: socket.socket | None = None
        self._console = Console()
        self._memory: Path | None = None

    @property
    def state(self) -> VmState:
        """That of a machine that has ended by itself is STOPPED, whether or not it was asked."""
        if self._process is not None and self._process.has_ended:
            return VmState.STOPPED
        return self._state

    @property
    def pid(self) -> int:
        """QEMU's. WrongState before it was started."""
        return self._started().pid

    @property
    def pidfd(self) -> int:
        process = self._started()
        if process.pidfd < 0:
            raise WrongState("The machine has been stopped.")
        return process.pidfd

    @property
    def console(self) -> Console:
        return self._console

    def take_channel(self) -> socket.socket:
        if self._channel is None:
            raise WrongState("The machine has no channel to give: not started, or given already.")
        channel, self._channel = self._channel, None
        return channel

    async def boot(self) -> None:
        state = advance(self._state, VmEvent.BOOT)
        memory = self._spec.directory / MEMORY_FILE
        # QEMU would make it as well, readable to everyone.
        os.close(os.open(memory, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._memory = memory
        await self._launch(None)
        self._state = state

    async def restore(self, snapshot: VmSnapshot) -> None:
        state = advance(self._state, VmEvent.RESTORE)
        qmp = await self._launch(str(snapshot.memory))
        try:
            await self._share_memory(qmp)
            fd = os.open(snapshot.state, os.O_RDONLY | os.O_CLOEXEC)
            try:
                await qmp.execute("getfd", {"fdname": _STATE_FILE}, fds=[fd])
            finally:
                os.close(fd)
            await qmp.execute("migrate-incoming", {"uri": f"fd:{_STATE_FILE}"})
            await self._finish_migration(qmp)
        except BaseException:
            await self.stop()
            raise
        self._state = state

    async def pause(self) -> None:
        state = advance(self.state, VmEvent.PAUSE)
        await self._monitor().execute("stop")
        self._state = state

    async def resume(self) -> None:
        state = advance(self.state, VmEvent.RESUME)
        await self._monitor().execute("cont")
        self._state = state

    async def snapshot(self, directory: Path) -> VmSnapshot:
        advance(self.state, VmEvent.SNAPSHOT)
        if self._memory is None:
            raise WrongState(
                "A restored machine shares its memory and cannot be put to rest again."
            )
        qmp = self._monitor()
        target = VmSnapshot(directory / _STATE_FILE, directory / MEMORY_FILE)
        await self._share_memory(qmp)
        fd = os.open(target.state, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            await qmp.execute("getfd", {"fdname": _STATE_FILE}, fds=[fd])
        finally:
            os.close(fd)
        await qmp.execute("migrate", {"uri": f"fd:{_STATE_FILE}"})
        await self._finish_migration(qmp)
        os.rename(self._memory, target.memory)
        self._memory = None
        await self.stop()
        return target

    async def wait(self) -> int:
        return await self._started().wait()

    async def stop(self) -> None:
        self._state = VmState.STOPPED
        if self._process is not None:
            await self._process.kill()
            self._process.close()
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._qmp is not None:
            self._qmp.close()
        if self._memory is not None:
            self._memory.unlink(missing_ok=True)
            self._memory = None

    def _started(self) -> VmmProcess:
        if self._process is None:
            raise WrongState("The machine has not been started.")
        return self._process

    def _monitor(self) -> Qmp:
        if self._qmp is None:
            raise WrongState("The machine has not been started.")
        return self._qmp

    async def _launch(self, memory: str | None) -> Qmp:
        """Starts QEMU and opens its monitor; ends it again if that fails."""
        if shutil.which(self._program) is None:
            await self.stop()
            raise VmmMissing(f"{self._program} is not installed.")
        monitor, their_monitor = socket.socketpair()
        channel, their_channel = socket.socketpair()
        self._qmp = Qmp(monitor)
        channel.setblocking(False)
        self._channel = channel
        try:
            with their_monitor, their_channel:
                fds = QemuFds(their_monitor.fileno(), their_channel.fileno())
                await self._start(fds, memory)
            await self._qmp.open()
        except VmmEnded:
            await self.stop()
            tail = self._console.text()[-_CONSOLE_TAIL:]
            raise VmmEnded("QEMU ended at once.", tail) from None
        except BaseException:
            await self.stop()
            raise
        return self._qmp

    async def _start(self, fds: QemuFds, memory: str | None) -> None:
        command = build_command(
            self._spec,
            fds,
            has_kvm=self._has_kvm,
            counter_khz=await asyncio.to_thread(_counter_khz),
            program=self._program,
            memory=memory,
        )
        inherited = [fds.monitor, fds.channel]
        if self._spec.nic is not None and isinstance(self._spec.nic.tap, int):
            inherited.append(self._spec.nic.tap)
        self._process = start(
            command, self._console, fds=inherited, cgroup_files=self._spec.cgroup_files
        )

    async def _share_memory(self, qmp: Qmp) -> None:
        """Keeps the memory, which is a file, out of the state."""
        capability = {"capability": "x-ignore-shared", "state": True}
        await qmp.execute("migrate-set-capabilities", {"capabilities": [capability]})

    async def _finish_migration(self, qmp: Qmp) -> None:
        try:
            async with asyncio.timeout(MIGRATION_TIMEOUT_S):
                while True:
                    answer = await qmp.execute("query-migrate")
                    found = msgspec.json.decode(answer, type=_Migration)
                    if found.status == "completed":
                        return
                    if found.status in ("failed", "cancelled"):
                        raise VmmRefused(found.status, found.error_desc)
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise VmmSilent(f"A snapshot took more than {MIGRATION_TIMEOUT_S:g} s.") from None


def _counter_khz() -> int:
    return parse_counter_khz(Path("/proc/cpuinfo").read_text())
