"""``firelet image`` where there is nothing to build from or to boot."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from firelet.cli import main
from firelet.cli.failure import CliError


def fail(*arguments: str) -> str:
    result = CliRunner().invoke(main.app, ["image", *arguments])
    assert result.exit_code == 1
    assert isinstance(result.exception, CliError)
    return str(result.exception)


@pytest.mark.parametrize("arguments", [(), ("--download", "--kernel-package", "x.deb")])
def test_where_the_kernel_comes_from_must_be_said(arguments: tuple[str, ...]) -> None:
    assert "either --kernel-package FILE or --download" in fail("build", *arguments)


def test_a_package_that_is_none_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "kernel.deb"
    package.write_bytes(b"no archive")
    place = ("--data-dir", str(tmp_path / "data"))
    assert "dpkg-deb" in fail("build", "--kernel-package", str(package), *place)


def test_an_image_that_is_not_there_cannot_be_checked(tmp_path: Path) -> None:
    assert "cannot be read" in fail("check", "0" * 64, "--data-dir", str(tmp_path))
