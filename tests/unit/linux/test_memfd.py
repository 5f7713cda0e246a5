"""Sealed memory files."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from firelet.linux import memfd


@pytest.fixture
def sealed() -> Iterator[int]:
    fd = memfd.make_sealed(b"payload")
    yield fd
    os.close(fd)


def test_what_was_put_in_comes_out(sealed: int) -> None:
    assert memfd.read_sealed(sealed, 7) == b"payload"


def test_nobody_can_change_it(sealed: int) -> None:
    with pytest.raises(PermissionError):
        os.pwrite(sealed, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(sealed, 3)


def test_one_that_is_not_sealed_is_refused() -> None:
    fd = os.memfd_create("open", os.MFD_ALLOW_SEALING)
    try:
        os.write(fd, b"payload")
        with pytest.raises(ValueError, match="not sealed"):
            memfd.read_sealed(fd, 7)
    finally:
        os.close(fd)


def test_a_descriptor_of_another_kind_is_refused() -> None:
    one, other = os.pipe()
    try:
        with pytest.raises(ValueError, match="no memory file"):
            memfd.read_sealed(one, 7)
    finally:
        os.close(one)
        os.close(other)


def test_another_size_than_announced_is_refused(sealed: int) -> None:
    with pytest.raises(ValueError, match="another size"):
        memfd.read_sealed(sealed, 8)
