"""The port between the worker and whatever isolates execution environments.

A driver makes sandboxes; a sandbox runs one runtime process tree at a time and can be reset.
Implemented by ``namespaces``; the fake for unit tests passes the same contract tests.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from firelet.model.isolation import Isolation


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """What a sandbox is made for. ``code`` and ``layers`` are digests of extracted packages; the
    layers are merged at /opt, later ones over earlier ones. ``file_systems`` are (ARN, path in the
    sandbox) of directories of the host that the driver knows by those ARNs. ``image`` are digests
    of extracted image layers, the lowest first: they are the sandbox's root then, and there is no
    ``code``. ``isolation`` None: what the platform is set to."""

    runtime: str
    code: str
    memory_mib: int
    tmp_mib: int
    layers: tuple[str, ...] = ()
    file_systems: tuple[tuple[str, str], ...] = ()
    image: tuple[str, ...] = ()
    isolation: Isolation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeStart:
    """How the runtime process is started. ``arguments`` None: by the preloaded client; ``plain``
    is what runs where that is used up (empty: the Python client can always be forked again).
    ``is_image``: the first of the arguments may be a name to be looked for in PATH, and what keeps
    the process from starting is told apart from its end."""

    environment: Mapping[str, str]
    arguments: tuple[str, ...] | None
    name: str
    plain: tuple[str, ...] = ()
    directory: str = "/var/task"
    is_image: bool = False


@dataclass(frozen=True, slots=True)
class LaunchFailure:
    """Why the process of an image never ran: ``step`` is ``chdir``, ``look_up`` or ``exec``;
    ``reason`` is the kernel's, in words."""

    step: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionStart:
    """How the process of one external extension is started: an executable of the sandbox."""

    name: str
    path: str
    environment: Mapping[str, str]


class ExtensionWatcher(Protocol):
    """Who is told of the processes of external extensions, by their names."""

    def on_launch_failed(self, name: str, reason: str) -> None:
        """It could not be executed; ``reason`` is the system's word for why."""

    def on_exited(self, name: str, ending: RuntimeExit) -> None: ...


@dataclass(frozen=True, slots=True)
class RuntimeExit:
    """How the runtime process ended: exactly one of the two is set, or neither when the whole
    sandbox ended. ``is_out_of_memory`` is read from the control group."""

    code: int | None
    signal: int | None
    is_out_of_memory: bool = False
    launch_failure: LaunchFailure | None = None


class Sandbox(Protocol):
    """One execution environment. After ``stop``, or after ``on_exit`` told that it ended
    (``is_dead``), every call raises PlatformError: dead stays dead."""

    @property
    def id(self) -> str:
        """32 hexadecimal characters, also the last part of the log stream's name."""

    @property
    def listener(self) -> socket.socket:
        """The listening socket of the Runtime API inside the sandbox."""

    @property
    def output_fd(self) -> int:
        """Read end of what the runtime writes to its standard streams; non-blocking."""

    @property
    def log_fd(self) -> int:
        """Read end of the framed log pipe; non-blocking."""

    @property
    def is_dead(self) -> bool: ...

    @property
    def rests_at_next(self) -> bool:
        """Whether a snapshot can be made of it where its runtime asks for its first event, though
        that never asks to be restored."""

    def watch(self, on_exit: Callable[[RuntimeExit], None]) -> None:
        """Names the callback for the end of the runtime process or of the sandbox."""

    def start_runtime(self, start: RuntimeStart) -> None: ...
    def start_extension(self, start: ExtensionStart, watcher: ExtensionWatcher) -> int:
        """Starts an external extension; the read end of what it writes to its standard streams,
        non-blocking, which the caller closes."""

    def signal_runtime(self, number: int) -> None:
        """Signals the runtime, if it runs, and what it has started."""

    async def connect(self, port: int) -> socket.socket:
        """A connection to what listens on that port of the sandbox's loopback, non-blocking, which
        the caller closes. It is a stream socket of any family. ConnectionRefusedError when nothing
        listens; PlatformError when the sandbox has ended."""

    async def kill_processes(self) -> None:
        """Ends every process, those of extensions too; mounts, /tmp and the network stay."""

    def set_vcpus(self, vcpus: float | None) -> None:
        """CPU limit; None for all of the host (during INIT)."""

    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def memory_peak_bytes(self) -> int: ...
    def memory_bytes(self) -> int:
        """What it holds now, without what it shares with others; 0 if that is not known."""

    def kill(self) -> None:
        """Ends every process at once. What the sandbox holds stays until ``stop``."""

    async def stop(self) -> None:
        """Ends everything and gives everything back. May be called again."""


class SandboxMaker(Protocol):
    """What a driver of one isolation and all of them together can do."""

    async def open(self) -> None: ...
    async def create(self, spec: SandboxSpec) -> Sandbox: ...
    async def create_snapshot(self, spec: SandboxSpec) -> Sandbox:
        """A sandbox whose runtime is to reach its restore point. PlatformError for a runtime that
        cannot be cloned."""

    async def seal(self, snapshot: Sandbox) -> None:
        """The snapshot's runtime has reached its restore point: no more of it runs until it is
        cloned."""

    async def clone(self, snapshot: Sandbox, spec: SandboxSpec) -> Sandbox:
        """One more sandbox of the same, whose ``start_runtime`` continues from the restore point,
        with the variables that it is given added. It cannot be reset: with its runtime it ends as
        a whole."""

    async def close(self) -> None: ...


class SandboxDriver(SandboxMaker, Protocol):
    """Makes sandboxes of one kind of isolation."""

    def expect(self, runtime: str) -> None:
        """Functions of this runtime are about to come: makes ready, in the background, what
        their sandboxes are made from."""


class SandboxDrivers(SandboxMaker, Protocol):
    """Makes sandboxes of the isolation that each asks for."""

    async def prepare(self, runtime: str, isolation: Isolation | None) -> None:
        """Functions of this runtime and isolation are about to come; None: the platform's own.
        IsolationMissing when the host has not got what that needs."""
