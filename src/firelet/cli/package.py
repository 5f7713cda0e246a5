"""Deployment packages: a folder, a file or a ready zip, as names and bytes of one zip.

The same content makes the same bytes, whatever the clock, the user or the order of the folder,
so that a deployment of unchanged code is seen as unchanged. Called by ``deploy`` and ``demo``.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from firelet.cli.failure import CliError

# Nothing that a function could need. node_modules is not here: Node.js functions need theirs.
SKIPPED_FOLDERS = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        ".venv",
        "__pycache__",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".terraform",
        ".aws-sam",
    }
)
SKIPPED_FILES = frozenset({".DS_Store", "Thumbs.db"})
SKIPPED_SUFFIXES = (".pyc", ".pyo")

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest moment that a zip can hold
_EXECUTABLE, _PLAIN = 0o755, 0o644
_REGULAR_FILE = 0o100000


@dataclass(frozen=True, slots=True)
class Package:
    """A zip and what is in it. ``read`` gives the bytes of one of ``names``."""

    zipped: bytes
    names: tuple[str, ...]

    def read(self, name: str) -> bytes:
        with zipfile.ZipFile(io.BytesIO(self.zipped)) as archive:
            return archive.read(name)


def open_package(path: Path) -> Package:
    """Makes the package of a folder or a file; takes a zip as it is."""
    if path.is_dir():
        files = sorted(_walk(path))
        if not files:
            raise CliError(f"{path} holds no files to deploy")
        return _pack(files)
    if not path.is_file():
        raise CliError(f"{path} does not exist")
    if zipfile.is_zipfile(path):
        zipped = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
            return Package(zipped, tuple(archive.namelist()))
    if path.suffix == ".zip":
        raise CliError(f"{path} is not a zip file")
    return _pack([(path.name, path)])


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    """Files below ``root`` as (name in the zip, path). Links are followed once each, so that a
    link to a parent does not lead around in circles."""
    seen: set[Path] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = Path(folder).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS)
        for name in files:
            path = Path(folder, name)
            if name in SKIPPED_FILES or name.endswith(SKIPPED_SUFFIXES) or not path.is_file():
                continue
            yield path.relative_to(root).as_posix(), path


def _pack(files: Sequence[tuple[str, Path]]) -> Package:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, or the mode below would not count
            entry.external_attr = (_REGULAR_FILE | _mode(name, path)) << 16
            archive.writestr(entry, path.read_bytes())
    return Package(buffer.getvalue(), tuple(name for name, _ in files))


def _mode(name: str, path: Path) -> int:
    """A bootstrap must be executable, and is often not after a checkout or an install."""
    if name == "bootstrap" or os.access(path, os.X_OK):
        return _EXECUTABLE
    return _PLAIN
