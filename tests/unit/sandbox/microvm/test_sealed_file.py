"""Memory files: sealed, copied without their holes, and told apart by their content."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.sandbox.microvm import sealed_file

SIZE = 256 * 1024
PLACES = st.dictionaries(st.integers(0, SIZE - 64), st.binary(max_size=64), max_size=6)


@pytest.fixture
def memory() -> Iterator[int]:
    fd = sealed_file.create("test", SIZE)
    os.pwrite(fd, b"at the start", 0)
    os.pwrite(fd, b"in between", 100_000)
    yield fd
    os.close(fd)


def content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


@given(PLACES)
def test_a_copy_is_the_same_and_has_the_same_digest(places: dict[int, bytes]) -> None:
    source, target, again = (sealed_file.create("test", size) for size in (SIZE, 0, 0))
    try:
        for offset, data in places.items():
            os.pwrite(source, data, offset)
        digest = sealed_file.copy(source, target)
        assert content(target) == content(source)
        assert sealed_file.copy(target, again) == digest
    finally:
        for fd in (source, target, again):
            os.close(fd)


def test_what_is_zero_takes_no_place_in_a_copy_and_does_not_count(memory: int) -> None:
    target = sealed_file.create("test")
    digest = sealed_file.copy(memory, target)
    os.pwrite(memory, bytes(50_000), 150_000)  # data, for the file system
    again = sealed_file.create("test")
    assert sealed_file.copy(memory, again) == digest
    assert os.fstat(again).st_blocks == os.fstat(target).st_blocks < SIZE // 512 / 4
    os.pwrite(memory, b"x", 200_000)
    third = sealed_file.create("test")
    assert sealed_file.copy(memory, third) != digest
    for fd in (target, again, third):
        os.close(fd)


def test_the_place_of_what_is_there_counts(memory: int) -> None:
    other, copies = sealed_file.create("test", SIZE), [sealed_file.create("test") for _ in "ab"]
    os.pwrite(other, b"at the start", 0)
    os.pwrite(other, b"in between", 100_000 + 2 * 16_384)
    assert sealed_file.copy(memory, copies[0]) != sealed_file.copy(other, copies[1])
    for fd in (other, *copies):
        os.close(fd)


def test_a_sealed_file_stays_as_it_is_for_everyone_who_opens_it(memory: int) -> None:
    before = content(memory)
    sealed_file.seal(memory)
    opened = os.open(f"/proc/self/fd/{memory}", os.O_RDWR)  # root may
    try:
        with pytest.raises(PermissionError):
            os.pwrite(opened, b"other", 0)
        with pytest.raises(PermissionError):
            os.truncate(opened, 0)
        with pytest.raises(PermissionError):
            os.posix_fallocate(opened, 0, 2 * SIZE)
        with mmap.mmap(opened, SIZE, flags=mmap.MAP_PRIVATE) as private:
            private[:5] = b"other"
        assert content(memory) == before
    finally:
        os.close(opened)


def test_a_file_that_is_mapped_shared_cannot_be_sealed_yet(memory: int) -> None:
    with mmap.mmap(memory, SIZE, flags=mmap.MAP_SHARED), pytest.raises(OSError, match="busy"):
        sealed_file.seal(memory, patience_s=0.0)
    sealed_file.seal(memory)


def test_it_goes_to_a_disk_and_back(memory: int, tmp_path: Path) -> None:
    digest = sealed_file.copy_to(memory, tmp_path / "memory")
    assert (tmp_path / "memory").stat().st_mode & 0o777 == 0o400
    with pytest.raises(FileExistsError):
        sealed_file.copy_to(memory, tmp_path / "memory")
    loaded, same = sealed_file.load(tmp_path / "memory", "test")
    try:
        assert same == digest
        assert content(loaded) == content(memory)
        with pytest.raises(PermissionError):
            os.pwrite(loaded, b"x", 0)
    finally:
        os.close(loaded)


def test_each_reader_begins_at_the_beginning(memory: int) -> None:
    readers = [sealed_file.reopen(memory) for _ in range(2)]
    assert [os.read(reader, 12) for reader in readers] == [b"at the start"] * 2
    for reader in readers:
        os.close(reader)
