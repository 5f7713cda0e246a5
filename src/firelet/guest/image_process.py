"""The process of a container image, from the fork off pid 1 to the program of the image.

Called by ``pid1`` only. What keeps the program from being run is told on a pipe that a successful
exec closes, so that it cannot be taken for an exit status of the program's own.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any, NoReturn

from firelet.guest import runtime_process, steps

_REPORT_FD = 4
_REPORT_MAX = 65_536
_PATH_MAX = 1_024


def start(
    channel: socket.socket, output: int, log: int, message: dict[str, Any]
) -> tuple[int, dict[str, str] | None]:
    """Starts the program; its pid, and why it never ran: the step (``chdir``, ``look_up``,
    ``exec``), the path and the kernel's reason."""
    told, report = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            runtime_process.leave_init(channel)
            steps.become_runtime(output, log, "/", report)
            os.set_inheritable(_REPORT_FD, False)
            runtime_process.default_signals()
            _run(message["directory"], message["arguments"], message["environment"])
        finally:
            os._exit(1)
    os.close(report)
    with open(told, "rb") as source:
        text = source.read(_REPORT_MAX)
    return pid, json.loads(text) if text else None


def _run(directory: str, arguments: list[str], environment: dict[str, str]) -> NoReturn:
    try:
        os.chdir(directory)
    except (OSError, ValueError) as error:
        _fail("chdir", directory, _reason(error))
    path = _look_up(arguments[0], environment.get("PATH", ""))
    if path is None:
        _fail("look_up", arguments[0], "executable file not found in $PATH")
    try:
        os.execve(path, arguments, environment)
    except (OSError, ValueError) as error:
        _fail("exec", path, _reason(error))


def _look_up(name: str, search: str) -> str | None:
    """The program's path: as it is with a slash in it, else by PATH."""
    if "/" in name:
        return name
    for directory in search.split(":"):
        path = os.path.join(directory, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def _reason(error: Exception) -> str:
    """The kernel's; the interpreter refuses by itself what the kernel would call invalid."""
    strerror = error.strerror if isinstance(error, OSError) else None
    return (strerror or "invalid argument").lower()


def _fail(step: str, path: str, reason: str) -> NoReturn:
    report = {"step": step, "path": path[:_PATH_MAX], "reason": reason}
    os.write(_REPORT_FD, json.dumps(report).encode())
    os._exit(126)
