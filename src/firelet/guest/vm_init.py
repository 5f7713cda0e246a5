"""Pid 1 of a microVM's guest: mounts, the control channel, processes and their ends.

Runs from the initial file system, where ``/init`` calls ``main``. It speaks over the virtio serial
port named ``firelet``: see ``linux/stream_messages`` for how messages are framed.

Messages from the platform: ``run`` (``id``, ``arguments``, ``environment``, ``directory``),
``signal`` (``id``, ``number``: to the process and what shares its group), ``awaken`` (``seed`` as
hexadecimal, ``now_ns``: after a snapshot was restored), ``ping`` (``id``), ``power off``.
Messages to it: ``hello`` (``kernel``, ``python``, ``uptime_s``), ``started`` (``id``), ``failed``
(``id``, ``reason``), ``output`` (``id``, ``data`` as base64), ``exited`` (``id``, ``code`` or
``signal``; after all of the output that was written by then), ``awake``, ``pong`` (``id``),
``error`` (``reason``: a message that is not understood).

What it is not: an isolation of its own. Processes run as root of the guest, whose walls are the
machine's. Python 3.8 and newer, standard library only.
"""

from __future__ import annotations

import base64
import os
import platform
import selectors
import signal
import time
import traceback
from typing import Any

from firelet.guest import vm_process
from firelet.linux import machine, mount, stream_messages

MODULES = "/.firelet/modules"
PORT = "firelet"

_PORTS = "/sys/class/virtio-ports"
_PORT_PATIENCE_S = 10.0
_PAUSE_S = 0.01
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
        for kind, target, flags in _MOUNTS:
            os.makedirs(target, exist_ok=True)
            mount.mount(kind, target, kind, flags)
        for name in sorted(os.listdir(MODULES)):
            machine.load_module(f"{MODULES}/{name}")
        _Init(_open_port()).run()
    except BaseException:
        traceback.print_exc()
    finally:
        machine.restart_machine()


def _open_port() -> int:
    """The control channel. TimeoutError when the machine has no such port."""
    end = time.monotonic() + _PORT_PATIENCE_S
    while time.monotonic() < end:
        for device in os.listdir(_PORTS) if os.path.isdir(_PORTS) else ():
            if _name_of(device) == PORT:
                return os.open(f"/dev/{device}", os.O_RDWR | os.O_CLOEXEC)
        time.sleep(_PAUSE_S)
    raise TimeoutError(f"no virtio serial port is named {PORT}")


def _name_of(device: str) -> str | None:
    """None for a port that the machine has announced and not yet named."""
    try:
        with open(f"{_PORTS}/{device}/name") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


class _Init:
    """One thread. It reads without waiting only where the selector says that there is something;
    it writes to a port that the platform reads."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._decoder = stream_messages.Decoder()
        self._selector = selectors.DefaultSelector()
        self._ids: dict[int, str] = {}  # of processes that run, by pid
        self._outputs: dict[str, int] = {}
        self._is_over = False

    def run(self) -> None:
        ended, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(ended, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._selector.register(self._port, selectors.EVENT_READ, self._on_messages)
        self._selector.register(ended, selectors.EVENT_READ, lambda: self._on_ends(ended))
        self._send(
            event="hello",
            kernel=os.uname().release,
            python=platform.python_version(),
            uptime_s=time.clock_gettime(time.CLOCK_BOOTTIME),
        )
        while not self._is_over:
            for key, _ in self._selector.select():
                key.data()

    def _send(self, **message: Any) -> None:
        data = memoryview(stream_messages.encode(message))
        while data:
            data = data[os.write(self._port, data) :]

    def _on_messages(self) -> None:
        data = os.read(self._port, _READ_BYTES)
        if not data:
            self._is_over = True  # the platform has gone
        for message in self._decoder.feed(data):
            try:
                self._obey(message)
            except (KeyError, TypeError, ValueError, OSError) as error:
                self._send(event="error", reason=f"{type(error).__name__}: {error}")

    def _obey(self, message: dict[str, Any]) -> None:
        kind = message["do"]
        if kind == "run":
            self._run(message)
        elif kind == "signal":
            self._signal(message["id"], message["number"])
        elif kind == "awaken":
            machine.reseed_random(bytes.fromhex(message["seed"]))
            time.clock_settime_ns(time.CLOCK_REALTIME, message["now_ns"])
            self._send(event="awake")
        elif kind == "ping":
            self._send(event="pong", id=message["id"])
        elif kind == "power off":
            self._is_over = True
        else:
            raise ValueError(f"unknown message {kind!r}")

    def _run(self, message: dict[str, Any]) -> None:
        name = message["id"]
        if name in self._ids.values():
            raise ValueError(f"{name!r} runs already")
        try:
            pid, output = vm_process.start(message)
        except vm_process.NotStarted as error:
            self._send(event="failed", id=name, reason=str(error))
            return
        os.set_blocking(output, False)
        self._ids[pid] = name
        self._outputs[name] = output
        self._selector.register(output, selectors.EVENT_READ, lambda: self._pass_on(name, output))
        self._send(event="started", id=name)

    def _signal(self, name: str, number: int) -> None:
        """One that has ended already is no error: the news may be under way."""
        for pid, known in self._ids.items():
            if known == name:
                os.killpg(pid, number)

    def _pass_on(self, name: str, output: int) -> None:
        """Sends what can be read at once: as much as a pipe holds."""
        if self._outputs.get(name) != output:
            return  # closed by what else was looked at in the same round
        try:
            data = os.read(output, _READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._send(event="output", id=name, data=base64.b64encode(data).decode())
        else:
            self._close_output(name)

    def _close_output(self, name: str) -> None:
        output = self._outputs.pop(name)
        self._selector.unregister(output)
        os.close(output)

    def _on_ends(self, ended: int) -> None:
        """Reaps: processes that were asked for, and orphans, of which pid 1 becomes the parent."""
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
        self._send(event="exited", id=name, code=code, signal=number)
