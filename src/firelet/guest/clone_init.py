"""Pid 1 of a clone: makes the clone's namespaces, gives up all rights, and waits.

It is a fork of the snapshot's pid 1 (``snapshot``), in two steps, since the process that makes a
pid namespace is not in it. It never runs a function's code; the runtime joins its namespaces later.
All that it does afterwards is to start extensions, to hand out sockets, to reap, to stop and
continue the runtime where no control group can, and to end with its channel, which ends everything
in the clone.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import stat
from typing import Any, NoReturn

from firelet.guest import extension_process, steps
from firelet.guest.inheritance import Inheritance
from firelet.linux import messages, mount, namespaces, process

NAMESPACES = (
    namespaces.CLONE_NEWUSER
    | namespaces.CLONE_NEWPID
    | namespaces.CLONE_NEWNS
    | namespaces.CLONE_NEWNET
    | namespaces.CLONE_NEWIPC
    | namespaces.CLONE_NEWUTS
    | namespaces.CLONE_NEWCGROUP
)
# Asked by the snapshot's pid 1 once the runtime has joined, and answered.
SEAL = b"s"

_TMP = "/tmp"  # noqa: S108 - the sandbox's own


def main(
    channel_fd: int,
    lead: socket.socket,
    procs: list[int],
    request: dict[str, Any],
    inherited: Inheritance,
    runtime_user_namespace: str | None,
) -> NoReturn:
    """Never returns. ``lead`` is told the pid of the new init; ``channel_fd`` is its own."""
    code = 1
    channel = socket.socket(fileno=channel_fd)
    try:
        signal.set_wakeup_fd(-1)
        # Before the rights to do so are gone, and so that all that follows is charged to it.
        for fd in procs:
            os.write(fd, b"0")
        _enter_namespaces(request["uid"], request["gid"], runtime_user_namespace)
        pid = os.fork()
        if pid:
            lead.sendall(b"%d" % pid)
            os._exit(0)
        _close_except({channel.fileno(), lead.fileno()})
        os.setsid()
        process.set_name("firelet-init")
        listener = _build(request, inherited.proc_covers)
        _give_up_rights(inherited.final_filter)
        messages.send(channel, {"event": "embryo"}, [listener.fileno()])
        listener.close()
        _run(channel, lead)
        code = 0
    except (EOFError, ConnectionError):
        code = 0
    except OSError as error:
        messages.send(
            channel,
            {
                "event": "error",
                "step": f"clone: {error}",
                "path": error.filename,
                "errno": error.errno,
            },
        )
    finally:
        os._exit(code)


def _enter_namespaces(uid: int, gid: int, runtime_user_namespace: str | None) -> None:
    """As the sandbox's own user: only who has made a user namespace may enter it from outside,
    and the runtime, which is that user, is to enter this one."""
    if runtime_user_namespace is None:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        # A change of user hides a process's own /proc files from it.
        process.set_dumpable(True)
    else:
        fd = os.open(runtime_user_namespace, os.O_RDONLY | os.O_CLOEXEC)
        namespaces.setns(fd, namespaces.CLONE_NEWUSER)
        os.close(fd)
    namespaces.unshare(NAMESPACES)
    namespaces.map_single_user(uid, uid, gid, gid)


def _build(request: dict[str, Any], covers: steps.ProcCovers) -> socket.socket:
    """Mounts, host name and network; the listener of the Runtime API."""
    mount.make_private("/")
    namespaces.set_hostname(request["hostname"])
    listener = steps.open_runtime_listener(request["port"])
    steps.mount_proc(covers)
    # What a less privileged namespace has inherited can be covered, not removed.
    mount.mount("firelet", steps.HIDDEN, "tmpfs", mount.MS_RDONLY, "size=4k,mode=000")
    _mount_tmp(request["tmp_mib"])
    os.chdir("/")
    return listener


def _mount_tmp(size_mib: int) -> None:
    """A /tmp of its own that starts as the snapshot's."""
    old = os.open(_TMP, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    steps.mount_tmp(size_mib)
    _copy_into(f"/proc/self/fd/{old}", _TMP)
    os.close(old)


def _copy_into(source: str, target: str) -> None:
    """Directories, files and links with their modes and times. What else there is (sockets,
    pipes) belongs to processes that have not come along."""
    for entry in os.scandir(source):
        path = os.path.join(target, entry.name)
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), path)
        elif entry.is_dir():
            os.mkdir(path)
            _copy_into(entry.path, path)
            shutil.copystat(entry.path, path)
        elif stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            shutil.copy2(entry.path, path)


def _give_up_rights(program: bytes) -> None:
    process.set_no_new_privileges()
    process.drop_bounding_set()
    process.drop_capabilities()
    steps.install_filter(program)
    # The runtime may enter the namespaces of a process that it could trace, until it is sealed.
    process.set_dumpable(True)


def _run(channel: socket.socket, lead: socket.socket) -> None:
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    poll.register(lead.fileno(), select.POLLIN)
    # No handler and no wake-up: children that end are reaped by the kernel.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    extensions = _Extensions(channel)
    while True:
        for fd, _ in poll.poll():
            if fd == channel.fileno():
                message, fds = messages.receive(channel)
                if message["op"] == "signal":
                    _signal_all(message["number"])
                elif message["op"] == "socket":
                    steps.hand_out_socket(channel, message["id"])
                elif message["op"] == "extension":
                    poll.register(extensions.wake(), select.POLLIN)
                    extensions.start(message, fds[0])
            elif fd == extensions.woken:
                extensions.reap()
            else:
                poll.unregister(fd)
                if lead.recv(1) == SEAL:
                    process.set_dumpable(False)
                    lead.sendall(SEAL)
                lead.close()


class _Extensions:
    """The external extensions of the clone. They are not restored: each clone starts its own."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._names: dict[int, str] = {}
        self.woken = -1

    def wake(self) -> int:
        """What is readable when a child has ended, from now on."""
        if self.woken < 0:
            self.woken, write = os.pipe()
            os.set_blocking(self.woken, False)
            os.set_blocking(write, False)
            signal.set_wakeup_fd(write, warn_on_full_buffer=False)
            signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        return self.woken

    def start(self, message: dict[str, Any], output: int) -> None:
        pid, number = extension_process.start(self._channel, output, message)
        os.close(output)
        name: str = message["name"]
        if number:
            self._tell("extension failed", name, errno=number)
        else:
            self._names[pid] = name

    def reap(self) -> None:
        """Orphans of the clone too."""
        os.read(self.woken, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            name = self._names.pop(pid, None)
            if name is not None:
                self._tell("extension exited", name, status=status)

    def _tell(self, event: str, name: str, **fields: Any) -> None:
        messages.send(self._channel, {"event": event, "name": name, **fields})


def _signal_all(number: int) -> None:
    try:
        os.kill(-1, number)
    except ProcessLookupError:
        return


def _close_except(kept: set[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd not in kept:
            try:
                os.close(fd)
            except OSError:
                continue  # the descriptor of the listing itself
