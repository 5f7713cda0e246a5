"""A directory of this host as a guest's kernel asks for it over FUSE: each request, and its answer.

What it is: the operations on files, with the rights of whoever calls. What it is not: a process
(``directory_process``) nor a way to the guest. A request names files by nodes that the guest was
told of, and what is in a directory by one plain name, so that no path leads anywhere; links are the
guest's to follow. Only files and directories are ever opened.

What is not served is refused with ENOSYS, which the kernel takes for an answer once and for all:
extended attributes, and locks, which it keeps by itself then.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable

from firelet.linux import files, trees
from firelet.sandbox.microvm import fuse_protocol as fuse
from firelet.sandbox.microvm.fuse_protocol import Breach, Fields, Operation, Owners, Request
from firelet.sandbox.microvm.shared_nodes import Handles, Node, Nodes

_U32, _U64 = struct.Struct("<I4x"), struct.Struct("<Q")
_TWO_U32 = struct.Struct("<II")
_MKNOD = struct.Struct("<IIII")
_CREATE = struct.Struct("<IIII")
_RENAME2 = struct.Struct("<QII")
_FORGET_ONE = struct.Struct("<QQ")
_HANDLE = struct.Struct("<Q")
_GETATTR = struct.Struct("<I4xQ")
_SETATTR = struct.Struct("<I4xQQQQQQIIIIIIII")
_TRANSFER = struct.Struct("<QQIIQII")
_FSYNC = struct.Struct("<QI4x")
_LSEEK = struct.Struct("<QQI4x")
_OPEN_OUT = struct.Struct("<QII")
_WRITE_OUT = struct.Struct("<I4x")

# Of SETATTR: what is to be set.
_MODE, _UID, _GID, _SIZE, _ATIME, _MTIME, _OF_HANDLE = (1 << bit for bit in range(7))
_ATIME_NOW, _MTIME_NOW = 1 << 7, 1 << 8

# What a file may be opened with, besides the way in which it is accessed.
_OPEN_FLAGS = os.O_APPEND | os.O_TRUNC | os.O_SYNC
_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID
_RENAME_FLAGS = 1 | 2  # RENAME_NOREPLACE, RENAME_EXCHANGE
_POSITION_MAX = 2**63 - 1


class SharedDirectory:
    """Owns ``root``, an O_PATH descriptor of the directory, from the start until ``close``.

    ``own_fds`` is a descriptor of /proc/self/fd of this very process. ``nodes_max`` and
    ``handles_max`` bound what the guest may know, and have open.
    """

    def __init__(
        self, root: int, own_fds: int, owners: Owners, *, nodes_max: int, handles_max: int
    ) -> None:
        self._own_fds = own_fds
        self._owners = owners
        self._nodes = Nodes(root, nodes_max)
        self._handles = Handles(handles_max)
        self._is_agreed = False
        self._operations: dict[int, Callable[[int, Fields], bytes]] = {
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
            Operation.STATFS: self._statfs,
            Operation.ACCESS: self._access,
            Operation.DESTROY: lambda _node, _fields: b"",
        }

    def serve(self, request: Request) -> bytes | None:
        """The answer, if there is one. Breach for what no kernel would ask."""
        operation, unique, node, body = request
        if operation == Operation.INIT:
            if self._is_agreed:
                raise Breach("a second INIT")
            self._is_agreed = True
            return fuse.answer(unique, fuse.answer_init(body))
        if not self._is_agreed:
            raise Breach(f"operation {operation} before INIT")
        if operation == Operation.INTERRUPT:
            return None  # what it is about has been answered: one comes after the other
        if operation in (Operation.FORGET, Operation.BATCH_FORGET):
            self._forget(operation, node, Fields(body))
            return None
        serve = self._operations.get(operation)
        if serve is None:
            return fuse.refusal(unique, errno.ENOSYS)
        try:
            return fuse.answer(unique, serve(node, Fields(body)))
        except OSError as error:
            return fuse.refusal(unique, error.errno or errno.EIO)

    def close(self) -> None:
        """Closes all that the guest has open."""
        self._handles.close()
        self._nodes.close()

    def _entry(self, node: Node, found: os.stat_result) -> bytes:
        return fuse.pack_entry(node.number, found, self._owners)

    def _find(self, directory: int, name: bytes) -> bytes:
        return self._entry(*self._nodes.find(self._nodes.get(directory), name))

    def _lookup(self, node: int, fields: Fields) -> bytes:
        return self._find(node, fields.name())

    def _forget(self, operation: int, node: int, fields: Fields) -> None:
        if operation == Operation.FORGET:
            (count,) = fields.take(_U64)
            self._nodes.forget(node, count)
            return
        (number,) = fields.take(_U32)
        for _ in range(number):
            self._nodes.forget(*fields.take(_FORGET_ONE))

    def _getattr(self, node: int, fields: Fields) -> bytes:
        flags, handle = fields.take(_GETATTR)
        if flags & fuse.GETATTR_OF_HANDLE:
            found = os.fstat(self._handles.get(handle))
        else:
            found = os.fstat(self._nodes.get(node).fd)
        return fuse.pack_attributes(found, self._owners)

    def _setattr(self, number: int, fields: Fields) -> bytes:
        what, handle, size, _, *rest = fields.take(_SETATTR)
        atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _ = rest
        node = self._nodes.get(number)
        if what & _MODE:
            self._set_mode(node, mode)
        if what & (_UID | _GID):
            self._set_owner(node, uid if what & _UID else None, gid if what & _GID else None)
        if what & _SIZE:
            self._set_size(node, handle if what & _OF_HANDLE else None, size)
        if what & (_ATIME | _MTIME):
            accessed = _time(what & _ATIME, what & _ATIME_NOW, atime, atime_ns)
            modified = _time(what & _MTIME, what & _MTIME_NOW, mtime, mtime_ns)
            files.set_times(self._own_fds, str(node.fd), accessed, modified)
        return fuse.pack_attributes(os.fstat(node.fd), self._owners)

    def _set_mode(self, node: Node, mode: int) -> None:
        if node.kind == stat.S_IFLNK:
            raise _error(errno.EOPNOTSUPP)
        is_directory = node.kind == stat.S_IFDIR
        _check_bits(mode & ~stat.S_ISGID if is_directory else mode)
        os.chmod(str(node.fd), stat.S_IMODE(mode), dir_fd=self._own_fds)

    def _set_owner(self, node: Node, uid: int | None, gid: int | None) -> None:
        """To whom it belongs already, or not at all: there is nobody else in the guest."""
        if any(value not in (None, self._owners.guest_id) for value in (uid, gid)):
            raise _error(errno.EPERM)
        new = (-1 if uid is None else self._owners.uid, -1 if gid is None else self._owners.gid)
        os.chown(str(node.fd), *new, dir_fd=self._own_fds)

    def _set_size(self, node: Node, handle: int | None, size: int) -> None:
        size = _position(size)
        if handle is not None:
            os.ftruncate(self._handles.get(handle), size)
            return
        fd = self._reopen(node, os.O_WRONLY)
        try:
            os.ftruncate(fd, size)
        finally:
            os.close(fd)

    def _readlink(self, node: int, _fields: Fields) -> bytes:
        return os.readlink(b"", dir_fd=self._nodes.get(node).fd)

    def _symlink(self, node: int, fields: Fields) -> bytes:
        name, target = fields.name(), fields.text()
        os.symlink(target, name, dir_fd=self._nodes.get(node).fd)
        return self._find(node, name)

    def _mknod(self, node: int, fields: Fields) -> bytes:
        """A file: pipes, sockets and devices would be of two kernels."""
        mode, _, _, _ = fields.take(_MKNOD)
        name = fields.name()
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise _error(errno.EPERM)
        fd = self._make_file(node, name, os.O_WRONLY, mode)
        try:
            return self._entry(*self._nodes.adopt(self._node_fd(fd)))
        finally:
            os.close(fd)

    def _mkdir(self, node: int, fields: Fields) -> bytes:
        mode, _ = fields.take(_TWO_U32)
        name = fields.name()
        os.mkdir(name, mode & 0o1777, dir_fd=self._nodes.get(node).fd)
        return self._find(node, name)

    def _unlink(self, node: int, fields: Fields) -> bytes:
        os.unlink(fields.name(), dir_fd=self._nodes.get(node).fd)
        return b""

    def _rmdir(self, node: int, fields: Fields) -> bytes:
        os.rmdir(fields.name(), dir_fd=self._nodes.get(node).fd)
        return b""

    def _rename(self, node: int, fields: Fields) -> bytes:
        (target,) = fields.take(_U64)
        return self._move(node, target, fields, 0)

    def _rename2(self, node: int, fields: Fields) -> bytes:
        target, flags, _ = fields.take(_RENAME2)
        if flags & ~_RENAME_FLAGS:
            raise _error(errno.EINVAL)
        return self._move(node, target, fields, flags)

    def _move(self, node: int, target: int, fields: Fields, flags: int) -> bytes:
        name, new_name = fields.name(), fields.name()
        source, place = self._nodes.get(node), self._nodes.get(target)
        files.rename(source.fd, name, place.fd, new_name, flags)
        return b""

    def _link(self, node: int, fields: Fields) -> bytes:
        (linked,) = fields.take(_U64)
        name = fields.name()
        source, directory = self._nodes.get(linked), self._nodes.get(node)
        if source.kind != stat.S_IFREG:
            raise _error(errno.EPERM)
        os.link(str(source.fd), name, src_dir_fd=self._own_fds, dst_dir_fd=directory.fd)
        return self._find(node, name)

    def _open(self, node: int, fields: Fields) -> bytes:
        flags, _ = fields.take(_TWO_U32)
        self._handles.check_room()
        return self._opened(self._reopen(self._nodes.get(node), flags))

    def _opened(self, fd: int, *, is_directory: bool = False) -> bytes:
        return _OPEN_OUT.pack(self._handles.add(fd, is_directory=is_directory), 0, 0)

    def _create(self, number: int, fields: Fields) -> bytes:
        """What has come into being there meanwhile is opened, if that was not ruled out; but as
        what it turns out to be."""
        flags, mode, _, _ = fields.take(_CREATE)
        name = fields.name()
        self._handles.check_room()
        try:
            fd = self._make_file(number, name, flags, mode)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            node, found = self._nodes.find(self._nodes.get(number), name)
            try:
                fd = self._reopen(node, flags)
            except BaseException:
                self._nodes.forget(node.number, 1)
                raise
            return self._entry(node, found) + self._opened(fd)
        try:
            entry = self._entry(*self._nodes.adopt(self._node_fd(fd)))
        except BaseException:
            os.close(fd)
            raise
        return entry + self._opened(fd)

    def _make_file(self, directory: int, name: bytes, flags: int, mode: int) -> int:
        """One that was not there."""
        _check_bits(mode)
        made = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        return trees.open_beneath(
            self._nodes.get(directory).fd, name, made | _safe_flags(flags), mode & 0o1777
        )

    def _node_fd(self, fd: int) -> int:
        return os.open(str(fd), os.O_PATH | os.O_CLOEXEC, dir_fd=self._own_fds)

    def _reopen(self, node: Node, flags: int) -> int:
        """A file for reading or writing. Nothing else is opened: a pipe would wait, and a device
        is the host's."""
        if node.kind == stat.S_IFDIR:
            raise _error(errno.EISDIR)
        if node.kind != stat.S_IFREG:
            raise _error(errno.EPERM)
        return os.open(str(node.fd), _safe_flags(flags) | os.O_CLOEXEC, dir_fd=self._own_fds)

    def _read(self, _node: int, fields: Fields) -> bytes:
        handle, offset, size, _, _, _, _ = fields.take(_TRANSFER)
        if size > fuse.READ_MAX_BYTES:
            raise Breach(f"{size} bytes to be read")
        return os.pread(self._handles.get(handle), size, _position(offset))

    def _write(self, _node: int, fields: Fields) -> bytes:
        """A file that was opened to append to grows where it ends now, whatever the guest takes for
        its end."""
        handle, offset, size, _, _, _, _ = fields.take(_TRANSFER)
        data = fields.data(size)
        return _WRITE_OUT.pack(os.pwrite(self._handles.get(handle), data, _position(offset)))

    def _lseek(self, _node: int, fields: Fields) -> bytes:
        handle, offset, whence = fields.take(_LSEEK)
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise _error(errno.EINVAL)
        return _U64.pack(os.lseek(self._handles.get(handle), _position(offset), whence))

    def _flush(self, _node: int, fields: Fields) -> bytes:
        """A close in the guest. Some file systems tell only then that they could not write."""
        os.close(os.dup(self._handles.get(*fields.take(_HANDLE))))
        return b""

    def _fsync(self, _node: int, fields: Fields) -> bytes:
        handle, flags = fields.take(_FSYNC)
        (os.fdatasync if flags & fuse.FSYNC_DATA else os.fsync)(self._handles.get(handle))
        return b""

    def _release(self, _node: int, fields: Fields) -> bytes:
        self._handles.release(*fields.take(_HANDLE), is_directory=False)
        return b""

    def _opendir(self, node: int, _fields: Fields) -> bytes:
        self._handles.check_room()
        flags = os.O_RDONLY | os.O_DIRECTORY
        fd = trees.open_beneath(self._nodes.get(node).fd, b".", flags)
        return self._opened(fd, is_directory=True)

    def _readdir(self, _node: int, fields: Fields) -> bytes:
        handle, offset, size, _, _, _, _ = fields.take(_TRANSFER)
        if size > fuse.READ_MAX_BYTES:
            raise Breach(f"{size} bytes to be read")
        fd = self._handles.get(handle, is_directory=True)
        os.lseek(fd, _position(offset), os.SEEK_SET)
        entries = files.read_entries(fd, size)
        packed = fuse.pack_entries(entries, size)
        if entries and not packed:
            raise _error(errno.EINVAL)  # nothing would mean its end
        return packed

    def _fsyncdir(self, _node: int, fields: Fields) -> bytes:
        handle, _ = fields.take(_FSYNC)
        os.fsync(self._handles.get(handle, is_directory=True))
        return b""

    def _releasedir(self, _node: int, fields: Fields) -> bytes:
        self._handles.release(*fields.take(_HANDLE), is_directory=True)
        return b""

    def _statfs(self, node: int, _fields: Fields) -> bytes:
        return fuse.pack_statfs(os.fstatvfs(self._nodes.get(node).fd))

    def _access(self, node: int, fields: Fields) -> bytes:
        mask, _ = fields.take(_TWO_U32)
        fd = self._nodes.get(node).fd
        if not os.access(str(fd), mask & (os.R_OK | os.W_OK | os.X_OK), dir_fd=self._own_fds):
            raise _error(errno.EACCES)
        return b""


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _position(value: int) -> int:
    if value > _POSITION_MAX:
        raise _error(errno.EINVAL)
    return value


def _time(is_set: int, is_now: int, seconds: int, nanoseconds: int) -> tuple[int, int]:
    if not is_set:
        return 0, files.UTIME_OMIT
    if is_now:
        return 0, files.UTIME_NOW
    if nanoseconds >= 10**9:
        raise _error(errno.EINVAL)
    return seconds - 2**64 if seconds > _POSITION_MAX else seconds, nanoseconds


def _check_bits(mode: int) -> None:
    """What would run with its owner's rights whoever starts it. A directory may pass its group
    on."""
    if mode & _SPECIAL_BITS:
        raise _error(errno.EPERM)


def _safe_flags(flags: int) -> int:
    """Nothing that waits. What is not known is left out."""
    access = flags & os.O_ACCMODE
    if access == os.O_ACCMODE:
        raise _error(errno.EINVAL)
    return access | flags & _OPEN_FLAGS | os.O_NONBLOCK
