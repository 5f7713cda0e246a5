"""Guest images in their store, and kernels as packages lay them out."""

from __future__ import annotations

import hashlib
import lzma
import os
import subprocess
from pathlib import Path

import pytest

from firelet.sandbox.microvm import cpio, initramfs, kernel
from firelet.sandbox.microvm.base_system import BaseManifest
from firelet.sandbox.microvm.image import ImageDamaged, ImageStore
from firelet.sandbox.microvm.kernel import ImageBuildError, Kernel

RELEASE = "6.1.0-cloud"
KERNEL = b"\x7fELF kernel"


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """A package's tree, with one module that is compressed and one that is built in."""
    root = tmp_path / "root"
    tree = root / "lib/modules" / RELEASE
    tree.mkdir(parents=True)
    (root / "boot").mkdir()
    (root / "boot" / f"vmlinuz-{RELEASE}").write_bytes(KERNEL)
    for name in (*kernel.MODULES[:2], "virtio_blk", "overlay", *kernel.OPTIONAL_MODULES):
        (tree / f"{name}.ko").write_bytes(name.encode())
    (tree / "virtio-rng.ko").write_bytes(b"virtio_rng")
    (tree / "virtio_mmio.ko.xz").write_bytes(lzma.compress(b"mmio"))
    (tree / "modules.builtin").write_text("kernel/drivers/char/virtio_console.ko\n")
    return root


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageStore:
    """A store whose images have next to nothing in them."""

    def build(found: Kernel, *_: object) -> list[cpio.Entry]:
        return [cpio.file(name, data) for name, data in found.modules]

    monkeypatch.setattr(initramfs, "build", build)
    return ImageStore(tmp_path / "images")


@pytest.fixture
def base(tmp_path: Path) -> tuple[Path, BaseManifest]:
    path = tmp_path / "base.ext4"
    path.write_bytes(b"base")
    digest = hashlib.sha256(b"base").hexdigest()
    return path, BaseManifest(digest, "0" * 64, "bookworm", "3.11", ("libc.so.6",))


def test_a_kernel_is_found_with_its_modules_in_order(unpacked: Path) -> None:
    found = kernel.find_kernel(unpacked)
    assert found.release == RELEASE
    assert found.modules == (
        ("virtio_ring", b"virtio_ring"),
        ("virtio", b"virtio"),
        ("virtio_mmio", b"mmio"),
        ("virtio_blk", b"virtio_blk"),
        ("virtio_rng", b"virtio_rng"),
        ("overlay", b"overlay"),
    )
    assert [name for name, _ in found.optional_modules] == list(kernel.OPTIONAL_MODULES)


def test_a_kernel_without_a_module_that_guests_need_is_refused(unpacked: Path) -> None:
    (unpacked / "lib/modules" / RELEASE / "virtio.ko").unlink()
    with pytest.raises(ImageBuildError, match="no module virtio"):
        kernel.find_kernel(unpacked)


def test_a_tree_without_a_kernel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageBuildError, match="0 kernels"):
        kernel.find_kernel(tmp_path)


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "package.deb").write_bytes(b"no archive")
    with pytest.raises(ImageBuildError, match="dpkg-deb"):
        kernel.unpack_package(tmp_path / "package.deb", tmp_path)


def test_an_image_is_kept_by_its_digest(store: ImageStore, unpacked: Path) -> None:
    found = kernel.find_kernel(unpacked)
    image = store.assemble(found, Path("/usr/bin/python3.11"), None)
    assert store.assemble(found, Path("/usr/bin/python3.11"), None) == image
    assert image.kernel.read_bytes() == image.vmlinux.read_bytes() == KERNEL
    assert image.kernel.parent.name == image.digest
    assert [path.name for path in image.kernel.parent.parent.iterdir()] == [image.digest]


@pytest.mark.parametrize("name", ["kernel", "vmlinux", "initrd", "base", "manifest.json"])
def test_an_image_that_was_changed_is_not_loaded(
    store: ImageStore, unpacked: Path, base: tuple[Path, BaseManifest], name: str
) -> None:
    image = store.assemble(kernel.find_kernel(unpacked), Path("/usr/bin/python3.11"), None, base)
    path = image.kernel.parent / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ImageDamaged):
        ImageStore(image.kernel.parent.parent).load(image.digest)


def test_an_image_is_checked_once_in_the_life_of_a_store(
    store: ImageStore, unpacked: Path, base: tuple[Path, BaseManifest]
) -> None:
    image = store.assemble(kernel.find_kernel(unpacked), Path("/usr/bin/python3.11"), None, base)
    assert image.base is not None
    image.base.path.unlink()
    assert store.load(image.digest) == image


def test_images_share_a_base_system(
    store: ImageStore, unpacked: Path, base: tuple[Path, BaseManifest]
) -> None:
    found = kernel.find_kernel(unpacked)
    with store.base_system("bookworm", None) as nothing:
        assert nothing is None
    first = store.assemble(found, Path("/usr/bin/python3.11"), None, base)
    base[0].unlink()
    with store.base_system("bookworm", None) as same:
        assert same is not None
        second = store.assemble(found, Path("/usr/bin/python3.12"), None, same)
    with store.base_system("trixie", None) as nothing:
        assert nothing is None
    assert first.base is not None
    assert second.base is not None
    assert first.base.digest == second.base.digest
    assert first.base.path.samefile(second.base.path)


def test_images_are_listed_the_newest_first(store: ImageStore, unpacked: Path) -> None:
    found = kernel.find_kernel(unpacked)
    first = store.assemble(found, Path("/usr/bin/python3.11"), None)
    second = store.assemble(found, Path("/usr/bin/python3.12"), None)
    os.utime(first.kernel.parent, (1, 1))
    (first.kernel.parent.parent / "incoming-x").mkdir()
    assert store.images() == [second, first]
    # What is built again is wanted again.
    os.utime(second.kernel.parent, (2, 2))
    store.assemble(found, Path("/usr/bin/python3.11"), None)
    assert store.images() == [first, second]


@pytest.mark.parametrize("digest", ["0" * 64, "../" * 21 + "x", "latest"])
def test_an_image_that_is_not_there_is_not_loaded(store: ImageStore, digest: str) -> None:
    with pytest.raises(ImageDamaged):
        store.load(digest)


def test_what_fails_leaves_nothing_in_the_store(
    store: ImageStore, unpacked: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise ImageBuildError("no Python")

    found = kernel.find_kernel(unpacked)
    monkeypatch.setattr(initramfs, "build", fail)
    with pytest.raises(ImageBuildError):
        store.assemble(found, Path("/usr/bin/python3.11"), None)
    assert not list((tmp_path / "images").iterdir())


def test_a_command_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "dpkg-deb")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ImageBuildError, match="dpkg-deb cannot be used"):
        kernel.unpack_package(Path("x"), Path("y"))
