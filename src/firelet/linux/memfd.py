"""Memory that is handed to another process as a file descriptor, sealed so that it stays as it is.

Source: memfd_create(2), fcntl(2) "File Sealing".
"""

from __future__ import annotations

import fcntl
import os

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def make_sealed(data: bytes) -> int:
    """A descriptor, closed on exec, whose content nobody can change any more."""
    fd = os.memfd_create("payload", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_sealed(fd: int, size: int) -> bytes:
    """Its content. ValueError when it is not sealed or not of that size."""
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        raise ValueError("the payload is no memory file") from None
    if seals & _SEALS != _SEALS:
        raise ValueError("the payload is not sealed")
    if os.fstat(fd).st_size != size:
        raise ValueError("the payload has another size than announced")
    parts = []
    offset = 0
    while offset < size:
        part = os.pread(fd, size - offset, offset)
        parts.append(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
