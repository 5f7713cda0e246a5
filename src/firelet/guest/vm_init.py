"""Pid 1 of a microVM's guest: mounts, the link to the platform, processes and their ends.

Runs from the initial file system, where ``/init`` calls ``main``. It speaks over one byte stream
(``vm_port``): see ``linux/multiplex`` for how messages and streams share it.

Messages from the platform, by ``do``:
- ``enter`` (``plan``, ``profile``, ``request``, ``network``): builds the root of a runtime and
  makes a sandbox in it that waits for its function; ``assign`` (``message``, ``memory_bytes``,
  ``pids``, ``slots``, ``file_systems``: names in the store), ``tell`` (``message``, for the
  sandbox's pid 1), ``extension`` (the same, with an output), ``end all``: see ``vm_sandbox``.
  Streams that are opened ``for`` ``connect`` lead to a ``port`` of it. ``hold`` and ``go on``: its
  processes stand still while the guest tells what memory is free.
- ``rest``: a snapshot is about to be taken; ``awaken`` (``seed`` as hexadecimal, ``now_ns``): the
  first message to whoever was at rest; ``clock`` (``now_ns``); ``reopen``: requests to the Runtime
  API that waited for their answers may be sent again.
- ``run`` (``id``, ``arguments``, ``environment``, ``directory``): a program of the guest, as its
  root; ``signal`` (``id``, ``number``: to the process and what shares its group).
- ``ping`` (``id``), ``power off``.

Messages to it, by ``event``: ``hello`` (``kernel``, ``python``, ``uptime_s``), ``resting``,
``awake``, ``pong`` (``id``), what the sandbox's pid 1 says, ``memory`` (``peak_bytes``),
``connected``, ``not connected``, ``sandbox ended``, ``started`` (``id``), ``failed`` (``id``,
``reason``), ``output`` (``id``, ``data`` as base64), ``exited program`` (``id``, ``code`` or
``signal``; after all of the output that was written by then), ``refused`` (``reason``: a message
that cannot be obeyed).

What it is not: an isolation of its own. Python 3.8 and newer, standard library only.
"""

from __future__ import annotations

import base64
import os
import platform
import select
import signal
import time
import traceback
from typing import Any, Sequence

from firelet.guest import vm_drives, vm_port, vm_process
from firelet.guest.vm_link import Link, Loop
from firelet.guest.vm_port import SerialPort, VsockPort
from firelet.guest.vm_sandbox import Sandbox, StepFailed
from firelet.linux import machine, mount, namespaces

MODULES = "/.firelet/modules"
OPTIONAL_MODULES = "/.firelet/modules-optional"

_VSOCK_MODULES = ("vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport")
_FUSE_MODULES = ("fuse",)
_NETWORK_MODULES = ("failover", "net_failover", "virtio_net")
_MEMORY_MODULES = ("virtio_balloon",)
_STAGE = "/run"
_READ_BYTES = 65_536

_NOT_PROGRAMS = mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC
_MOUNTS = (
    ("proc", "/proc", _NOT_PROGRAMS),
    ("sysfs", "/sys", _NOT_PROGRAMS),
    ("devtmpfs", "/dev", mount.MS_NOSUID),
    ("tmpfs", "/run", mount.MS_NOSUID | mount.MS_NODEV),
    ("tmpfs", "/tmp", mount.MS_NOSUID | mount.MS_NODEV),  # noqa: S108 - the guest's own
)


def main() -> None:
    """Runs to the end of the machine. Whatever goes wrong is on the console."""
    try:
        _leave_initial_root()
        for kind, target, flags in _MOUNTS:
            os.makedirs(target, exist_ok=True)
            mount.mount(kind, target, kind, flags)
        _promise_memory()
        _load_modules(MODULES)
        if os.path.exists(vm_drives.SLOTS["code"]):
            vm_drives.mount_fixed()
        _Init(_open_port()).run()
    except BaseException:
        traceback.print_exc()
    finally:
        machine.restart_machine()


def _leave_initial_root() -> None:
    """The root that the kernel unpacked has no mount above it, and nobody can pivot away from
    such a one. The same directory once more, mounted over it, will do.

    Source: pivot_root(2), "rootfs (initial ramfs) cannot be pivot_rooted".
    """
    mount.bind("/", _STAGE)
    os.chdir(_STAGE)
    mount.mount(".", "/", None, mount.MS_MOVE)
    os.chroot(".")
    os.chdir("/")
    # The kernel's own threads share root and directory with pid 1, and who shares them may not
    # look into another mount namespace.
    namespaces.unshare(namespaces.CLONE_FS)


def _promise_memory() -> None:
    """Whoever asks for more memory than the machine has is promised it all the same, as on a host
    with much of it: what a function uses is limited, and who uses too much is ended. Source:
    Documentation/mm/overcommit-accounting.rst.
    """
    with open("/proc/sys/vm/overcommit_memory", "w") as file:
        file.write("1")


def _load_modules(directory: str, wanted: Sequence[str] | None = None) -> None:
    """In the order of their numbers. Those that are ``wanted``, or all; one that is part of the
    kernel has no file."""
    for name in sorted(os.listdir(directory)):
        if wanted is None or name.partition("-")[2].partition(".")[0] in wanted:
            machine.load_module(f"{directory}/{name}")


def _open_port() -> SerialPort | VsockPort:
    with open("/proc/cmdline") as file:
        number = vm_port.vsock_number(file.read())
    if number is None:
        return SerialPort()
    _load_modules(OPTIONAL_MODULES, _VSOCK_MODULES)
    return VsockPort(number)


class _Init:
    """One thread, which waits for whatever comes next."""

    def __init__(self, port: SerialPort | VsockPort) -> None:
        self._loop = Loop()
        self._link = Link(self._loop, port, self._obey, self._open_stream)
        self._sandbox: Sandbox | None = None
        self._reports_memory = False
        self._ids: dict[int, str] = {}  # of programs that run, by pid
        self._outputs: dict[str, int] = {}

    def run(self) -> None:
        ended, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(ended, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._loop.watch(ended, select.EPOLLIN, lambda _events: self._on_ends(ended))
        self._link.tell(
            event="hello",
            kernel=os.uname().release,
            python=platform.python_version(),
            uptime_s=time.clock_gettime(time.CLOCK_BOOTTIME),
        )
        while not self._link.is_over:
            self._loop.turn()

    def _obey(self, message: dict[str, Any]) -> None:
        try:
            self._carry_out(message)
        except StepFailed as failed:
            self._link.tell(**failed.message)
        except (KeyError, TypeError, ValueError, OSError) as error:
            self._link.tell(event="refused", reason=f"{type(error).__name__}: {error}")

    def _carry_out(self, message: dict[str, Any]) -> None:
        kind = message["do"]
        if kind in ("assign", "tell", "extension", "end all", "hold", "go on"):
            self._tell_sandbox(kind, message)
        elif kind == "enter":
            self._sandbox = Sandbox(self._link, message)
            if message["network"]:
                _load_modules(OPTIONAL_MODULES, _NETWORK_MODULES)
                self._sandbox.connect_network()
            self._link.tell(event="embryo")
        elif kind == "rest":
            self._link.rest()
        elif kind == "awaken":
            machine.reseed_random(bytes.fromhex(message["seed"]))
            time.clock_settime_ns(time.CLOCK_REALTIME, message["now_ns"])
            self._link.tell(event="awake")
        elif kind == "clock":
            time.clock_settime_ns(time.CLOCK_REALTIME, message["now_ns"])
        elif kind == "reopen":
            self._link.reopen()
        elif kind == "run":
            self._run(message)
        elif kind == "signal":
            self._signal(message["id"], message["number"])
        elif kind == "ping":
            self._link.tell(event="pong", id=message["id"])
        elif kind == "power off":
            self._link.is_over = True
        else:
            raise ValueError(f"unknown message {kind!r}")

    def _tell_sandbox(self, kind: str, message: dict[str, Any]) -> None:
        if self._sandbox is None:
            raise ValueError("there is no sandbox")
        if kind == "assign":
            if message["file_systems"]:
                _load_modules(OPTIONAL_MODULES, _FUSE_MODULES)
            self._sandbox.assign(message)
        elif kind == "tell":
            self._sandbox.tell(message["message"])
        elif kind == "extension":
            self._sandbox.start_extension(message["message"])
        elif kind == "end all":
            self._sandbox.end_all()
        elif kind == "hold":
            self._sandbox.hold(True)
            self._report_memory()
        else:
            self._sandbox.hold(False)

    def _report_memory(self) -> None:
        """From now on the kernel tells of what is freed. It begins with all that is free: not while
        somebody waits for the function."""
        if not self._reports_memory:
            self._reports_memory = True
            _load_modules(OPTIONAL_MODULES, _MEMORY_MODULES)

    def _open_stream(self, stream: int, purpose: dict[str, Any]) -> None:
        if self._sandbox is None or purpose.get("for") != "connect":
            self._link.mux.reset(stream)
            return
        self._sandbox.connect(stream, purpose["port"])

    def _run(self, message: dict[str, Any]) -> None:
        name = message["id"]
        if name in self._ids.values():
            raise ValueError(f"{name!r} runs already")
        try:
            pid, output = vm_process.start(message)
        except vm_process.NotStarted as error:
            self._link.tell(event="failed", id=name, reason=str(error))
            return
        os.set_blocking(output, False)
        self._ids[pid] = name
        self._outputs[name] = output
        self._loop.watch(output, select.EPOLLIN, lambda _events: self._pass_on(name, output))
        self._link.tell(event="started", id=name)

    def _signal(self, name: str, number: int) -> None:
        """One that has ended already is no error: the news may be under way."""
        for pid, known in self._ids.items():
            if known == name:
                os.killpg(pid, number)

    def _pass_on(self, name: str, output: int) -> None:
        """Sends what can be read at once: as much as a pipe holds."""
        try:
            data = os.read(output, _READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._link.tell(event="output", id=name, data=base64.b64encode(data).decode())
        else:
            self._close_output(name)

    def _close_output(self, name: str) -> None:
        output = self._outputs.pop(name)
        self._loop.forget(output)
        os.close(output)

    def _on_ends(self, ended: int) -> None:
        """Reaps: programs that were asked for, and orphans, of which pid 1 becomes the parent."""
        os.read(ended, _READ_BYTES)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            name = self._ids.pop(pid, None)
            if name is not None:
                self._tell_end(name, status)

    def _tell_end(self, name: str, status: int) -> None:
        # A descendant may hold the pipe open and go on writing: what it writes from now on is
        # nobody's.
        if name in self._outputs:
            self._pass_on(name, self._outputs[name])
        if name in self._outputs:
            self._close_output(name)
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        self._link.tell(event="exited program", id=name, code=code, signal=number)
