"""User ids of sandboxes: a range for each process that makes some, which no other has.

Two sandboxes with one user id could signal and read each other wherever a wall had a hole, and
share the kernel's limits per user. A range is claimed by the name of an abstract socket, which
the kernel gives to one process of this host at a time and takes back when that ends.
Source: unix(7), abstract sockets.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket

from firelet.model.errors import PlatformError

# Above every range that distributions and container tools hand out
# (systemd.io/UIDS-GIDS: 1,879,048,192 and up are unused).
_FIRST = 1_900_000_000
_RANGE = 8_192
_RANGES = 20_000
_TRIES = 256


class UidRange:
    """Owns the ids of one range. ``open`` first."""

    def __init__(self) -> None:
        self._claim: socket.socket | None = None
        self._uids = itertools.cycle(range(0))
        self._in_use: set[int] = set()

    def open(self) -> None:
        """Claims the first free range from the one that the process's id names. PlatformError
        when there is none near it."""
        for step in range(_TRIES):
            number = (os.getpid() + step) % _RANGES
            claim = _claim(number)
            if claim is not None:
                self._claim = claim
                first = _FIRST + number * _RANGE
                self._uids = itertools.cycle(range(first, first + _RANGE))
                return
        raise PlatformError("Every range of user ids for sandboxes is in use.")

    def take(self) -> int:
        """An id that no sandbox has."""
        for uid in itertools.islice(self._uids, _RANGE):
            if uid not in self._in_use:
                self._in_use.add(uid)
                return uid
        raise PlatformError("Every user id for sandboxes is in use.")

    def give_back(self, uid: int) -> None:
        self._in_use.discard(uid)

    def close(self) -> None:
        """Nothing of the range may be alive any more."""
        if self._claim is not None:
            self._claim.close()
            self._claim = None


def _claim(number: int) -> socket.socket | None:
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        claim.bind(f"\0firelet-uids-{number}")
    except OSError as error:
        claim.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return claim
