"""The runtime's process, from the fork off pid 1 to the function: by exec, or by the Python client
in this very process; at once, or ahead of time, waiting on a pipe for what it is to run.

Called by ``pid1`` only. Nothing here returns to pid 1's code in the child.
"""

from __future__ import annotations

# The C functions: those of ``signal`` take the way through its enumerations and back, which makes
# each start copy a hundred pages more.
import _signal  # type: ignore[import-not-found]
import atexit
import gc
import json
import os
import random
import resource
import socket
import sys
import threading
import time
import traceback
from typing import Any, Callable, NoReturn

from firelet.guest import python_runtime, steps
from firelet.linux import process

_START_FD = 4


class Preloaded:
    """A runtime process that waits for its function, and our end of the pipe that it reads."""

    def __init__(self, pid: int, handover: int) -> None:
        self.pid = pid
        self._handover = handover

    def limit_data(self, bytes_limit: int) -> None:
        """As ``steps.set_address_space``, for a process that was started before."""
        resource.prlimit(self.pid, resource.RLIMIT_DATA, (bytes_limit, bytes_limit))

    def hand_over(self, message: dict[str, Any]) -> None:
        """Tells it what to run. Should it have died meanwhile, its end is reported as any."""
        start = {name: message[name] for name in ("environment", "directory", "name")}
        data = json.dumps(start).encode()
        try:
            while data:
                data = data[os.write(self._handover, data) :]
        except BrokenPipeError:
            pass
        finally:
            self.close()

    def dismiss(self) -> None:
        """The function needs a start of its own. Whoever finds the pipe closed ends by itself; the
        signal only makes it sooner, and is refused while the process is still privileged."""
        self.close()
        try:
            os.kill(self.pid, _signal.SIGKILL)
        except PermissionError:
            return

    def close(self) -> None:
        os.close(self._handover)


def preload(
    channel: socket.socket, output: int, log: int, request: dict[str, Any], final_filter: bytes
) -> Preloaded:
    """Starts a runtime ahead of the function that it will run. It has its own rights dropped at
    once; what it is to run is mounted later, in the namespaces that it shares with pid 1."""
    waiting, handover = os.pipe()
    pid = process.fork()
    if pid == 0:
        try:
            leave_init(channel)
            steps.become_runtime(output, log, "/", waiting)
            steps.drop_privileges(request["uid"], request["gid"], request["rootless"])
            process.set_dumpable(True)
            steps.install_filter(final_filter)
            arguments = request["preload"]["arguments"]
            if arguments:
                _execute(arguments, request["preload"]["environment"])
            message = _wait_for_start()
            # Not before: the machine may have been cloned while this process waited.
            _renew_after_fork()
            _run_client(message)
        finally:
            os._exit(1)
    os.close(waiting)
    return Preloaded(pid, handover)


def start(
    channel: socket.socket,
    output: int,
    log: int,
    message: dict[str, Any],
    become_runtime: Callable[[int, int, str], None],
) -> int:
    """Starts a runtime now; returns its pid. ``become_runtime`` takes the pipes and the directory
    in the new process, and leaves nothing of pid 1's there."""
    pid = os.fork()
    if pid == 0:
        try:
            leave_init(channel)
            become_runtime(output, log, message["directory"])
            arguments: list[str] = message["arguments"] or message["plain"]
            if arguments:
                _execute(arguments, message["environment"])
            _run_client(message)
        finally:
            os._exit(1)
    return pid


def leave_init(channel: socket.socket) -> None:
    """Out of init's session, without its handlers and its channel."""
    os.setsid()
    _signal.set_wakeup_fd(-1)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    channel.detach()


def _renew_after_fork() -> None:
    """What a function could notice of ``process.fork``: numbers that its neighbours draw too, and
    a thread that goes by the number of the zygote's."""
    random.seed()
    threading.main_thread()._set_native_id()  # type: ignore[attr-defined]


def default_signals() -> None:
    """Before an exec: Python ignores these, and what is ignored stays so across it."""
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)


def _execute(arguments: list[str], environment: dict[str, str]) -> NoReturn:
    default_signals()
    try:
        os.execve(arguments[0], arguments, environment)
    except OSError as error:
        # 127 and 126 are what a shell answers, and what the platform reports.
        print(f"{arguments[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def _wait_for_start() -> dict[str, Any]:
    with open(_START_FD, "rb") as source:
        data = source.read()
    if not data:
        os._exit(0)  # pid 1 let go of us
    message: dict[str, Any] = json.loads(data)
    os.chdir(message["directory"])
    return message


def _run_client(message: dict[str, Any]) -> NoReturn:
    """The Python client in this process, and then what an interpreter does at its end."""
    code = 1
    try:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        process.set_name(message["name"])
        os.environ.clear()
        os.environ.update(message["environment"])
        time.tzset()
        gc.enable()
        python_runtime.run()
    except SystemExit as stop:
        code = _exit_code(stop)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        _flush_standard_streams()
        os._exit(code)


def _exit_code(stop: SystemExit) -> int:
    """As ``sys.exit`` means it: a number, None for 0, and anything else is printed."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code & 0xFF
    print(stop.code, file=sys.stderr, flush=True)
    return 1


def _flush_standard_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            # A closed pipe or a stream that the function closed: its output ends here.
            continue
