"""Streams between the host and a Firecracker guest; the host's kernel needs no module for them.

Firecracker has a Unix socket for each machine. The host connects to it, writes ``CONNECT <port>``
and a newline, and is answered ``OK <number>`` and a newline when a program of the guest has taken
the connection; what follows is the stream. Where nobody listens Firecracker closes the connection.
A paused guest answers when it is resumed. Source: Firecracker's ``docs/vsock.md``.
"""

from __future__ import annotations

import asyncio
import socket

_ANSWER_MAX_BYTES = 32


class VsockRefused(ConnectionError):
    """Nobody of the guest listens at that port, or the answer is not one."""


async def connect(path: str, port: int) -> socket.socket:
    """A connected, non-blocking stream. VsockRefused; OSError where the socket is not there."""
    loop = asyncio.get_running_loop()
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        await loop.sock_connect(stream, path)
        await loop.sock_sendall(stream, f"CONNECT {port}\n".encode())
        answer = await _read_line(stream)
        word, _, number = answer.partition(b" ")
        if word != b"OK" or not number.strip().isdigit():
            raise VsockRefused(f"the answer to CONNECT {port} is {answer!r}")
    except BaseException:
        stream.close()
        raise
    return stream


async def _read_line(stream: socket.socket) -> bytes:
    """Byte by byte: what follows is the guest's."""
    loop = asyncio.get_running_loop()
    line = b""
    while not line.endswith(b"\n"):
        byte = await loop.sock_recv(stream, 1)
        if not byte:
            raise VsockRefused("nobody listens at that port of the guest")
        line += byte
        if len(line) > _ANSWER_MAX_BYTES:
            raise VsockRefused(f"the answer has no end: {line!r}")
    return line
