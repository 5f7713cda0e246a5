"""Finding runtimes on a host: what counts as an interpreter and which of several wins."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from firelet.sandbox.interpreters import discover, find_node, find_pythons, python_prefixes


def install_python(prefix: Path, version: str, *, has_library: bool = True) -> Path:
    name = f"python{version}"
    (prefix / "bin").mkdir(parents=True, exist_ok=True)
    (prefix / "bin" / name).write_text("")
    if has_library:
        (prefix / "lib" / name).mkdir(parents=True)
        (prefix / "lib" / name / "os.py").write_text("")
    return prefix


def install_node(directory: Path, script: str) -> None:
    directory.mkdir(parents=True)
    path = directory / "node"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


class TestPython:
    def test_an_interpreter_is_a_program_with_its_library_beside_it(self, tmp_path: Path) -> None:
        install_python(tmp_path, "3.12")
        (found,) = find_pythons([tmp_path])
        assert (found.runtime, found.family) == ("python3.12", "python")
        assert (found.prefix, found.executable) == (tmp_path, "bin/python3.12")

    def test_a_shim_or_a_virtual_environment_is_none(self, tmp_path: Path) -> None:
        install_python(tmp_path, "3.12", has_library=False)
        assert list(find_pythons([tmp_path])) == []

    @pytest.mark.parametrize("version", ["2.7", "3.7", "3", "3.12-config", "3.20"])
    def test_versions_that_no_runtime_has_are_left_out(self, tmp_path: Path, version: str) -> None:
        install_python(tmp_path, version)
        assert list(find_pythons([tmp_path])) == []

    def test_the_first_prefix_that_has_a_version_wins(self, tmp_path: Path) -> None:
        first = install_python(tmp_path / "a", "3.12")
        second = install_python(install_python(tmp_path / "b", "3.12"), "3.13")
        found = {item.runtime: item.prefix for item in find_pythons([first, second])}
        assert found == {"python3.12": first, "python3.13": second}

    def test_a_prefix_that_is_not_there_is_passed_over(self, tmp_path: Path) -> None:
        install_python(tmp_path / "b", "3.12")
        assert len(list(find_pythons([tmp_path / "a", tmp_path / "b"]))) == 1

    def test_pyenv_s_versions_are_looked_into_newest_first(self, tmp_path: Path) -> None:
        for version in ("3.9.9", "3.12.10", "3.12.2"):
            (tmp_path / ".pyenv/versions" / version).mkdir(parents=True)
        prefixes = python_prefixes([("HOME", str(tmp_path))])
        names = [path.name for path in prefixes if tmp_path in path.parents]
        assert names == ["3.12.10", "3.12.2", "3.9.9"]

    def test_the_search_covers_path_and_pyenv_s_own_root_and_ends_with_the_system(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # These tests may themselves run on the system's Python, which would come first then.
        monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "platform"))
        (tmp_path / "pyenv/versions/3.13.0").mkdir(parents=True)
        (tmp_path / "own/bin").mkdir(parents=True)
        prefixes = python_prefixes(
            [
                ("HOME", str(tmp_path / "home")),
                ("PYENV_ROOT", str(tmp_path / "pyenv")),
                ("PATH", f"{tmp_path}/own/bin:"),
            ]
        )
        assert prefixes[0] == Path(sys.base_prefix).resolve()
        assert {tmp_path / "pyenv/versions/3.13.0", tmp_path / "own"} <= set(prefixes)
        assert prefixes.index(Path("/usr")) > prefixes.index(tmp_path / "own")
        assert len(prefixes) == len(set(prefixes))


class TestNode:
    def test_its_major_version_names_the_runtime(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install_node(tmp_path / "node/bin", "echo v22.11.0")
        monkeypatch.setenv("PATH", f"{tmp_path}/node/bin:{os.environ['PATH']}")
        found = find_node()
        assert found is not None
        assert (found.runtime, found.family) == ("nodejs22.x", "nodejs")
        assert (found.prefix, found.executable) == (tmp_path / "node", "bin/node")

    def test_a_link_leads_to_the_prefix_of_the_program_itself(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install_node(tmp_path / "node/bin", "echo v20.1.0")
        (tmp_path / "links").mkdir()
        (tmp_path / "links/node").symlink_to(tmp_path / "node/bin/node")
        monkeypatch.setenv("PATH", f"{tmp_path}/links:{os.environ['PATH']}")
        found = find_node()
        assert found is not None
        assert found.prefix == tmp_path / "node"

    @pytest.mark.parametrize("script", ["exit 1", "echo", "echo 22", "echo node v22.1.0"])
    def test_a_program_that_does_not_tell_its_version_is_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
    ) -> None:
        install_node(tmp_path / "bin", script)
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        assert find_node() is None

    def test_a_host_without_it_has_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_node() is None


def test_a_host_always_serves_custom_runtimes_and_the_platform_s_own_python() -> None:
    found = discover()
    assert {"provided", "provided.al2", "provided.al2023"} <= set(found)
    assert f"python3.{sys.version_info.minor}" in found
    assert all(found[name].runtime == name for name in found)
