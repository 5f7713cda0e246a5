"""Disks in their store: what is merged into them, built once, checked, and removed."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import disks
from firelet.sandbox.microvm import ext4
from firelet.sandbox.microvm.disk_store import SLOT_BYTES, Disk, DiskStore
from firelet.sandbox.microvm.host_tools import ImageBuildError

pytestmark = pytest.mark.skipif(disks.MISSING is not None, reason=str(disks.MISSING))

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Three packages as the code cache has them; the later ones take places of the earlier."""
    root = tmp_path / "code"
    for digest, files in (
        (A, {"lib/one.py": "a", "lib/both.py": "a", "kind": "a", "bin/run": "a"}),
        (B, {"lib/two.py": "b", "lib/both.py": "b", "kind/now": "b"}),
        (C, {"lib": "c"}),
    ):
        for name, text in files.items():
            path = root / digest / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    (root / A / "bin/run").chmod(0o755)
    return root


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "disks")


def contents(disk: Disk, target: Path) -> dict[str, str]:
    disks.check(disk.path)
    found = disks.unpack(disk.path, target)
    return {
        str(path.relative_to(found)): path.read_text()
        for path in found.rglob("*")
        if path.is_file()
    }


def count_builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    built: list[Path] = []
    build: Callable[[Path, Path, str], int] = ext4.build

    def counted(source: Path, target: Path, name: str) -> int:
        built.append(target)
        return build(source, target, name)

    monkeypatch.setattr(ext4, "build", counted)
    return built


def test_the_disk_of_a_package_is_a_slot_with_its_files(
    store: DiskStore, code: Path, tmp_path: Path
) -> None:
    disk = store.package([A], code)
    assert disk.size_bytes == disk.path.stat().st_size == SLOT_BYTES
    assert disk.path.stat().st_blocks * 512 < 1 << 20
    assert contents(disk, tmp_path / "found") == {
        "lib/one.py": "a",
        "lib/both.py": "a",
        "kind": "a",
        "bin/run": "a",
    }


def test_later_packages_lie_over_earlier_ones(store: DiskStore, code: Path, tmp_path: Path) -> None:
    assert contents(store.package([A, B], code), tmp_path / "ab") == {
        "lib/one.py": "a",
        "lib/two.py": "b",
        "lib/both.py": "b",
        "kind/now": "b",
        "bin/run": "a",
    }
    assert contents(store.package([A, C], code), tmp_path / "ac")["lib"] == "c"
    assert contents(store.package([B, A], code), tmp_path / "ba")["lib/both.py"] == "a"
    # The packages themselves are as they were.
    assert (code / A / "lib/both.py").read_text() == "a"


def test_a_package_that_is_there_twice_counts_where_it_is_last(
    store: DiskStore, code: Path
) -> None:
    assert store.package([A, B, A], code) == store.package([B, A], code)


def test_a_disk_is_built_once(
    store: DiskStore, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = count_builds(monkeypatch)
    found: list[Disk] = []
    threads = [
        threading.Thread(target=lambda: found.append(store.package([A, B], code))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert DiskStore(tmp_path / "disks").package([A, B], code) == found[0]
    assert len(built) == 1


def _build_elsewhere(root: str, code: str, start: threading.Event, answers: object) -> None:
    start.wait()
    disk = DiskStore(Path(root)).package([A, B], Path(code))
    answers.put((str(disk.path), disk.digest))  # type: ignore[attr-defined]


def test_processes_that_build_the_same_disk_do_each_other_no_harm(
    code: Path, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    start, answers = context.Event(), context.Queue()
    arguments = (str(tmp_path / "disks"), str(code), start, answers)
    processes = [context.Process(target=_build_elsewhere, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    found = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert len(found) == 1
    assert os.listdir(tmp_path / "disks") == [Path(found.pop()[0]).parent.name]


@pytest.mark.parametrize("part", ["disk.ext4", "manifest.json"])
def test_a_disk_that_was_changed_is_built_again(
    store: DiskStore, code: Path, tmp_path: Path, part: str
) -> None:
    disk = store.package([A], code)
    with (disk.path.parent / part).open("r+b") as file:
        file.seek(10)
        file.write(b"changed")
    again = DiskStore(tmp_path / "disks").package([A], code)
    assert again == disk
    disks.check(again.path)


def test_a_disk_that_is_shorter_than_its_slot_is_built_again(
    store: DiskStore, code: Path, tmp_path: Path
) -> None:
    disk = store.package([A], code)
    os.truncate(disk.path, SLOT_BYTES // 2)
    assert DiskStore(tmp_path / "disks").package([A], code).path.stat().st_size == SLOT_BYTES


def test_the_empty_slot_is_a_file_system_without_files(store: DiskStore, tmp_path: Path) -> None:
    disk = store.empty()
    assert disk.size_bytes == SLOT_BYTES
    assert contents(disk, tmp_path / "found") == {}


def test_what_does_not_fit_into_a_slot_is_refused(
    store: DiskStore, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firelet.sandbox.microvm.disk_store.SLOT_BYTES", 1 << 20)
    (code / A / "large").write_bytes(os.urandom(2 << 20))
    with pytest.raises(ImageBuildError, match="need a disk of 3 MiB; there are only 1 MiB"):
        store.package([A], code)


def test_what_cannot_be_built_leaves_nothing(store: DiskStore, code: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageBuildError):
        store.package(["d" * 64], code)
    with pytest.raises(ImageBuildError):
        store.package([A, "d" * 64], code)
    assert os.listdir(tmp_path / "disks") == []


def test_disks_of_code_that_is_gone_are_removed(store: DiskStore, code: Path) -> None:
    kept, gone, empty = store.package([A], code), store.package([A, B], code), store.empty()
    store.discard(B)
    assert kept.path.exists()
    assert empty.path.exists()
    assert not gone.path.exists()
    assert store.package([A, B], code).path.exists()
    store.sweep(lambda digest: False)
    assert not kept.path.exists()
    assert empty.path.exists()


def test_a_disk_that_is_open_can_be_read_when_it_has_been_removed(
    store: DiskStore, code: Path
) -> None:
    disk = store.package([A], code)
    with disk.path.open("rb") as machine:
        store.discard(A)
        assert not disk.path.exists()
        machine.seek(1_080)
        assert machine.read(2) == b"\x53\xef"  # the magic number of ext4


def test_a_disk_that_another_process_has_made_or_removed_is_seen(
    store: DiskStore, code: Path, tmp_path: Path
) -> None:
    other = DiskStore(tmp_path / "disks")
    disk = other.package([A], code)
    store.discard(A)
    assert not disk.path.exists()
    assert other.package([A], code).path.exists()
    store.discard(A)
    assert not disk.path.exists()
    store.discard(A)


def test_disks_of_a_kind_that_nobody_has_used_for_long_are_removed(
    store: DiskStore, code: Path, tmp_path: Path
) -> None:
    def obtain(store: DiskStore, name: str) -> Disk:
        return store.obtain("runtime", [name], lambda place: place)

    old, used, new = (obtain(store, name) for name in ("old", "used", "new"))
    package = store.package([A], code)
    for disk in (old, used, package):
        os.utime(disk.path.parent, (1_000_000, 1_000_000))
    later = DiskStore(tmp_path / "disks")
    obtain(later, "used")
    later.remove_unused("runtime", 3_600)
    assert [disk.path.exists() for disk in (old, used, new, package)] == [False, True, True, True]
    assert obtain(later, "old").path.exists()


def test_what_a_crash_left_is_removed(store: DiskStore, tmp_path: Path) -> None:
    (tmp_path / "disks/.unfinished-x/content").mkdir(parents=True)
    store.clear_unfinished()
    assert os.listdir(tmp_path / "disks") == []


@pytest.fixture
def layers(code: Path) -> Path:
    """Two layers of an image as they are extracted: the second hides a file and a directory's
    content, and puts a directory in the place of a link."""
    base, top = code / ("1" * 64), code / ("2" * 64)
    for path, text in (("etc/gone", "1"), ("etc/kept", "1"), ("opt/old/file", "1")):
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_text(text)
    (base / "lib").symlink_to("usr/lib")
    for path, text in (("etc/new", "2"), ("opt/old/new", "2"), ("lib/file", "2")):
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text)
    try:
        os.mknod(top / "etc/gone", 0o020000, os.makedev(0, 0))
        os.setxattr(top / "opt/old", "user.overlay.opaque", b"y")
    except OSError as error:
        pytest.skip(f"the marks of layers cannot be made here: {error}")
    return code


def test_the_disk_of_an_image_is_its_layers_with_what_they_remove(
    store: DiskStore, layers: Path, tmp_path: Path
) -> None:
    disk = store.image(["1" * 64, "2" * 64], layers)
    assert disk.size_bytes == SLOT_BYTES
    assert contents(disk, tmp_path / "found") == {
        "etc/kept": "1",
        "etc/new": "2",
        "opt/old/new": "2",
        "lib/file": "2",
    }
    assert "overlay" not in disks.stat(disk.path, "/opt/old")
