"""Pid 1 of a snapshot: makes new environments out of a function that has been through INIT.

A *clone* is a fork of the initialised runtime inside namespaces of its own. They are made first,
with a small init as their pid 1, and wait (``spawn``); then the runtime forks, and its child is
moved into them (``restore``). The child runs the function's code and has no right to do that; pid 1
borrows it while it waits in the kernel, makes the system calls in its name, and gives it back
without any capability. Nothing of the function runs in between, and its filter stays as it is.

                     pid 1 (this)                       runtime, at the restore point
     spawn    ──►  fork ── user, pid, mount, net, …
                     └─ fork ── init of the clone
     restore  ──►  ask ─────────────────────────────►  fork ── waits for the environment
                   borrow: setns, drop capabilities ◄──────┘
                   seal the init, send the environment ───►  fork ── the clone's runtime

The pid namespaces are nested: a process may only enter one below its own. So a clone is an
orphan of the snapshot's namespace, its end is seen here, and it ends with the snapshot.
Called by ``pid1``. Source: setns(2), pid_namespaces(7), user_namespaces(7).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import Any

from firelet.guest import clone_init, steps
from firelet.guest.inheritance import Inheritance
from firelet.linux import messages, namespaces, process
from firelet.linux.libc import PIDFD_OPEN, capset_number, close_number, setns_number
from firelet.linux.ptrace import Borrowed

# The runtime is the customer's: whatever it does instead of answering, pid 1 goes on.
_PATIENCE_S = 5.0


class _Clone:
    """What is kept of one clone until it is restored. ``lead`` talks to its init."""

    def __init__(self, lead: socket.socket, init: int, fds: list[int]) -> None:
        self.lead = lead
        self.init = init  # its pid here
        self.output, self.log, *self.procs = fds

    def close(self) -> None:
        self.lead.close()
        for fd in (self.output, self.log, *self.procs):
            os.close(fd)


class Snapshot:
    """Owns the channel to the runtime and the clones that wait. ``channel`` is the platform's."""

    def __init__(
        self,
        channel: socket.socket,
        inherited: Inheritance,
        uid: int,
        gid: int,
        is_rootless: bool,
    ) -> None:
        self._channel = channel
        self._inherited = inherited
        self._uid = uid
        self._gid = gid
        self._is_rootless = is_rootless
        self._fork_server, self._runtime_end = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        self._fork_server.settimeout(_PATIENCE_S)
        self._waiting: dict[str, _Clone] = {}
        self._running: dict[int, str] = {}
        self.runtime = 0

    def become_runtime(self, output: int, log: int, directory: str) -> None:
        """In the process of the runtime: as any other, without rights and store. Pid 1 keeps both
        for the clones, in the mount namespace that it leaves here."""
        namespaces.unshare(namespaces.CLONE_NEWNS)
        steps.hide_store()
        steps.become_runtime(output, log, directory, self._runtime_end.fileno())
        steps.drop_privileges(self._uid, self._gid, self._is_rootless)
        process.set_dumpable(True)
        steps.install_filter(self._inherited.final_filter)

    def spawn(self, message: dict[str, Any], fds: list[int]) -> None:
        """Makes the namespaces of a clone and its init, which answers on its own channel."""
        identity: str = message["id"]
        theirs, output, log, *procs = fds
        lead, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        lead.settimeout(_PATIENCE_S)
        try:
            if os.fork() == 0:
                clone_init.main(
                    theirs,
                    end,
                    procs,
                    {**message, "uid": self._uid, "gid": self._gid},
                    self._inherited,
                    self._runtime_user_namespace(),
                )
            end.close()
            init = int(lead.recv(16) or b"0")
            pidfd = process.pidfd_open(init)
        except (OSError, ValueError) as error:
            lead.close()
            for fd in (output, log, *procs):
                os.close(fd)
            self._tell("failed", identity, step=f"spawn of a clone: {error}")
        else:
            self._waiting[identity] = _Clone(lead, init, [output, log, *procs])
            messages.send(self._channel, {"event": "spawned", "id": identity}, [pidfd])
            os.close(pidfd)
        finally:
            os.close(theirs)

    def restore(self, message: dict[str, Any]) -> None:
        """Forks the runtime into the clone's namespaces and tells it its environment."""
        identity: str = message["id"]
        clone = self._waiting.pop(identity, None)
        if clone is None:
            self._tell("failed", identity, step="restore of an unknown clone")
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        child = 0
        try:
            child = self._fork(clone, theirs)
            for fd in clone.procs:
                os.write(fd, b"%d" % child)
            self._move(child, clone.init)
            clone.lead.sendall(clone_init.SEAL)
            if clone.lead.recv(1) != clone_init.SEAL:
                raise OSError("the init of a clone has ended")
            messages.send(ours, {"environment": message["environment"], "name": message["name"]})
            ours.settimeout(_PATIENCE_S)
            self._running[messages.receive(ours)[0]["pid"]] = identity
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            if child:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            self._tell("failed", identity, step=f"restore: {error}")
        finally:
            ours.close()
            theirs.close()
            clone.close()

    def forget(self, identity: str) -> None:
        """The clone was stopped before it was restored."""
        clone = self._waiting.pop(identity, None)
        if clone is not None:
            clone.close()

    def signal_clone(self, identity: str, number: int) -> None:
        """Signals the runtime of a clone and what it has started."""
        for pid, owner in self._running.items():
            if owner == identity:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-pid, number)

    def reaped(self, pid: int, status: int) -> None:
        """One of our orphans has ended: tells whose runtime that was, if it was one."""
        identity = self._running.pop(pid, None)
        if identity is not None:
            self._tell("clone exited", identity, status=status)

    def _fork(self, clone: _Clone, theirs: socket.socket) -> int:
        """Asks the runtime for a child that waits on ``theirs``; its pid. The runtime itself, with
        whatever threads the function has left in it, runs for just as long."""
        os.kill(self.runtime, signal.SIGCONT)
        try:
            messages.send(
                self._fork_server, {"op": "fork"}, [theirs.fileno(), clone.output, clone.log]
            )
            child = int(messages.receive(self._fork_server)[0]["pid"])
        finally:
            os.kill(self.runtime, signal.SIGSTOP)
        # It is the customer's word: nobody but a child of the runtime is moved.
        if _parent_of(child) != self.runtime:
            raise OSError("the runtime named a process that is not its child")
        return child

    def _move(self, child: int, init: int) -> None:
        """Takes a waiting process into the namespaces of ``init``, where it has no rights."""
        with Borrowed(child, without_filter=not self._is_rootless) as borrowed:
            pidfd = borrowed.syscall("pidfd_open", PIDFD_OPEN, init, 0)
            borrowed.syscall("setns", setns_number(), pidfd, clone_init.NAMESPACES)
            borrowed.syscall("close", close_number(), pidfd)
            # Entering a user namespace gives all capabilities in it; they go at once. The bounding
            # set stays full, and bounds nothing: no_new_privs keeps an execve from adding to what
            # is there, and the namespace has no root to become.
            header = borrowed.scratch(process.EMPTY_CAPABILITIES)
            data = header + process.CAPABILITY_HEADER_BYTES
            borrowed.syscall("capset", capset_number(), header, data)

    def _runtime_user_namespace(self) -> str | None:
        """Rootless: where the runtime is, so that the clone's user namespace can be below it."""
        return f"/proc/{self.runtime}/ns/user" if self._is_rootless else None

    def _tell(self, event: str, identity: str, **fields: Any) -> None:
        messages.send(self._channel, {"event": event, "id": identity, **fields})


def _parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as stat:
        return int(stat.read().rpartition(b")")[2].split()[1])
