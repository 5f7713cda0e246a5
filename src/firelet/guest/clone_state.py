"""What a clone must not share with its siblings, though a fork would: chance, memory, descriptors.

- Random generators of the standard library and numpy's global one are seeded anew. (The kernel's
  and OpenSSL's are not in question: they notice forks. In the clone of a whole machine OpenSSL
  notices nothing, and is given something of the clone's own to mix in.)
- Memory that was mapped shared and writable becomes the clone's own, with what it held.
- Files are opened anew by their path, which for /tmp leads to the clone's own copy; pipes, event
  counters and polls are made anew; sockets are replaced by ones that are not connected: as on AWS,
  a connection does not survive a snapshot.
Called by ``python_restore``. Source: proc_pid_fd(5), proc_pid_fdinfo(5), proc_pid_maps(5).
"""

from __future__ import annotations

import ctypes
import os
import random
import select
import socket
import stat
import sys

from firelet.linux.libc import LIBC, check

_SEED_BYTES = 32
_FIRST = 5  # below are the standard streams, the log pipe and the fork server's
_PROT = {"r": 1, "w": 2, "x": 4}
_MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS = 0x02, 0x10, 0x20
_KEPT_FLAGS = ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC)

LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
LIBC.eventfd.argtypes = [ctypes.c_uint, ctypes.c_int]


def make_own() -> None:
    """All of it; before any code of the function runs in the clone."""
    reseed()
    unshare_memory()
    unshare_descriptors()


def reseed(*, is_machine: bool = False) -> None:
    """Generators that were seeded, or drawn from, in INIT would repeat themselves in each clone."""
    random.seed()
    ssl = sys.modules.get("ssl")
    if is_machine and ssl is not None:
        ssl.RAND_add(os.urandom(_SEED_BYTES), float(_SEED_BYTES))
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def unshare_memory() -> None:
    """Replaces each shared, writable mapping by a private one of the same content."""
    with open("/proc/self/maps") as maps:
        lines = maps.readlines()
    for line in lines:
        span, access = line.split(None, 2)[:2]
        if access[3] == "s" and "w" in access:
            start, end = (int(edge, 16) for edge in span.split("-"))
            _make_private(start, end - start, sum(_PROT.get(flag, 0) for flag in access[:3]))


def _make_private(start: int, size: int, protection: int) -> None:
    content = ctypes.string_at(start, size)
    flags = _MAP_PRIVATE | _MAP_FIXED | _MAP_ANONYMOUS
    result = LIBC.mmap(start, size, protection, flags, -1, 0)
    check(-1 if result != start else 0, "mmap")
    ctypes.memmove(start, content, size)


def unshare_descriptors() -> None:
    """See the module's text. What cannot be made anew (watches, timers) stays as it was forked."""
    opened = _open_descriptors()
    _renew_pipes(opened)
    _renew_sockets({fd: target for fd, target in opened.items() if target.startswith("socket:")})
    polls = []
    for fd, target in opened.items():
        if target.startswith("/") and not target.startswith(("/dev/", "/proc/")):
            _reopen(fd, target)
        elif target == "anon_inode:[eventfd]":
            _renew_event_counter(fd)
        elif target == "anon_inode:[eventpoll]":
            polls.append(fd)
    for fd in polls:  # last: they name descriptors that were made anew
        _renew_poll(fd)


def _open_descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor of the listing
    return {fd: target for fd, target in found.items() if fd >= _FIRST}


def _replace(fd: int, fresh: int) -> None:
    """Puts ``fresh`` in the place of ``fd``, which stays inheritable or not."""
    inheritable = os.get_inheritable(fd)
    os.dup2(fresh, fd, inheritable=inheritable)
    os.close(fresh)


def _details(fd: int) -> list[str]:
    with open(f"/proc/self/fdinfo/{fd}") as source:
        return source.read().splitlines()


def _flags(details: list[str]) -> int:
    return next(int(line.split()[1], 8) for line in details if line.startswith("flags:"))


def _reopen(fd: int, path: str) -> None:
    """A file that is no longer there (deleted while open) stays as it was forked."""
    information = os.fstat(fd)
    if not (stat.S_ISREG(information.st_mode) or stat.S_ISDIR(information.st_mode)):
        return
    try:
        fresh = os.open(path, _flags(_details(fd)) & _KEPT_FLAGS)
    except OSError:
        return
    if stat.S_ISREG(information.st_mode):
        os.lseek(fresh, os.lseek(fd, 0, os.SEEK_CUR), os.SEEK_SET)
    _replace(fd, fresh)


def _renew_pipes(opened: dict[int, str]) -> None:
    """Both ends of a pipe are found by its number; one whose other end is elsewhere gets an other
    end that is closed at once."""
    pipes: dict[str, list[int]] = {}
    for fd, target in opened.items():
        if target.startswith("pipe:"):
            pipes.setdefault(target, []).append(fd)
    for fds in pipes.values():
        ends = os.pipe()
        for fd in fds:
            flags = _flags(_details(fd))
            end = os.dup(ends[1] if flags & os.O_ACCMODE == os.O_WRONLY else ends[0])
            os.set_blocking(end, not flags & os.O_NONBLOCK)
            _replace(fd, end)
        for end in ends:
            os.close(end)


def _renew_sockets(opened: dict[int, str]) -> None:
    """Pairs stay pairs (event loops wake themselves through one); all others lose their peer.

    Nothing tells which sockets are a pair. But the kernel numbers them one after the other when it
    makes them, and only those of ``socketpair`` are connected without either having a name.
    """
    numbers = {int(target[8:-1]): fd for fd, target in opened.items() if _is_unnamed(fd)}
    paired = set()
    for number, fd in sorted(numbers.items()):
        other = numbers.get(number + 1)
        if fd not in paired and other is not None:
            paired |= {fd, other}
            _renew_pair(fd, other)
    for fd in opened:
        if fd not in paired:
            _replace(fd, _unconnected(fd))


def _is_unnamed(fd: int) -> bool:
    with socket.socket(fileno=os.dup(fd)) as each:
        try:
            named = each.getsockname() or each.getpeername()
        except OSError:
            return False  # not connected
        return each.family == socket.AF_UNIX and not named


def _renew_pair(one: int, other: int) -> None:
    with socket.socket(fileno=os.dup(one)) as old:
        pair = socket.socketpair(old.family, old.type)
    for fd, fresh in zip((one, other), pair):
        fresh.setblocking(os.get_blocking(fd))
        _replace(fd, fresh.detach())


def _unconnected(fd: int) -> int:
    """A socket of the same kind as ``fd``, and as blocking."""
    with socket.socket(fileno=os.dup(fd)) as old:
        fresh = socket.socket(old.family, old.type, old.proto)
        fresh.setblocking(os.get_blocking(fd))
    return fresh.detach()


def _renew_event_counter(fd: int) -> None:
    details = _details(fd)
    count = next(int(line.split()[1], 16) for line in details if line.startswith("eventfd-count:"))
    flags = _flags(details) & (os.O_NONBLOCK | os.O_CLOEXEC)
    _replace(fd, check(LIBC.eventfd(min(count, 0xFFFFFFFF), flags), "eventfd"))


def _renew_poll(fd: int) -> None:
    """The same descriptors with the same events. What is watched with data other than its own
    number (never by Python) is watched by number."""
    watched: list[tuple[int, int]] = []
    for line in _details(fd):
        if line.startswith("tfd:"):
            words = line.replace(":", ": ").split()
            watched.append((int(words[1]), int(words[3], 16)))
    fresh = select.epoll()
    for target, events in watched:
        try:
            fresh.register(target, events)
        except OSError:
            continue  # closed meanwhile: the kernel had forgotten it as well
    _replace(fd, os.dup(fresh.fileno()))
    fresh.close()
