"""What a guest's kernel knows of a shared directory: files by number, and which of them are open.

A node is held by a descriptor that can neither be read nor written (O_PATH), so that it is the same
file for as long as the guest knows it, whatever is renamed meanwhile; the kernel counts how often
it was told of each. Both tables are bounded. Called by ``shared_directory``.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from firelet.linux import trees
from firelet.sandbox.microvm.fuse_protocol import Breach

ROOT = 1


@dataclass(slots=True)
class Node:
    """Owns ``fd``. ``kind`` is the type of the file (S_IFMT), which never changes."""

    number: int
    fd: int
    kind: int
    identity: tuple[int, int]  # device and inode
    lookups: int = 0


@dataclass(frozen=True, slots=True)
class Handle:
    """Owns ``fd``, a file or a directory that is open."""

    fd: int
    is_directory: bool


class Nodes:
    """Owns ``root``, and all descriptors until ``close``."""

    def __init__(self, root: int, most: int) -> None:
        self._most = most
        self._next = ROOT
        self._nodes: dict[int, Node] = {}
        self._numbers: dict[tuple[int, int], int] = {}
        self.adopt(root)

    def get(self, number: int) -> Node:
        """OSError ESTALE for one that the kernel has forgotten, or never knew."""
        node = self._nodes.get(number)
        if node is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return node

    def find(self, directory: Node, name: bytes) -> tuple[Node, os.stat_result]:
        """What is there under that name now: told to the kernel once more."""
        return self.adopt(trees.open_beneath(directory.fd, name, os.O_PATH | os.O_NOFOLLOW))

    def adopt(self, fd: int) -> tuple[Node, os.stat_result]:
        """The node of an O_PATH descriptor, which is closed if there is one already."""
        try:
            found = os.fstat(fd)
            identity = (found.st_dev, found.st_ino)
            node = self._nodes.get(self._numbers.get(identity, 0))
            if node is None and len(self._nodes) >= self._most:
                raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
        except BaseException:
            os.close(fd)
            raise
        if node is not None:
            os.close(fd)
        else:
            node = Node(self._next, fd, stat.S_IFMT(found.st_mode), identity)
            self._nodes[node.number] = node
            self._numbers[identity] = node.number
            self._next += 1
        node.lookups += 1
        return node, found

    def forget(self, number: int, count: int) -> None:
        """The kernel has been told of it so many times less. Breach when that is more than it
        was."""
        if number == ROOT:
            return
        node = self._nodes.get(number)
        if node is None or count > node.lookups:
            raise Breach(f"node {number} is forgotten more often than it was known")
        node.lookups -= count
        if not node.lookups:
            del self._nodes[number], self._numbers[node.identity]
            os.close(node.fd)

    def close(self) -> None:
        for node in self._nodes.values():
            os.close(node.fd)
        self._nodes.clear()
        self._numbers.clear()


class Handles:
    """Owns the descriptors until ``close``."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._next = 1
        self._handles: dict[int, Handle] = {}

    def check_room(self) -> None:
        """OSError ENFILE when there is none: before something is made that would be opened."""
        if len(self._handles) >= self._most:
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

    def add(self, fd: int, *, is_directory: bool) -> int:
        number = self._next
        self._next += 1
        self._handles[number] = Handle(fd, is_directory)
        return number

    def get(self, number: int, *, is_directory: bool = False) -> int:
        """The descriptor. OSError EBADF when there is none of that kind."""
        handle = self._handles.get(number)
        if handle is None or handle.is_directory is not is_directory:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return handle.fd

    def release(self, number: int, *, is_directory: bool) -> None:
        os.close(self.get(number, is_directory=is_directory))
        del self._handles[number]

    def close(self) -> None:
        for handle in self._handles.values():
            os.close(handle.fd)
        self._handles.clear()
