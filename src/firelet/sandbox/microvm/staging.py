"""Directories in which the content of a disk is put together before the disk is made.

Files are linked, not copied, where the host lets us: what is staged must never be written to. Links
are taken as they are; devices, pipes and sockets are left out. Blocks: call it in a thread.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

# Sources: Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"; what
# worker.images.layer makes of a layer.
_OPAQUE = "user.overlay.opaque"

Filter = Callable[[str, bool], bool]
"""Whether to take what is at a path relative to the source, and is a directory or not."""


def make_directory(path: Path) -> None:
    """Makes it, and those above it, open to everybody, whatever this process has as its mask: the
    users of sandboxes own nothing of a disk."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    path.chmod(0o755)


def place_file(source: Path, target: Path) -> None:
    """The file behind ``source``, whose links are followed; its directory is made."""
    make_directory(target.parent)
    _take_file(os.path.realpath(source), str(target))


def place_tree(source: Path, target: Path, takes: Filter | None = None) -> None:
    """All of a directory that ``takes`` wants; a directory that it does not want is left out as a
    whole. ``target`` may have content, which stays where nothing takes its place."""
    make_directory(target)
    _Laying(is_layer=False, takes=takes).lay(str(source), str(target), "")


def merge(sources: Iterable[Path], target: Path, *, are_layers: bool) -> None:
    """Directories over each other, the later ones on top. ``are_layers``: of a container image,
    with the marks of an overlay for what they remove from those below."""
    for source in sources:
        _Laying(is_layer=are_layers, takes=None).lay(str(source), str(target), "")


class _Laying:
    def __init__(self, *, is_layer: bool, takes: Filter | None) -> None:
        self._is_layer = is_layer
        self._takes = takes

    def lay(self, source: str, target: str, above: str) -> None:
        with os.scandir(source) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = above + entry.name
                is_directory = entry.is_dir(follow_symlinks=False)
                if self._takes is None or self._takes(path, is_directory):
                    self._take(entry, f"{target}/{entry.name}", path)

    def _take(self, entry: os.DirEntry[str], place: str, path: str) -> None:
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            if not _is_directory(place) or (self._is_layer and _is_opaque(entry.path)):
                _remove(place)
                os.mkdir(place)
            # We must be able to go on in it, and to remove it in the end.
            os.chmod(place, stat.S_IMODE(mode) & 0o1777 | 0o700)
            self.lay(entry.path, place, path + "/")
        elif stat.S_ISREG(mode):
            _remove(place)
            _take_file(entry.path, place)
        elif stat.S_ISLNK(mode):
            _remove(place)
            os.symlink(os.readlink(entry.path), place)
        elif self._is_layer and stat.S_ISCHR(mode):
            _remove(place)


def _take_file(source: str, place: str) -> None:
    try:
        os.link(source, place)
    except OSError:
        # Another file system, a file of somebody else, or too many links.
        shutil.copy2(source, place)


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False  # it has no such attribute, or the file system knows none


def _remove(path: str) -> None:
    if _is_directory(path):
        shutil.rmtree(path)
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def describe(source: Path, takes: Filter | None = None) -> Iterator[str]:
    """A line for each file that ``place_tree`` would take, which changes when the file does: no
    content is read."""
    if not source.is_dir():
        found = source.stat()
        yield f"{source} {found.st_size} {found.st_mtime_ns} {found.st_mode}"
        return
    waiting = [(str(source), "")]
    while waiting:
        directory, above = waiting.pop()
        with os.scandir(directory) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                is_directory = entry.is_dir(follow_symlinks=False)
                path = above + entry.name
                if takes is not None and not takes(path, is_directory):
                    continue
                if is_directory:
                    waiting.append((entry.path, path + "/"))
                    continue
                found = entry.stat(follow_symlinks=False)
                yield f"{entry.path} {found.st_size} {found.st_mtime_ns} {found.st_mode}"
