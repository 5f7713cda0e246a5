"""Which external extensions an environment has, by the files of its layers or of its image.

Links to files are not followed: where they lead is for the sandbox to say, where they are executed.
A link in the place of a layer's ``extensions`` is, as far as it leads to a folder of the layers.
Source: AWS guide, "Lambda extensions"; Documentation/filesystems/overlayfs.rst for what a layer of
an image takes away.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

_OPAQUE = "user.overlay.opaque"
_OPT = PurePosixPath("/opt")  # where the layers are, in the sandbox
_LINKS_MAX = 8  # one after the other; the kernel follows more


def find_extensions(extracted: Sequence[Path], *, is_image: bool) -> tuple[str, ...]:
    """Their names, sorted. ``extracted`` is the code, which has none, and then the layers; or the
    layers of an image, the lowest first."""
    names: set[str] = set()
    if is_image:
        for layer in extracted:
            names = _overlaid(layer, names)
    else:
        names = _of_layers(extracted[1:])
    return tuple(sorted(names))


def _of_layers(layers: Sequence[Path]) -> set[str]:
    """What is in /opt/extensions, which may be a link into /opt."""
    path = PurePosixPath("extensions")
    for _ in range(_LINKS_MAX):
        # Nothing is looked at through a link on the way: it would lead into the host's own files.
        if any((layer / parent).is_symlink() for layer in layers for parent in path.parents):
            break
        names, target = _merged(layers, path)
        if target is None:
            return names
        led = PurePosixPath(posixpath.normpath(_OPT / path.parent / target))
        if not led.is_relative_to(_OPT):
            break
        path = led.relative_to(_OPT)
    return set()


def _merged(layers: Sequence[Path], path: PurePosixPath) -> tuple[set[str], str | None]:
    """The files of that folder of all layers, or where the link leads that is in its place."""
    names: set[str] = set()
    target: str | None = None
    for layer in layers:
        place = layer / path
        if place.is_symlink():
            names, target = set(), os.readlink(place)
        elif place.is_dir():
            names, target = names | _files_of(place), None
        elif place.exists():
            names, target = set(), None
    return names, target


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
