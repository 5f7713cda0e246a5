"""The Runtime API's listener of one machine: a Unix socket in a directory that only we can enter.

The API of a sandbox is served by the host; a machine's connections to it come over the link, and
are carried to this socket. Called by ``machine_sandbox``.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

_NAME = "api"
_BACKLOG = 128


def open_in(directory: Path) -> socket.socket:
    """What ``runtime/api`` listens on. OSError."""
    with contextlib.ExitStack() as undo:
        listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        _at_address(directory, listener.bind)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        undo.pop_all()
    return listener


def connect_in(directory: Path) -> socket.socket:
    """A connection of the guest's, which is carried there. OSError when nobody listens, or when
    as many as may wait do."""
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        sock.setblocking(False)
        _at_address(directory, sock.connect)
        undo.pop_all()
    return sock


def _at_address(directory: Path, use: Callable[[str], None]) -> None:
    """Calls ``use`` with the address of the listener, however long the directory's path is: of an
    address the kernel takes 108 bytes."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        use(f"/proc/self/fd/{fd}/{_NAME}")
    finally:
        os.close(fd)
