"""The memory of a restored Firecracker, page by page as it asks for them (userfaultfd).

Firecracker connects to a socket, sends where its memory is and a descriptor, and waits at each page
that it has not got until somebody has put it there. Mapping the file does the same without a
server, and faster where the file is on this host; this is for memory that has to be looked at or
brought from elsewhere. One thread serves one machine: the event loop's work must not keep a guest
waiting. A machine whose server fails is killed, as it would wait for ever.
Source: Firecracker's ``docs/snapshotting/handling-page-faults-on-snapshot-resume.md``; it has not
met a real Firecracker (``docs/firecracker.md``). Linux's side is tested with a real descriptor.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import mmap
import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec

from firelet.linux import process as processes
from firelet.linux import userfaultfd

log = logging.getLogger(__name__)

# So many bytes around a page that is asked for come with it.
BLOCK_BYTES = 64 * 1024
HELLO_TIMEOUT_S = 10.0
_HELLO_BYTES = 64 * 1024
_FDS_MAX = 4
_PEER = struct.Struct("3i")  # pid, uid, gid
_MISSING, _PRESENT, _REMOVED = range(3)


class Mapping(msgspec.Struct, frozen=True):
    """``size`` bytes at ``offset`` of the memory's file are at the address
    ``base_host_virt_addr``. ``page_size_kib`` is its old name for the page's size, in bytes."""

    base_host_virt_addr: int
    size: int
    offset: int
    page_size: int = 0
    page_size_kib: int = 0

    @property
    def page_bytes(self) -> int:
        return self.page_size or self.page_size_kib


class Unusable(Exception):
    """What Firecracker has sent cannot be served."""


def parse_hello(data: bytes, file_size: int) -> tuple[Mapping, ...]:
    """Unusable for what does not fit a file of that size."""
    try:
        mappings = msgspec.json.decode(data, type=tuple[Mapping, ...])
    except msgspec.DecodeError as error:
        raise Unusable(f"the mappings cannot be read: {error}") from error
    for mapping in mappings:
        page = mapping.page_bytes
        parts = (mapping.base_host_virt_addr, mapping.size, mapping.offset)
        if page < mmap.PAGESIZE or page & (page - 1) or any(part % page for part in parts):
            raise Unusable(f"{mapping} is not made of pages")
        if mapping.offset + mapping.size > file_size:
            raise Unusable(f"{mapping} is beyond the memory's file of {file_size} bytes")
    if not mappings:
        raise Unusable("there are no mappings")
    return mappings


class Pages:
    """What is known of the pages of one mapping. Pure: it decides, the caller acts."""

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        self.page_bytes = mapping.page_bytes
        self._states = bytearray(mapping.size // self.page_bytes)

    def has(self, address: int) -> bool:
        base = self.mapping.base_host_virt_addr
        return base <= address < base + self.mapping.size

    def remove(self, start: int, end: int) -> None:
        """The guest has given these back: they are zeros when they are asked for again."""
        base = self.mapping.base_host_virt_addr
        first = max(0, (start - base) // self.page_bytes)
        last = min(len(self._states), (end - base) // self.page_bytes)
        self._states[first:last] = bytes([_REMOVED]) * max(0, last - first)

    def wanted(self, address: int) -> tuple[int, int, bool]:
        """The first page to be put there, how many, and whether they are zeros: the missing ones
        around ``address``, in its block. One that is there already comes alone."""
        page = (address - self.mapping.base_host_virt_addr) // self.page_bytes
        if self._states[page] != _MISSING:
            return page, 1, self._states[page] == _REMOVED
        block = max(1, BLOCK_BYTES // self.page_bytes)
        low = page - page % block
        high = min(low + block, len(self._states))
        first, last = page, page + 1
        while first > low and self._states[first - 1] == _MISSING:
            first -= 1
        while last < high and self._states[last] == _MISSING:
            last += 1
        return first, last - first, False

    def note(self, first: int, count: int) -> None:
        self._states[first : first + count] = bytes([_PRESENT]) * count


class PageServer:
    """Owns a socket at ``path`` from ``start`` to ``close``. ``memory`` is the file of a snapshot,
    which is mapped privately. ``failure`` says why a machine was ended."""

    def __init__(self, memory: Path, path: Path) -> None:
        self._memory = memory
        self._path = path
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stop, self._stopped = -1, -1
        self.failure: str | None = None

    def start(self, owner: tuple[int, int] | None = None) -> None:
        """``owner``: the user and group that may connect, else ours."""
        self._stopped, self._stop = os.pipe2(os.O_CLOEXEC)
        self._listener = socket.socket(socket.AF_UNIX)
        # By its directory: the path may be longer than a socket's address.
        directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._listener.bind(f"/proc/self/fd/{directory}/{self._path.name}")
        finally:
            os.close(directory)
        self._path.chmod(0o600)
        if owner is not None:
            os.chown(self._path, *owner)
        self._listener.listen(1)
        self._thread = threading.Thread(target=self._run, name="firelet-pages", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Returns when the thread has ended, which may take as long as one page. Blocks. May be
        called again. A machine that runs still would hang: it is ended before."""
        if self._listener is None:
            return
        os.close(self._stop)
        if self._thread is not None:
            self._thread.join()
        os.close(self._stopped)
        self._listener.close()
        self._listener = None
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        assert self._listener is not None
        if not self._wait_for(self._listener.fileno(), HELLO_TIMEOUT_S):
            return
        connection, _ = self._listener.accept()
        with connection, contextlib.ExitStack() as resources:
            try:
                self._serve_machine(connection, resources)
            except (Unusable, OSError, ValueError) as error:
                self.failure = str(error)
                log.warning("page server failed memory=%s: %s", self._memory, error)
                _kill_peer(connection)

    def _serve_machine(self, connection: socket.socket, resources: contextlib.ExitStack) -> None:
        """Until it ends, which is when its connection does, or until ``close``."""
        if not self._wait_for(connection.fileno(), HELLO_TIMEOUT_S):
            raise Unusable("Firecracker has not said where its memory is")
        data, fds, _, _ = socket.recv_fds(connection, _HELLO_BYTES, _FDS_MAX)
        for fd in fds:
            resources.callback(os.close, fd)
        if len(fds) != 1:
            raise Unusable(f"Firecracker has sent {len(fds)} descriptors, not one")
        with self._memory.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE)
        resources.callback(content.close)
        mappings = parse_hello(data, size)
        os.set_blocking(fds[0], False)
        source = ctypes.addressof(ctypes.c_char.from_buffer(content))
        faults = _Faults(fds[0], source, [Pages(mapping) for mapping in mappings])
        poll = select.poll()
        for fd in (fds[0], connection.fileno(), self._stopped):
            poll.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if ready - {fds[0]}:
                return
            try:
                faults.serve()
            except ProcessLookupError:
                return  # it has ended

    def _wait_for(self, fd: int, timeout_s: float) -> bool:
        ready, _, _ = select.select([fd, self._stopped], [], [], timeout_s)
        return ready == [fd]


class _Faults:
    """Answers what is asked of one descriptor. ``source`` is the address of the file's content."""

    def __init__(self, fd: int, source: int, regions: list[Pages]) -> None:
        self._fd = fd
        self._source = source
        self._regions = regions
        self._waiting: list[int] = []

    def serve(self) -> None:
        """All that has happened. What was removed comes before what is asked for: a page that the
        guest has given back and asks for again must be zeros, in whatever order that was read."""
        while events := userfaultfd.read_events(self._fd):
            self._take(events)
        while self._waiting:
            address = self._waiting[-1]
            try:
                self._put(address)
            except userfaultfd.RangeBusy:
                self._take(userfaultfd.read_events(self._fd))
                continue
            self._waiting.remove(address)

    def _take(self, events: Iterable[userfaultfd.Event]) -> None:
        for event in events:
            if event.kind == userfaultfd.PAGE_FAULT:
                self._waiting.append(event.start)
            elif event.kind == userfaultfd.REMOVED:
                for pages in self._regions:
                    pages.remove(event.start, event.end)
            else:
                raise Unusable(f"the memory has had an event {event.kind:#x}")

    def _put(self, address: int) -> None:
        pages = next((region for region in self._regions if region.has(address)), None)
        if pages is None:
            raise Unusable(f"{address:#x} is in none of the mappings")
        first, count, is_zero = pages.wanted(address)
        offset, length = first * pages.page_bytes, count * pages.page_bytes
        target = pages.mapping.base_host_virt_addr + offset
        try:
            if is_zero:
                userfaultfd.put_zeros(self._fd, target, length)
            else:
                source = self._source + pages.mapping.offset + offset
                userfaultfd.copy(self._fd, target, source, length)
        except FileExistsError:
            # Two processors have asked for it, or it is there though nobody has told.
            userfaultfd.wake(self._fd, target, length)
        except FileNotFoundError:
            return  # that memory is no more
        pages.note(first, count)


def _kill_peer(connection: socket.socket) -> None:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    pid, _, _ = _PEER.unpack(data)
    try:
        fd = processes.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            processes.pidfd_send_signal(fd, signal.SIGKILL)
    finally:
        os.close(fd)
