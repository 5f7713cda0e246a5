"""Which files are extensions: those of layers, and those that an image's layers leave."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from firelet.worker.extension_files import find_extensions


def make(root: Path, *files: str) -> Path:
    root.mkdir()
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return root


def whiteout(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.mknod(path, 0o020000, os.makedev(0, 0))
    except PermissionError:
        pytest.skip("this user may not make a character device 0/0")


def test_layers_give_files_and_no_directories(tmp_path: Path) -> None:
    code = make(tmp_path / "code", "extensions/of-the-code")
    first = make(tmp_path / "first", "extensions/b", "extensions/folder/c", "other")
    second = make(tmp_path / "second", "extensions/a")
    found = find_extensions([code, first, second], is_image=False)
    assert found == ("a", "b")


@pytest.mark.parametrize("target", ["elsewhere", "/opt/elsewhere", "./x/../elsewhere", "twice"])
def test_a_link_is_followed_to_a_folder_of_any_layer(tmp_path: Path, target: str) -> None:
    code = make(tmp_path / "code")
    below = make(tmp_path / "below", "extensions/hidden", "elsewhere/a")
    linked = make(tmp_path / "linked", "elsewhere/b")
    (linked / "twice").symlink_to("elsewhere")
    (linked / "extensions").symlink_to(target)
    above = make(tmp_path / "above", "extensions/c")
    assert find_extensions([code, below, linked], is_image=False) == ("a", "b")
    assert find_extensions([code, below, linked, above], is_image=False) == ("c",)


@pytest.mark.parametrize(
    "target",
    ["/etc", "../../etc", "..", "out", "out/x", "/opt/out/x", "extensions", "file"],
)
def test_a_link_that_leads_elsewhere_leads_to_nothing(tmp_path: Path, target: str) -> None:
    make(tmp_path / "host", "x/of-the-host", "of-the-host")
    linked = make(tmp_path / "linked", "file")
    (linked / "out").symlink_to(tmp_path / "host")
    (linked / "extensions").symlink_to(target)
    assert find_extensions([tmp_path / "code", linked], is_image=False) == ()


def test_layers_of_an_image_add_up(tmp_path: Path) -> None:
    base = make(tmp_path / "base", "opt/extensions/a", "extensions/no")
    above = make(tmp_path / "above", "opt/extensions/b", "app.py")
    assert find_extensions([base, above], is_image=True) == ("a", "b")


def test_a_layer_takes_away_a_file_or_the_folder(tmp_path: Path) -> None:
    base = make(tmp_path / "base", "opt/extensions/a", "opt/extensions/b")
    without_a = make(tmp_path / "without-a")
    whiteout(without_a / "opt" / "extensions" / "a")
    assert find_extensions([base, without_a], is_image=True) == ("b",)
    without_any = make(tmp_path / "without-any")
    whiteout(without_any / "opt" / "extensions")
    later = make(tmp_path / "later", "opt/extensions/c")
    assert find_extensions([base, without_any], is_image=True) == ()
    assert find_extensions([base, without_any, later], is_image=True) == ("c",)


@pytest.mark.parametrize("folder", ["opt", "opt/extensions"])
def test_an_opaque_folder_hides_what_is_below(tmp_path: Path, folder: str) -> None:
    base = make(tmp_path / "base", "opt/extensions/a")
    above = make(tmp_path / "above", "opt/extensions/b")
    try:
        os.setxattr(above / folder, "user.overlay.opaque", b"y")
    except OSError:
        pytest.skip("this file system has no extended attributes of users")
    assert find_extensions([base, above], is_image=True) == ("b",)
