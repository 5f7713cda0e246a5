"""Bytecode that is never compared with its source."""

from __future__ import annotations

import importlib.util
import marshal
import sys
from pathlib import Path

import pytest

from firelet.sandbox.microvm import bytecode, ext4
from firelet.sandbox.microvm.host_tools import ImageBuildError

UNCHECKED = 0b01
HEADER_BYTES = 16


def test_files_are_compiled_for_their_places_in_the_guest(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "debugger").mkdir()
    for name in ("one.py", "package/two.py", "debugger/three.py"):
        (tmp_path / name).write_text("x = 1\n")
    (tmp_path / "template.py").write_text("{{ no Python }}\n")
    bytecode.compile_trees([sys.executable], [(tmp_path, "/var/lang/lib")], ["debugger"])
    made = {path.name.partition(".")[0]: path for path in tmp_path.rglob("*.pyc")}
    assert set(made) == {"one", "two"}
    data = made["two"].read_bytes()
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(data[4:8], "little") == UNCHECKED
    assert marshal.loads(data[HEADER_BYTES:]).co_filename == "/var/lang/lib/package/two.py"
    assert made["two"].stat().st_mtime == ext4.EPOCH


def test_bytecode_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("x = 1\n")
    target = Path(importlib.util.cache_from_source(str(tmp_path / "one.py")))
    target.parent.mkdir()
    target.write_bytes(b"kept")
    bytecode.compile_trees([sys.executable], [(tmp_path, "/place")])
    assert target.read_bytes() == b"kept"


@pytest.mark.parametrize(
    ("python", "reason"), [("/bin/false", "cannot compile"), ("/missing", "cannot be used")]
)
def test_an_interpreter_that_cannot_be_used_is_an_error(
    python: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ImageBuildError, match=reason):
        bytecode.compile_trees([python], [(tmp_path, "/place")])
