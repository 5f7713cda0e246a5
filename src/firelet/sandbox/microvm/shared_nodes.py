"""What a guest's kernel knows of a shared directory: files by number, and which of them are open.

A node is held by a descriptor that can neither be read nor written (O_PATH), so that it is the same
file for as long as the guest knows it, whatever is renamed meanwhile; the kernel counts how often
it was told of each. Both tables are bounded. Only files and directories are ever opened.
Called by ``shared_names``, ``shared_files`` and ``shared_locks``.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from dataclasses import dataclass

from firelet.linux import trees
from firelet.sandbox.microvm import fuse_protocol as fuse
from firelet.sandbox.microvm.fuse_protocol import Breach, Owners

ROOT = 1

# What a file may be opened with, besides the way in which it is accessed.
_OPEN_FLAGS = os.O_APPEND | os.O_TRUNC | os.O_SYNC


@dataclass(slots=True)
class Node:
    """Owns ``fd``. ``kind`` is the type of the file (S_IFMT), which never changes."""

    number: int
    fd: int
    kind: int
    identity: tuple[int, int]  # device and inode
    lookups: int = 0


class Nodes:
    """Owns ``root``, an O_PATH descriptor of the directory, and those of all nodes until ``close``.
    ``own_fds`` is a descriptor of /proc/self/fd of this very process."""

    def __init__(self, root: int, own_fds: int, owners: Owners, most: int) -> None:
        self.own_fds = own_fds
        self.owners = owners
        self._most = most
        self._next = ROOT
        self._nodes: dict[int, Node] = {}
        self._numbers: dict[tuple[int, int], int] = {}
        self._adopt(root)

    def get(self, number: int) -> Node:
        """OSError ESTALE for one that the kernel has forgotten, or never knew."""
        node = self._nodes.get(number)
        if node is None:
            raise error(errno.ESTALE)
        return node

    def fd(self, number: int) -> int:
        """Its O_PATH descriptor. OSError ESTALE."""
        return self.get(number).fd

    def find(self, directory: int, name: bytes) -> tuple[Node, bytes]:
        """What is there under that name now, and what the kernel is told of it: once more."""
        flags = os.O_PATH | os.O_NOFOLLOW
        return self._adopt(trees.open_beneath(self.fd(directory), name, flags))

    def find_open(self, fd: int) -> tuple[Node, bytes]:
        """The same for a file that is open."""
        return self._adopt(os.open(str(fd), os.O_PATH | os.O_CLOEXEC, dir_fd=self.own_fds))

    def make_file(self, directory: int, name: bytes, flags: int, mode: int) -> int:
        """One that was not there, open. OSError EPERM for one that would run with its owner's
        rights whoever starts it."""
        check_bits(mode)
        made = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        place = self.fd(directory)
        return trees.open_beneath(place, name, made | _safe_flags(flags), mode & 0o1777)

    def reopen(self, number: int, flags: int) -> int:
        """A file for reading or writing, as far as ``flags`` of open(2) say nothing else. A pipe
        would wait, and a device is the host's: EPERM."""
        node = self.get(number)
        if node.kind == stat.S_IFDIR:
            raise error(errno.EISDIR)
        if node.kind != stat.S_IFREG:
            raise error(errno.EPERM)
        return os.open(str(node.fd), _safe_flags(flags) | os.O_CLOEXEC, dir_fd=self.own_fds)

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

    def _adopt(self, fd: int) -> tuple[Node, bytes]:
        """The node of an O_PATH descriptor, which is closed if there is one already."""
        try:
            found = os.fstat(fd)
            identity = (found.st_dev, found.st_ino)
            node = self._nodes.get(self._numbers.get(identity, 0))
            if node is None and len(self._nodes) >= self._most:
                raise error(errno.ENFILE)
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
        return node, fuse.pack_entry(node.number, found, self.owners)


@dataclass(frozen=True, slots=True)
class Handle:
    """Owns ``fd``: a file or a directory that is open, of that node."""

    fd: int
    node: int
    is_directory: bool


class Handles:
    """Owns the descriptors until ``close``."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._next = 1
        self._handles: dict[int, Handle] = {}
        self._opens: Counter[int] = Counter()  # by node

    def check_room(self) -> None:
        """OSError ENFILE when there is none: before something is made that would be opened."""
        if len(self._handles) >= self._most:
            raise error(errno.ENFILE)

    def add(self, fd: int, node: int, *, is_directory: bool = False) -> int:
        number = self._next
        self._next += 1
        self._handles[number] = Handle(fd, node, is_directory)
        self._opens[node] += 1
        return number

    def get(self, number: int, *, is_directory: bool = False) -> int:
        """The descriptor. OSError EBADF when there is none of that kind."""
        handle = self._handles.get(number)
        if handle is None or handle.is_directory is not is_directory:
            raise error(errno.EBADF)
        return handle.fd

    def release(self, number: int, *, is_directory: bool = False) -> int | None:
        """The node, if that was the last of its handles: nobody has it open any more."""
        os.close(self.get(number, is_directory=is_directory))
        node = self._handles.pop(number).node
        self._opens[node] -= 1
        if self._opens[node]:
            return None
        del self._opens[node]
        return node

    def close(self) -> None:
        for handle in self._handles.values():
            os.close(handle.fd)
        self._handles.clear()
        self._opens.clear()


def error(number: int) -> OSError:
    """``number`` is an errno."""
    return OSError(number, os.strerror(number))


def check_bits(mode: int) -> None:
    """OSError EPERM for what would run with its owner's rights whoever starts it."""
    if mode & (stat.S_ISUID | stat.S_ISGID):
        raise error(errno.EPERM)


def _safe_flags(flags: int) -> int:
    """Nothing that waits. What is not known is left out."""
    access = flags & os.O_ACCMODE
    if access == os.O_ACCMODE:
        raise error(errno.EINVAL)
    return access | flags & _OPEN_FLAGS | os.O_NONBLOCK
