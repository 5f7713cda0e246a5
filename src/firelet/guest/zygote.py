"""Second stage: a single-threaded process on the function's interpreter that forks on request.

It runs trusted code only. What functions commonly import is imported once, here; each request
forks a child that becomes pid 1 of a new sandbox (``pid1``). The platform itself never forks.

Messages from the platform: first the two parts of the system call filter (of
which a zygote of snapshots has one), then
``{"op": "spawn", "id": …}`` with the descriptors of the child
(control channel, output pipe, log pipe, then one file to join each control group).
Messages to it: ``ready``, ``spawned`` with a pidfd, ``failed`` with the step.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import os
import select
import signal
import socket
import sys
from typing import Any, NoReturn

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from firelet.guest import pid1, python_runtime, steps
from firelet.guest.inheritance import Inheritance
from firelet.linux import messages, namespaces, process

PROC = "/.firelet/proc"


class Zygote:
    """The loop of the second stage. Owns the channel to the platform and its children."""

    def __init__(self, channel: socket.socket, final_filter: bytes, makes_snapshots: bool) -> None:
        self._channel = channel
        self._inheritance = Inheritance(
            final_filter,
            os.open(PROC + "/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC),
            steps.find_proc_covers(PROC),
            makes_snapshots,
        )
        # To come back from the pid namespace that unshare sets up for the next child.
        self._own_pid_namespace = os.open(PROC + "/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def run(self) -> None:
        """Serves requests until the platform closes the channel."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        messages.send(self._channel, {"event": "ready"})
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._wake_read:
                    os.read(self._wake_read, 4096)
                    self._reap()
                    continue
                try:
                    message, fds = messages.receive(self._channel)
                except (EOFError, ConnectionError):
                    return
                self._spawn(message, fds)

    def _spawn(self, message: dict[str, Any], fds: list[int]) -> None:
        identity = message["id"]
        try:
            namespaces.unshare(namespaces.CLONE_NEWPID)
            # Without the interpreter's handlers: pid 1 needs nothing of what they renew.
            pid = process.fork()
            if pid == 0:
                self._become_child(message, fds)
            pidfd = process.pidfd_open(pid)
        except OSError as error:
            messages.send(self._channel, {"event": "failed", "id": identity, "step": str(error)})
        else:
            messages.send(self._channel, {"event": "spawned", "id": identity}, [pidfd])
            os.close(pidfd)
        for fd in fds:
            os.close(fd)
        # Else the next child would be born into the namespace of this one.
        namespaces.setns(self._own_pid_namespace, namespaces.CLONE_NEWPID)

    def _become_child(self, message: dict[str, Any], fds: list[int]) -> NoReturn:
        signal.set_wakeup_fd(-1)
        os.close(self._wake_read)
        os.close(self._wake_write)
        os.close(self._own_pid_namespace)
        self._channel.close()
        pid1.main(message, fds, self._inheritance)

    def _reap(self) -> None:
        """Collects ended sandboxes, and orphans: the zygote is pid 1 of its namespace."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return


def main(channel: socket.socket) -> None:
    process.set_name("firelet-zygote")
    # For its children: a pid 1 is safe from signals of its own namespace only as long as it has no
    # handler.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    profile, _ = messages.receive(channel)
    python_runtime.preload()
    # What the dynamic linker and the C library read at the start. A runtime gets its function's.
    os.environ.clear()
    # Once here instead of in every process of every sandbox: what a fork inherits, and what
    # setting a sandbox up does not need.
    inherited = profile["inherited"]
    steps.give_up_for_good(None if inherited is None else base64.b64decode(inherited))
    # What exists now stays for good: keep the collector away from pages that children share.
    gc.collect()
    gc.disable()
    gc.freeze()
    Zygote(channel, base64.b64decode(profile["final"]), makes_snapshots=inherited is None).run()


if __name__ == "__main__":
    with contextlib.suppress(EOFError, ConnectionError):  # the platform has gone away already
        main(socket.socket(fileno=int(sys.argv[1])))
