"""Requests of FUSE carried over a stream: a socket that keeps messages apart is ``/dev/fuse``."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import cast

import pytest

from firelet.guest.vm_fuse import FuseRelay
from firelet.guest.vm_link import Link, Loop
from firelet.guest.vm_port import SerialPort
from firelet.linux import multiplex
from firelet.linux.multiplex import WINDOW_BYTES

pytestmark = pytest.mark.usefixtures("nothing_leaks")

LARGEST = 128 * 1024 + 80


class _Port:
    def __init__(self, fd: int) -> None:
        self.fd = fd


class Guest:
    """The guest's end with one relay, and the platform's multiplexer at the other one."""

    def __init__(self) -> None:
        self.device, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in (self.device, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LARGEST)
        self.device.setblocking(False)
        self._port, port = socket.socketpair()
        for sock in (self._port, port):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * LARGEST)
        self._theirs = port
        self._port.setblocking(False)
        self.loop = Loop()
        self.link = Link(
            self.loop,
            cast(SerialPort, _Port(port.fileno())),
            lambda _message: None,
            lambda *_: None,
        )
        self.relay = FuseRelay(theirs.detach(), {"for": "file system", "name": "files-0"})
        self.link.relay(self.relay)
        self.host = multiplex.Multiplexer(2)
        self.received = bytearray()
        self.was_reset = False
        self.receive()

    def turn(self) -> None:
        """Whatever can be done now."""
        while self.loop._poll.poll(0):
            self.loop.turn()

    def receive(self) -> None:
        self.turn()
        try:
            while data := self._port.recv(1 << 20):
                for frame in self.host.feed(data):
                    if frame.kind == multiplex.DATA:
                        self.received += frame.content
                    self.was_reset |= frame.kind == multiplex.RESET
        except BlockingIOError:
            return

    def send(self, data: bytes) -> None:
        self.host.send(self.relay.stream, data)
        self.flush()

    def flush(self) -> None:
        self._port.sendall(self.host.outgoing)
        self.host.outgoing.clear()
        self.turn()

    def close(self) -> None:
        if self.relay._fd >= 0:
            self.relay.close()
        self.loop._poll.close()
        for sock in (self.device, self._port, self._theirs):
            sock.close()


@pytest.fixture
def guest() -> Iterator[Guest]:
    guest = Guest()
    yield guest
    guest.close()


def answer(unique: int, size: int = 0) -> bytes:
    return struct.pack("<IiQ", 16 + size, 0, unique) + bytes(size)


def test_requests_are_carried_as_they_are(guest: Guest) -> None:
    for size in (40, 1_000, LARGEST):
        guest.device.send(b"r" * size)
        guest.receive()
    assert len(guest.received) == 40 + 1_000 + LARGEST


def test_what_there_is_no_credit_for_waits_and_nothing_more_is_read(guest: Guest) -> None:
    said = b"".join(bytes([number]) * LARGEST for number in range(5))
    for start in range(0, len(said), LARGEST):
        guest.device.send(said[start : start + LARGEST])
        guest.receive()
    assert bytes(guest.received) == said[:WINDOW_BYTES]
    assert len(guest.relay._unsent) == 2 * LARGEST - WINDOW_BYTES
    taken = 0
    while taken < len(said):
        guest.host.consume(guest.relay.stream, len(guest.received) - taken)
        taken = len(guest.received)
        guest.flush()
        guest.receive()
    assert bytes(guest.received) == said


def test_answers_come_one_at_a_time_however_they_were_cut(guest: Guest) -> None:
    said = [answer(number, size) for number, size in enumerate((0, 5, 60_000, 0, 100_000))]
    data = b"".join(said)
    for start in range(0, len(data), 50_000):
        guest.send(data[start : start + 50_000])
    assert [guest.device.recv(1 << 20) for _ in said] == said
    with pytest.raises(BlockingIOError):
        guest.device.recv(1 << 20)
    guest.receive()
    assert guest.host.credit(guest.relay.stream) >= WINDOW_BYTES // 2


def test_an_answer_without_a_length_is_none(guest: Guest) -> None:
    guest.send(bytes(20))
    assert guest.device.recv(100) == bytes(16)


def test_the_end_of_a_file_system_is_the_end_of_its_stream(guest: Guest) -> None:
    guest.device.close()
    guest.send(answer(1))
    guest.receive()
    assert guest.was_reset


def test_the_end_of_its_stream_is_the_end_of_a_file_system(guest: Guest) -> None:
    guest.host.end(guest.relay.stream)
    guest.flush()
    assert guest.device.recv(100) == b""
