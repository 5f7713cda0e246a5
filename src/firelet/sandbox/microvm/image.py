"""Guest images: a kernel and an initial file system, kept by what they are.

An image is a directory named by its digest: the SHA-256 of its manifest, which names those of its
files. What is loaded is checked against them. Nothing is downloaded here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from firelet.model.errors import PlatformError
from firelet.sandbox.microvm import cpio, initramfs
from firelet.sandbox.microvm.kernel import ImageBuildError, Kernel, unpack_package

_KERNEL, _INITRD, _MANIFEST = "kernel", "initrd", "manifest.json"
_INCOMING = "incoming-"


class ImageDamaged(PlatformError):
    """An image is not there, or is not what its name says. The sentences are ours."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``kernel`` and ``initrd`` are SHA-256 in hexadecimal; ``python`` is the interpreter's path in
    the guest."""

    release: str
    python: str
    kernel: str
    initrd: str


@dataclass(frozen=True, slots=True)
class GuestImage:
    digest: str
    manifest: Manifest
    kernel: Path
    initrd: Path


class ImageStore:
    """The directory ``root`` below the data directory. Every method blocks."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def build(self, package: Path, python: Path, busybox: Path | None) -> GuestImage:
        """An image with the kernel of a Debian package. The same parts give the same image.
        ImageBuildError."""
        with tempfile.TemporaryDirectory(prefix="firelet-kernel-") as directory:
            kernel = unpack_package(package, Path(directory))
            return self.assemble(kernel, python, busybox)

    def assemble(self, kernel: Kernel, python: Path, busybox: Path | None) -> GuestImage:
        """The same with a kernel that has been unpacked. ImageBuildError."""
        with self._incoming() as place:
            try:
                shutil.copyfile(kernel.image, place / _KERNEL)
                with (place / _INITRD).open("wb") as out:
                    cpio.write(initramfs.build(kernel, python, busybox), out)
            except OSError as error:
                raise ImageBuildError(f"The image cannot be written: {error}.") from error
            manifest = Manifest(
                release=kernel.release,
                python=str(python),
                kernel=_digest(place / _KERNEL),
                initrd=_digest(place / _INITRD),
            )
            text = msgspec.json.encode(manifest)
            (place / _MANIFEST).write_bytes(text)
            digest = hashlib.sha256(text).hexdigest()
            if not self._path(digest).exists():
                os.rename(place, self._path(digest))
        return self.load(digest)

    def load(self, digest: str) -> GuestImage:
        """Reads all of it and checks it. ImageDamaged."""
        place = self._path(digest)
        try:
            text = (place / _MANIFEST).read_bytes()
            if hashlib.sha256(text).hexdigest() != digest:
                raise ImageDamaged(f"The manifest of the image {digest} is not its own.")
            manifest = msgspec.json.decode(text, type=Manifest)
            for name, expected in ((_KERNEL, manifest.kernel), (_INITRD, manifest.initrd)):
                if _digest(place / name) != expected:
                    raise ImageDamaged(f"The {name} of the image {digest} has been changed.")
        except (OSError, msgspec.DecodeError) as error:
            raise ImageDamaged(f"The image {digest} cannot be read: {error}.") from error
        return GuestImage(digest, manifest, place / _KERNEL, place / _INITRD)

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


def _digest(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
