"""Pid 1 of a sandbox: takes the steps in, starts the runtime, reaps, reports, resets.

It is a fork of the zygote that never runs a function's code: a reset after a timeout or a crash
kills all other processes and forks a fresh runtime from it, while mounts, /tmp and the network
namespace stay. When it ends, the kernel ends everything in its pid namespace.

Messages from the platform: ``assign`` (which code, which limits), ``start`` (how to run the
runtime), ``continue`` (how a machine's clone
goes on), ``extension`` (how to run one, with the pipe for its output), ``kill`` (end all processes
but this one), ``signal`` (stop or continue them all), ``signal runtime``, ``socket`` (make one in
this network namespace).
Messages to it: ``embryo`` with the Runtime API's listener, ``assigned``, ``exited``, ``extension
failed``, ``extension exited``, ``killed``, ``socket`` with the descriptor, ``error``. The end of
the channel is the end of the sandbox.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import traceback
from typing import Any, NoReturn

from firelet.guest import extension_process, image_process, image_root, runtime_process, steps
from firelet.guest.inheritance import Inheritance
from firelet.guest.snapshot import Snapshot
from firelet.linux import messages, process


def main(request: dict[str, Any], fds: list[int], inherited: Inheritance) -> NoReturn:
    """Runs to the end of the sandbox; never returns into the zygote's code."""
    channel = socket.socket(fileno=fds[0])
    code = 1
    try:
        init = _Init(channel, request, inherited, fds[1], fds[2], fds[3:])
        init.run()
        code = 0
    except (EOFError, ConnectionError):
        code = 0
    except OSError as error:
        _report(channel, f"{_step_of(error)}: {error}", error.filename, error.errno)
    except BaseException:
        _report(channel, traceback.format_exc(), None, None)
    finally:
        os._exit(code)


def _report(channel: socket.socket, step: str, path: str | None, number: int | None) -> None:
    try:
        messages.send(channel, {"event": "error", "step": step, "path": path, "errno": number})
    except OSError:
        # The platform is gone; there is nobody left to tell.
        return


def _step_of(error: OSError) -> str:
    """The function of ``steps`` in which it happened."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((f.name for f in frames if f.filename == steps.__file__), frames[-1].name)


class _Init:
    def __init__(
        self,
        channel: socket.socket,
        request: dict[str, Any],
        inherited: Inheritance,
        output: int,
        log: int,
        procs: list[int],
    ) -> None:
        self._channel = channel
        self._inherited = inherited
        self._is_rootless: bool = request["rootless"]
        self._output = output
        self._log = log
        self._runtime = 0
        self._extensions: dict[int, str] = {}
        self._launch: dict[str, str] | None = None
        self._preloaded: runtime_process.Preloaded | None = None
        self._snapshot: Snapshot | None = None
        self._at_rest: socket.socket | None = None
        # A session of its own: kill(0) and kill(-group) do not stop at the pid namespace.
        os.setsid()
        steps.join_cgroups(procs)
        process.set_name("firelet-init")
        steps.enter_namespaces(request["hostname"])
        listener = steps.open_runtime_listener(request["port"])
        steps.mount_proc(inherited.proc_covers)
        if not inherited.makes_snapshots:
            steps.hide_store()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._tmp_mib: int = request["tmp_mib"]
        steps.mount_tmp(self._tmp_mib)
        steps.write_passwd(request["uid"], request["gid"])
        steps.set_resource_limits(request["open_files"], request["processes"])
        if request["preload"] is not None:
            self._preloaded = runtime_process.preload(
                channel, output, log, request, inherited.final_filter
            )
        messages.send(channel, {"event": "embryo"}, [listener.fileno()])
        listener.close()

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._wake_read:
                    os.read(self._wake_read, 4096)
                    self._reap()
                else:
                    self._obey(*messages.receive(self._channel))

    def _obey(self, message: dict[str, Any], fds: list[int]) -> None:
        operation = message["op"]
        if operation == "start":
            self._start(message)
        elif operation == "kill":
            self._kill_all()
        elif operation == "signal":
            _signal_all(message["number"])
        elif operation == "signal runtime":
            self._signal_runtime(message["number"])
        elif operation == "extension":
            self._start_extension(message, fds[0])
        elif operation == "socket":
            steps.hand_out_socket(self._channel, message["id"])
        elif operation == "assign":
            self._assign(message)
        elif operation == "continue":
            self._continue(message)
        elif self._snapshot is not None:
            if operation == "spawn":
                self._snapshot.spawn(message, fds)
            elif operation == "restore":
                self._snapshot.restore(message)
            elif operation == "signal clone":
                self._snapshot.signal_clone(message["id"], message["number"])
            elif operation == "forget":
                self._snapshot.forget(message["id"])

    def _assign(self, message: dict[str, Any]) -> None:
        if message["tmp_mib"] != self._tmp_mib:
            steps.resize_tmp(message["tmp_mib"])
        zygote = self._inherited.mount_namespace
        if message["image"]:
            image_root.enter(zygote, message["image"])
        else:
            steps.mount_code(zygote, message["code"])
            steps.mount_layers(zygote, message["layers"])
        steps.mount_file_systems(
            zygote, message["file_systems"], message["uid"], message["gid"], self._is_rootless
        )
        os.close(zygote)
        if self._inherited.makes_snapshots:
            self._become_snapshot(message)
            return
        if message["data_bytes"] is not None:
            steps.set_address_space(message["data_bytes"])
            if self._preloaded is not None:
                self._preloaded.limit_data(message["data_bytes"])
        steps.drop_privileges(message["uid"], message["gid"], self._is_rootless)
        steps.install_filter(self._inherited.final_filter)
        messages.send(self._channel, {"event": "assigned"})

    def _become_snapshot(self, message: dict[str, Any]) -> None:
        """Keeps its rights, and its view of the hidden store, for the clones that it will make;
        the runtime is started without either."""
        process.set_dumpable(False)
        self._snapshot = Snapshot(
            self._channel,
            self._inherited,
            message["uid"],
            message["gid"],
            self._is_rootless,
        )
        messages.send(self._channel, {"event": "assigned"})

    def _start(self, message: dict[str, Any]) -> None:
        self._launch = None
        if message["image"]:
            self._runtime, self._launch = image_process.start(
                self._channel, self._output, self._log, message
            )
            return
        preloaded, self._preloaded = self._preloaded, None
        if preloaded is not None:
            if message["arguments"] is None and not message.get("rests"):
                preloaded.hand_over(message)
                self._runtime = preloaded.pid
                return
            preloaded.dismiss()
        if message.get("rests"):
            self._start_for_rest(message)
            return
        snapshot = self._snapshot
        self._runtime = runtime_process.start(
            self._channel,
            self._output,
            self._log,
            message,
            steps.become_runtime if snapshot is None else snapshot.become_runtime,
        )
        if snapshot is not None:
            snapshot.runtime = self._runtime

    def _start_for_rest(self, message: dict[str, Any]) -> None:
        """A runtime that stops at its restore point, and is told there when the whole machine has
        been cloned."""
        self._at_rest, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def become_runtime(output: int, log: int, directory: str) -> None:
            steps.become_runtime(output, log, directory, theirs.fileno())

        self._runtime = runtime_process.start(
            self._channel, self._output, self._log, message, become_runtime
        )
        theirs.close()

    def _continue(self, message: dict[str, Any]) -> None:
        """Should the runtime have ended meanwhile, its end is reported as any."""
        if self._at_rest is not None:
            with self._at_rest as channel, contextlib.suppress(BrokenPipeError):
                messages.send(channel, {"environment": message["environment"]})
            self._at_rest = None

    def _start_extension(self, message: dict[str, Any], output: int) -> None:
        pid, number = extension_process.start(self._channel, output, message)
        os.close(output)
        name: str = message["name"]
        if number:
            messages.send(
                self._channel, {"event": "extension failed", "name": name, "errno": number}
            )
        else:
            self._extensions[pid] = name

    def _signal_runtime(self, number: int) -> None:
        """Its whole process group: what it has started belongs to it."""
        if not self._runtime:
            return
        try:
            os.kill(-self._runtime, number)
        except ProcessLookupError:
            # It was forked a moment ago, and has no group of its own yet.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._runtime, number)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._preloaded is not None and pid == self._preloaded.pid:
                self._preloaded.close()
                self._preloaded = None
            if self._snapshot is not None:
                self._snapshot.reaped(pid, status)
            if pid == self._runtime:
                self._runtime = 0
                ending = {"event": "exited", "status": status, "launch": self._launch}
                messages.send(self._channel, ending)
            name = self._extensions.pop(pid, None)
            if name is not None:
                messages.send(
                    self._channel, {"event": "extension exited", "name": name, "status": status}
                )

    def _kill_all(self) -> None:
        """Ends and reaps every other process; the answer says that none is left."""
        self._runtime = 0
        self._extensions.clear()
        if self._preloaded is not None:
            self._preloaded.close()
            self._preloaded = None
        _signal_all(signal.SIGKILL)
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                break
        messages.send(self._channel, {"event": "killed"})


def _signal_all(number: int) -> None:
    try:
        os.kill(-1, number)
    except ProcessLookupError:
        return
