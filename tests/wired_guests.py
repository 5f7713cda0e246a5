"""Guests without machines: a second TAP device in a network namespace of its own, tied frame by
frame to the one of a machine's network, so that what speaks on it is a real kernel. And a host and
a world in namespaces, so that nothing of the real host's is touched."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from ipaddress import IPv4Network
from typing import TypeVar

from firelet.guest import machine_network
from firelet.linux import interfaces, namespaces, tap
from firelet.linux.network import raise_loopback
from firelet.sandbox.microvm import egress, network
from firelet.sandbox.microvm.egress import NatGateway
from firelet.sandbox.microvm.network import MachineNetwork

T = TypeVar("T")

DEVICE = "eth0"
PORT = 8080
CALL_TIMEOUT_S = 20.0
CONNECT_TIMEOUT_S = 1.0
_FRAME_BYTES = 70_000

HOST_OUTSIDE = "203.0.113.1"
WORLD = "203.0.113.2"


def network_missing() -> str | None:
    """Why no network of a machine can be tested here; None where it can."""
    if os.geteuid() != 0:
        return "root is missing"
    verdict = network.probe_network()
    return None if verdict.is_possible else verdict.detail


def nat_missing() -> str | None:
    """Why no way out can be tested here; None where it can. The host's own setting does not matter:
    the hosts of tests have theirs."""
    verdict = egress.probe_nat()
    return verdict.detail if "the kernel lacks" in verdict.detail else None


class Place:
    """A network namespace, held open."""

    def __init__(self) -> None:
        self.fd = namespaces.run_in_new_network(os.dup)
        self.run(raise_loopback)

    def run(self, function: Callable[[], T]) -> T:
        return namespaces.run_in_network(self.fd, function)

    def close(self) -> None:
        os.close(self.fd)


class WiredGuest(Place):
    """Has the addresses that every guest has, behind the TAP of ``machine``."""

    def __init__(self, machine: MachineNetwork) -> None:
        super().__init__()
        self._tap = self.run(_make_guest_device)
        self._woken, self._wake = os.pipe()
        ends = (machine.tap_fd, self._tap)
        self._pump = threading.Thread(target=_carry, args=(*ends, self._woken))
        self._pump.start()

    def close(self) -> None:
        os.write(self._wake, b"x")
        self._pump.join()
        for fd in (self._tap, self._woken, self._wake):
            os.close(fd)
        super().close()


def _make_guest_device() -> int:
    fd = tap.open_tap(DEVICE)
    tap.keep_tap(fd)
    hardware = bytes.fromhex(machine_network.GUEST_HARDWARE.replace(":", ""))
    interfaces.set_hardware_address(DEVICE, hardware)
    machine_network.configure_guest_side(DEVICE)
    return fd


def _carry(one: int, other: int, woken: int) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(woken, selectors.EVENT_READ)
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    return
                os.write(key.data, os.read(key.fd, _FRAME_BYTES))


@contextlib.contextmanager
def wired(machine: MachineNetwork) -> Iterator[WiredGuest]:
    guest = WiredGuest(machine)
    try:
        yield guest
    finally:
        guest.close()


def call(address: str, port: int) -> str | None:
    """What a server that is reached says at once, or None when it is not reached."""
    try:
        with socket.create_connection((address, port), CALL_TIMEOUT_S) as client:
            return client.recv(100).decode()
    except OSError:
        return None


def reachable(addresses: Iterable[str], port: int) -> list[str]:
    """Those of ``addresses`` that take a connection within a second, all tried at once."""
    reached = []
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for address in addresses:
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            if client.connect_ex((address, port)) == errno.EINPROGRESS:
                selector.register(client, selectors.EVENT_WRITE, address)
        end = time.monotonic() + CONNECT_TIMEOUT_S
        while selector.get_map() and (left_s := end - time.monotonic()) > 0:
            for key, _ in selector.select(left_s):
                assert isinstance(key.fileobj, socket.socket)
                if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    reached.append(key.data)
                selector.unregister(key.fileobj)
    return sorted(reached)


@contextlib.contextmanager
def greeting(place: Place | MachineNetwork | None, word: str = "") -> Iterator[int]:
    """A server at all addresses of ``place`` (None: this process's own namespace) that tells each
    caller ``word`` and the address from which it seems to call. Its port: the same in all
    namespaces that are the test's own."""
    if place is None:
        server = socket.create_server(("0.0.0.0", 0))
    else:
        run = place.run if isinstance(place, Place) else place.run_inside
        server = run(lambda: socket.create_server(("0.0.0.0", PORT)))

    def serve() -> None:
        with contextlib.suppress(OSError):  # accept is refused after the shutdown
            while True:
                client, (caller, _) = server.accept()
                with client:
                    client.sendall((word + caller).encode())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        server.close()


@contextlib.contextmanager
def host_and_world(*more: str) -> Iterator[tuple[Place, Place]]:
    """A namespace that forwards, and one that it is tied to, with ``WORLD`` and ``more`` addresses:
    the host has routes to all of them, and the world has none to a machine."""
    host, world = Place(), Place()
    try:
        host.run(lambda: interfaces.add_pair(interfaces.Pair("uplink", "port"), world.fd))
        host.run(lambda: interfaces.add_address("uplink", HOST_OUTSIDE, 24))
        host.run(lambda: interfaces.set_up("uplink"))
        host.run(lambda: interfaces.add_default_route("uplink", WORLD))
        host.run(lambda: interfaces.write_setting("ipv4/ip_forward", "1"))
        world.run(lambda: interfaces.add_address("port", WORLD, 24))
        world.run(lambda: interfaces.set_up("port"))
        host.run(lambda: interfaces.wait_until_up("uplink"))
        world.run(lambda: interfaces.wait_until_up("port"))
        for address in more:
            world.run(lambda address=address: interfaces.add_address("port", address, 32))
        yield host, world
    finally:
        host.close()
        world.close()


@contextlib.asynccontextmanager
async def opened(way: NatGateway | None = None) -> AsyncIterator[MachineNetwork]:
    machine = MachineNetwork(egress=way)
    try:
        await machine.open()
        yield machine
    finally:
        machine.close()


@contextlib.contextmanager
def gateway(outside: Place, *allowed: str) -> Iterator[NatGateway]:
    made = NatGateway(outside=outside.fd, allowed=tuple(map(IPv4Network, allowed)))
    with contextlib.closing(made):
        made.open()
        yield made
