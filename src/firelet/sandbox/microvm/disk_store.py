"""Disks of guests, kept by what they are made of.

A disk is a file with an ext4 file system, in a directory of its own that is named by the digest of
its ingredients. It is built once however many want it at the same time, in a directory that is
renamed when it is complete: other processes find all of it or nothing. The first time that a
process uses a disk, the disk is checked against its digest; one that is damaged is built again,
since all of it can be. Every method blocks: call them in threads.

Called by the microVM driver, and by ``base_system`` and ``runtime_disk`` for what these put
together.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from firelet.model.limits import MIB
from firelet.sandbox.microvm import ext4, staging
from firelet.sandbox.microvm.host_tools import ImageBuildError

log = logging.getLogger(__name__)

# A machine that was snapshotted finds another file in the place of its disk when it is restored,
# and does not look again how large it is: a file system that is larger than the first disk was
# could not be mounted. One size for all, then: a package has 250 MiB unzipped, a container image
# 10 GiB, to which comes that small files are rounded up to blocks. The file is sparse: what is not
# used takes no room, and is never read.
SLOT_BYTES = 16 * 1024 * MIB

_RECIPE = "1"  # another one for every change of what disks look like
_DISK, _MANIFEST = "disk.ext4", "manifest.json"
_UNFINISHED = ".unfinished-"
_CHUNK = 1024 * 1024


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``digest`` is the SHA-256 of the first ``content_bytes`` of the disk, after which there is
    nothing; ``sources`` are the digests of the packages in it."""

    digest: str
    content_bytes: int
    size_bytes: int
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Disk:
    """``name`` tells the ingredients, ``digest`` the content; ``size_bytes`` is what guests see."""

    name: str
    path: Path
    digest: str
    size_bytes: int


class DiskStore:
    """Owns the directory ``root``, which is made when it is needed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._checked: dict[str, Disk] = {}
        self._sources: dict[str, tuple[str, ...]] = {}

    def package(self, digests: Sequence[str], code_store: Path) -> Disk:
        """A slot with the extracted packages ``code_store/<digest>``, later ones over earlier ones;
        one that is there twice counts where it is last. ImageBuildError."""
        wanted = _without_repetitions(digests)

        def populate(place: Path) -> Path:
            if len(wanted) == 1:
                return code_store / wanted[0]
            staging.merge((code_store / digest for digest in wanted), place, are_layers=False)
            return place

        return self.obtain("package", wanted, populate, sources=wanted, size_bytes=SLOT_BYTES)

    def image(self, digests: Sequence[str], code_store: Path) -> Disk:
        """A slot with the root of a container image: its extracted layers, the lowest first.
        ImageBuildError."""
        wanted = _without_repetitions(digests)

        def populate(place: Path) -> Path:
            staging.merge((code_store / digest for digest in wanted), place, are_layers=True)
            return place

        return self.obtain("image", wanted, populate, sources=wanted, size_bytes=SLOT_BYTES)

    def empty(self) -> Disk:
        """What is in a slot that has nothing. ImageBuildError."""
        return self.obtain("empty", (), lambda place: place, size_bytes=SLOT_BYTES)

    def obtain(
        self,
        kind: str,
        ingredients: Sequence[str],
        populate: Callable[[Path], Path],
        *,
        sources: Sequence[str] = (),
        size_bytes: int | None = None,
    ) -> Disk:
        """The disk of that kind with these ingredients, built now if it is not there.

        ``populate`` is given an empty directory and returns the one with the content: that one, or
        one that is complete already. ``sources``: see ``sweep``. ``size_bytes``: None for as large
        as it has to be. ImageBuildError.
        """
        key = hashlib.sha256("\0".join((_RECIPE, kind, str(size_bytes), *ingredients)).encode())
        name = f"{kind}-{key.hexdigest()[:40]}"
        with self._lock(name):
            found = self._checked.get(name)
            if found is not None and found.path.exists():
                return found
            try:
                disk = self._load(name) or self._build(name, populate, tuple(sources), size_bytes)
            except OSError as error:
                raise ImageBuildError(f"The disk {name} cannot be written: {error}.") from error
            self._checked[name] = disk
            return disk

    def sweep(self, is_needed: Callable[[str], bool]) -> None:
        """Removes every disk of packages and images of which one digest is not needed any more.
        Machines that have such a disk open keep it."""
        if not self._root.is_dir():
            return
        for name in sorted(os.listdir(self._root)):
            if name.startswith(_UNFINISHED) or all(map(is_needed, self._sources_of(name))):
                continue
            with self._lock(name):
                self._remove(name)

    def discard(self, digest: str) -> None:
        """Removes every disk with the package of that digest."""
        self.sweep(lambda source: source != digest)

    def remove_unused(self, kind: str, unused_s: float) -> None:
        """Removes every disk of that kind that no process has begun to use for so long: of
        runtimes, those of interpreters that have been changed or have gone. No other process may be
        using them: at start-up."""
        oldest = time.time() - unused_s
        for place in self._root.glob(f"{kind}-*"):
            if place.stat().st_mtime < oldest:
                with self._lock(place.name):
                    self._remove(place.name)

    def clear_unfinished(self) -> None:
        """Removes what a crash left half built. No other process may be building: at start-up."""
        for place in self._root.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(place, ignore_errors=True)

    def _lock(self, name: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(name, threading.Lock())

    def _sources_of(self, name: str) -> tuple[str, ...]:
        """Read once, for a disk of that name never has others; none when there is no such disk."""
        sources = self._sources.get(name)
        if sources is None:
            with self._lock(name):
                manifest = self._read_manifest(name)
            if manifest is None:
                return ()
            sources = self._sources[name] = manifest.sources
        return sources

    def _load(self, name: str) -> Disk | None:
        """None when it is not there, or is not what it should be and has been removed for that."""
        manifest = self._read_manifest(name)
        if manifest is None:
            return None
        path = self._root / name / _DISK
        if path.stat().st_size != manifest.size_bytes or (
            _digest(path, manifest.content_bytes) != manifest.digest
        ):
            log.warning("disk damaged, building it again name=%s", name)
            self._remove(name)
            return None
        os.utime(path.parent)  # see ``remove_unused``
        return Disk(name, path, manifest.digest, manifest.size_bytes)

    def _read_manifest(self, name: str) -> _Manifest | None:
        try:
            text = (self._root / name / _MANIFEST).read_bytes()
            return msgspec.json.decode(text, type=_Manifest)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError:
            log.warning("manifest of a disk damaged name=%s", name)
            self._remove(name)
            return None

    def _build(
        self,
        name: str,
        populate: Callable[[Path], Path],
        sources: tuple[str, ...],
        size_bytes: int | None,
    ) -> Disk:
        with self._unfinished() as place:
            content = place / "content"
            content.mkdir()
            made = place / "made"
            made.mkdir()
            disk = made / _DISK
            content_bytes = ext4.build(populate(content), disk, name.rpartition("-")[2])
            if size_bytes is not None:
                _pad(disk, content_bytes, size_bytes)
            manifest = _Manifest(
                digest=_digest(disk, content_bytes),
                content_bytes=content_bytes,
                size_bytes=disk.stat().st_size,
                sources=sources,
            )
            (made / _MANIFEST).write_bytes(msgspec.json.encode(manifest))
            try:
                os.rename(made, self._root / name)
                return Disk(name, self._root / name / _DISK, manifest.digest, manifest.size_bytes)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                log.debug("another process was faster name=%s", name)
        found = self._load(name)
        if found is None:
            raise ImageBuildError(f"The disk {name} was removed while it was built.")
        return found

    def _remove(self, name: str) -> None:
        """By way of a rename, so that it is never half there."""
        self._checked.pop(name, None)
        self._sources.pop(name, None)
        with self._unfinished() as place, contextlib.suppress(FileNotFoundError):
            os.rename(self._root / name, place / "removed")

    @contextlib.contextmanager
    def _unfinished(self) -> Iterator[Path]:
        self._root.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._root))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _without_repetitions(digests: Sequence[str]) -> tuple[str, ...]:
    return tuple(reversed(dict.fromkeys(reversed(digests))))


def _pad(disk: Path, content_bytes: int, size_bytes: int) -> None:
    if content_bytes > size_bytes:
        raise ImageBuildError(
            f"The files need a disk of {-(-content_bytes // MIB)} MiB; there are only"
            f" {size_bytes // MIB} MiB for them."
        )
    os.truncate(disk, size_bytes)


def _digest(path: Path, count: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while count > 0:
            chunk = source.read(min(count, _CHUNK))
            if not chunk:
                break
            digest.update(chunk)
            count -= len(chunk)
    return digest.hexdigest()
