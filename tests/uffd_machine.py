"""What Firecracker does to have its memory served by a page server, as a program: it registers
memory with a userfaultfd, sends that with a description to a socket, and uses the memory.

Arguments: the socket, then steps. ``read N`` prints the first byte of page N and how many of its
bytes are the same; ``write N TEXT``; ``remove N COUNT`` gives pages back, as a balloon does;
``race`` has eight threads read all pages at once; ``all`` prints the SHA-256 of all pages. The
memory is two regions of 32 pages, the second of which is first in the file.
Source: userfaultfd(2), ioctl_userfaultfd(2).
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import mmap
import os
import platform
import random
import socket
import struct
import sys
import threading
from collections.abc import Iterator

PAGE = mmap.PAGESIZE
REGION_PAGES = 32
_THREADS = 8
_USERFAULTFD = {"x86_64": 323, "aarch64": 282}
_USER_MODE_ONLY = 1  # what the kernel itself does with the memory is not served: for all users
_API = 0xC018AA3F
_REGISTER = 0xC020AA00
_EVENT_REMOVE = 1 << 3
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.memchr.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]


def have_served(path: str, region_bytes: int, count: int) -> tuple[socket.socket, list[mmap.mmap]]:
    """Memory in ``count`` regions, the last of which is first in the file; it is served as long as
    the connection is open. OSError."""
    flags = os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY
    fd = _LIBC.syscall(_USERFAULTFD[platform.machine()], flags)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "userfaultfd")
    fcntl.ioctl(fd, _API, struct.pack("=QQQ", 0xAA, _EVENT_REMOVE, 0))
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    regions = [mmap.mmap(-1, region_bytes, private) for _ in range(count)]
    mappings = []
    for number, region in enumerate(regions):
        region.madvise(mmap.MADV_NOHUGEPAGE)
        address = _address_of(region)
        fcntl.ioctl(fd, _REGISTER, struct.pack("=QQQQ", address, region_bytes, 1, 0))
        mapping = {"base_host_virt_addr": address, "size": region_bytes, "page_size": PAGE}
        offset = (count - 1 - number) * region_bytes
        mappings.append({**mapping, "offset": offset, "page_size_kib": PAGE})
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(path)
    socket.send_fds(peer, [json.dumps(mappings).encode()], [fd])
    return peer, regions


def _address_of(region: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(region))


def main(path: str, steps: list[str]) -> None:
    peer, regions = have_served(path, REGION_PAGES * PAGE, 2)
    with peer:
        words = iter(steps)
        for word in words:
            _step(word, words, regions)


def _step(word: str, words: Iterator[str], regions: list[mmap.mmap]) -> None:
    if word == "all":
        content = b"".join(bytes(region) for region in reversed(regions))
        print(hashlib.sha256(content).hexdigest(), flush=True)
        return
    if word == "race":
        _race(regions)
        return
    page = int(next(words))
    region = regions[page // REGION_PAGES]
    start = page % REGION_PAGES * PAGE
    if word == "read":
        data = region[start : start + PAGE]
        print(data[0], data.count(data[:1]), flush=True)
    elif word == "write":
        text = next(words).encode()
        region[start : start + len(text)] = text
    elif word == "remove":
        region.madvise(mmap.MADV_DONTNEED, start, int(next(words)) * PAGE)
    else:
        sys.exit(f"no such step: {word}")


def _race(regions: list[mmap.mmap]) -> None:
    pages = [_address_of(region) + n * PAGE for region in regions for n in range(REGION_PAGES)]

    def read() -> None:
        for address in random.sample(pages, len(pages)):
            _LIBC.memchr(address, 0, PAGE)  # without the interpreter's lock

    threads = [threading.Thread(target=read) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
