"""Runs runtime clients as processes against the fake Runtime API."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from clients.fake_runtime_api import Event, FakeRuntimeApi, Faults

GUEST = Path(__file__).parents[2] / "src" / "firelet" / "guest"
PYTHON_MINORS = range(8, 15)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a client process did. ``returncode`` is None if it was still asking for events."""

    api: FakeRuntimeApi
    stdout: str
    stderr: str
    returncode: int | None
    frames: Sequence[tuple[int, str]]
    task: Path


Run = Callable[..., Outcome]


def find_python(minor: int) -> str | None:
    """An interpreter of that version: on PATH, or installed by pyenv."""
    name = f"python3.{minor}"
    if sys.version_info[:2] == (3, minor):
        return sys.executable
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    installed = sorted(root.glob(f"versions/3.{minor}.*/bin/{name}"))
    return str(installed[-1]) if installed else shutil.which(name)


@pytest.fixture(params=PYTHON_MINORS, ids=lambda minor: f"python3.{minor}", scope="session")
def python(request: pytest.FixtureRequest) -> str:
    """Each Python that AWS offers; skips those that this machine does not have."""
    found = find_python(request.param)
    if found is None:
        pytest.skip(f"python3.{request.param} is not installed (PATH, pyenv)")
    return found


def find_nodes() -> list[str]:
    """Every Node.js of this machine: on PATH, or installed by nvm."""
    root = Path(os.environ.get("NVM_DIR", Path.home() / ".nvm"))
    found = [shutil.which("node"), *map(str, sorted(root.glob("versions/node/*/bin/node")))]
    return [path for path in found if path is not None]


@pytest.fixture(params=find_nodes() or [None], scope="session")
def node(request: pytest.FixtureRequest) -> str:
    if request.param is None:
        pytest.skip("node is not installed (PATH, nvm)")
    return str(request.param)


@pytest.fixture
def run_client(tmp_path: Path) -> Iterator[Run]:
    """``run(command, files, handler, events=…)``: the process runs until it ends or asks for an
    event when there is none left."""
    apis: list[FakeRuntimeApi] = []

    def run(
        command: Sequence[str],
        files: Mapping[str, str],
        handler: str,
        *,
        events: Sequence[Event] = (Event(),),
        env: Mapping[str, str] | None = None,
        faults: Faults | None = None,
        telemetry: bool = False,
    ) -> Outcome:
        task = tmp_path / "task"
        for name, text in files.items():
            path = task / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        task.mkdir(exist_ok=True)
        api = FakeRuntimeApi(events, faults)
        apis.append(api)
        return _run(
            command, task, api, {**_environment(task, api, handler), **(env or {})}, telemetry
        )

    yield run
    for api in apis:
        api.close()


def _environment(task: Path, api: FakeRuntimeApi, handler: str) -> dict[str, str]:
    return {
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_FUNCTION_NAME": "hello",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/hello",
        "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef",
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "LAMBDA_TASK_ROOT": str(task),
        "LANG": "en_US.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "_HANDLER": handler,
    }


def _run(
    command: Sequence[str],
    task: Path,
    api: FakeRuntimeApi,
    environment: dict[str, str],
    telemetry: bool,
) -> Outcome:
    read_end, write_end = os.pipe()
    if telemetry:
        environment["_LAMBDA_TELEMETRY_LOG_FD"] = str(write_end)
    process = subprocess.Popen(
        command,
        cwd=task,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(write_end,) if telemetry else (),
        # Its own group: a client that forks is ended with its children.
        start_new_session=True,
    )
    os.close(write_end)
    killer = threading.Thread(target=_kill_when_drained, args=(api, process))
    killer.start()
    frames: list[bytes] = []
    reader = threading.Thread(target=_read_all, args=(read_end, frames))
    reader.start()
    try:
        stdout, stderr = _communicate(process)
    finally:
        was_drained = api.drained.is_set()
        api.drained.set()
        killer.join()
        reader.join()
    code = None if was_drained else process.returncode
    return Outcome(api, stdout, stderr, code, _parse_frames(b"".join(frames)), task)


def _communicate(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    try:
        stdout, stderr = process.communicate(timeout=60)
        # Decoded here: text mode would turn the carriage returns that are tested into newlines.
        return stdout.decode(), stderr.decode()
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise


def _kill_when_drained(api: FakeRuntimeApi, process: subprocess.Popen[bytes]) -> None:
    api.drained.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _read_all(descriptor: int, parts: list[bytes]) -> None:
    with os.fdopen(descriptor, "rb") as pipe:
        parts.append(pipe.read())


def _parse_frames(data: bytes) -> list[tuple[int, str]]:
    frames = []
    while data:
        kind, length, microseconds = struct.unpack(">IIQ", data[:16])
        assert microseconds > 1_700_000_000_000_000
        assert len(data) >= 16 + length
        frames.append((kind, data[16 : 16 + length].decode()))
        data = data[16 + length :]
    return frames
