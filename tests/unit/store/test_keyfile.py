"""Key files: made once, whole, and for their owner's eyes only."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from firelet.model.errors import PlatformError
from firelet.store.keyfile import load_key


def test_a_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "key"
    before = os.umask(0)
    try:
        key = load_key(path)
    finally:
        os.umask(before)
    assert len(key) == 32
    assert load_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]
    assert load_key(tmp_path / "other") != key


def test_a_crash_while_a_key_is_made_leaves_none(tmp_path: Path) -> None:
    (tmp_path / "key.new").write_bytes(b"cut")
    assert len(load_key(tmp_path / "key")) == 32


def test_a_damaged_key_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"cut")
    with pytest.raises(PlatformError, match="is damaged: it has 3 bytes and not 32"):
        load_key(path)
    assert path.read_bytes() == b"cut"


def test_a_key_that_cannot_be_kept_is_told(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="cannot be used: No such file or directory"):
        load_key(tmp_path / "missing" / "key")
