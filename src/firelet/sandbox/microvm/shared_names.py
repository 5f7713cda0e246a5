"""What a guest asks of the names in a shared directory, and of what they stand for.

An operation gets the number of a node and the fields of its request, and returns what answers it,
or raises the OSError that does. Called by ``shared_directory``.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from firelet.linux import files
from firelet.sandbox.microvm import fuse_protocol as fuse
from firelet.sandbox.microvm.fuse_protocol import Fields, Operation, Operations
from firelet.sandbox.microvm.shared_nodes import Handles, Node, Nodes, check_bits, error

_NODE = struct.Struct("<Q")
_GETATTR = struct.Struct("<I4xQ")
_SETATTR = struct.Struct("<I4xQQ8xQQ8xIIIIIII4x")
_MKNOD = struct.Struct("<I12x")
_MKDIR = struct.Struct("<I4x")
_RENAME2 = struct.Struct("<QI4x")
_ACCESS = struct.Struct("<I4x")

_GETATTR_OF_HANDLE = 1
# Of SETATTR: what is to be set.
_MODE, _UID, _GID, _SIZE, _ATIME, _MTIME, _OF_HANDLE = (1 << bit for bit in range(7))
_ATIME_NOW, _MTIME_NOW = 1 << 7, 1 << 8
_RENAME_FLAGS = 1 | 2  # RENAME_NOREPLACE, RENAME_EXCHANGE


class Names:
    """``nodes`` and ``handles`` are their owner's."""

    def __init__(self, nodes: Nodes, handles: Handles) -> None:
        self._nodes = nodes
        self._handles = handles
        self.operations: Operations = {
            Operation.LOOKUP: self._lookup,
            Operation.GETATTR: self._getattr,
            Operation.SETATTR: self._setattr,
            Operation.READLINK: self._readlink,
            Operation.SYMLINK: self._symlink,
            Operation.MKNOD: self._mknod,
            Operation.MKDIR: self._mkdir,
            Operation.UNLINK: self._unlink,
            Operation.RMDIR: self._rmdir,
            Operation.RENAME: self._rename,
            Operation.RENAME2: self._rename2,
            Operation.LINK: self._link,
            Operation.STATFS: self._statfs,
            Operation.ACCESS: self._access,
        }

    def _lookup(self, directory: int, fields: Fields) -> bytes:
        return self._nodes.find(directory, fields.name())[1]

    def _getattr(self, number: int, fields: Fields) -> bytes:
        flags, handle = fields.take(_GETATTR)
        is_open = flags & _GETATTR_OF_HANDLE
        fd = self._handles.get(handle) if is_open else self._nodes.fd(number)
        return fuse.pack_attributes(os.fstat(fd), self._nodes.owners)

    def _setattr(self, number: int, fields: Fields) -> bytes:
        what, handle, size, atime, mtime, atime_ns, mtime_ns, _, mode, _, uid, gid = fields.take(
            _SETATTR
        )
        node = self._nodes.get(number)
        if what & _MODE:
            self._set_mode(node, mode)
        if what & (_UID | _GID):
            self._set_owner(node, uid if what & _UID else None, gid if what & _GID else None)
        if what & _SIZE:
            self._set_size(number, handle if what & _OF_HANDLE else None, size)
        if what & (_ATIME | _MTIME):
            accessed = _time(what & _ATIME, what & _ATIME_NOW, atime, atime_ns)
            modified = _time(what & _MTIME, what & _MTIME_NOW, mtime, mtime_ns)
            files.set_times(self._nodes.own_fds, str(node.fd), accessed, modified)
        return fuse.pack_attributes(os.fstat(node.fd), self._nodes.owners)

    def _set_mode(self, node: Node, mode: int) -> None:
        """A directory may pass its group on to what is made in it."""
        if node.kind == stat.S_IFLNK:
            raise error(errno.EOPNOTSUPP)
        check_bits(mode & ~stat.S_ISGID if node.kind == stat.S_IFDIR else mode)
        os.chmod(str(node.fd), stat.S_IMODE(mode), dir_fd=self._nodes.own_fds)

    def _set_owner(self, node: Node, uid: int | None, gid: int | None) -> None:
        """To whom it belongs already, or not at all: there is nobody else in the guest."""
        owners = self._nodes.owners
        if any(value not in (None, owners.guest_id) for value in (uid, gid)):
            raise error(errno.EPERM)
        new = (-1 if uid is None else owners.uid, -1 if gid is None else owners.gid)
        os.chown(str(node.fd), *new, dir_fd=self._nodes.own_fds)

    def _set_size(self, number: int, handle: int | None, size: int) -> None:
        size = fuse.position(size)
        if handle is not None:
            os.ftruncate(self._handles.get(handle), size)
            return
        fd = self._nodes.reopen(number, os.O_WRONLY)
        try:
            os.ftruncate(fd, size)
        finally:
            os.close(fd)

    def _readlink(self, number: int, _fields: Fields) -> bytes:
        return os.readlink(b"", dir_fd=self._nodes.fd(number))

    def _symlink(self, directory: int, fields: Fields) -> bytes:
        """Wherever it leads: it is the guest that follows it."""
        name, target = fields.name(), fields.text()
        os.symlink(target, name, dir_fd=self._nodes.fd(directory))
        return self._nodes.find(directory, name)[1]

    def _mknod(self, directory: int, fields: Fields) -> bytes:
        """A file: pipes, sockets and devices would be of two kernels."""
        (mode,) = fields.take(_MKNOD)
        name = fields.name()
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise error(errno.EPERM)
        fd = self._nodes.make_file(directory, name, os.O_WRONLY, mode)
        try:
            return self._nodes.find_open(fd)[1]
        finally:
            os.close(fd)

    def _mkdir(self, directory: int, fields: Fields) -> bytes:
        (mode,) = fields.take(_MKDIR)
        name = fields.name()
        os.mkdir(name, mode & 0o1777, dir_fd=self._nodes.fd(directory))
        return self._nodes.find(directory, name)[1]

    def _unlink(self, directory: int, fields: Fields) -> bytes:
        os.unlink(fields.name(), dir_fd=self._nodes.fd(directory))
        return b""

    def _rmdir(self, directory: int, fields: Fields) -> bytes:
        os.rmdir(fields.name(), dir_fd=self._nodes.fd(directory))
        return b""

    def _rename(self, directory: int, fields: Fields) -> bytes:
        (target,) = fields.take(_NODE)
        return self._move(directory, target, fields, 0)

    def _rename2(self, directory: int, fields: Fields) -> bytes:
        target, flags = fields.take(_RENAME2)
        if flags & ~_RENAME_FLAGS:
            raise error(errno.EINVAL)
        return self._move(directory, target, fields, flags)

    def _move(self, directory: int, target: int, fields: Fields, flags: int) -> bytes:
        name, new_name = fields.name(), fields.name()
        files.rename(self._nodes.fd(directory), name, self._nodes.fd(target), new_name, flags)
        return b""

    def _link(self, directory: int, fields: Fields) -> bytes:
        (linked,) = fields.take(_NODE)
        name = fields.name()
        source = self._nodes.get(linked)
        if source.kind != stat.S_IFREG:
            raise error(errno.EPERM)
        place = self._nodes.fd(directory)
        os.link(str(source.fd), name, src_dir_fd=self._nodes.own_fds, dst_dir_fd=place)
        return self._nodes.find(directory, name)[1]

    def _statfs(self, number: int, _fields: Fields) -> bytes:
        return fuse.pack_statfs(os.fstatvfs(self._nodes.fd(number)))

    def _access(self, number: int, fields: Fields) -> bytes:
        (mask,) = fields.take(_ACCESS)
        wanted = mask & (os.R_OK | os.W_OK | os.X_OK)
        if not os.access(str(self._nodes.fd(number)), wanted, dir_fd=self._nodes.own_fds):
            raise error(errno.EACCES)
        return b""


def _time(is_set: int, is_now: int, seconds: int, nanoseconds: int) -> tuple[int, int]:
    if not is_set:
        return 0, files.UTIME_OMIT
    if is_now:
        return 0, files.UTIME_NOW
    if nanoseconds >= 10**9:
        raise error(errno.EINVAL)
    return seconds - 2**64 if seconds >= 2**63 else seconds, nanoseconds
