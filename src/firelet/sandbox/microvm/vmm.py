"""The port between the microVM driver and whatever runs a machine.

One ``Vmm`` is one machine. Implemented by ``qemu`` and ``firecracker_vmm``. What it is not: a
sandbox; it knows nothing of functions and runtimes.

    state     boot     restore  pause   resume   snapshot  stop     (ended by itself)
    NEW       RUNNING  PAUSED   -       -        -         STOPPED  -
    RUNNING   -        -        PAUSED  -        -         STOPPED  STOPPED
    PAUSED    -        -        -       RUNNING  STOPPED   STOPPED  STOPPED
    STOPPED   -        -        -       -        -         STOPPED  -
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from firelet.model.errors import PlatformError
from firelet.sandbox.microvm.console import Console


class VmmError(PlatformError):
    """Something about a machine went wrong; the sentences are ours."""


class VmmMissing(VmmError):
    """The program that runs machines is not on this host."""


class VmmRefused(VmmError):
    """It runs and said no. ``kind`` is its own name for the reason."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"The virtual machine monitor refused ({kind}): {message}")
        self.kind = kind


class VmmEnded(VmmError):
    """It ended while it was needed, or has ended before. ``console`` is the last that it wrote."""

    def __init__(self, message: str, console: str = "") -> None:
        super().__init__(f"{message} {console}".rstrip())
        self.console = console


class VmmSilent(VmmError):
    """It did not answer in time."""


class WrongState(VmmError):
    """The machine is not in a state that allows this."""


class VmState(Enum):
    NEW = "new"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class VmEvent(Enum):
    BOOT = "boot"
    RESTORE = "restore"
    PAUSE = "pause"
    RESUME = "resume"
    SNAPSHOT = "snapshot"
    STOP = "stop"
    ENDED = "ended"


TRANSITIONS: Mapping[tuple[VmState, VmEvent], VmState] = MappingProxyType(
    {
        (VmState.NEW, VmEvent.BOOT): VmState.RUNNING,
        (VmState.NEW, VmEvent.RESTORE): VmState.PAUSED,
        (VmState.RUNNING, VmEvent.PAUSE): VmState.PAUSED,
        (VmState.PAUSED, VmEvent.RESUME): VmState.RUNNING,
        (VmState.PAUSED, VmEvent.SNAPSHOT): VmState.STOPPED,
        (VmState.RUNNING, VmEvent.ENDED): VmState.STOPPED,
        (VmState.PAUSED, VmEvent.ENDED): VmState.STOPPED,
        **{(state, VmEvent.STOP): VmState.STOPPED for state in VmState},
    }
)


def advance(state: VmState, event: VmEvent) -> VmState:
    """The state after ``event``. WrongState for what the table does not list."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise WrongState(f"A machine that is {state.value} cannot {event.value}.") from None


@dataclass(frozen=True, slots=True)
class Drive:
    """A file that the guest sees as a disk: raw and read-only. The limits are None for none."""

    path: Path
    bytes_per_s: int | None = None
    operations_per_s: int | None = None


@dataclass(frozen=True, slots=True)
class Nic:
    """A network interface of the guest. ``tap`` is the number of an open TAP device, which stays
    the caller's, or the name of one in the network ``namespace`` where the machine is run; ``mac``
    is the guest's address, as six pairs of hexadecimal digits with colons."""

    tap: int | str
    mac: str
    namespace: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSpec:
    """What a machine is made of. ``directory`` belongs to it alone and exists; ``image`` is what
    the caller calls ``kernel`` and ``initrd``: a snapshot fits only an image of the same name.

    ``drives`` are vda, vdb and so on in the guest. ``has_entropy``: a device that gives the guest
    random bytes of the host. ``has_balloon``: one by which it tells what memory it has freed,
    which is given back. ``has_own_memory``: a restored machine copies the memory
    (0.1 s for 128 MiB) instead of sharing it, so that it can be put to rest again. ``cgroup_files``
    are open files of control groups (``Cgroup.procs_fds``), which stay the caller's: what runs the
    machine joins them before it does anything. ``user``: the number of the user and of the group
    as which it is run, without capabilities; the files of kernel and initial file system are
    readable for everybody then, as files: the directories above them need not be.
    """

    kernel: Path
    initrd: Path
    memory_mib: int
    directory: Path
    image: str = ""
    vcpus: int = 1
    drives: tuple[Drive, ...] = ()
    nic: Nic | None = None
    has_entropy: bool = True
    has_balloon: bool = False
    has_own_memory: bool = False
    cgroup_files: tuple[int, ...] = ()
    user: int | None = None


class HeldSnapshot:
    """A machine at rest that nobody can change any more. Owns the descriptors of two sealed memory
    files."""

    def __init__(self, state: int, memory: int) -> None:
        self._fds: tuple[int, int] | None = (state, memory)

    @property
    def state(self) -> int:
        return self._open()[0]

    @property
    def memory(self) -> int:
        return self._open()[1]

    def duplicate(self) -> HeldSnapshot:
        """The same, for a restore that goes on while this one is closed. VmmEnded after that: the
        numbers may be those of other files by then."""
        state, memory = self._open()
        again = os.dup(state)
        try:
            return HeldSnapshot(again, os.dup(memory))
        except OSError:
            os.close(again)
            raise

    def close(self) -> None:
        """May be called again."""
        fds, self._fds = self._fds, None
        for fd in fds or ():
            os.close(fd)

    def _open(self) -> tuple[int, int]:
        if self._fds is None:
            raise VmmEnded("The snapshot has been given back.")
        return self._fds


@dataclass(frozen=True, slots=True)
class VmSnapshot:
    """A machine at rest: files with its devices and its memory, see ``vm_snapshot``; ``held`` is
    the same in this process's memory, for adapters whose program would open the files to write.
    Restored any number of times, from a machine of the same specification but for its directory,
    its control groups, its TAP device and the content of its drives, which keep their sizes; never
    written to."""

    state: Path
    memory: Path
    held: HeldSnapshot | None = None

    def close(self) -> None:
        """Gives back what is held. Clones live on, and so do the files. A restore that has begun
        ends well; one that begins then raises VmmEnded. May be called again."""
        if self.held is not None:
            self.held.close()


class Vmm(Protocol):
    """One machine. After ``stop``, or after it ended by itself, every call but ``stop`` raises
    WrongState or VmmEnded."""

    @property
    def state(self) -> VmState: ...

    @property
    def console(self) -> Console:
        """What the machine wrote to its console: the last of it."""

    @property
    def pidfd(self) -> int:
        """Stands for the process that runs the machine and becomes readable when that ends; the
        machine's, until ``stop``. WrongState before ``boot`` or ``restore``, and after ``stop``."""

    def take_channel(self) -> socket.socket:
        """The stream to the guest's pid 1: connected, non-blocking, the caller's from now on. It
        ends with the machine. WrongState before ``boot`` or ``restore``, and the second time."""

    async def boot(self) -> None:
        """Starts it. Returns when the machine runs, which is before its guest is ready. VmmMissing,
        VmmEnded, VmmSilent."""

    async def restore(self, snapshot: VmSnapshot) -> None:
        """Makes it one that was at rest. It is paused then. The guest has to be told that it is
        another one now: clock and random state are as they were."""

    async def pause(self) -> None: ...
    async def resume(self) -> None: ...
    async def snapshot(self, directory: Path) -> VmSnapshot:
        """Puts a paused machine to rest in ``directory`` and ends it. The caller closes the
        snapshot. WrongState for a restored machine that has no memory of its own."""

    async def load(self, directory: Path) -> VmSnapshot:
        """What ``snapshot`` has left in ``directory``, in any process, checked to be whole and to
        fit a machine like this one, which need not be started. The caller closes it.
        SnapshotDamaged, SnapshotForeign, VmmMissing."""

    async def wait(self) -> int:
        """Waits until it has ended by itself; the exit status of what ran it."""

    async def stop(self) -> None:
        """Ends it at once and gives everything back. May be called again."""
