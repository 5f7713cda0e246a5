"""One sandbox that is a machine: the host's side of ``guest/vm_sandbox``.

What it is: the port ``Sandbox`` by messages and streams of the link to the guest. What it is not: a
way to make one; ``driver`` restores or boots the machine, and ``assign`` gives it its function.
The control groups are of the process that runs the machine: they limit and freeze the whole of it.
What the function may use of its memory is limited, and measured, by the guest.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from firelet.linux import process
from firelet.model import limits
from firelet.model.errors import PlatformError, SandboxEnded
from firelet.sandbox.awaited_event import AwaitedEvent
from firelet.sandbox.cgroups import Cgroup
from firelet.sandbox.driver import (
    ExtensionStart,
    ExtensionWatcher,
    RuntimeExit,
    RuntimeStart,
    SandboxSpec,
)
from firelet.sandbox.microvm import api_listener
from firelet.sandbox.microvm.directory_server import DirectoryServers, mount_failure
from firelet.sandbox.microvm.disk_store import Disk
from firelet.sandbox.microvm.guest_channel import GuestChannel
from firelet.sandbox.microvm.guest_link import Carrier, PipeCarrier, SocketCarrier
from firelet.sandbox.microvm.idle_memory import IdleMemory
from firelet.sandbox.microvm.machine_connections import MachineConnections
from firelet.sandbox.microvm.network import MachineNetwork
from firelet.sandbox.microvm.vmm import Vmm, VmSnapshot
from firelet.sandbox.pid1_messages import (
    assign_message,
    extension_message,
    parse_ending,
    parse_wait_status,
    start_message,
    step_error,
)
from firelet.sandbox.rootfs import HIDDEN

log = logging.getLogger(__name__)

# An emulated guest on a busy host; one that has ended is noticed at once.
STEP_TIMEOUT_S = 60.0
KILL_GRACE_S = 1.0
GUEST_UID = 993
STORE = f"{HIDDEN}/code"  # in the guest
_CONSOLE_TAIL = 1_000
_ERROR_MAX = 4_000
_PIPE_BYTES = 256 * 1024
# Of a guest's memory; none has so much.
_PeakBytes = Annotated[int, msgspec.Meta(ge=0, lt=2**40)]


class MachineSandbox:
    """Implements ``Sandbox``. Calls that change it come from one coroutine at a time.

    ``directory`` is the machine's own; ``on_stopped`` is called when nothing is left of it.
    ``drives`` are what it was made with; its ``network``, if it has one, ends with it; ``user`` is
    that of the process that runs it, None for the platform's own. ``cpu_factor``: what a processor
    of the machine costs of one of the host. The Runtime API's listener is a Unix socket in the
    directory, which nobody but us can reach; connections of the guest are carried to it.
    """

    def __init__(
        self,
        identity: str,
        vmm: Vmm,
        directory: Path,
        cgroup: Cgroup | None,
        on_stopped: Callable[[MachineSandbox], None],
    ) -> None:
        self.id = identity
        self.vmm = vmm
        self.is_dead = False
        self.cpu_factor = 1.0
        self.drives: tuple[Disk, ...] = ()
        self.user: int | None = None
        self.network: MachineNetwork | None = None
        self.directory = directory
        self._cgroup = cgroup
        self._idle_memory = None if cgroup is None else IdleMemory(cgroup, self._hold)
        self._on_stopped = on_stopped
        self._channel: GuestChannel | None = None
        with contextlib.ExitStack() as undo:
            self._output, self._their_output = _open_pipe(undo)
            self._log, self._their_log = _open_pipe(undo)
            self._listener = api_listener.open_in(directory)
            undo.pop_all()
        self._awaited = AwaitedEvent("machine", STEP_TIMEOUT_S)
        self._on_exit: Callable[[RuntimeExit], None] | None = None
        self._watcher: ExtensionWatcher | None = None
        self._shared = DirectoryServers(self._on_server_end)
        self._outputs: dict[str, int] = {}
        self._connections = MachineConnections()
        self._peak_bytes = 0
        self._has_runtime = False
        self._extensions: set[str] = set()  # those that were started, and have not ended
        self._has_failed = False
        self._is_frozen = False
        self._is_killing = False
        self._stopping: asyncio.Task[None] | None = None
        # While it is started or put to rest: its descriptors are in use then, in threads too.
        self._at_work = asyncio.Lock()

    @property
    def _is_stopped(self) -> bool:
        return self._stopping is not None

    @property
    def rests_at_next(self) -> bool:
        """A machine rests as a whole: its runtime need not know of it."""
        return True

    @property
    def listener(self) -> socket.socket:
        return self._listener

    @property
    def output_fd(self) -> int:
        return self._output

    @property
    def log_fd(self) -> int:
        return self._log

    @property
    def pidfd(self) -> int:
        """A descriptor for what runs the machine, which is the machine's."""
        return self.vmm.pidfd

    async def boot(self) -> None:
        """SandboxEnded when it was killed before."""
        async with self._at_work:
            self._check()
            await self.vmm.boot()

    async def restore(self, snapshot: VmSnapshot) -> None:
        """SandboxEnded when it was killed before."""
        async with self._at_work:
            self._check()
            await self.vmm.restore(snapshot)

    async def resume(self) -> None:
        """SandboxEnded when it was killed before."""
        async with self._at_work:
            self._check()
            await self.vmm.resume()

    def attach(self) -> GuestChannel:
        """The channel, once the machine has been started. SandboxEnded when it was killed
        meanwhile."""
        self._check()
        self._channel = GuestChannel(
            self.vmm.take_channel(), self._on_event, self._on_open, self._on_close
        )
        return self._channel

    async def enter(self, plan: dict[str, Any], profile: dict[str, Any], request: Any) -> None:
        """Has the guest build the root of a runtime and make an embryo in it."""
        answer = self._awaited.expect("embryo")
        has_network = self.network is not None
        self._tell(do="enter", plan=plan, profile=profile, request=request, network=has_network)
        await self._awaited.wait(answer)

    async def rest(self, directory: Path) -> VmSnapshot:
        """Puts the machine to rest in ``directory``, and ends it. It is of no use as a sandbox any
        more, but is not dead: it can be cloned."""
        if self._channel is None or self.is_dead:
            raise SandboxEnded
        try:
            async with asyncio.timeout(STEP_TIMEOUT_S):
                await self._channel.rest()
        except TimeoutError:
            raise PlatformError("A machine did not come to rest in time.") from None
        self._channel.link.fall_silent()
        async with self._at_work:
            await self.vmm.pause()
            return await self.vmm.snapshot(directory)

    async def assign(self, spec: SandboxSpec, shared: Sequence[Path] = ()) -> None:
        """Makes the guest's embryo a sandbox of one function, whose files are in the slots.
        ``shared`` are the directories of its file systems. FileSystemMountFailure."""
        self._check()
        cgroup_files = [] if self._cgroup is None else self._cgroup.procs_fds
        names = self._shared.start(shared, GUEST_UID, cgroup_files)
        answer = self._awaited.expect("assigned")
        self._tell(
            do="assign",
            memory_bytes=spec.memory_mib * limits.MIB,
            pids=limits.PIDS_MAX,
            slots=["code", *(["layers"] if spec.layers else [])],
            file_systems=names,
            message=assign_message(
                GUEST_UID,
                code="code",
                layers=["layers"] if spec.layers else [],
                image=["code"] if spec.image else [],
                tmp_mib=spec.tmp_mib,
                file_systems=[
                    (f"{STORE}/{name}", path)
                    for name, (_, path) in zip(names, spec.file_systems, strict=True)
                ],
            ),
        )
        await self._awaited.wait(answer)
        if self._channel is not None:
            self._channel.set_clock()

    def begin_awakening(self) -> None:
        """The first thing that a restored machine is told. Nobody waits for its answer: that to
        the next message is enough."""
        if self._channel is None or self.is_dead:
            raise SandboxEnded
        self._channel.begin_awakening()

    def watch(self, on_exit: Callable[[RuntimeExit], None]) -> None:
        self._on_exit = on_exit

    def start_runtime(self, start: RuntimeStart) -> None:
        self._tell(do="tell", message=start_message(start))
        self._has_runtime = True

    def start_extension(self, start: ExtensionStart, watcher: ExtensionWatcher) -> int:
        self._watcher = watcher
        with contextlib.ExitStack() as undo:
            ours, theirs = _open_pipe(undo)
            self._tell(do="extension", message=extension_message(start))
            undo.pop_all()
        unclaimed = self._outputs.pop(start.name, -1)
        if unclaimed >= 0:
            os.close(unclaimed)
        self._outputs[start.name] = theirs
        self._extensions.add(start.name)
        return ours

    def signal_runtime(self, number: int) -> None:
        self._tell(do="tell", message={"op": "signal runtime", "number": int(number)})

    async def connect(self, port: int) -> socket.socket:
        if self._channel is None or self.is_dead:
            raise SandboxEnded
        return await self._connections.open(self._channel.link, port)

    async def kill_processes(self) -> None:
        self.thaw()
        answer = self._awaited.expect("killed")
        self._tell(do="tell", message={"op": "kill"})
        self._is_killing = True
        try:
            await asyncio.wait([answer], timeout=KILL_GRACE_S)
            if not answer.done():
                # Among a thousand processes that fork, the sandbox's pid 1 gets its turn too late.
                self._tell(do="end all")
            await self._awaited.wait(answer)
            self._has_runtime = False
            self._extensions.clear()
        finally:
            self._is_killing = False

    def set_vcpus(self, vcpus: float | None) -> None:
        if self._cgroup is not None and not self.is_dead:
            self._cgroup.set_vcpus(None if vcpus is None else vcpus * self.cpu_factor)

    def freeze(self) -> None:
        if self.is_dead or self._is_frozen:
            return
        self._is_frozen = True
        if self._cgroup is not None:
            self._cgroup.freeze()
        else:
            self._signal(signal.SIGSTOP)
        if self._idle_memory is not None:
            self._idle_memory.begin()

    def thaw(self) -> None:
        if not self._is_frozen:
            return
        self._is_frozen = False
        if self._idle_memory is not None:
            self._idle_memory.end()
        if self._cgroup is not None:
            self._cgroup.thaw()
        else:
            self._signal(signal.SIGCONT)

    def memory_peak_bytes(self) -> int:
        """What the function's processes have used at most, as the guest's kernel says."""
        return 0 if self._is_stopped else self._peak_bytes

    def memory_bytes(self) -> int:
        """What the whole machine holds of this host."""
        return 0 if self._cgroup is None or self._is_stopped else self._cgroup.memory_bytes()

    def kill(self) -> None:
        self.thaw()
        self.is_dead = True
        self._fail(PlatformError("The sandbox was stopped."))
        if self._channel is not None:
            self._channel.close()
        self._shared.kill()
        self._signal(signal.SIGKILL)

    async def stop(self) -> None:
        """Goes on to the end though the caller be cancelled; whoever comes later waits for it."""
        if self._stopping is None:
            self.kill()
            self._stopping = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        self._listener.close()
        fds = [self._output, self._log, self._their_output, self._their_log]
        for fd in [fd for fd in (*fds, *self._outputs.values()) if fd >= 0]:
            os.close(fd)
        self._output = self._log = self._their_output = self._their_log = -1
        self._outputs.clear()
        try:
            async with self._at_work:
                await self.vmm.stop()
            await self._shared.stop()
            if self.network is not None:
                self.network.close()
            await asyncio.to_thread(_remove, self._cgroup, self.directory)
        finally:
            self._on_stopped(self)

    def _hold(self, is_held: bool) -> None:
        with contextlib.suppress(PlatformError):  # it has ended
            self._tell(do="hold" if is_held else "go on")

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PlatformError):  # it has ended, or never ran
            process.pidfd_send_signal(self.pidfd, number)

    def _check(self) -> None:
        if self.is_dead:
            raise SandboxEnded

    def _tell(self, **message: Any) -> None:
        if self._channel is None or self.is_dead:
            raise SandboxEnded
        self._channel.tell(**message)

    def _fail(self, error: PlatformError) -> None:
        self._awaited.fail(error)
        self._connections.fail(error)

    def _on_open(self, stream: int, purpose: dict[str, Any]) -> Carrier | None:
        """A stream that the guest opens."""
        assert self._channel is not None
        link = self._channel.link
        match purpose["for"]:
            case "api":
                return self._carry_to_api(stream)
            case "output" if self._their_output >= 0:
                fd, self._their_output = self._their_output, -1
                return PipeCarrier(link, stream, fd)
            case "log" if self._their_log >= 0:
                fd, self._their_log = self._their_log, -1
                return PipeCarrier(link, stream, fd)
            case "extension":
                return PipeCarrier(link, stream, self._outputs.pop(purpose["name"]))
            case "file system":
                return SocketCarrier(link, stream, self._shared.take_connection(purpose["name"]))
            case unexpected:
                raise ValueError(f"an unexpected stream for {unexpected!r}")

    def _carry_to_api(self, stream: int) -> Carrier | None:
        assert self._channel is not None
        try:
            sock = api_listener.connect_in(self.directory)
        except OSError as error:
            # As often as the guest likes.
            log.debug("connection not carried id=%s: %s", self.id, error)
            return None
        return SocketCarrier(self._channel.link, stream, sock)

    def _on_event(self, message: dict[str, Any]) -> None:
        event = message["event"]
        if event == "exited":
            if self._is_killing:
                return  # pid 1 saw the end of the runtime before it read that it is to end it
            ending = _with_cause(parse_ending(message), message)
            if not self._has_runtime:
                raise ValueError("the end of a runtime that was not started")
            self._has_runtime = False
            self._tell_exit(ending)
        elif event == "memory":
            peak = msgspec.convert(message["peak_bytes"], _PeakBytes)
            self._peak_bytes = max(self._peak_bytes, peak)
        elif event in ("extension exited", "extension failed"):
            self._on_extension_end(message)
        elif event in ("connected", "not connected"):
            self._connections.on_answer(message)
        elif event == "error":
            self._on_error(f"{message['step']} {message['path'] or ''}".strip())
        elif event == "sandbox ended":
            raise ValueError("the sandbox in the guest has ended")
        else:
            self._awaited.on_event(event)

    def _on_extension_end(self, message: dict[str, Any]) -> None:
        name = message["name"]
        if self._watcher is None or self._is_killing or name not in self._extensions:
            return
        self._extensions.remove(name)
        if message["event"] == "extension failed":
            self._watcher.on_launch_failed(name, os.strerror(message["errno"]).lower())
        else:
            ending = _with_cause(parse_wait_status(message["status"]), message)
            self._watcher.on_exited(name, ending)

    def _on_error(self, what: str) -> None:
        """The sandbox in the guest ends with its first."""
        if self._has_failed:
            raise ValueError("a second error")
        self._has_failed = True
        log.error("sandbox failed id=%s: %s", self.id, what[-_ERROR_MAX:])
        # Of a traceback the caller is told the last line only.
        self._fail(step_error(what.splitlines()[-1][:_ERROR_MAX]))

    def _on_server_end(self, reason: str) -> None:
        """Nobody serves a directory any more: whoever uses it would wait for ever."""
        if self._channel is not None and not self.is_dead:
            self._channel.close()
            self._fail(mount_failure(reason))
            self._on_close(PlatformError(f"A directory is not served any more: {reason}"))

    def _on_close(self, error: PlatformError) -> None:
        """The machine has ended, or was cut off: then it is ended. It may be frozen, for what is
        read now it may have said before."""
        self.thaw()
        self._signal(signal.SIGKILL)
        self.is_dead = True
        console = self.vmm.console.text()[-_CONSOLE_TAIL:]
        log.warning("machine ended id=%s: %s %r", self.id, error.message, console)
        self._fail(SandboxEnded())
        self._tell_exit(RuntimeExit(None, None))

    def _tell_exit(self, ending: RuntimeExit) -> None:
        if self._on_exit is not None:
            self._on_exit(ending)


def _with_cause(ending: RuntimeExit, message: dict[str, Any]) -> RuntimeExit:
    if not message["out_of_memory"]:
        return ending
    return RuntimeExit(ending.code, ending.signal, is_out_of_memory=True)


def _open_pipe(undo: contextlib.ExitStack) -> tuple[int, int]:
    """Both ends without waiting; ``undo`` closes them. It takes all that one reading of the link
    brings, so that who reads it when a message has come has read what came before that."""
    ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    for fd in (ours, theirs):
        undo.callback(os.close, fd)
    with contextlib.suppress(OSError):  # the user may have as many large ones as allowed
        fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return ours, theirs


def _remove(cgroup: Cgroup | None, directory: Path) -> None:
    if cgroup is not None:
        cgroup.remove()
    shutil.rmtree(directory)
