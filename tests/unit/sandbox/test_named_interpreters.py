"""What the operator says serves a runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from firelet.model.errors import PlatformError
from firelet.sandbox.interpreter import Interpreter
from firelet.sandbox.interpreters import named_interpreter


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    for name in ("ruby", "python3.13"):
        (tmp_path / "bin" / name).touch(mode=0o755)
    return tmp_path


@pytest.mark.parametrize(("runtime", "name"), [("ruby3.3", "ruby"), ("python3.13", "python3.13")])
def test_an_executable_in_the_bin_of_a_prefix_serves(prefix: Path, runtime: str, name: str) -> None:
    found = named_interpreter(runtime, prefix / "bin" / name)
    family = runtime.rstrip("0123456789.")
    assert found == Interpreter(runtime, family, prefix, f"bin/{name}")


@pytest.mark.parametrize(
    ("runtime", "path", "message"),
    [
        ("provided.al2023", "bin/ruby", "is no runtime that an interpreter can serve"),
        ("ruby2.7", "bin/ruby", "is no runtime that an interpreter can serve"),
        ("cobol", "bin/ruby", "is no runtime that an interpreter can serve"),
        ("ruby3.3", "bin/python3.13", "is not an executable bin/ruby"),
        ("ruby3.3", "ruby", "is not an executable bin/ruby"),
        ("java17", "bin/java", "is not an executable bin/java"),
    ],
)
def test_what_cannot_serve_is_refused_by_name(
    prefix: Path, runtime: str, path: str, message: str
) -> None:
    with pytest.raises(PlatformError, match=message):
        named_interpreter(runtime, prefix / path)
