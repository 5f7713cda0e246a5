"""The port between the microVM driver and whatever runs a machine.

One ``Vmm`` is one machine. Implemented by ``qemu``. What it is not: a sandbox; it knows nothing of
functions and runtimes.

    state     boot     restore  pause   resume   snapshot  stop     (ended by itself)
    NEW       RUNNING  PAUSED   -       -        -         STOPPED  -
    RUNNING   -        -        PAUSED  -        -         STOPPED  STOPPED
    PAUSED    -        -        -       RUNNING  STOPPED   STOPPED  STOPPED
    STOPPED   -        -        -       -        -         STOPPED  -
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from firelet.model.errors import PlatformError
from firelet.sandbox.microvm.console import Console
from firelet.sandbox.microvm.guest_channel import GuestChannel


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


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSpec:
    """What a machine is made of. ``directory`` belongs to it alone and exists; its memory is a
    file in there (tmpfs keeps it from being written to a disk)."""

    kernel: Path
    initrd: Path
    memory_mib: int
    directory: Path
    vcpus: int = 1


@dataclass(frozen=True, slots=True)
class VmSnapshot:
    """A machine at rest: its devices and its memory. Restored any number of times, from a machine
    of the same specification but for its directory; never written to."""

    state: Path
    memory: Path


class Vmm(Protocol):
    """One machine. After ``stop``, or after it ended by itself, every call but ``stop`` raises
    WrongState or VmmEnded."""

    @property
    def state(self) -> VmState: ...

    @property
    def console(self) -> Console:
        """What the machine wrote to its console: the last of it."""

    @property
    def channel(self) -> GuestChannel:
        """To the guest's pid 1. WrongState before ``boot`` or ``restore``."""

    async def boot(self) -> None:
        """Starts it. Returns when the machine runs, which is before its guest is ready. VmmMissing,
        VmmEnded, VmmSilent."""

    async def restore(self, snapshot: VmSnapshot) -> None:
        """Makes it one that was at rest. It is paused then. The guest has to be told that it is
        another one now: clock and random state are as they were."""

    async def pause(self) -> None: ...
    async def resume(self) -> None: ...
    async def snapshot(self, directory: Path) -> VmSnapshot:
        """Puts a paused machine to rest in ``directory``, which is on the same file system as its
        own, and ends it."""

    async def wait(self) -> int:
        """Waits until it has ended by itself; the exit status of what ran it."""

    async def stop(self) -> None:
        """Ends it at once and gives everything back. May be called again."""
