"""Kernels out of their packing."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from firelet.sandbox.microvm import vmlinux
from firelet.sandbox.microvm.host_tools import ImageBuildError

ELF = b"\x7fELF" + bytes(range(256)) * 64
SIZE = struct.pack("<I", len(ELF))


def bz_image(payload: bytes, version: int = 0x020F) -> bytes:
    """As the kernel's build lays it out, with two sectors of setup code."""
    image = bytearray(3 * 512 + 100)
    image[0x1F1] = 2
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, version)
    struct.pack_into("<II", image, 0x248, 100, len(payload))
    return bytes(image) + payload + b"what follows"


def lzma_alone(data: bytes) -> bytes:
    return lzma.compress(data, format=lzma.FORMAT_ALONE)


def by_program(*command: str) -> Callable[[bytes], bytes]:
    def pack(data: bytes) -> bytes:
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} is missing")
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    return pack


@pytest.mark.parametrize(
    "pack",
    [
        gzip.compress,
        lzma.compress,
        lzma_alone,
        bz2.compress,
        by_program("zstd", "-c"),
        by_program("lz4", "-l", "-c"),
    ],
    ids=["gzip", "xz", "lzma", "bzip2", "zstd", "lz4"],
)
def test_a_packed_kernel_is_unpacked(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(bz_image(pack(ELF) + SIZE))
    vmlinux.extract(tmp_path / "vmlinuz", tmp_path / "vmlinux")
    assert (tmp_path / "vmlinux").read_bytes() == ELF


def test_a_kernel_that_is_not_packed_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(ELF)
    vmlinux.extract(tmp_path / "vmlinuz", tmp_path / "vmlinux")
    assert (tmp_path / "vmlinux").read_bytes() == ELF


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"no kernel", "neither a bzImage nor an ELF"),
        (bz_image(gzip.compress(ELF), version=0x0207), "does not say where"),
        (bz_image(b"\x89LZO\0\r\n"), "packed in a way that is not supported"),
        (bz_image(gzip.compress(ELF)[:20] + b"\xff" * 40), "packed by gzip, cannot be unpacked"),
        (bz_image(gzip.compress(b"data")), "is no ELF file"),
    ],
)
def test_what_is_no_kernel_is_refused(image: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(image)
    with pytest.raises(ImageBuildError, match=reason):
        vmlinux.extract(tmp_path / "vmlinuz", tmp_path / "vmlinux")
    assert not (tmp_path / "vmlinux").exists()
