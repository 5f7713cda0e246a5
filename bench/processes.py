"""Servers that run beside the benchmark: started, awaited, always ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

REPOSITORY = Path(__file__).resolve().parents[1]
_READY = "ready "
_READY_WITHIN_S = 60.0
_STOP_WITHIN_S = 30.0
_LOG_TAIL = 2_000


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its process and where it answers."""

    pid: int
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


@contextlib.contextmanager
def ready_server(
    command: Sequence[str], log: Path, variables: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Starts a program that prints ``ready URL``; its standard error goes to ``log``.
    ``variables`` are added to its environment."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=REPOSITORY,
            env=environment(**(variables or {})),
            text=True,
        )
    try:
        url = urlsplit(_await_ready(process))
        assert url.hostname is not None
        assert url.port is not None
        yield Server(process.pid, url.hostname, url.port)
    except Exception as error:
        error.add_note(f"{command[0]} said:\n{log.read_text(errors='replace')[-_LOG_TAIL:]}")
        raise
    finally:
        stop(process)


def _await_ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + _READY_WITHIN_S
    while (left_s := deadline - time.monotonic()) > 0:
        if not select.select([process.stdout], [], [], left_s)[0]:
            break
        line = process.stdout.readline()
        if not line:
            break
        if line.startswith(_READY):
            return line.removeprefix(_READY).strip()
    raise RuntimeError(f"{process.args!r} did not get ready")


def stop(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """SIGTERM to this one process, SIGKILL when it does not obey."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_port(port: int, within_s: float) -> None:
    """Returns when something on this machine accepts connections there."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=within_s).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def environment(**added: str) -> dict[str, str]:
    """This process's environment with some variables added."""
    return {**os.environ, **added}
