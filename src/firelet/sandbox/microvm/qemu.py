"""One machine, run by QEMU: with KVM where that is real, emulated elsewhere.

What it is: the process, its monitor, the console and the guest's channel, joined to a ``Vmm``. What
it is not: a choice; ``choice`` says which program and whether with KVM.
The memory of a machine is a memory file, mapped shared. A snapshot is that file, sealed, and the
state of the devices; a restored machine maps it privately, so that clones share what they do not
write.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

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
from firelet.sandbox.microvm.qemu_identity import identify, program_version
from firelet.sandbox.microvm.qmp import ANSWER_TIMEOUT_S, Qmp
from firelet.sandbox.microvm.vmm import (
    HeldSnapshot,
    VmEvent,
    VmmEnded,
    VmmError,
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
from firelet.sandbox.microvm.vmm_starter import find_starter

MIGRATION_TIMEOUT_S = 60.0
_KVM = "/dev/kvm"
_STATE_FILE = "state"
_POLL_FIRST_S = 0.0005
_POLL_LONGEST_S = 0.01
_CONSOLE_TAIL = 4_000  # a panic of the guest's kernel, with its trace

T = TypeVar("T")


class _Migration(msgspec.Struct, frozen=True):
    """What ``query-migrate`` says; ``status`` is missing before the first."""

    status: str = "none"
    error_desc: str = msgspec.field(name="error-desc", default="no reason given")


class QemuVmm:
    """A ``Vmm``. Constructing it does nothing. VmmSilent when QEMU has not answered a command after
    ``patience_s``: it is of no use then, and has to be stopped."""

    def __init__(
        self,
        spec: VmSpec,
        *,
        has_kvm: bool,
        program: str = PROGRAM,
        patience_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self._spec = spec
        self._has_kvm = has_kvm
        self._program = program
        self._patience_s = patience_s
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
        if snapshot.held is None:
            raise ValueError("QEMU restores what is held in memory only: see load")
        held = snapshot.held.duplicate()
        try:
            await self._restore(held)
        except BaseException:
            await self.stop()
            raise
        finally:
            held.close()
        self._state = state

    async def _restore(self, held: HeldSnapshot) -> None:
        memory = held.memory
        if self._spec.has_own_memory:
            memory = self._memory = sealed_file.create("machine")
            await self._in_thread(lambda: sealed_file.copy(held.memory, memory))
        await self._launch(memory, is_restored=True)
        await self._share_memory()
        await self._hand_over_state(sealed_file.reopen(held.state))
        await self._execute("migrate-incoming", {"uri": f"fd:{_STATE_FILE}"})
        await self._finish_migration()

    async def pause(self) -> None:
        state = self._advance(VmEvent.PAUSE)
        await self._execute("stop")
        self._state = state

    async def resume(self) -> None:
        state = self._advance(VmEvent.RESUME)
        await self._execute("cont")
        self._state = state

    async def load(self, directory: Path) -> VmSnapshot:
        """What ``snapshot`` has left in ``directory``, in any process, checked to be whole and to
        fit a machine like this one, which need not be started. The caller closes it.
        SnapshotDamaged, SnapshotForeign, VmmMissing."""
        return await self._in_thread(lambda: self._load(directory), VmSnapshot.close)

    async def snapshot(self, directory: Path) -> VmSnapshot:
        self._advance(VmEvent.SNAPSHOT)
        if self._memory < 0:
            raise WrongState(
                "A restored machine shares its memory and cannot be put to rest again."
            )
        state = sealed_file.create(_STATE_FILE)
        try:
            await self._write_state(state)
            await self._end_process()
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
        await self._share_memory()
        await self._hand_over_state(os.dup(state))
        await self._execute("migrate", {"uri": f"fd:{_STATE_FILE}"})
        await self._finish_migration()

    def _load(self, directory: Path) -> VmSnapshot:
        version = program_version(self._program)
        expected = identify(self._spec, has_kvm=self._has_kvm, version=version)
        return vm_snapshot.load_snapshot(directory, expected)

    def _save(self, directory: Path, held: HeldSnapshot) -> VmSnapshot:
        sealed_file.seal(held.state)
        sealed_file.seal(held.memory)
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

    def _advance(self, event: VmEvent) -> VmState:
        """VmmEnded for one that has ended by itself."""
        has_ended = self._process is not None and self._process.has_ended
        if has_ended and self._state is not VmState.STOPPED:
            raise VmmEnded("The machine has ended.", self._tail())
        return advance(self._state, event)

    def _tail(self) -> str:
        return self._console.text()[-_CONSOLE_TAIL:]

    async def _execute(
        self, command: str, arguments: dict[str, Any] | None = None, *, fds: Sequence[int] = ()
    ) -> msgspec.Raw:
        """A command of QEMU's. If QEMU ends over it, its last words are in the error."""
        if self._qmp is None:
            raise WrongState("The machine has not been started.")
        try:
            return await self._qmp.execute(command, arguments, fds=fds)
        except VmmEnded as error:
            await self._end_process()
            raise VmmEnded(f"QEMU has ended over {command}.", self._tail()) from error

    async def _launch(self, memory: int, *, is_restored: bool) -> None:
        """Starts QEMU and opens its monitor; ends it again if that fails."""
        program = shutil.which(self._program)
        if program is None:
            await self.stop()
            raise VmmMissing(f"{self._program} is not installed.")
        monitor, their_monitor = socket.socketpair()
        channel, their_channel = socket.socketpair()
        channel.setblocking(False)
        self._channel = channel
        self._qmp = Qmp(monitor, self._patience_s)
        try:
            with their_monitor, their_channel, contextlib.ExitStack() as files:
                fds = QemuFds(
                    monitor=their_monitor.fileno(),
                    channel=their_channel.fileno(),
                    memory=memory,
                    drives=tuple(_open(drive.path, files) for drive in self._spec.drives),
                    kernel=-1 if is_restored else _open(self._spec.kernel, files),
                    initrd=-1 if is_restored else _open(self._spec.initrd, files),
                )
                await self._start(Path(program), fds, is_restored=is_restored)
            self._version = await self._qmp.open()
        except VmmEnded:
            await self.stop()
            raise VmmEnded("QEMU ended at once.", self._tail()) from None
        except BaseException:
            await self.stop()
            raise

    async def _start(self, program: Path, fds: QemuFds, *, is_restored: bool) -> None:
        shares_memory = is_restored and not self._spec.has_own_memory
        command = build_command(
            self._spec,
            fds,
            has_kvm=self._has_kvm,
            counter_khz=0 if is_restored else await asyncio.to_thread(_counter_khz),
            program=self._program,
            is_restored=is_restored,
        )
        inherited = [fds.monitor, fds.channel, fds.memory, *fds.drives]
        if not is_restored:
            inherited += [fds.kernel, fds.initrd]
        if self._spec.nic is not None and isinstance(self._spec.nic.tap, int):
            inherited.append(self._spec.nic.tap)
        self._process = start(
            command,
            self._console,
            fds=inherited,
            cgroup_files=self._spec.cgroup_files,
            user=self._spec.user,
            groups=self._groups(),
            # QEMU asks for them for translated code, of which a clone fills a part: a tenth of what
            # it holds would never be used. It costs it a twentieth of its time.
            has_huge_pages=self._has_kvm or not is_restored,
            starter=find_starter(program, shares_memory=shares_memory),
        )

    def _groups(self) -> tuple[int, ...]:
        if self._spec.user is None or not self._has_kvm:
            return ()
        return groups_for_kvm(os.stat(_KVM))

    async def _in_thread(self, work: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
        """Does not end before ``work``, which uses our descriptors, even when it is cancelled. A
        result that nobody gets then is undone."""
        running = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            while not running.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([running])
            if undo is not None and running.exception() is None:
                undo(running.result())
            raise

    async def _hand_over_state(self, fd: int) -> None:
        """Closes ``fd``, of which QEMU has its own then."""
        try:
            await self._execute("getfd", {"fdname": _STATE_FILE}, fds=[fd])
        finally:
            os.close(fd)

    async def _share_memory(self) -> None:
        """Keeps the memory, which is a file, out of the state."""
        capability = {"capability": "x-ignore-shared", "state": True}
        await self._execute("migrate-set-capabilities", {"capabilities": [capability]})

    async def _finish_migration(self) -> None:
        pause_s = _POLL_FIRST_S
        try:
            async with asyncio.timeout(MIGRATION_TIMEOUT_S):
                while True:
                    answer = await self._execute("query-migrate")
                    found = msgspec.json.decode(answer, type=_Migration)
                    if found.status == "completed":
                        return
                    if found.status in ("failed", "cancelled"):
                        raise VmmRefused(found.status, found.error_desc)
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, _POLL_LONGEST_S)
        except TimeoutError:
            raise VmmSilent(f"A snapshot took more than {MIGRATION_TIMEOUT_S:g} s.") from None


def _open(path: Path, files: contextlib.ExitStack) -> int:
    """For reading, as long as ``files``. VmmError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise VmmError(f"A file of the machine cannot be opened: {error}.") from error
    files.callback(os.close, fd)
    return fd


def groups_for_kvm(device: os.stat_result) -> tuple[int, ...]:
    """Those by which another user than root may open the device. VmmError when there is none but
    root's own: whoever is in that may do much more."""
    if device.st_mode & 0o006 == 0o006:
        return ()
    if device.st_mode & 0o060 == 0o060 and device.st_gid != 0:
        return (device.st_gid,)
    raise VmmError(f"Only root may open {_KVM}: it needs a group of its own (kvm) and mode 0660.")


def _counter_khz() -> int:
    return parse_counter_khz(Path("/proc/cpuinfo").read_text())
