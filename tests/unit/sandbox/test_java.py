"""Java homes are told apart by what they say of themselves; the client is compiled once."""

from __future__ import annotations

from pathlib import Path

import pytest

from firelet.model.errors import InvalidRuntime
from firelet.sandbox.interpreter import Interpreter
from firelet.sandbox.java import ensure_client, find_javas, java_homes


def make_home(root: Path, name: str, version: str, *, compiler: bool = True) -> Path:
    home = root / name
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").write_text("")
    if compiler:
        (home / "bin" / "javac").write_text("")
    (home / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return home


def runtimes(*homes: Path) -> dict[str, Path | None]:
    return {item.runtime: item.prefix for item in find_javas(homes)}


def test_the_first_home_of_a_version_serves_it(tmp_path: Path) -> None:
    first = make_home(tmp_path, "a", "17.0.15")
    second = make_home(tmp_path, "b", "17.0.9")
    newer = make_home(tmp_path, "c", "21", compiler=False)
    assert runtimes(first, second, newer) == {
        "java17": first,
        "java17.al2023": first,
        "java21": newer,
    }


@pytest.mark.parametrize("version", ["1.8.0_402", "10.0.2", "nonsense"])
def test_what_is_too_old_or_no_version_is_left_out(tmp_path: Path, version: str) -> None:
    assert runtimes(make_home(tmp_path, "a", version)) == {}


def test_a_version_that_aws_does_not_offer_is_left_out(tmp_path: Path) -> None:
    assert runtimes(make_home(tmp_path, "a", "19.0.1")) == {}


def test_without_any_compiler_there_is_no_java(tmp_path: Path) -> None:
    assert runtimes(make_home(tmp_path, "a", "17.0.1", compiler=False)) == {}


def test_homes_are_looked_for_where_the_environment_says(tmp_path: Path) -> None:
    named = make_home(tmp_path, "named", "17.0.1")
    installed = make_home(tmp_path / ".sdkman/candidates/java", "21.0.1-tem", "21.0.1")
    homes = java_homes({"JAVA_HOME": str(named), "PATH": "", "HOME": str(tmp_path)})
    assert homes[0] == named
    assert installed in homes


def test_a_compiler_that_fails_is_told_with_its_words(tmp_path: Path) -> None:
    home = make_home(tmp_path, "a", "17.0.1")
    compiler = home / "bin" / "javac"
    compiler.write_text("#!/bin/sh\necho 'no room' >&2\nexit 3\n")
    compiler.chmod(0o755)
    java = Interpreter("java17", "java", home, "bin/java")
    with pytest.raises(InvalidRuntime, match="no room"):
        ensure_client([java], tmp_path / "store")
    assert list((tmp_path / "store").iterdir()) == []


def test_the_client_is_made_once(tmp_path: Path) -> None:
    home = make_home(tmp_path, "a", "17.0.1")
    compiler = home / "bin" / "javac"
    # A stand-in for the compiler: it makes one class file where it is told to.
    compiler.write_text('#!/bin/sh\nmkdir -p "$5"\necho class > "$5/App.class"\n')
    compiler.chmod(0o755)
    java = Interpreter("java17", "java", home, "bin/java")
    jar = ensure_client([java], tmp_path / "store")
    compiler.write_text("#!/bin/sh\nexit 1\n")
    assert ensure_client([java], tmp_path / "store") == jar
    assert list((tmp_path / "store").iterdir()) == [jar]
