"""A process of a microVM's guest: from the fork off its pid 1 to the program.

Called by ``vm_init`` only. What keeps the program from being run is told on a pipe that a
successful exec closes, so that it cannot be taken for an exit status of the program's own.
"""

from __future__ import annotations

import os
import signal
from typing import Any, NoReturn

_REASON_MAX = 1_024


class NotStarted(Exception):
    """The program never ran; the text is the kernel's reason, in words."""


def start(message: dict[str, Any]) -> tuple[int, int]:
    """Starts ``message["arguments"]`` with ``environment`` in ``directory``, in a session of its
    own: its pid, and the read end of a pipe for both its standard streams. NotStarted."""
    told, report = os.pipe()
    output, their_output = os.pipe()
    pid = os.fork()
    if pid == 0:
        _run(message, their_output, report)
    os.close(report)
    os.close(their_output)
    with open(told, "rb") as source:
        reason = source.read(_REASON_MAX)
    if reason:
        os.close(output)
        os.waitpid(pid, 0)
        raise NotStarted(reason.decode())
    return pid, output


def _run(message: dict[str, Any], output: int, report: int) -> NoReturn:
    try:
        os.setsid()
        nothing = os.open("/dev/null", os.O_RDONLY)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        # Those that the interpreter ignores for itself.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(message["directory"])
        arguments = message["arguments"]
        os.execve(arguments[0], arguments, message["environment"])
    except BaseException as error:
        strerror = error.strerror if isinstance(error, OSError) else None
        os.write(report, (strerror or str(error) or "unknown").lower().encode()[:_REASON_MAX])
    finally:
        os._exit(126)
