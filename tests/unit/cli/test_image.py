"""``firelet image`` where there is nothing to build from or to boot."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from firelet.cli import main
from firelet.cli.failure import CliError
from firelet.sandbox.microvm import initramfs
from firelet.sandbox.microvm.base_system import BaseManifest
from firelet.sandbox.microvm.image import ImageStore
from firelet.sandbox.microvm.kernel import Kernel


def fail(*arguments: str) -> str:
    result = CliRunner().invoke(main.app, ["image", *arguments])
    assert result.exit_code == 1
    assert isinstance(result.exception, CliError)
    return str(result.exception)


def test_where_the_kernel_comes_from_must_be_said() -> None:
    assert "say --kernel-package FILE or --download, or both" in fail("build")


@pytest.mark.parametrize("option", ["--kernel-package", "--base-system"])
def test_a_file_that_is_not_there_is_refused_before_anything_is_downloaded(option: str) -> None:
    result = CliRunner().invoke(main.app, ["image", "build", "--download", option, "missing"])
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


def test_images_are_listed_with_what_is_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initramfs, "build", lambda *_: [])
    (tmp_path / "vmlinuz").write_bytes(b"\x7fELF")
    (tmp_path / "base").write_bytes(b"")
    base = BaseManifest(hashlib.sha256(b"").hexdigest(), "0" * 64, "bookworm", "3.11", ())
    store = ImageStore(tmp_path / "guest-images")
    kernel = Kernel("6.1.0-cloud", tmp_path / "vmlinuz", ())
    store.assemble(kernel, Path("/usr/bin/python3"), None, (tmp_path / "base", base))
    result = CliRunner().invoke(main.app, ["image", "list", "--data-dir", str(tmp_path)])
    assert result.exit_code == 0
    digest, *columns = result.stdout.strip().split("\t")
    assert len(digest) == 64
    assert columns == ["6.1.0-cloud", "bookworm, python 3.11", "0 MiB"]


def test_a_package_that_is_none_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "kernel.deb"
    package.write_bytes(b"no archive")
    place = ("--data-dir", str(tmp_path / "data"))
    assert "dpkg-deb" in fail("build", "--kernel-package", str(package), *place)


def test_an_image_that_is_not_there_cannot_be_checked(tmp_path: Path) -> None:
    assert "cannot be read" in fail("check", "0" * 64, "--data-dir", str(tmp_path))
