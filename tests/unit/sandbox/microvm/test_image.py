"""Guest images in their store, and kernels as packages lay them out."""

from __future__ import annotations

import lzma
import subprocess
from pathlib import Path

import pytest

from firelet.sandbox.microvm import cpio, initramfs, kernel
from firelet.sandbox.microvm.image import ImageDamaged, ImageStore
from firelet.sandbox.microvm.kernel import ImageBuildError, Kernel

RELEASE = "6.1.0-cloud"


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """A package's tree, with one module that is compressed and one that is built in."""
    root = tmp_path / "root"
    tree = root / "lib/modules" / RELEASE
    tree.mkdir(parents=True)
    (root / "boot").mkdir()
    (root / "boot" / f"vmlinuz-{RELEASE}").write_bytes(b"kernel")
    for name in ("virtio_ring", "virtio"):
        (tree / f"{name}.ko").write_bytes(name.encode())
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


def test_a_kernel_is_found_with_its_modules_in_order(unpacked: Path) -> None:
    found = kernel.find_kernel(unpacked)
    assert found.release == RELEASE
    assert found.modules == (
        ("virtio_ring", b"virtio_ring"),
        ("virtio", b"virtio"),
        ("virtio_mmio", b"mmio"),
    )


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
    assert image.kernel.read_bytes() == b"kernel"
    assert image.kernel.parent.name == image.digest
    assert [path.name for path in image.kernel.parent.parent.iterdir()] == [image.digest]


@pytest.mark.parametrize("name", ["kernel", "initrd", "manifest.json"])
def test_an_image_that_was_changed_is_not_loaded(
    store: ImageStore, unpacked: Path, name: str
) -> None:
    image = store.assemble(kernel.find_kernel(unpacked), Path("/usr/bin/python3.11"), None)
    path = image.kernel.parent / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ImageDamaged):
        store.load(image.digest)


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
