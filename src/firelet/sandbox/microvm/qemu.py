"""One machine, run by QEMU: with KVM where that is real, emulated elsewhere.

What it is: the process, its monitor, the console and the guest's channel, joined to a ``Vmm``. What
it is not: a choice; ``choice`` says which program and whether with KVM.
The memory of a machine is a memory file, mapped shared. A snapshot is that file, sealed, and the
state of the devices; a restored machine maps it privately, so that clones share what they do not
write.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from firelet.model.limits import MIB
from firelet.sandbox.microvm import sealed_file, vm_snapshot
from firelet.sandbox.microvm.console import Console
from firelet.sandbox.microvm.qemu_command import (
    PROGRAM,
    QemuFds,
    build_command,
    parse_counter_khz,
)
from firelet.sandbox.microvm.qemu_identity import identify
from firelet.sandbox.microvm.qmp import Qmp
from firelet.sandbox.microvm.vmm import (
    HeldSnapshot,
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
_POLL_FIRST_S = 0.0005
_POLL_LONGEST_S = 0.01
_CONSOLE_TAIL = 2_000

T = TypeVar("T")


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
        self._version = ""
        self._state = VmState.NEW
        self._process: VmmProcess | None = None
        self._qmp: Qmp | None = None
        self._channel: socket.socket | None = None
        self._console = Console()
        self._memory = -1  # of its own: -1 for one that shares a snapshot's

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
        self._memory = sealed_file.create("machine", self._spec.memory_mib * MIB)
        await self._launch(self._memory, is_restored=False)
        self._state = state

    async def restore(self, snapshot: VmSnapshot) -> None:
        state = advance(self._state, VmEvent.RESTORE)
        held = snapshot.held
        if held is None:
            raise ValueError("QEMU restores what is held in memory only: see load_snapshot")
        memory = held.memory
        if self._spec.has_own_memory:
            memory = self._memory = sealed_file.create("machine")
            await self._in_thread(lambda: sealed_file.copy(held.memory, memory))
        qmp = await self._launch(memory, is_restored=True)
        try:
            await self._share_memory(qmp)
            await self._hand_over_state(qmp, sealed_file.reopen(held.state))
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
        if self._memory < 0:
            raise WrongState(
                "A restored machine shares its memory and cannot be put to rest again."
            )
        state = sealed_file.create(_STATE_FILE)
        try:
            await self._write_state(state)
            await self._end_process()
            sealed_file.seal(state)
            sealed_file.seal(self._memory)
            held = HeldSnapshot(state, self._memory)
            snapshot = await self._in_thread(lambda: self._save(directory, held))
        except BaseException:
            os.close(state)
            await self.stop()
            raise
        self._memory = -1
        await self.stop()
        return snapshot

    async def _write_state(self, state: int) -> None:
        qmp = self._monitor()
        await self._share_memory(qmp)
        await self._hand_over_state(qmp, os.dup(state))
        await qmp.execute("migrate", {"uri": f"fd:{_STATE_FILE}"})
        await self._finish_migration(qmp)

    def _save(self, directory: Path, held: HeldSnapshot) -> VmSnapshot:
        identity = identify(self._spec, has_kvm=self._has_kvm, version=self._version)
        return vm_snapshot.save_snapshot(directory, identity, held)

    async def wait(self) -> int:
        return await self._started().wait()

    async def stop(self) -> None:
        self._state = VmState.STOPPED
        await self._end_process()
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    async def _end_process(self) -> None:
        if self._process is not None:
            await self._process.kill()
            self._process.close()
        if self._qmp is not None:
            self._qmp.close()

    def _started(self) -> VmmProcess:
        if self._process is None:
            raise WrongState("The machine has not been started.")
        return self._process

    def _monitor(self) -> Qmp:
        if self._qmp is None:
            raise WrongState("The machine has not been started.")
        return self._qmp

    async def _launch(self, memory: int, *, is_restored: bool) -> Qmp:
        """Starts QEMU and opens its monitor; ends it again if that fails."""
        monitor, their_monitor = socket.socketpair()
        channel, their_channel = socket.socketpair()
        channel.setblocking(False)
        self._channel = channel
        self._qmp = Qmp(monitor)
        try:
            with their_monitor, their_channel:
                fds = QemuFds(their_monitor.fileno(), their_channel.fileno(), memory)
                await self._start(fds, is_restored=is_restored)
            self._version = await self._qmp.open()
        except VmmEnded:
            await self.stop()
            tail = self._console.text()[-_CONSOLE_TAIL:]
            raise VmmEnded("QEMU ended at once.", tail) from None
        except BaseException:
            await self.stop()
            raise
        return self._qmp

    async def _start(self, fds: QemuFds, *, is_restored: bool) -> None:
        if shutil.which(self._program) is None:
            raise VmmMissing(f"{self._program} is not installed.")
        command = build_command(
            self._spec,
            fds,
            has_kvm=self._has_kvm,
            counter_khz=await asyncio.to_thread(_counter_khz),
            program=self._program,
            is_restored=is_restored,
        )
        inherited = [fds.monitor, fds.channel, fds.memory]
        if self._spec.nic is not None and isinstance(self._spec.nic.tap, int):
            inherited.append(self._spec.nic.tap)
        self._process = start(
            command, self._console, fds=inherited, cgroup_files=self._spec.cgroup_files
        )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Does not end before ``work``, which uses our descriptors, even when it is cancelled."""
        running = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise

    async def _hand_over_state(self, qmp: Qmp, fd: int) -> None:
        """Closes ``fd``, of which QEMU has its own then."""
        try:
            await qmp.execute("getfd", {"fdname": _STATE_FILE}, fds=[fd])
        finally:
            os.close(fd)

    async def _share_memory(self, qmp: Qmp) -> None:
        """Keeps the memory, which is a file, out of the state."""
        capability = {"capability": "x-ignore-shared", "state": True}
        await qmp.execute("migrate-set-capabilities", {"capabilities": [capability]})

    async def _finish_migration(self, qmp: Qmp) -> None:
        pause_s = _POLL_FIRST_S
        try:
            async with asyncio.timeout(MIGRATION_TIMEOUT_S):
                while True:
                    answer = await qmp.execute("query-migrate")
                    found = msgspec.json.decode(answer, type=_Migration)
                    if found.status == "completed":
                        return
                    if found.status in ("failed", "cancelled"):
                        raise VmmRefused(found.status, found.error_desc)
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, _POLL_LONGEST_S)
        except TimeoutError:
            raise VmmSilent(f"A snapshot took more than {MIGRATION_TIMEOUT_S:g} s.") from None


def _counter_khz() -> int:
    return parse_counter_khz(Path("/proc/cpuinfo").read_text())
