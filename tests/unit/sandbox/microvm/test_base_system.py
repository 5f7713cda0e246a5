"""The base system: what is taken of Debian's packages, and where it is put. That programs run with
it is proven where interpreters do, in ``tests/linux/test_runtime_disk``."""

from __future__ import annotations

import io
import platform
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

import disks
from firelet.sandbox.microvm import base_system, bytecode
from firelet.sandbox.microvm.host_tools import ImageBuildError

TRIPLET = f"{platform.machine()}-linux-gnu"
LOADER = f"lib/{TRIPLET}/ld-linux-test.so.2"
FILES = {
    "./bin/dash": b"dash",
    "./usr/bin/env": b"env",
    f"./{LOADER}": b"loader",
    f"./lib/{TRIPLET}/libc.so.6": b"libc",
    f"./usr/lib/{TRIPLET}/libz.so.1.2": b"libz",
    f"./usr/lib/{TRIPLET}/engines/private.so": b"private",
    f"./usr/lib/{TRIPLET}/perl-base/x.so": b"perl",
    "./usr/bin/python3.11": b"python",
    "./usr/lib/python3.11/os.py": b"",
    "./usr/lib/python3.11/test/support.py": b"",
    "./usr/lib/python3.11/unittest/case.py": b"",
    "./usr/share/zoneinfo/UTC": b"UTC",
    "./usr/share/doc/dash/copyright": b"text",
    "./usr/share/docs-of-a-kind/kept": b"text",
    "./etc/passwd": b"root",
    "./var/lib/dpkg/status": b"dpkg",
}
needs_tools = pytest.mark.skipif(disks.MISSING is not None, reason=str(disks.MISSING))


def archive(
    path: Path,
    leave_out: str = "",
    change: Callable[[tarfile.TarInfo], tarfile.TarInfo] = lambda member: member,
) -> Path:
    """As mmdebstrap writes it, but for its size."""
    with tarfile.open(path, "w") as out:
        for name, data in FILES.items():
            if name == leave_out:
                continue
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            out.addfile(change(member), io.BytesIO(data))
        for name, target in (
            ("./bin/sh", "dash"),
            ("./usr/bin/python3", "python3.11"),
            (f"./usr/lib/{TRIPLET}/libz.so.1", "libz.so.1.2"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            out.addfile(member)
        member = tarfile.TarInfo("./bin/rbash")
        member.type, member.linkname = tarfile.LNKTYPE, "./bin/dash"
        out.addfile(member)
    return path


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The trees that were compiled, by their places in the guest, instead of their bytecode."""
    found: list[list[str]] = []
    monkeypatch.setattr(
        bytecode, "compile_trees", lambda _, trees: found.append([place for _, place in trees])
    )
    return found


@needs_tools
def test_only_usr_is_taken_with_the_directories_that_are_merged_into_it(
    tmp_path: Path, compiled: list[list[str]]
) -> None:
    made = base_system.build(archive(tmp_path / "tar"), "bookworm", tmp_path / "disk")
    disks.check(tmp_path / "disk")
    root = disks.unpack(tmp_path / "disk", tmp_path / "found")
    assert [path.name for path in root.iterdir()] == ["usr"]
    assert (root / "usr/bin/sh").readlink() == Path("dash")
    assert (root / "usr/bin/rbash").read_bytes() == b"dash"
    assert (root / f"usr/lib/{TRIPLET}/libc.so.6").read_bytes() == b"libc"
    assert (root / "usr/share/zoneinfo/UTC").exists()
    assert (root / "usr/share/docs-of-a-kind/kept").exists()
    assert (root / "usr/lib/python3.11/unittest/case.py").exists()
    for gone in ("share/doc", "lib/python3.11/test", f"lib/{TRIPLET}/perl-base"):
        assert not (root / "usr" / gone).exists()
    for point in base_system.mount_points():
        assert list((root / point[1:]).iterdir()) == []
    assert compiled == [["/usr/lib/python3.11"]]
    assert (made.suite, made.python) == ("bookworm", "3.11")
    assert made.libraries == ("ld-linux-test.so.2", "libc.so.6", "libz.so.1", "libz.so.1.2")


@needs_tools
def test_nothing_of_it_can_be_run_as_somebody_else(
    tmp_path: Path, compiled: list[list[str]]
) -> None:
    def change(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mode, member.uid, member.gid = 0o6755, 1000, 1000
        return member

    base_system.build(archive(tmp_path / "tar", change=change), "bookworm", tmp_path / "disk")
    assert disks.listing(tmp_path / "disk", "/usr/bin")["env"] == ("100755", "0", "0")


@needs_tools
def test_the_same_archive_gives_the_same_disk(tmp_path: Path, compiled: list[list[str]]) -> None:
    (tmp_path / "other").mkdir()
    first = base_system.build(archive(tmp_path / "tar"), "bookworm", tmp_path / "disk")
    second = base_system.build(tmp_path / "tar", "bookworm", tmp_path / "other/disk")
    assert first == second
    assert first.source == base_system.source_digest(tmp_path / "tar")
    assert (tmp_path / "disk").read_bytes() == (tmp_path / "other/disk").read_bytes()


@pytest.mark.parametrize(
    ("missing", "reason"),
    [(f"./{LOADER}", "no programs for"), ("./usr/bin/python3", "no python3")],
)
def test_a_system_without_what_guests_need_is_refused(
    missing: str, reason: str, tmp_path: Path
) -> None:
    if missing == "./usr/bin/python3":
        with tarfile.open(tmp_path / "tar", "w"):
            pass
    else:
        archive(tmp_path / "tar", leave_out=missing)
    with pytest.raises(ImageBuildError, match=reason):
        base_system.build(tmp_path / "tar", "bookworm", tmp_path / "disk")
    assert [path.name for path in tmp_path.iterdir()] == ["tar"]


@pytest.mark.parametrize("name", ["usr/link/file", "usr/../../file"])
def test_an_archive_that_leads_out_of_itself_is_refused(name: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "tar", "w") as out:
        link = tarfile.TarInfo("usr/link")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        out.addfile(link)
        out.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(ImageBuildError, match="leads out of it"):
        base_system.build(tmp_path / "tar", "bookworm", tmp_path / "disk")
    assert [path.name for path in tmp_path.iterdir()] == ["tar"]


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tar").write_bytes(b"no archive")
    with pytest.raises(ImageBuildError, match=r"cannot be unpacked: [a-z ]+\.$"):
        base_system.build(tmp_path / "tar", "bookworm", tmp_path / "disk")
    with pytest.raises(ImageBuildError, match="cannot be read"):
        base_system.build(tmp_path / "missing", "bookworm", tmp_path / "disk")


def test_the_hosts_release_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = tmp_path / "os-release"
    monkeypatch.setattr(base_system, "_OS_RELEASE", release)
    release.write_text('ID=debian\nVERSION_CODENAME="trixie"\n\n# a comment\n')
    assert base_system.host_suite() == "trixie"
    release.write_text("ID=fedora\nVERSION_CODENAME=\n")
    with pytest.raises(ImageBuildError, match="say which --suite"):
        base_system.host_suite()
    release.unlink()
    with pytest.raises(ImageBuildError, match="say which --suite"):
        base_system.host_suite()


def test_without_mmdebstrap_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firelet.sandbox.microvm.host_tools._MORE_PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageBuildError, match="Install the package mmdebstrap"):
        base_system.fetch("bookworm", tmp_path / "tar")


def test_a_failed_download_gives_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "mmdebstrap"
    program.write_text('#!/bin/sh\necho "E: no such suite" >&2\nexit 25\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ImageBuildError, match="mmdebstrap failed: E: no such suite"):
        base_system.fetch("nowhere", tmp_path / "tar")
