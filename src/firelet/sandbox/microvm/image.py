"""Guest images: a kernel, an initial file system and a base system, kept by what they are.

An image is a directory named by its digest: the SHA-256 of its manifest, which names those of its
files. What is loaded is checked against them, once in the life of a store. Nothing is downloaded
here. Blocks: call it in a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from firelet.model.errors import PlatformError
from firelet.sandbox.microvm import base_system, cpio, initramfs, vmlinux
from firelet.sandbox.microvm.base_system import BaseManifest
from firelet.sandbox.microvm.disk_store import Disk
from firelet.sandbox.microvm.kernel import ImageBuildError, Kernel, unpack_package

_KERNEL, _VMLINUX, _INITRD, _BASE = "kernel", "vmlinux", "initrd", "base"
_MANIFEST = "manifest.json"
_INCOMING = "incoming-"


class ImageDamaged(PlatformError):
    """An image is not there, or is not what its name says. The sentences are ours."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``kernel``, ``vmlinux`` and ``initrd`` are SHA-256 in hexadecimal; ``python`` is the path in
    the guest of the interpreter of its pid 1. Without a ``base`` it can run no functions, and with
    other ``code`` than this version's (``initramfs.code_digest``) none for it."""

    release: str
    python: str
    kernel: str
    vmlinux: str
    initrd: str
    base: BaseManifest | None = None
    code: str = ""


@dataclass(frozen=True, slots=True)
class GuestImage:
    """``kernel`` as the distribution packs it; ``vmlinux`` is the same unpacked."""

    digest: str
    manifest: Manifest
    kernel: Path
    vmlinux: Path
    initrd: Path
    base: Disk | None = None


class ImageStore:
    """The directory ``root`` below the data directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._guard = threading.Lock()
        self._loaded: dict[str, GuestImage] = {}

    def build(
        self,
        package: Path,
        python: Path,
        busybox: Path | None,
        base: tuple[Path, BaseManifest] | None = None,
    ) -> GuestImage:
        """An image with the kernel of a Debian package. The same parts give the same image.
        ImageBuildError."""
        with tempfile.TemporaryDirectory(prefix="firelet-kernel-") as directory:
            kernel = unpack_package(package, Path(directory))
            return self.assemble(kernel, python, busybox, base)

    def assemble(
        self,
        kernel: Kernel,
        python: Path,
        busybox: Path | None,
        base: tuple[Path, BaseManifest] | None = None,
    ) -> GuestImage:
        """The same with a kernel that has been unpacked. ImageBuildError."""
        with self._incoming() as place:
            try:
                shutil.copyfile(kernel.image, place / _KERNEL)
                vmlinux.extract(kernel.image, place / _VMLINUX)
                with (place / _INITRD).open("wb") as out:
                    cpio.write(initramfs.build(kernel, python, busybox), out)
                if base is not None:
                    _take(base[0], place / _BASE)
            except OSError as error:
                raise ImageBuildError(f"The image cannot be written: {error}.") from error
            manifest = Manifest(
                release=kernel.release,
                python=str(python),
                kernel=_digest(place / _KERNEL),
                vmlinux=_digest(place / _VMLINUX),
                initrd=_digest(place / _INITRD),
                base=None if base is None else base[1],
                code=initramfs.code_digest(),
            )
            text = msgspec.json.encode(manifest)
            (place / _MANIFEST).write_bytes(text)
            digest = hashlib.sha256(text).hexdigest()
            if self._path(digest).exists():
                os.utime(self._path(digest))  # it is the newest again
            else:
                os.rename(place, self._path(digest))
        return self.load(digest)

    @contextlib.contextmanager
    def base_system(
        self, suite: str, archive: Path | None
    ) -> Iterator[tuple[Path, BaseManifest] | None]:
        """A base system for ``assemble``, until the end of the context: made of ``archive`` (see
        ``base_system.fetch``), or that of an image that was made of the same. Without an archive
        that of the newest image of the suite, None when there is none. ImageBuildError."""
        source = None if archive is None else base_system.source_digest(archive)
        for image in self.images():
            base = image.manifest.base
            if base is None or base.suite != suite or source not in (None, base.source):
                continue
            try:
                loaded = self.load(image.digest).base
            except ImageDamaged:
                continue
            assert loaded is not None, "the manifest says so"
            yield loaded.path, base
            return
        if archive is None:
            yield None
            return
        with self._incoming() as place:
            yield place / _BASE, base_system.build(archive, suite, place / _BASE)

    def images(self) -> list[GuestImage]:
        """All that are there and can be read, the newest first. They are not checked."""
        if not self._root.is_dir():
            return []
        found = []
        for place in self._root.iterdir():
            with contextlib.suppress(ImageDamaged):
                found.append((place.stat().st_mtime_ns, self._open(place.name)))
        return [image for _, image in sorted(found, key=lambda item: item[0], reverse=True)]

    def load(self, digest: str) -> GuestImage:
        """Reads all of it and checks it, if this store has not done so before. ImageDamaged."""
        with self._guard:
            if digest not in self._loaded:
                image = self._open(digest)
                _check(image)
                self._loaded[digest] = image
            return self._loaded[digest]

    def _open(self, digest: str) -> GuestImage:
        place = self._path(digest)
        try:
            text = (place / _MANIFEST).read_bytes()
            if hashlib.sha256(text).hexdigest() != digest:
                raise ImageDamaged(f"The manifest of the image {digest} is not its own.")
            manifest = msgspec.json.decode(text, type=Manifest)
            base = None
            if manifest.base is not None:
                path = place / _BASE
                size = path.stat().st_size
                base = Disk(f"base-{manifest.base.digest}", path, manifest.base.digest, size)
        except (OSError, msgspec.DecodeError) as error:
            raise ImageDamaged(f"The image {digest} cannot be read: {error}.") from error
        return GuestImage(
            digest, manifest, place / _KERNEL, place / _VMLINUX, place / _INITRD, base
        )

    def _path(self, digest: str) -> Path:
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise ImageDamaged(f"{digest!r} is no digest of an image.")
        return self._root / digest

    @contextlib.contextmanager
    def _incoming(self) -> Iterator[Path]:
        self._root.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=self._root))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)  # it has been moved, or failed


def _check(image: GuestImage) -> None:
    """ImageDamaged."""
    files = [
        (image.kernel, image.manifest.kernel),
        (image.vmlinux, image.manifest.vmlinux),
        (image.initrd, image.manifest.initrd),
    ]
    if image.base is not None:
        files.append((image.base.path, image.base.digest))
    for path, expected in files:
        try:
            digest = _digest(path)
        except OSError as error:
            raise ImageDamaged(f"The image {image.digest} cannot be read: {error}.") from error
        if digest != expected:
            raise ImageDamaged(f"The {path.name} of the image {image.digest} has been changed.")


def _take(source: Path, target: Path) -> None:
    """Images share a base system where the file system lets them."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _digest(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
