"""File systems from directories: what is in them, and that nothing depends on who builds."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import disks
from firelet.sandbox.microvm import ext4
from firelet.sandbox.microvm.host_tools import ImageBuildError

pytestmark = pytest.mark.skipif(disks.MISSING is not None, reason=str(disks.MISSING))

NAME = "0123456789abcdef" * 2
LONG = "n" * 255
MODIFIED = 1_700_000_000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "empty/below").mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "bin/run").write_text("#!/bin/sh\n")
    (root / "bin/run").chmod(0o755)
    (root / "plain.py").write_text("x = 1\n")
    (root / "plain.py").chmod(0o640)
    os.utime(root / "plain.py", ns=(0, MODIFIED * 10**9 + 123_456_789))
    (root / LONG).write_text("long")
    (root / "größe 大きさ").write_text("unicode")
    (root / "link").symlink_to("bin/run")
    (root / "far").symlink_to("/" + "x" * 200)
    with (root / "sparse").open("wb") as file:
        file.truncate(20 << 20)
        file.seek(10 << 20)
        file.write(b"middle")
    return root


def build(source: Path, target: Path) -> bytes:
    size = ext4.build(source, target, NAME)
    assert size == target.stat().st_size
    disks.check(target)
    return target.read_bytes()


def test_all_files_are_there_as_they_were(source: Path, tmp_path: Path) -> None:
    build(source, tmp_path / "disk")
    found = disks.unpack(tmp_path / "disk", tmp_path / "found")
    assert sorted(os.listdir(found)) == sorted(os.listdir(source))
    for name in ("bin/run", "plain.py", LONG, "größe 大きさ", "sparse"):
        assert (found / name).read_bytes() == (source / name).read_bytes()
    assert (found / "empty/below").is_dir()
    assert (found / "link").readlink() == Path("bin/run")
    assert (found / "far").readlink() == Path("/" + "x" * 200)
    modes = disks.listing(tmp_path / "disk")
    assert modes["plain.py"][0] == "100640"
    assert disks.listing(tmp_path / "disk", "/bin")["run"][0] == "100755"


def test_the_same_files_give_the_same_bytes_wherever_they_are(source: Path, tmp_path: Path) -> None:
    first = build(source, tmp_path / "first")
    copy = tmp_path / "elsewhere"
    shutil.copytree(source, copy, symlinks=True)
    if os.geteuid() == 0:
        for path in (copy, *copy.rglob("*")):
            os.chown(path, 1234, 70_000, follow_symlinks=False)
    copy.chmod(0o700)
    os.utime(copy / "bin", (1, 1))
    assert build(copy, tmp_path / "second") == first


def test_everything_belongs_to_root_and_bytecode_stays_valid(source: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        for path in (source, *source.rglob("*")):
            os.chown(path, 1234, 70_000, follow_symlinks=False)
    build(source, tmp_path / "disk")
    owners = {owner[1:] for owner in disks.listing(tmp_path / "disk").values()}
    assert owners == {("0", "0")}
    assert f"mtime: 0x{MODIFIED:08x}" in disks.stat(tmp_path / "disk", "/plain.py")
    assert f"mtime: 0x{ext4.EPOCH:08x}" in disks.stat(tmp_path / "disk", "/bin")
    assert "Mode:  0755" in disks.stat(tmp_path / "disk", "/")


def test_many_small_files_fit(tmp_path: Path) -> None:
    root = tmp_path / "many"
    for number in range(40):
        (root / str(number)).mkdir(parents=True)
        for other in range(100):
            (root / str(number) / f"a-file-with-the-number-{other}").write_text("x")
    build(root, tmp_path / "disk")
    assert len(disks.listing(tmp_path / "disk", "/39")) == 100
    # A block of 4 KiB for each, an inode of 256 bytes, and little more.
    assert (tmp_path / "disk").stat().st_size < 4_000 * 4_352 * 1.1


def test_a_directory_of_many_blocks_fits(tmp_path: Path) -> None:
    root = tmp_path / "wide"
    root.mkdir()
    for number in range(3_000):
        (root / f"{number:0200}").touch()
    build(root, tmp_path / "disk")
    assert len(disks.listing(tmp_path / "disk")) == 3_000


@pytest.mark.parametrize("count", [32_700, 33_000, 100_000, 500_000])
def test_there_are_groups_enough_for_many_files(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nothing").mkdir()
    monkeypatch.setattr(ext4, "_measure", lambda _: ext4._add_overhead(count, count))
    ext4.build(tmp_path / "nothing", tmp_path / "disk", NAME)
    disks.check(tmp_path / "disk")


def test_a_large_file_fits_closely(tmp_path: Path) -> None:
    root = tmp_path / "large"
    root.mkdir()
    with (root / "large").open("wb") as file:
        for _ in range(150):
            file.write(os.urandom(1 << 20))
    build(root, tmp_path / "disk")
    assert (tmp_path / "disk").stat().st_size < 155 << 20


def test_an_empty_directory_gives_an_empty_file_system(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    build(tmp_path / "nothing", tmp_path / "disk")
    assert disks.listing(tmp_path / "disk") == {}


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageBuildError, match="cannot be read"):
        ext4.build(tmp_path / "missing", tmp_path / "disk", NAME)


def test_a_disk_that_cannot_be_written_is_an_error(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageBuildError, match="mke2fs failed"):
        ext4.build(source, tmp_path / "no/disk", NAME)


def test_what_is_missing_is_named_with_its_package(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firelet.sandbox.microvm.host_tools._MORE_PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageBuildError, match=r"mke2fs .* Install the package e2fsprogs"):
        ext4.build(source, tmp_path / "disk", NAME)
