"""Archives as Linux unpacks them. That a kernel does so is proven where a guest boots."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest

from firelet.sandbox.microvm import cpio


def archive(*entries: cpio.Entry) -> bytes:
    out = io.BytesIO()
    cpio.write(entries, out)
    return out.getvalue()


def test_an_empty_archive_is_its_trailer() -> None:
    data = archive()
    assert data.startswith(b"070701")
    assert data.rstrip(b"\0").endswith(b"TRAILER!!!")


@pytest.mark.parametrize("size", range(5))
def test_every_part_begins_at_a_multiple_of_four(size: int) -> None:
    data = archive(cpio.file("name", b"x" * size), cpio.file("n", b""))
    assert len(data) % 4 == 0
    starts = [at for at in range(len(data)) if data.startswith(b"070701", at)]
    assert len(starts) == 3
    assert all(start % 4 == 0 for start in starts)


def test_the_same_entries_give_the_same_bytes() -> None:
    entries = (cpio.directory("d"), cpio.file("d/f", b"data", 0o755), cpio.link("l", "d/f"))
    assert archive(*entries) == archive(*entries)


@pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is missing")
def test_another_program_unpacks_it(tmp_path: Path) -> None:
    data = archive(cpio.directory("d"), cpio.file("d/f", b"content", 0o755), cpio.link("l", "d/f"))
    subprocess.run(["busybox", "cpio", "-i"], input=data, cwd=tmp_path, check=True)
    assert (tmp_path / "l").read_bytes() == b"content"
    assert (tmp_path / "d/f").stat().st_mode & 0o777 == 0o755
