from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from firelet.cli.failure import CliError
from firelet.cli.package import open_package


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def entries(zipped: bytes) -> dict[str, zipfile.ZipInfo]:
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        return {entry.filename: entry for entry in archive.infolist()}


def test_a_folder_is_packed_without_what_no_function_needs(tmp_path: Path) -> None:
    write(
        tmp_path,
        "main.py",
        "lib/part.py",
        "node_modules/dep/index.js",
        ".git/config",
        ".venv/bin/python",
        "lib/__pycache__/part.pyc",
        "old.pyc",
        ".DS_Store",
    )
    package = open_package(tmp_path)
    assert package.names == ("lib/part.py", "main.py", "node_modules/dep/index.js")
    assert package.read("lib/part.py") == b"lib/part.py"


def test_the_same_files_make_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write(first, "b.py", "a.py")
    write(second, "a.py", "b.py")
    os.utime(second / "a.py", (1, 1))
    (second / "b.py").chmod(0o600)
    assert open_package(first).zipped == open_package(second).zipped


def test_executable_files_stay_executable_and_a_bootstrap_becomes_it(tmp_path: Path) -> None:
    write(tmp_path, "bootstrap", "tool", "data")
    for name, mode in (("bootstrap", 0o644), ("tool", 0o700), ("data", 0o666)):
        (tmp_path / name).chmod(mode)
    modes = {
        name: entry.external_attr >> 16 & 0o777
        for name, entry in entries(open_package(tmp_path).zipped).items()
    }
    assert modes == {"bootstrap": 0o755, "tool": 0o755, "data": 0o644}


def test_a_single_file_is_a_package_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, "app.mjs", "other.mjs")
    assert open_package(tmp_path / "app.mjs").names == ("app.mjs",)


def test_a_zip_is_taken_as_it_is(tmp_path: Path) -> None:
    write(tmp_path / "code", "main.py")
    zipped = open_package(tmp_path / "code").zipped
    (tmp_path / "code.zip").write_bytes(zipped)
    package = open_package(tmp_path / "code.zip")
    assert package.zipped == zipped
    assert package.names == ("main.py",)


def test_links_are_followed_and_do_not_lead_in_circles(tmp_path: Path) -> None:
    write(tmp_path / "code", "main.py")
    write(tmp_path / "shared", "part.py")
    (tmp_path / "code" / "shared").symlink_to(tmp_path / "shared")
    (tmp_path / "code" / "self").symlink_to(tmp_path / "code")
    (tmp_path / "code" / "broken").symlink_to(tmp_path / "nothing")
    assert open_package(tmp_path / "code").names == ("main.py", "shared/part.py")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nothing", "does not exist"),
        ("fake.zip", "is not a zip file"),
        ("empty", "holds no files to deploy"),
    ],
)
def test_what_cannot_be_packed_is_named(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "fake.zip").write_text("no zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CliError, match=sentence):
        open_package(tmp_path / name)
