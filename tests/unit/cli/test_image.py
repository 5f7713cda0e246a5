"""``firelet image`` where there is nothing to build from or to boot."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from firelet.cli import main
from firelet.cli.failure import CliError
from firelet.cli.image import find_digest
from firelet.sandbox.microvm import initramfs
from firelet.sandbox.microvm.base_system import PACKAGES, BaseManifest
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


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of the one image below ``tmp_path``."""
    monkeypatch.setattr(initramfs, "build", lambda *_: [])
    (tmp_path / "vmlinuz").write_bytes(b"\x7fELF")
    (tmp_path / "base").write_bytes(b"")
    base = BaseManifest(hashlib.sha256(b"").hexdigest(), "0" * 64, "bookworm", "3.11", ())
    store = ImageStore(tmp_path / "guest-images")
    kernel = Kernel("6.1.0-cloud", tmp_path / "vmlinuz", ())
    made = store.assemble(kernel, Path("/usr/bin/python3"), None, (tmp_path / "base", base))
    return made.digest


def test_images_are_listed_with_what_is_in_them(tmp_path: Path, digest: str) -> None:
    result = CliRunner().invoke(main.app, ["image", "list", "--data-dir", str(tmp_path)])
    assert result.exit_code == 0
    columns = ["6.1.0-cloud", "bookworm, python 3.11", "0 MiB", "ok"]
    assert result.stdout.strip().split("\t") == [digest, *columns]


def test_images_that_no_function_can_run_in_are_told(
    tmp_path: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initramfs, "code_digest", lambda: "0" * 64)
    said = CliRunner().invoke(main.app, ["image", "list", "--data-dir", str(tmp_path)]).stdout
    assert said.startswith(digest)
    assert said.endswith("\tis of another version of firelet\n")


@pytest.mark.parametrize("is_file", [True, False])
def test_images_are_where_the_platform_looks_for_them(
    tmp_path: Path, digest: str, monkeypatch: pytest.MonkeyPatch, is_file: bool
) -> None:
    if is_file:
        (tmp_path / "firelet.toml").write_text(f'[firelet]\ndata_dir = "{tmp_path}"\n')
        monkeypatch.chdir(tmp_path)
    else:
        monkeypatch.setenv("FIRELET_DATA_DIR", str(tmp_path))
    assert CliRunner().invoke(main.app, ["image", "list"]).stdout.startswith(digest)


def test_where_there_is_no_image_it_says_where_none_is(tmp_path: Path) -> None:
    result = CliRunner().invoke(main.app, ["image", "list", "--data-dir", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"no images in {tmp_path / 'guest-images'}" in result.stderr


def test_an_image_is_found_by_its_beginning(tmp_path: Path, digest: str) -> None:
    store = ImageStore(tmp_path / "guest-images")
    assert find_digest(store, digest[:8]) == digest
    with pytest.raises(CliError, match="'x' is the beginning of no image: `firelet image list`"):
        find_digest(store, "x")
    with pytest.raises(CliError, match="no image"):
        find_digest(ImageStore(tmp_path / "none"), digest[:8])


def test_the_packages_of_a_base_system_are_told() -> None:
    said = CliRunner().invoke(main.app, ["image", "packages"]).stdout
    assert said == f"{','.join(PACKAGES)}\n"


def test_a_package_that_is_none_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "kernel.deb"
    package.write_bytes(b"no archive")
    place = ("--data-dir", str(tmp_path / "data"))
    assert "dpkg-deb" in fail("build", "--kernel-package", str(package), *place)


def test_an_image_that_is_not_there_cannot_be_checked(tmp_path: Path) -> None:
    assert "cannot be read" in fail("check", "0" * 64, "--data-dir", str(tmp_path))
