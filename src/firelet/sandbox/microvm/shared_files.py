"""What a guest asks of the files and directories that it has open in a shared directory.

An operation gets the number of a node and the fields of its request, and returns what answers it,
or raises the OSError that does. Called by ``shared_directory``.
"""

from __future__ import annotations

import errno
import os
import struct

from firelet.linux import files, trees
from firelet.sandbox.microvm import fuse_protocol as fuse
from firelet.sandbox.microvm.fuse_protocol import Breach, Fields, Operation, Operations
from firelet.sandbox.microvm.shared_locks import Locks
from firelet.sandbox.microvm.shared_nodes import Handles, Nodes, error

_OPEN = struct.Struct("<I4x")
_CREATE = struct.Struct("<II8x")
_HANDLE = struct.Struct("<Q")
_FLUSH = struct.Struct("<Q8xQ")
_TRANSFER = struct.Struct("<QQI20x")
_FSYNC = struct.Struct("<QI4x")
_LSEEK = struct.Struct("<QQI4x")
_OPEN_OUT = struct.Struct("<Q8x")
_WRITE_OUT = struct.Struct("<I4x")
_POSITION_OUT = struct.Struct("<Q")

_ONLY_DATA = 1  # of FSYNC


class Files:
    """``nodes``, ``handles`` and ``locks`` are their owner's."""

    def __init__(self, nodes: Nodes, handles: Handles, locks: Locks) -> None:
        self._nodes = nodes
        self._handles = handles
        self._locks = locks
        self.operations: Operations = {
            Operation.OPEN: self._open,
            Operation.CREATE: self._create,
            Operation.READ: self._read,
            Operation.WRITE: self._write,
            Operation.LSEEK: self._lseek,
            Operation.FLUSH: self._flush,
            Operation.FSYNC: self._fsync,
            Operation.RELEASE: self._release,
            Operation.OPENDIR: self._opendir,
            Operation.READDIR: self._readdir,
            Operation.FSYNCDIR: self._fsyncdir,
            Operation.RELEASEDIR: self._releasedir,
        }

    def _open(self, number: int, fields: Fields) -> bytes:
        (flags,) = fields.take(_OPEN)
        self._handles.check_room()
        return self._opened(number, self._nodes.reopen(number, flags))

    def _create(self, directory: int, fields: Fields) -> bytes:
        """What has come into being there meanwhile is opened, if that was not ruled out; but as
        what it turns out to be."""
        flags, mode = fields.take(_CREATE)
        name = fields.name()
        self._handles.check_room()
        try:
            fd = self._nodes.make_file(directory, name, flags, mode)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            node, entry = self._nodes.find(directory, name)
            try:
                fd = self._nodes.reopen(node.number, flags)
            except OSError:
                self._nodes.forget(node.number, 1)
                raise
        else:
            try:
                node, entry = self._nodes.find_open(fd)
            except OSError:
                os.close(fd)
                raise
        return entry + self._opened(node.number, fd)

    def _opened(self, number: int, fd: int, *, is_directory: bool = False) -> bytes:
        return _OPEN_OUT.pack(self._handles.add(fd, number, is_directory=is_directory))

    def _read(self, _number: int, fields: Fields) -> bytes:
        handle, offset, size = _take_reading(fields)
        return os.pread(self._handles.get(handle), size, offset)

    def _write(self, _number: int, fields: Fields) -> bytes:
        """A file that was opened to append to grows where it ends now, whatever the guest takes for
        its end."""
        handle, offset, size = fields.take(_TRANSFER)
        data = fields.data(size)
        fd = self._handles.get(handle)
        return _WRITE_OUT.pack(os.pwrite(fd, data, fuse.position(offset)))

    def _lseek(self, _number: int, fields: Fields) -> bytes:
        handle, offset, whence = fields.take(_LSEEK)
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise error(errno.EINVAL)
        fd = self._handles.get(handle)
        return _POSITION_OUT.pack(os.lseek(fd, fuse.position(offset), whence))

    def _flush(self, number: int, fields: Fields) -> bytes:
        """A close in the guest, with which its process has no locks of the file any more. Some file
        systems tell only then that they could not write."""
        handle, owner = fields.take(_FLUSH)
        self._locks.release(number, owner)
        os.close(os.dup(self._handles.get(handle)))
        return b""

    def _fsync(self, _number: int, fields: Fields) -> bytes:
        handle, flags = fields.take(_FSYNC)
        (os.fdatasync if flags & _ONLY_DATA else os.fsync)(self._handles.get(handle))
        return b""

    def _release(self, _number: int, fields: Fields) -> bytes:
        closed = self._handles.release(*fields.take(_HANDLE))
        if closed is not None:
            self._locks.release_all(closed)
        return b""

    def _opendir(self, number: int, _fields: Fields) -> bytes:
        self._handles.check_room()
        flags = os.O_RDONLY | os.O_DIRECTORY
        fd = trees.open_beneath(self._nodes.fd(number), b".", flags)
        return self._opened(number, fd, is_directory=True)

    def _readdir(self, _number: int, fields: Fields) -> bytes:
        handle, offset, size = _take_reading(fields)
        fd = self._handles.get(handle, is_directory=True)
        os.lseek(fd, offset, os.SEEK_SET)
        entries = files.read_entries(fd, size)
        packed = fuse.pack_entries(entries, size)
        if entries and not packed:
            raise error(errno.EINVAL)  # nothing would mean its end
        return packed

    def _fsyncdir(self, _number: int, fields: Fields) -> bytes:
        handle, _ = fields.take(_FSYNC)
        os.fsync(self._handles.get(handle, is_directory=True))
        return b""

    def _releasedir(self, _number: int, fields: Fields) -> bytes:
        self._handles.release(*fields.take(_HANDLE), is_directory=True)
        return b""


def _take_reading(fields: Fields) -> tuple[int, int, int]:
    """Handle, position and size. Breach for more than was agreed on."""
    handle, offset, size = fields.take(_TRANSFER)
    if size > fuse.READ_MAX_BYTES:
        raise Breach(f"{size} bytes to be read")
    return handle, fuse.position(offset), size
