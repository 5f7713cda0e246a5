"""The examples of custom runtimes that have to be compiled first."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from running_platform import Deployer, Platform

pytest_plugins = ("platform_fixtures",)

EXAMPLES = Path(__file__).parents[2] / "examples"
_COMPILE_S = 240


def build(tool: str, arguments: Sequence[str], folder: Path, source: Path) -> bytes:
    """The executable that a compiler makes; skips without it."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed (PATH)")
    target = folder / "bootstrap"
    subprocess.run(
        [tool, *arguments, "-o", str(target), str(source)],
        cwd=folder,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GO111MODULE": "off"},
        check=True,
        timeout=_COMPILE_S,
    )
    return target.read_bytes()


@pytest.fixture(scope="module")
def rust(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("rust")
    return build("rustc", ["-O"], folder, EXAMPLES / "rust" / "main.rs")


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return build("go", ["build"], tmp_path_factory.mktemp("go"), EXAMPLES / "go" / "main.go")


def test_a_runtime_in_rust_serves(rust: bytes, deploy: Deployer, platform: Platform) -> None:
    name = deploy({"bootstrap": rust}, executable=("bootstrap",), Runtime="provided.al2023")
    answer = platform.invoke(name, {"text": "é"}, LogType="Tail")
    assert answer.json["event"] == {"text": "é"}
    assert "from rust\n" in answer.log
    failed = platform.invoke(name, ["fail"])
    assert failed.error == "Unhandled"
    assert failed.json == {"errorType": "Failure", "errorMessage": "as told"}
    assert platform.invoke(name, 1).json == {"length": 1, "event": 1}


def test_a_runtime_in_go_serves(go: bytes, deploy: Deployer, platform: Platform) -> None:
    name = deploy({"bootstrap": go}, executable=("bootstrap",), Runtime="provided.al2023")
    answer = platform.invoke(name, {"name": "you"}, LogType="Tail")
    assert answer.json["hello"] == "you"
    assert 0 < answer.json["leftMs"] <= 20_000
    assert "from go\n" in answer.log
    failed = platform.invoke(name, {"fail": True})
    assert failed.json == {"errorType": "Failure", "errorMessage": "as told"}
    assert platform.invoke(name, []).json["errorType"] == "json.Error"
