"""Hostile and honest zips: what is refused, and what an accepted one looks like on the disk."""

from __future__ import annotations

import errno
import io
import os
import random
import stat
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firelet.model import limits
from firelet.model.errors import FireletError, InvalidParameterValue
from firelet.worker.archive import check_archive, extract_archive
from firelet.worker.archive_members import BadArchive

UNZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."
EMPTY = "Uploaded file must be a non-empty zip"
LARGE = "Unzipped size must be smaller than 262144000 bytes"

Entry = tuple[str, bytes, int]  # name, content, st_mode


def make(*entries: Entry, method: int = zipfile.ZIP_DEFLATED, system: int = 3) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name, (2024, 5, 6, 7, 8, 10))
            info.create_system = system
            info.external_attr = mode << 16
            info.compress_type = method
            with warnings.catch_warnings(action="ignore"):  # about duplicate names
                archive.writestr(info, content)
    return buffer.getvalue()


def file(name: str, content: bytes = b"x", mode: int = 0o644) -> Entry:
    return (name, content, stat.S_IFREG | mode)


def link(name: str, target: str) -> Entry:
    return (name, target.encode(), stat.S_IFLNK | 0o777)


def extract(data: bytes, tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    extract_archive(io.BytesIO(data), root)
    return root


def tree_of(path: Path) -> set[str]:
    return {str(found.relative_to(path)) for found in path.rglob("*")}


def test_files_directories_modes_and_links_are_restored(tmp_path: Path) -> None:
    data = make(
        file("handler.py", b"print()", 0o600),
        file("bin/tool", b"#!", 0o700),
        file("bin/shared", b"", 0o4777),
        ("empty/", b"", stat.S_IFDIR | 0o700),
        file("./a//b/c.txt", b"deep"),
        link("bin/alias", "tool"),
        link("a/up", "../bin/tool"),
        link("dir", "a/b"),
    )
    assert check_archive(io.BytesIO(data)) == len("print()#!deep") + len("tool../bin/toola/b")
    root = extract(data, tmp_path)
    modes = {
        name: stat.S_IMODE((root / name).stat().st_mode)
        for name in ("handler.py", "bin/tool", "bin/shared", "empty", "a", "a/b/c.txt", ".")
    }
    assert modes == {
        "handler.py": 0o644,
        "bin/tool": 0o755,
        "bin/shared": 0o755,
        "empty": 0o755,
        "a": 0o755,
        "a/b/c.txt": 0o644,
        ".": 0o755,
    }
    assert (root / "a/up").read_bytes() == b"#!"
    assert os.readlink(root / "bin/alias") == "tool"
    assert (root / "dir/c.txt").read_bytes() == b"deep"
    assert (root / "handler.py").stat().st_mtime == 1_714_979_290


def test_the_exact_time_of_the_extended_timestamp_is_preferred(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("a")
        info.extra = struct.pack("<HHBI", 0x5455, 5, 1, 1_700_000_001)
        archive.writestr(info, b"")
        broken = zipfile.ZipInfo("b", (1980, 0, 0, 0, 0, 0))
        archive.writestr(broken, b"")
    root = extract(buffer.getvalue(), tmp_path)
    assert (root / "a").stat().st_mtime == 1_700_000_001
    assert (root / "b").stat().st_mtime == 315_532_800


def test_archives_of_other_systems_have_no_modes_and_are_readable(tmp_path: Path) -> None:
    root = extract(make(file("a.exe", b"x", 0), ("d/", b"", 0), system=0), tmp_path)
    assert stat.S_IMODE((root / "a.exe").stat().st_mode) == 0o644
    assert (root / "d").is_dir()


def test_names_are_utf_8_even_without_the_flag(tmp_path: Path) -> None:
    data = make(file("caf\u00e9.py"))
    unflagged = data.replace(struct.pack("<HH", 20, 0x800), struct.pack("<HH", 20, 0))
    assert unflagged != data
    assert tree_of(extract(unflagged, tmp_path)) == {"caf\u00e9.py"}


def test_names_that_are_not_utf_8_are_code_page_437(tmp_path: Path) -> None:
    data = make(file("caf#.py")).replace(b"caf#.py", b"caf\x82.py")
    assert tree_of(extract(data, tmp_path)) == {"caf\u00e9.py"}


@pytest.mark.parametrize("data", [b"", make()])
def test_nothing_in_it_is_refused_as_empty(data: bytes) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        check_archive(io.BytesIO(data))
    assert caught.value.message == EMPTY


HOSTILE = {
    "absolute": make(file("/etc/passwd")),
    "dots": make(file("a/../../b")),
    "dots at the end": make(("..", b"", stat.S_IFDIR)),
    "no name": make(("./", b"", stat.S_IFLNK)),
    "link out": make(link("l", "../x")),
    "link to root": make(link("l", "/etc")),
    "link deeper out": make(link("a/b/l", "../../../x")),
    "link with dots behind": make(link("l", "a/..")),
    "link by way of a link": make(
        file("s/f"), link("d/e/f/l", "../../../s"), link("m", "d/e/f/l/../../x")
    ),
    "link to nothing": make(link("l", "")),
    "link with NUL": make(link("l", "a\0b")),
    "long link": make(link("l", "a/" * 600)),
    "through a link": make(link("l", "d"), file("l/f")),
    "through a link, link last": make(file("l/f"), link("l", "d")),
    "through a file": make(file("a"), file("a/b")),
    "twice": make(file("a"), file("a")),
    "twice, spelled differently": make(file("a/b"), file("a/./b")),
    "file and directory": make(file("a"), ("a/", b"", stat.S_IFDIR | 0o755)),
    "device": make(("null", b"", stat.S_IFCHR | 0o666)),
    "block device": make(("sda", b"", stat.S_IFBLK | 0o666)),
    "pipe": make(("fifo", b"", stat.S_IFIFO | 0o666)),
    "socket": make(("sock", b"", stat.S_IFSOCK | 0o666)),
    "long name": make(file("n" * 256)),
    "long path": make(file("/".join(["n" * 200] * 11))),
    "deep path": make(file("d/" * 129 + "f")),
    "bzip2": make(file("a"), method=zipfile.ZIP_BZIP2),
    "lzma": make(file("a"), method=zipfile.ZIP_LZMA),
    "not a zip": b"PK but no more",
    "text": b"hello" * 1000,
    "cut": make(file("a", b"content" * 100))[:-30],
    "wrong checksum": make(file("a", b"abcdef"), method=zipfile.ZIP_STORED).replace(
        b"abcdef", b"abcdeg"
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused_before_anything_leaves_the_tree(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(BadArchive) as caught:
        check_archive(io.BytesIO(HOSTILE[name]))
    assert caught.value.message == UNZIP
    assert caught.value.reason
    with pytest.raises(BadArchive):
        extract(HOSTILE[name], tmp_path)
    assert set(os.listdir(tmp_path)) == {"tree"}


def test_a_name_with_nul_is_refused() -> None:
    data = make(file("a#b.py")).replace(b"a#b.py", b"a\0b.py")
    with pytest.raises(BadArchive):
        check_archive(io.BytesIO(data))


def test_encrypted_entries_are_refused() -> None:
    data = bytearray(make(file("a")))
    data[6] |= 1  # general purpose flags of the local header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and of the central one
    with pytest.raises(BadArchive):
        check_archive(io.BytesIO(bytes(data)))


def central(data: bytes, at: int, value: int) -> bytes:
    """The archive with a 32-bit field of its first central header changed."""
    changed = bytearray(data)
    struct.pack_into("<I", changed, data.index(b"PK\x01\x02") + at, value)
    return bytes(changed)


@pytest.mark.parametrize("claimed", [10, 2_000_000])
def test_a_header_that_lies_about_the_size_is_refused(claimed: int) -> None:
    with pytest.raises(BadArchive):
        check_archive(io.BytesIO(central(make(file("a", bytes(1_000_000))), 24, claimed)))


def test_a_header_that_says_less_cannot_smuggle_more_in() -> None:
    content = bytes(1_000_000)
    data = central(make(file("a", content)), 24, 10)
    with pytest.raises(BadArchive):
        check_archive(io.BytesIO(central(data, 16, zlib.crc32(content[:10]) ^ 1)))


def test_a_bomb_is_refused_by_what_comes_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CODE_UNZIPPED_MAX_BYTES", 1_000_000)
    check_archive(io.BytesIO(make(file("a", bytes(600_000)), file("b", bytes(400_000)))))
    with pytest.raises(InvalidParameterValue) as caught:
        check_archive(io.BytesIO(make(file("a", bytes(600_000)), file("b", bytes(400_001)))))
    assert caught.value.message == "Unzipped size must be smaller than 1000000 bytes"


def test_a_file_of_more_than_the_limit_has_the_sentence_of_aws() -> None:
    data = central(make(file("a", b"")), 24, limits.CODE_UNZIPPED_MAX_BYTES + 1)
    with pytest.raises(InvalidParameterValue) as caught:
        check_archive(io.BytesIO(data))
    assert caught.value.message == LARGE


def test_entries_that_share_bytes_are_refused() -> None:
    data = make(file("a", b"x" * 50), file("b", b"y" * 50))
    first = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", first + 4)
    changed = bytearray(data)
    # The second entry's directory record becomes one more record of the first entry's bytes.
    changed[second : second + 46] = changed[first : first + 46]
    with pytest.raises(BadArchive) as caught:
        check_archive(io.BytesIO(bytes(changed)))
    assert caught.value.reason == "entries overlap"


def test_too_many_entries_are_refused_before_they_are_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "ARCHIVE_ENTRIES_MAX", 10)
    check_archive(io.BytesIO(make(*(file(f"f{n}") for n in range(10)))))
    with pytest.raises(BadArchive, match="unzip") as caught:
        check_archive(io.BytesIO(make(*(file(f"f{n}") for n in range(11)))))
    assert "more than 10 entries" in caught.value.reason


def test_signatures_inside_of_stored_files_are_not_counted_as_entries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "ARCHIVE_ENTRIES_MAX", 10)
    inner = make(*(file(f"f{n}") for n in range(20)))
    check_archive(io.BytesIO(make(file("inner.jar", inner), method=zipfile.ZIP_STORED)))


def test_an_archive_behind_other_bytes_is_read(tmp_path: Path) -> None:
    data = b"#!/usr/bin/env python3\n" + make(file("__main__.py"))
    assert tree_of(extract(data, tmp_path)) == {"__main__.py"}


SEED = make(
    file("handler.py", b"def handler(event, context): return event\n" * 20),
    file("bin/tool", b"#!/bin/sh\n", 0o755),
    link("bin/alias", "tool"),
    ("empty/", b"", stat.S_IFDIR | 0o755),
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_damaged_archives_are_accepted_or_refused_and_never_worse(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int
) -> None:
    chance = random.Random(seed)
    data = bytearray(SEED)
    for _ in range(count):
        data[chance.randrange(len(data))] = chance.choice((0, 1, 0x2E, 0x2F, 0x7F, 0xFF))
    parent = tmp_path_factory.mktemp("damaged")
    try:
        check_archive(io.BytesIO(bytes(data)))
    except FireletError:
        return
    root = extract(bytes(data), parent)
    for found in root.rglob("*"):
        assert found.resolve().is_relative_to(root)
    assert os.listdir(parent) == ["tree"]


NAMES = st.text(st.sampled_from("ab./\\\0-"), min_size=1, max_size=8)
TARGETS = st.text(st.sampled_from("ab./"), max_size=8)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(NAMES, st.one_of(st.none(), TARGETS)), min_size=1, max_size=6))
def test_no_set_of_names_and_links_points_out_of_the_tree(
    tmp_path_factory: pytest.TempPathFactory, names: list[tuple[str, str | None]]
) -> None:
    entries = [file(name) if target is None else link(name, target) for name, target in names]
    parent = tmp_path_factory.mktemp("names")
    try:
        root = extract(make(*entries), parent)
    except FireletError:
        return
    for found in root.rglob("*"):
        try:
            os.stat(found)
        except OSError as error:
            if error.errno == errno.ELOOP:
                continue  # leads nowhere, and realpath's answer for it means nothing
        assert found.resolve().is_relative_to(root)
