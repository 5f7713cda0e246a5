"""The process of one external extension, from the fork off pid 1 to its own code.

Called by ``pid1`` only. Nothing here returns to pid 1's code in the child.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from firelet.guest import runtime_process, steps

_REPORT_FD = 3


def start(channel: socket.socket, output: int, message: dict[str, Any]) -> tuple[int, int]:
    """Starts the executable ``message["path"]``; its pid, and 0 or the error number with which it
    could not be executed. Returns when that is known."""
    failure, report = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            runtime_process.leave_init(channel)
            steps.become_extension(output, report, "/")
            runtime_process.default_signals()
            os.execve(message["path"], [message["path"]], message["environment"])
        except OSError as error:
            os.write(_REPORT_FD, b"%d" % (error.errno or 0))
        finally:
            os._exit(1)
    os.close(report)
    # The other end closes when the file is executed.
    number = os.read(failure, 16)
    os.close(failure)
    return pid, int(number or b"0")
