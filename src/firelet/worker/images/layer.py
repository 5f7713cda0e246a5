"""Unpacks one layer of an image as hostile input, into a directory that an overlay can stack.

What it is not: where layers are kept (``worker.codecache``). Blocks; belongs in a thread.

Every path is resolved by the kernel with the layer's directory as the root (``linux.trees``), and
every file is made by its last name in the directory that was found: no link of the archive leads
out. Left out: device nodes, pipes, owners, extended attributes, and the bits set-user-id,
set-group-id and sticky. What a layer removes from those below it becomes what overlayfs takes for
that: a character device 0/0, and the attribute ``user.overlay.opaque`` of a directory.
Source: OCI image layer specification, "Whiteouts"; Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from firelet.linux.trees import open_directory_in
from firelet.model import limits
from firelet.worker.images.errors import BadImage
from firelet.worker.images.stream import CHUNK, TarStream

_WHITEOUT = b".wh."
_OPAQUE_MARK = b".wh..wh..opq"
_RESERVED = b".wh..wh."  # of aufs, for itself
_OPAQUE = "user.overlay.opaque"
_MODIFIED_MAX = 2**33  # seconds; what every file system can keep

# What tarfile raises on archives that are not in order; too many chained headers are a recursion.
_FOREIGN = (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError)
# What the archive is to blame for, if the kernel refuses it.
_ARCHIVES_FAULT = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ELOOP,
        errno.EXDEV,
        errno.EPERM,
        errno.EINVAL,
        errno.ENAMETOOLONG,
        errno.EMLINK,
    }
)


def extract_layer(blob: BinaryIO, destination: Path) -> None:
    """Unpacks into ``destination``, an empty directory. BadImage when the layer is refused, OSError
    when the host has no room or cannot keep extended attributes."""
    root = os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    tree = _Tree(root)
    try:
        for archive, member in _members(TarStream(blob, limits.IMAGE_UNPACKED_MAX_BYTES)):
            tree.add(archive, member)
        os.fchmod(root, 0o755)
    except _FOREIGN as error:
        raise BadImage(f"a layer is not a tar: {error}") from error
    except OSError as error:
        if error.errno in _ARCHIVES_FAULT:
            raise BadImage(f"a layer cannot be unpacked: {error}") from error
        raise
    finally:
        tree.close()
        os.close(root)


def _members(stream: TarStream) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    # Not one of tarfile's own stream modes: those read extended headers of any length.
    with tarfile.TarFile(fileobj=stream, mode="r", errors="surrogateescape") as archive:
        for _ in range(limits.IMAGE_LAYER_ENTRIES_MAX):
            member = archive.next()
            if member is None:
                return
            yield archive, member
            archive.members.clear()  # type: ignore[attr-defined]  # it would remember them all
    raise BadImage("a layer has too many entries")


def _parse_path(name: str) -> list[bytes]:
    """The parts of a path. A leading slash means the layer's root, as everywhere."""
    parts = [part for part in os.fsencode(name).split(b"/") if part not in (b"", b".")]
    if b".." in parts or any(b"\0" in part for part in parts):
        raise BadImage(f"a layer has the path {name[:200]!r}")
    return parts


class _Tree:
    """The directory that is being filled. Keeps the directory of the last entry open, since most
    entries follow others of the same one."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._near: tuple[bytes, int] | None = None

    def close(self) -> None:
        if self._near is not None:
            os.close(self._near[1])
            self._near = None

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = _parse_path(member.name)
        if not parts:
            return  # the root itself
        *above, name = parts
        if any(part.startswith(_WHITEOUT) for part in above):
            return  # below a mark there is nothing of the image
        if name.startswith(_WHITEOUT):
            self._hide(above, name)
        elif member.isdir():
            self._make_directory(self._directory(above), name, member.mode)
        elif member.isreg() and not member.issparse():
            self._write_file(self._directory(above), name, archive, member)
        elif member.issym():
            directory = self._directory(above)
            self._clear(directory, name)
            os.symlink(os.fsencode(member.linkname), name, dir_fd=directory)
        elif member.islnk():
            self._link(self._directory(above), name, _parse_path(member.linkname))
        elif not (member.isdev() or member.isfifo()):
            raise BadImage(f"a layer has an entry of the unknown type {member.type!r}")

    def _directory(self, parts: list[bytes]) -> int:
        """The directory of these parts, made by now; good until the next call."""
        path = b"/".join(parts)
        if self._near is not None and self._near[0] == path:
            return self._near[1]
        opened = self._open_or_make(parts)
        self.close()
        self._near = (path, opened)
        return opened

    def _open_or_make(self, parts: list[bytes]) -> int:
        if len(parts) > limits.ARCHIVE_DEPTH_MAX:
            raise BadImage("a layer has directories that are too deep")
        try:
            return open_directory_in(self._root, b"/".join(parts))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR) or not parts:
                raise
        *above, name = parts
        parent = self._open_or_make(above)
        try:
            self._make_directory(parent, name, 0o755)
        finally:
            os.close(parent)
        return open_directory_in(self._root, b"/".join(parts))

    def _make_directory(self, parent: int, name: bytes, mode: int) -> None:
        """One that is there stays, and gets the mode. The platform must be able to enter and to
        empty all of them, also when it is not root."""
        mode = stat.S_IMODE(mode) & 0o777 | 0o700
        found = _lstat(parent, name)
        if found is not None and stat.S_ISDIR(found.st_mode):
            os.chmod(name, mode, dir_fd=parent)
            return
        was_hidden = found is not None and stat.S_ISCHR(found.st_mode)
        if found is not None:
            os.unlink(name, dir_fd=parent)
        os.mkdir(name, dir_fd=parent)
        os.chmod(name, mode, dir_fd=parent)
        if was_hidden:
            _make_opaque(parent, name)

    def _write_file(
        self, directory: int, name: bytes, archive: tarfile.TarFile, member: tarfile.TarInfo
    ) -> None:
        if member.size < 0:
            raise BadImage("a layer has a file of negative size")
        self._clear(directory, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=directory)
        with open(fd, "wb", buffering=CHUNK) as file:
            content = archive.extractfile(member)
            assert content is not None, "it is a regular file"
            left = member.size
            while left:
                chunk = content.read(min(left, CHUNK))
                if not chunk:
                    raise BadImage("a layer is cut short")
                file.write(chunk)
                left -= len(chunk)
            file.flush()
            os.fchmod(fd, stat.S_IMODE(member.mode) & 0o777 | 0o400)
            modified = max(0, min(int(member.mtime), _MODIFIED_MAX))
            os.utime(fd, (modified, modified))

    def _link(self, directory: int, name: bytes, target: list[bytes]) -> None:
        if not target:
            raise BadImage("a layer has a hard link to its root")
        source = open_directory_in(self._root, b"/".join(target[:-1]))
        try:
            found = os.stat(target[-1], dir_fd=source, follow_symlinks=False)
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
                raise BadImage("a layer has a hard link to something that is not a file")
            here = _lstat(directory, name)
            if here is not None and (here.st_dev, here.st_ino) == (found.st_dev, found.st_ino):
                return
            self._clear(directory, name)
            os.link(
                target[-1], name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False
            )
        finally:
            os.close(source)

    def _hide(self, above: list[bytes], mark: bytes) -> None:
        """A whiteout. What this same layer has under that name is not meant."""
        if mark == _OPAQUE_MARK:
            os.setxattr(self._directory(above), _OPAQUE, b"y")
            return
        name = mark[len(_WHITEOUT) :]
        if mark.startswith(_RESERVED):
            return
        if name in (b"", b".", b".."):
            raise BadImage("a layer hides a file without a name")
        directory = self._directory(above)
        found = _lstat(directory, name)
        if found is None:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=directory)
        elif stat.S_ISDIR(found.st_mode):
            _make_opaque(directory, name)

    def _clear(self, directory: int, name: bytes) -> None:
        """A later entry takes the place of an earlier one."""
        found = _lstat(directory, name)
        if found is None:
            return
        if stat.S_ISDIR(found.st_mode):
            shutil.rmtree(os.fsdecode(name), dir_fd=directory)
        else:
            os.unlink(name, dir_fd=directory)


def _lstat(directory: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _make_opaque(parent: int, name: bytes) -> None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, dir_fd=parent)
    try:
        os.setxattr(fd, _OPAQUE, b"y")
    finally:
        os.close(fd)
