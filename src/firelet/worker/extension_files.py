"""Which external extensions an environment has, by the files of its layers or of its image.

Links are not followed: where they lead is for the sandbox to say, where they are executed.
Source: AWS guide, "Lambda extensions"; Documentation/filesystems/overlayfs.rst for what a layer of
an image takes away.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

_OPAQUE = "user.overlay.opaque"


def find_extensions(extracted: Sequence[Path], *, is_image: bool) -> tuple[str, ...]:
    """Their names, sorted. ``extracted`` is the code, which has none, and then the layers; or the
    layers of an image, the lowest first."""
    names: set[str] = set()
    if is_image:
        for layer in extracted:
            names = _overlaid(layer, names)
    else:
        for layer in extracted[1:]:
            names |= _files_of(layer / "extensions")
    return tuple(sorted(names))


def _overlaid(layer: Path, below: set[str]) -> set[str]:
    """What is in /opt/extensions once a layer lies above others that have ``below`` there."""
    for directory in (layer / "opt", layer / "opt" / "extensions"):
        try:
            mode = directory.lstat().st_mode
        except OSError:
            return below  # this layer says nothing of it
        if not stat.S_ISDIR(mode) or _is_opaque(directory):
            below = set()  # a whiteout, a file or a link takes its place
        if not stat.S_ISDIR(mode):
            return below
    gone = {each.name for each in os.scandir(directory) if _is_whiteout(each)}
    return below - gone | _files_of(directory)


def _files_of(directory: Path) -> set[str]:
    if directory.is_symlink() or not directory.is_dir():
        return set()
    with os.scandir(directory) as entries:
        return {
            each.name
            for each in entries
            if not each.is_dir(follow_symlinks=False) and not _is_whiteout(each)
        }


def _is_whiteout(entry: os.DirEntry[str]) -> bool:
    found = entry.stat(follow_symlinks=False)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _is_opaque(directory: Path) -> bool:
    with contextlib.suppress(OSError):  # no such attribute, or a file system without any
        return os.getxattr(directory, _OPAQUE) == b"y"
    return False
