"""Secret keys in files that only their owner may read; each made at the first start.

Called by ``app`` for the key of download links and for the one that seals documents.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from firelet.model.errors import PlatformError

KEY_BYTES = 32


def load_key(path: Path) -> bytes:
    """The key in ``path``. PlatformError for a file that holds none: what was sealed with it must
    not be lost behind a new one. Blocking: at start-up, by one process at a time."""
    try:
        if not path.exists():
            _make(path)
        key = path.read_bytes()
    except OSError as error:
        raise PlatformError(f"The key file {path} cannot be used: {error.strerror}.") from error
    if len(key) != KEY_BYTES:
        raise PlatformError(
            f"The key file {path} is damaged: it has {len(key)} bytes and not {KEY_BYTES}."
        )
    return key


def _make(path: Path) -> None:
    """By way of another name: a file that exists is whole, and on the disk before it is used."""
    unfinished = path.with_name(f"{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(unfinished, flags, 0o600), "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
