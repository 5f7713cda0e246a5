"""The same sandboxes without root: the tests of walls and of the driver, run as another user."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent.parent
UID = 65534
NEEDED = "pytest, pytest_asyncio, pytest_timeout, boto3, firelet.sandbox.host"
TIMEOUT_S = 280

Run = Callable[..., subprocess.CompletedProcess[str]]


def run_as_other(program: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a program as a user without any right, who finds firelet's packages."""
    path = os.pathsep.join([str(TESTS.parent / "src"), sysconfig.get_path("purelib")])
    return subprocess.run(
        [program, *arguments],
        user=UID,
        group=UID,
        extra_groups=[],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "PYTHONPATH": path},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        **options,
    )


@pytest.fixture(scope="module")
def other_python() -> str:
    """A Python with firelet and pytest that any user can run."""
    if os.geteuid() != 0:
        pytest.skip("not needed: the whole suite runs without root")
    name = f"python3.{sys.version_info.minor}"
    reasons = []
    for program in (sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        try:
            answer = run_as_other(program, "-B", "-c", f"import {NEEDED}")
        except OSError as error:
            reasons.append(f"{program}: {error.strerror}")
            continue
        if answer.returncode == 0:
            return program
        reasons.append(f"{program}: {answer.stderr.strip().splitlines()[-1]}")
    pytest.skip(f"uid {UID} has no Python with firelet's packages: {'; '.join(reasons)}")


@pytest.fixture
def base(other_python: str) -> Iterator[Path]:
    """A directory of the other user's; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="firelet-rootless-") as path:
        os.chown(path, UID, UID)
        yield Path(path)


@pytest.mark.parametrize(
    "suite", ["security", "linux/test_sandbox.py", "linux/test_directory_server.py"]
)
@pytest.mark.timeout(2 * TIMEOUT_S)
def test_it_holds_without_root_too(other_python: str, base: Path, suite: str) -> None:
    probe = run_as_other("/usr/bin/unshare", "--user", "--map-root-user", "true")
    if probe.returncode != 0:
        pytest.skip(f"user namespaces are not allowed here: {probe.stderr.strip()}")
    answer = run_as_other(
        other_python,
        *("-B", "-m", "pytest", str(TESTS / suite), "-q", "-rs", "-p", "no:cacheprovider"),
        *(f"--rootdir={TESTS.parent}", f"--basetemp={base / 'pytest'}"),
        *("-c", str(TESTS.parent / "pyproject.toml")),
    )
    assert answer.returncode == 0, answer.stdout[-20_000:] + answer.stderr[-2000:]
