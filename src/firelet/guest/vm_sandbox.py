"""The sandbox inside a microVM's guest: the same zygote and the same pid 1 as without a machine.

To them ``vm_init`` is the platform: it starts the zygote, has it fork one pid 1, and from then on
carries messages between that and the real platform, which has no other way into the guest. What
travels as descriptors on a host (the log pipes, the Runtime API's listener, sockets) ends here and
goes on as streams of the link.
Called by ``vm_init``. The other end is ``sandbox/microvm/machine_sandbox``.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
from typing import Any, Callable

from firelet.guest import enter, machine_network, vm_drives, vm_fuse
from firelet.guest.vm_cgroup import Group
from firelet.guest.vm_link import Link, Relay
from firelet.linux import interfaces, messages, namespaces, process

_STORE = "/.firelet/code"  # where the zygote sees ``vm_drives.STORE``


class StepFailed(Exception):
    """The zygote or the new pid 1 said so, as a message ``error`` says it."""

    def __init__(self, message: dict[str, Any]) -> None:
        super().__init__(message["step"])
        self.message = message


class Sandbox:
    """Made when the machine is told which root to build; one for each machine."""

    def __init__(self, link: Link, message: dict[str, Any]) -> None:
        self._link = link
        self._group = Group()
        self._peak = 0
        self._out_of_memory_kills = 0
        self._connecting: dict[int, Callable[[list[int]], None]] = {}
        self._zygote, self._mount_namespace = _start_zygote(message["plan"], message["profile"])
        output, their_output = os.pipe()
        log, their_log = os.pipe()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        procs = self._group.open_procs()
        given = [theirs.fileno(), their_output, their_log, procs]
        messages.send(self._zygote, {"op": "spawn", "id": "", **message["request"]}, given)
        theirs.close()
        for fd in given[1:]:
            os.close(fd)
        _, fds = _receive(self._zygote, "spawned")
        self._pid = process.pid_of(fds[0])
        os.close(fds[0])
        _, fds = _receive(self._channel, "embryo")
        self._listener = socket.socket(fileno=fds[0])
        self._listener.setblocking(False)
        loop = link.loop
        loop.watch(self._listener.fileno(), select.EPOLLIN, self._accept)
        loop.watch(self._channel.fileno(), select.EPOLLIN, self._pass_on)
        pipes = {"output": output, "log": log}
        self._pipes = [Relay(fd, {"for": kind}, is_kept=True) for kind, fd in pipes.items()]
        for pipe in self._pipes:
            link.relay(pipe)

    def connect_network(self) -> None:
        """Gives the machine's only device to the sandbox: nobody else in here has a network."""
        (name,) = (name for name in os.listdir("/sys/class/net") if name != "lo")
        inside = os.open(f"/proc/{self._pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            interfaces.move_to_namespace(name, inside)
            namespaces.setns(inside, namespaces.CLONE_NEWNET)
            try:
                machine_network.configure_guest_side(name)
            finally:
                namespaces.setns(own, namespaces.CLONE_NEWNET)
        finally:
            os.close(inside)
            os.close(own)

    def assign(self, message: dict[str, Any]) -> None:
        """Limits, what is in the slots, and the file systems; the rest is pid 1's."""
        self._group.limit(message["memory_bytes"], message["pids"])
        for name in message["slots"]:
            vm_drives.mount_slot(name, self._mount_namespace, f"{_STORE}/{name}")
        for name in message["file_systems"]:
            os.mkdir(f"{vm_drives.STORE}/{name}")
            fd = vm_fuse.mount_file_system(self._mount_namespace, f"{_STORE}/{name}")
            self._link.relay(vm_fuse.FuseRelay(fd, {"for": "file system", "name": name}))
        self.tell(message["message"])

    def tell(self, message: dict[str, Any]) -> None:
        """Something that pid 1 understands and that takes no descriptors."""
        messages.send(self._channel, message)

    def start_extension(self, message: dict[str, Any]) -> None:
        output, theirs = os.pipe()
        self._link.relay(Relay(output, {"for": "extension", "name": message["name"]}))
        messages.send(self._channel, message, [theirs])
        os.close(theirs)

    def end_all(self) -> None:
        """All but pid 1, from outside: among processes that fork without end its turn comes late.
        It is to tell when it has reaped them."""
        self._group.end_all_but(self._pid)

    def hold(self, is_held: bool) -> None:
        """While the machine goes on for a reason of its own."""
        self._group.hold(is_held)

    def connect(self, stream: int, port: int) -> None:
        """Over a socket that pid 1 makes in its network namespace, to its loopback."""

        def go_on(fds: list[int]) -> None:
            connection = socket.socket(fileno=fds[0])
            if not self._link.mux.credit(stream):
                connection.close()  # whoever asked gave up
                return
            # It is the loopback: whether somebody listens there is known at once.
            number = connection.connect_ex(("127.0.0.1", port))
            if number:
                connection.close()
                self._link.tell(event="not connected", stream=stream, errno=number)
                self._link.mux.reset(stream)
            else:
                self._link.tell(event="connected", stream=stream)
                self._link.relay(Relay(connection.detach(), {"for": "connect"}), stream)

        self._connecting[stream] = go_on
        messages.send(self._channel, {"op": "socket", "id": stream})

    def _accept(self, _events: int) -> None:
        """A connection to the Runtime API."""
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ECONNABORTED):
                return
            raise
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._link.relay(
            Relay(
                connection.detach(),
                {"for": "api"},
                is_kept=True,
                before_data=self._tell_what_came_before,
            )
        )

    def _pass_on(self, _events: int) -> None:
        """What pid 1 says."""
        try:
            message, fds = messages.receive(self._channel)
        except (EOFError, ConnectionError):
            self._link.loop.forget(self._channel.fileno())
            self._link.tell(event="sandbox ended")
            return
        event = message["event"]
        if event == "socket":
            self._connecting.pop(message["id"])(fds)
            return
        if event in ("exited", "extension exited"):
            message["out_of_memory"] = self._is_out_of_memory()
        elif event == "killed":
            self._group.allow_forks()
        self._tell_what_came_before()
        self._link.tell(**message)

    def _tell_what_came_before(self) -> None:
        """Ahead of what the runtime or pid 1 says: what was written to the pipes until then, and
        the peak of the memory. The platform is asked for that where it cannot wait for an answer,
        so it is told of each change that it could be asked about."""
        for pipe in self._pipes:
            pipe.drain()
        peak = self._group.peak_bytes()
        if peak != self._peak:
            self._peak = peak
            self._link.mux.message({"event": "memory", "peak_bytes": peak})

    def _is_out_of_memory(self) -> bool:
        kills = self._group.out_of_memory_kills()
        if kills == self._out_of_memory_kills:
            return False
        self._out_of_memory_kills = kills
        return True


def _start_zygote(plan: dict[str, Any], profile: dict[str, Any]) -> tuple[socket.socket, int]:
    """Its channel, and a descriptor of its mount namespace. Blocks until it is ready."""
    channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        try:
            signal.set_wakeup_fd(-1)
            enter.main(theirs)
        finally:
            os._exit(1)
    theirs.close()
    messages.send(channel, plan)
    messages.send(channel, profile)
    _, fds = _receive(channel, "entered")
    _receive(channel, "ready")
    pid = process.pid_of(fds[0])
    os.close(fds[0])
    namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    return channel, namespace


def _receive(channel: socket.socket, event: str) -> tuple[dict[str, Any], list[int]]:
    """The next message, which is to be this one. StepFailed when it is another."""
    try:
        message, fds = messages.receive(channel)
    except (EOFError, ConnectionError):
        raise StepFailed(
            {"event": "error", "step": f"ended before {event}", "path": None}
        ) from None
    if message["event"] != event:
        raise StepFailed({"event": "error", "path": None, **message})
    return message, fds
