"""One deployment or deletion of a stack at a time.

A lock of the kernel's on a file beside the state: it ends with the process that holds it, however
that ends. It keeps out processes of the same machine and user, whose states these are.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from firelet.stacks.errors import StackError


@contextmanager
def hold_lock(folder: Path, name: str) -> Iterator[None]:
    """Holds the stack's lock. StackError when another process has it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{name}.lock"
    descriptor = _acquire(path, name)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path, name: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode() or "another process"
            os.close(descriptor)
            raise StackError(
                f"the stack {name} is being deployed or deleted by {holder}: try again later"
            ) from None
        # The holder before may have removed the file between the two calls.
        if _is_same(descriptor, path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()}".encode(), 0)
            return descriptor
        os.close(descriptor)


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
