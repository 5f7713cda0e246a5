"""Layers of images as hostile input: where they end up, and what they cannot reach."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firelet.model import limits
from firelet.worker.images import layer as layer_module
from firelet.worker.images.errors import BadImage, UnsupportedImage
from firelet.worker.images.layer import extract_layer
from image_layouts import directory, entry, hard_link, make_tar, symlink

Entry = tuple[tarfile.TarInfo, bytes]


@pytest.fixture
def unpack(tmp_path: Path) -> Callable[..., Path]:
    """Unpacks entries into a directory beside which lies a file that nobody may touch."""
    (tmp_path / "outside").write_text("untouched")

    def run(*entries: Entry, blob: bytes | None = None) -> Path:
        root = tmp_path / "layer"
        root.mkdir()
        extract_layer(io.BytesIO(make_tar(entries) if blob is None else blob), root)
        return root

    return run


def is_whiteout(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def is_opaque(path: Path) -> bool:
    return "user.overlay.opaque" in os.listxattr(path)


def test_files_directories_and_links_are_made(unpack: Callable[..., Path]) -> None:
    root = unpack(
        directory("bin", 0o555),
        entry("bin/tool", "#!", mode=0o755),
        symlink("bin/alias", "tool"),
        hard_link("usr/again", "bin/tool"),
        entry("./deep/er/file", "x", mode=0o600),
    )
    assert (root / "bin/tool").read_text() == "#!"
    assert (root / "bin/tool").stat().st_mode & 0o7777 == 0o755
    assert (root / "bin/tool").stat().st_ino == (root / "usr/again").stat().st_ino
    assert os.readlink(root / "bin/alias") == "tool"
    assert (root / "deep/er/file").stat().st_mode & 0o7777 == 0o600
    # The platform must be able to empty it.
    assert (root / "bin").stat().st_mode & 0o7777 == 0o755
    assert root.stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("compress", [gzip.compress, lambda tar: tar], ids=["gzip", "plain"])
def test_a_layer_may_be_compressed(
    unpack: Callable[..., Path], compress: Callable[[bytes], bytes]
) -> None:
    root = unpack(blob=compress(make_tar([entry("a", "1" * 1_000_000)])))
    assert (root / "a").stat().st_size == 1_000_000


def test_gzip_may_have_several_members(unpack: Callable[..., Path]) -> None:
    tar = make_tar([entry("a", os.urandom(300_000))])
    root = unpack(blob=gzip.compress(tar[:100_000]) + gzip.compress(tar[100_000:]) + b"\0" * 512)
    assert (root / "a").stat().st_size == 300_000


def test_rights_that_outlive_a_file_are_dropped(unpack: Callable[..., Path]) -> None:
    root = unpack(entry("su", mode=0o6755), directory("sticky", 0o3777), entry("owned", mode=0o644))
    assert (root / "su").stat().st_mode & 0o7777 == 0o755
    assert (root / "sticky").stat().st_mode & 0o7000 == 0
    assert (root / "owned").stat().st_uid == os.geteuid()


def test_devices_and_pipes_are_left_out(unpack: Callable[..., Path]) -> None:
    device, _ = entry("dev/sda", kind=tarfile.BLKTYPE)
    device.devmajor, device.devminor = 8, 0
    hidden, _ = entry("etc/passwd", kind=tarfile.CHRTYPE)
    root = unpack((device, b""), (hidden, b""), entry("fifo", kind=tarfile.FIFOTYPE), entry("a"))
    assert [path.name for path in root.iterdir()] == ["a"]


def test_extended_attributes_are_left_out(unpack: Callable[..., Path]) -> None:
    info, data = directory("d")
    info.pax_headers = {
        "SCHILY.xattr.user.overlay.redirect": "/secret",
        "SCHILY.xattr.security.capability": "x",
    }
    assert os.listxattr(unpack((info, data)) / "d") == []


def test_what_a_layer_removes_is_hidden(unpack: Callable[..., Path]) -> None:
    root = unpack(
        entry("etc/.wh.old"),
        entry("var/.wh..wh..opq"),
        entry("var/new"),
        entry(".wh..wh.plnk/1.2"),
    )
    assert is_whiteout(root / "etc/old")
    assert is_opaque(root / "var")
    assert sorted(os.listdir(root)) == ["etc", "var"]


@pytest.mark.parametrize("order", [0, 1])
def test_what_a_layer_removes_and_makes_again_is_only_its_own(
    unpack: Callable[..., Path], order: int
) -> None:
    made = [directory("d"), entry("d/own"), entry("f", "new")]
    removed = [entry(".wh.d"), entry(".wh.f")]
    root = unpack(*(made + removed if order else removed + made))
    assert is_opaque(root / "d")
    assert (root / "d/own").is_file()
    assert (root / "f").read_text() == "new"


def test_a_later_entry_takes_the_place_of_an_earlier_one(unpack: Callable[..., Path]) -> None:
    root = unpack(
        entry("a", "1"),
        entry("a", "2"),
        entry("d/x"),
        entry("d", "now a file"),
        symlink("l", "a"),
        entry("l", "no longer a link"),
        symlink("e", "d"),
        directory("e"),
    )
    assert (root / "a").read_text() == "2"
    assert (root / "d").read_text() == "now a file"
    assert (root / "l").read_text() == "no longer a link"
    assert (root / "e").is_dir()
    assert not (root / "e").is_symlink()


ESCAPES = {
    "dots": [entry("../outside", "hit")],
    "dots inside": [directory("a"), entry("a/../../outside", "hit")],
    "dots in a hard link": [hard_link("here", "../outside"), entry("here", "hit")],
    "whiteout of dots": [entry(".wh...", "")],
    "whiteout of nothing": [entry(".wh.", "")],
    "hard link to nothing": [hard_link("here", "nowhere")],
    "hard link to the root": [hard_link("here", ".")],
    "hard link to a directory": [directory("d"), hard_link("here", "d")],
    "loop of links": [symlink("a", "b"), symlink("b", "a"), entry("a/x", "")],
    "name too long": [entry("x" * 300, "")],
    "too deep": [entry("d/" * 200 + "x", "")],
}


@pytest.mark.parametrize("entries", ESCAPES.values(), ids=ESCAPES)
def test_what_is_not_in_order_is_refused(
    unpack: Callable[..., Path], tmp_path: Path, entries: list[Entry]
) -> None:
    with pytest.raises(BadImage):
        unpack(*entries)
    assert (tmp_path / "outside").read_text() == "untouched"
    assert sorted(os.listdir(tmp_path)) == ["layer", "outside"]


def test_absolute_paths_and_links_mean_the_layer(
    unpack: Callable[..., Path], tmp_path: Path
) -> None:
    root = unpack(
        entry("/absolute", "in"),
        symlink("up", ".."),
        symlink("root", "/"),
        symlink("abs", str(tmp_path)),
        entry("up/outside", "in"),
        entry("root/etc/file", "in"),
        entry("abs/outside", "in"),
    )
    assert (tmp_path / "outside").read_text() == "untouched"
    assert (root / "absolute").read_text() == "in"
    assert (root / "outside").read_text() == "in"
    assert (root / "etc/file").read_text() == "in"


def test_a_link_cannot_be_written_through(unpack: Callable[..., Path], tmp_path: Path) -> None:
    root = unpack(symlink("link", str(tmp_path / "outside")), entry("link", "hit"))
    assert (root / "link").read_text() == "hit"
    assert (tmp_path / "outside").read_text() == "untouched"


def test_a_hard_link_to_a_link_does_not_follow_it(
    unpack: Callable[..., Path], tmp_path: Path
) -> None:
    root = unpack(symlink("link", str(tmp_path / "outside")), hard_link("hard", "link"))
    assert (root / "hard").is_symlink()


def pax_of(size: int) -> bytes:
    """An extended header that claims to be so long."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, size
    return info.tobuf(tarfile.USTAR_FORMAT)


def test_headers_of_unreasonable_size_are_not_read(unpack: Callable[..., Path]) -> None:
    with pytest.raises(BadImage, match="header of unreasonable size"):
        unpack(blob=gzip.compress(pax_of(2_000_000_000) + b"0" * 4_000_000))


def test_chains_of_headers_end(unpack: Callable[..., Path]) -> None:
    header = pax_of(11) + b"11 path=ab\n".ljust(512, b"\0")
    with pytest.raises(BadImage):
        unpack(blob=header * 20_000)


NOT_TARS = {
    "nothing": b"",
    "garbage": b"\x07" * 4_096,
    "cut gzip": gzip.compress(make_tar([entry("a", os.urandom(100_000))]))[:50_000],
    "cut tar": make_tar([entry("a", "1" * 100_000)])[:50_000],
    "broken gzip": b"\x1f\x8b\x08" + b"\xff" * 100,
}


@pytest.mark.parametrize("blob", NOT_TARS.values(), ids=NOT_TARS)
def test_what_is_no_tar_is_refused(unpack: Callable[..., Path], blob: bytes) -> None:
    with pytest.raises(BadImage):
        unpack(blob=blob)


def test_zstd_is_not_supported(unpack: Callable[..., Path]) -> None:
    with pytest.raises(UnsupportedImage, match="zstd"):
        unpack(blob=b"\x28\xb5\x2f\xfd" + b"x" * 100)


def test_a_layer_is_not_unpacked_past_the_limit(
    unpack: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IMAGE_UNPACKED_MAX_BYTES", 1_000_000)
    with pytest.raises(BadImage, match="larger than 10 GB"):
        unpack(blob=gzip.compress(make_tar([entry("a", b"0" * 2_000_000)])))


def test_entries_are_counted(unpack: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_module.limits, "IMAGE_LAYER_ENTRIES_MAX", 10)
    with pytest.raises(BadImage, match="too many entries"):
        unpack(*(entry(f"f{number}") for number in range(11)))


def test_a_negative_size_is_refused(unpack: Callable[..., Path]) -> None:
    info, _ = entry("a", size=0)
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = b"\xff" * 12  # base 256: -1
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    with pytest.raises(BadImage):
        unpack(blob=bytes(raw) + b"\0" * 1_024)


PARTS = st.sampled_from(
    ["a", "b", "..", ".", "", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh..", "l", "/etc", "outside"]
)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
KINDS = [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(PATHS, st.sampled_from(KINDS), PATHS), max_size=12))
def test_whatever_a_layer_holds_it_stays_inside(rows: list[tuple[str, bytes, str]]) -> None:
    entries = [entry(name, kind=kind, link=link, mode=0o7777) for name, kind, link in rows]
    with tempfile.TemporaryDirectory() as above:
        (Path(above) / "outside").write_text("untouched")
        inner = Path(above) / "layer"
        inner.mkdir()
        with contextlib.suppress(BadImage):
            extract_layer(io.BytesIO(make_tar(entries)), inner)
        assert sorted(os.listdir(above)) == ["layer", "outside"]
        assert (Path(above) / "outside").read_text() == "untouched"
        for path in inner.rglob("*"):
            found = path.lstat()
            assert found.st_mode & 0o7000 == 0 or stat.S_ISLNK(found.st_mode)
            assert not stat.S_ISCHR(found.st_mode) or found.st_rdev == 0
            assert not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o700 == 0o700
