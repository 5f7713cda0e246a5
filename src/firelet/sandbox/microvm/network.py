"""The network of one machine: a namespace of its own on the host, and a TAP device in it.

What it is: the host's side of a machine's only network device. What it is not: the guest's side
(``guest/machine_network``), nor the way out (``egress``), which a machine has only if it is given
one: without, it reaches the host's side of its own cable, where nothing listens, and no more.
A namespace is held by a descriptor alone: when the platform goes, however it goes, so does all of
this. Called by the driver, which owns it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from firelet.guest import machine_network
from firelet.guest.machine_network import TAP_NAME
from firelet.linux import messages, namespaces, tap
from firelet.sandbox.microvm.egress import NatGateway, NetworkRefused, NetworkVerdict
from firelet.sandbox.microvm.vmm import Nic

T = TypeVar("T")

_MAKER_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class _Parts:
    """``tap``: None where it is left to somebody else to open. ``slot``: of the way out."""

    tap: int | None
    namespace: int
    slot: int | None = None

    def close(self) -> None:
        if self.tap is not None:
            os.close(self.tap)
        os.close(self.namespace)


class MachineNetwork:
    """Constructing it does nothing. ``open`` once; ``close`` after the machine has ended, also when
    ``open`` was cancelled or failed.

    QEMU inherits ``tap_fd``. Firecracker's jailer enters ``namespace_path``, and Firecracker opens
    ``tap_name``: for that, ``owner`` is its uid, and there is no ``tap_fd`` then.
    ``device`` is the kernel's, but for tests.
    """

    def __init__(
        self,
        *,
        egress: NatGateway | None = None,
        owner: int | None = None,
        device: str = tap.DEVICE,
    ) -> None:
        self._egress = egress
        self._owner = owner
        self._device = device
        self._parts: _Parts | None = None
        self._is_closed = False

    @property
    def tap_name(self) -> str:
        return TAP_NAME

    @property
    def tap_fd(self) -> int:
        """Of frames with a header (``tap.HEADER_BYTES``). It stays this object's: what inherits it
        has one of its own. NetworkRefused if there is none."""
        held = self._held().tap
        if held is None:
            raise NetworkRefused(f"{TAP_NAME} is left to the uid {self._owner} to open.")
        return held

    @property
    def nic(self) -> Nic:
        """The guest's device, for the machine's specification."""
        held = self._held().tap
        if held is not None:
            return Nic(held, machine_network.GUEST_HARDWARE)
        return Nic(TAP_NAME, machine_network.GUEST_HARDWARE, self.namespace_path)

    @property
    def namespace_fd(self) -> int:
        return self._held().namespace

    @property
    def namespace_path(self) -> Path:
        """For a process of this host that may look into this one (root, or the same user); good
        until ``close``."""
        return Path(f"/proc/{os.getpid()}/fd/{self.namespace_fd}")

    async def open(self) -> None:
        """Takes one or two milliseconds, without root some 50. NetworkRefused, with the reason."""
        work = asyncio.get_running_loop().run_in_executor(None, self._make)
        # What a cancelled call has made meanwhile must not be lost.
        work.add_done_callback(self._take)
        await asyncio.shield(work)

    def close(self) -> None:
        """Gives everything back, without waiting for the kernel to take it apart. May be called
        again."""
        self._is_closed = True
        if self._parts is not None:
            self._release(self._parts)
            self._parts = None

    def run_inside(self, function: Callable[[], T]) -> T:
        """What ``function`` returns in the namespace; a socket that it makes stays there. Blocks.
        Needs root."""
        return namespaces.run_in_network(self.namespace_fd, function)

    def _held(self) -> _Parts:
        if self._parts is None:
            raise NetworkRefused("The network is not open.")
        return self._parts

    def _take(self, work: asyncio.Future[_Parts]) -> None:
        if work.cancelled() or work.exception() is not None:
            return
        self._parts = work.result()
        if self._is_closed:
            self.close()

    def _release(self, parts: _Parts) -> None:
        parts.close()
        if self._egress is not None and parts.slot is not None:
            self._egress.disconnect(parts.slot)

    def _make(self) -> _Parts:
        is_root = os.geteuid() == 0
        if not is_root and (self._egress is not None or self._owner is not None):
            raise NetworkRefused("Only root may give a machine a way out, or a TAP to others.")
        try:
            parts = self._make_here() if is_root else _make_in_user_namespace(self._device)
        except OSError as error:
            raise NetworkRefused(_explain(error)) from error
        if self._egress is None:
            return parts
        try:
            return replace(parts, slot=self._egress.connect(parts.namespace))
        except BaseException:
            parts.close()
            raise

    def _make_here(self) -> _Parts:
        def build(namespace: int) -> _Parts:
            fd = machine_network.build_host_side(self._device, self._owner)
            if self._owner is None:
                return _Parts(fd, os.dup(namespace))
            os.close(fd)
            return _Parts(None, os.dup(namespace))

        return namespaces.run_in_new_network(build)


def probe_network(device: str = tap.DEVICE) -> NetworkVerdict:
    """Whether machines of this host could have a network of their own, found out by making one.
    Never raises; blocks."""
    network = MachineNetwork(device=device)
    try:
        network._make().close()
    except NetworkRefused as error:
        return NetworkVerdict(False, str(error))
    return NetworkVerdict(True, f"{device} works in a network namespace")


def _make_in_user_namespace(device: str) -> _Parts:
    """By a process of its own: one that has threads cannot enter a user namespace."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            program = str(Path(machine_network.__file__).resolve())
            maker = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", program, str(theirs.fileno()), device],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={},
                start_new_session=True,
            )
        ours.settimeout(_MAKER_TIMEOUT_S)
        try:
            answer, fds = messages.receive(ours)
        except (EOFError, TimeoutError) as error:
            raise NetworkRefused("The maker of a machine's network gave no answer.") from error
        finally:
            maker.kill()  # it has sent all that it had
            maker.wait()
    if not fds:
        raise OSError(answer["errno"], answer["reason"], answer["path"])
    return _Parts(*fds)


def _explain(error: OSError) -> str:
    if error.filename == tap.DEVICE and error.errno == errno.ENOENT:
        return f"Machines get no network: there is no {tap.DEVICE} (the kernel's module tun)."
    if error.errno in (errno.EACCES, errno.EPERM) and error.filename is not None:
        return (
            f"Machines get no network: {error.filename} may not be opened by uid {os.geteuid()}. "
            f"`chmod 0666 {error.filename}` is safe: it gives no right over this host's network."
        )
    place = f" {error.filename}" if error.filename is not None else ""
    return f"Machines get no network: {error.strerror}{place}."
