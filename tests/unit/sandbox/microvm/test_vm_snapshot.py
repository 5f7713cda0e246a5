"""Snapshots as directories: what is damaged and what is another machine's is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from firelet.sandbox.microvm import sealed_file
from firelet.sandbox.microvm.qemu_identity import describe_processor, identify
from firelet.sandbox.microvm.vm_snapshot import (
    SnapshotDamaged,
    SnapshotForeign,
    SnapshotIdentity,
    load_snapshot,
    read_identity,
    save_snapshot,
)
from firelet.sandbox.microvm.vmm import Drive, HeldSnapshot, VmSpec

MEMORY_BYTES = 1024 * 1024
IDENTITY = SnapshotIdentity(
    vmm="QEMU 7.2.22, emulated",
    machine="microvm",
    processor="max",
    counter_khz=2_596_120,
    image="one",
    memory_mib=1,
    vcpus=1,
    devices=("virtio-serial-device", "virtio-blk-device"),
    drive_bytes=(4096,),
)
OTHERS: dict[str, Any] = {
    "vmm": "QEMU 8.2.0, emulated",
    "machine": "q35",
    "processor": "max,la57=off",
    "counter_khz": 2_600_000,
    "image": "two",
    "memory_mib": 2,
    "vcpus": 2,
    "devices": ("virtio-blk-device", "virtio-serial-device"),
    "drive_bytes": (8192,),
}


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A complete snapshot."""
    held = make_held()
    snapshot = save_snapshot(tmp_path, IDENTITY, held)
    assert (snapshot.state, snapshot.memory) == (tmp_path / "state", tmp_path / "memory")
    snapshot.close()
    before = open_files()
    yield tmp_path
    assert open_files() == before


def make_held() -> HeldSnapshot:
    state, memory = sealed_file.create("state"), sealed_file.create("memory", MEMORY_BYTES)
    os.write(state, b"devices" * 1000)
    os.pwrite(memory, b"kernel", 16_384 * 3)
    return HeldSnapshot(state, memory)


def open_files() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def test_a_snapshot_comes_back_and_is_sealed(directory: Path) -> None:
    assert read_identity(directory) == IDENTITY
    snapshot = load_snapshot(directory, IDENTITY)
    assert snapshot.held is not None
    assert os.pread(snapshot.held.state, 7, 0) == b"devices"
    assert os.pread(snapshot.held.memory, 6, 16_384 * 3) == b"kernel"
    for fd in (snapshot.held.state, snapshot.held.memory):
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
    snapshot.close()


def test_only_the_files_are_checked_where_they_are_used_themselves(directory: Path) -> None:
    assert load_snapshot(directory, IDENTITY, is_held=False).held is None


def test_the_directory_may_go_while_a_snapshot_is_held(directory: Path) -> None:
    snapshot = load_snapshot(directory, IDENTITY)
    for path in directory.iterdir():
        path.unlink()
    assert snapshot.held is not None
    assert os.pread(snapshot.held.memory, 6, 16_384 * 3) == b"kernel"
    snapshot.close()


def test_every_field_has_another_value_in_this_test() -> None:
    assert set(OTHERS) == set(IDENTITY.__struct_fields__)


@pytest.mark.parametrize("name", list(OTHERS))
def test_another_machine_is_refused_and_what_differs_is_named(directory: Path, name: str) -> None:
    expected = msgspec.structs.replace(IDENTITY, **{name: OTHERS[name]})
    with pytest.raises(SnapshotForeign, match=name) as refused:
        load_snapshot(directory, expected)
    assert len(refused.value.differences) == 1


def test_the_rate_of_the_counter_may_differ_a_little(directory: Path) -> None:
    expected = msgspec.structs.replace(IDENTITY, counter_khz=IDENTITY.counter_khz + 500)
    load_snapshot(directory, expected).close()


def flip(path: Path, offset: int) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


Damage = Callable[[Path], None]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "state changed": (lambda place: flip(place / "state", 100), "state .* changed"),
    "state cut": (lambda place: os.truncate(place / "state", 100), "state .* changed"),
    "state gone": (lambda place: (place / "state").unlink(), "cannot be read"),
    "memory changed": (lambda place: flip(place / "memory", 16_384 * 3), "memory .* changed"),
    "memory written where it was empty": (
        lambda place: flip(place / "memory", 500_000),
        "memory .* changed",
    ),
    "memory cut": (lambda place: cut(place / "memory"), "bytes, not"),
    "memory gone": (lambda place: (place / "memory").unlink(), "cannot be read"),
    "never finished": (lambda place: (place / "manifest.json").unlink(), "manifest"),
    "manifest cut": (lambda place: os.truncate(place / "manifest.json", 50), "manifest"),
}


@pytest.mark.parametrize("name", list(DAMAGES))
def test_a_damaged_snapshot_is_refused(directory: Path, name: str) -> None:
    damage, sentence = DAMAGES[name]
    damage(directory)
    with pytest.raises(SnapshotDamaged, match=sentence):
        load_snapshot(directory, IDENTITY)


def test_another_format_is_foreign(directory: Path) -> None:
    manifest = json.loads((directory / "manifest.json").read_text())
    (directory / "manifest.json").unlink()
    (directory / "manifest.json").write_text(json.dumps({**manifest, "format": 2}))
    with pytest.raises(SnapshotForeign, match="format is 2"):
        load_snapshot(directory, IDENTITY)


@pytest.mark.parametrize("taken", ["state", "memory", "manifest.json.part"])
def test_a_directory_that_is_in_use_is_left_as_it_is(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("another's")
    held = make_held()
    with pytest.raises(FileExistsError):
        save_snapshot(tmp_path, IDENTITY, held)
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "another's"
    os.close(held.state)
    os.close(held.memory)


CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
stepping\t: 7
flags\t\t: fpu sse2 {flag}
bogomips\t: 5000.00

processor\t: 1
flags\t\t: other
"""


def test_a_real_processor_is_told_by_its_model_and_its_flags() -> None:
    one = describe_processor(CPUINFO.format(flag="avx2"))
    assert one.startswith("GenuineIntel 6 85 7 flags ")
    assert one != describe_processor(CPUINFO.format(flag="avx512f"))


def test_a_machine_is_told_by_its_parts_and_the_sizes_of_its_drives(tmp_path: Path) -> None:
    drives = tuple(Drive(tmp_path / name) for name in "ab")
    for number, drive in enumerate(drives, 1):
        drive.path.write_bytes(bytes(512 * number))
    spec = VmSpec(
        kernel=tmp_path, initrd=tmp_path, memory_mib=128, directory=tmp_path, drives=drives
    )
    identity = identify(spec, has_kvm=False, version="7")
    assert identity.drive_bytes == (512, 1024)
    other = replace(spec, directory=tmp_path / "other", cgroup_files=(7,))
    assert identify(other, has_kvm=False, version="7") == identity
    assert identify(spec, has_kvm=True, version="7") != identity
