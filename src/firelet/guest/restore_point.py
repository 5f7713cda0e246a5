"""The restore point of a snapshot, in the runtime's own process: where it is cloned.

``wait`` returns in clones only: each a fork of the initialised runtime that the snapshot's pid 1
has moved into namespaces of its own, or this very process in the clone of a whole machine. What it
then does is done by ``clone_state``.
Called by ``python_runtime``. The other end is ``snapshot``, in a machine ``pid1``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import warnings
from typing import Any

from firelet.linux import messages, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass

SNAPSHOT_FD = 4


def wait() -> dict[str, Any]:
    """Forks for as long as it is asked to; in a clone, the ``environment`` that it is told, and
    with a fork its ``name``."""
    channel = socket.socket(fileno=SNAPSHOT_FD)
    ended: set[int] = set()
    while True:
        message, fds = messages.receive(channel)
        if not fds:
            channel.close()
            return message
        ended = {pid for pid in ended if not _is_reaped(pid)}
        child = _fork()
        if child == 0:
            channel.close()
            told = _become_clone(socket.socket(fileno=fds[0]), fds[1:])
            if told is not None:
                return told
            os._exit(0)
        ended.add(child)
        for fd in fds:
            os.close(fd)
        messages.send(channel, {"pid": child})


def _become_clone(lead: socket.socket, pipes: list[int]) -> dict[str, Any] | None:
    """While it waits here it is moved; its own child is born into the new pid namespace. None in
    the process that is left over."""
    message, _ = messages.receive(lead)
    child = _fork()
    if child:
        messages.send(lead, {"pid": child})
        return None
    lead.close()
    os.setsid()
    output, log = pipes
    for target, source in ((1, output), (2, output), (3, log)):
        os.dup2(source, target, inheritable=target != 3)
    os.close(output)
    os.close(log)
    process.set_name(message["name"])
    os.chdir("/var/task")
    return message


def _fork() -> int:
    """Threads of the function stay behind, as the documentation says: no warning is owed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _is_reaped(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    return True
