"""Netlink: requests to the kernel's networking, framed by hand.

What it is: messages, attributes, and a socket that waits for what the kernel says to each. What it
is not: the meaning of any of them; ``interfaces`` and ``nftables`` know that.
Source: netlink(7), include/uapi/linux/netlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Iterator, NamedTuple, Sequence

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
NLM_F_DUMP = 0x300

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_RECEIVE_BYTES = 65_536
_PATIENCE_S = 5.0  # the kernel answers at once; a lost answer must not hang its caller


class Request(NamedTuple):
    """``body``: what follows the header. A request without NLM_F_ACK is not waited for. ``step``
    names it in errors."""

    step: str
    kind: int
    flags: int
    body: bytes


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + b"\0" * (-size % 4)


def text(kind: int, value: str) -> bytes:
    """A string that ends with a zero byte."""
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | _NESTED, b"".join(parts))


def parse_attributes(data: bytes) -> dict[int, bytes]:
    """Kind to value; of a kind that comes more than once, the last."""
    found = {}
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK] = data[offset + _ATTRIBUTE.size : offset + size]
        offset += size + -size % 4
    return found


class Netlink:
    """A socket in the network namespace that the calling thread was in when it was made: it stays
    there, whatever thread uses it."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        self._socket.settimeout(_PATIENCE_S)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def ask(self, *requests: Request) -> None:
        """Sends them as one packet, which the kernel works through in order, and returns when each
        that wants to be acknowledged was. OSError with the first refusal's errno and step."""
        steps = self._send(requests)
        waiting = {number for number, request in zip(steps, requests) if request.flags & NLM_F_ACK}
        while waiting:
            for kind, number, body in self._receive():
                # Others answer to requests of before, of which the first refusal was enough.
                if kind == _NLMSG_ERROR and number in steps:
                    _raise_refusal(body, steps[number])
                    waiting.discard(number)

    def query(self, request: Request) -> list[bytes]:
        """The bodies of all messages that answer a request with NLM_F_DUMP or, for one thing,
        NLM_F_ACK."""
        (sequence,) = self._send([request])
        found: list[bytes] = []
        while True:
            for kind, number, body in self._receive():
                if number != sequence:
                    continue
                if kind == _NLMSG_ERROR:
                    _raise_refusal(body, request.step)
                if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    return found
                found.append(body)

    def _send(self, requests: Sequence[Request]) -> dict[int, str]:
        """Their steps by sequence number, in order."""
        packet = b""
        steps = {}
        for request in requests:
            self._sequence += 1
            size = _HEADER.size + len(request.body)
            flags = request.flags | NLM_F_REQUEST
            packet += _HEADER.pack(size, request.kind, flags, self._sequence, 0) + request.body
            packet += b"\0" * (-size % 4)
            steps[self._sequence] = request.step
        self._socket.send(packet)
        return steps

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        """Type, sequence number and body of each message of the next packet."""
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except socket.timeout as error:
            number = errno.ETIMEDOUT
            raise OSError(number, f"netlink: {os.strerror(number)}") from error
        offset = 0
        while offset + _HEADER.size <= len(data):
            size, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
            yield kind, sequence, data[offset + _HEADER.size : offset + size]
            offset += size + -size % 4


def _raise_refusal(body: bytes, step: str) -> None:
    """OSError, unless ``body`` is an acknowledgement."""
    (number,) = struct.unpack_from("=i", body)
    if number != 0:
        raise OSError(-number, f"{step}: {os.strerror(-number)}")
