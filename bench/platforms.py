"""firelet and AWS's own runtime interface emulator, each behind what the benchmark asks of it."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from bench.functions import MEMORY_MIB, PYTHON_SOURCE, Source
from bench.processes import await_port, environment, free_port, ready_server, stop
from bench.wire import Call, invocation
from firelet.cli.endpoint import Endpoint as CliEndpoint
from firelet.cli.warm import make_environments

_ROLE = "arn:aws:iam::000000000000:role/bench"
_REGION = "us-east-1"
_TIMEOUT_S = 60
_ACTIVE_WITHIN_S = 30.0


class Firelet:
    """A running ``firelet up``."""

    def __init__(self, pid: int, host: str, port: int) -> None:
        self.pid = pid
        self._host = host
        self._port = port
        self._lambda: Any = boto3.client(
            "lambda",
            endpoint_url=f"http://{host}:{port}",
            region_name=_REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}),
        )

    def create(self, name: str, runtime: str, source: Source, handler: str) -> None:
        """Makes a function and waits until it is active. RuntimeError with the reason if not."""
        self.create_from(name, runtime, source.zip(), f"app.{handler}")

    def create_from(
        self, name: str, runtime: str, package: bytes, handler: str, *, snap_start: bool = False
    ) -> None:
        """The same from any package."""
        self._lambda.create_function(
            FunctionName=name,
            Runtime=runtime,
            Role=_ROLE,
            Handler=handler,
            Code={"ZipFile": package},
            MemorySize=MEMORY_MIB,
            Timeout=_TIMEOUT_S,
            SnapStart={"ApplyOn": "PublishedVersions" if snap_start else "None"},
        )
        self._await_active(name, "$LATEST")

    def publish(self, name: str) -> str:
        """Publishes a version and waits until it is active; its number."""
        version: str = self._lambda.publish_version(FunctionName=name)["Version"]
        self._await_active(name, version)
        return version

    def _await_active(self, name: str, version: str) -> None:
        deadline = time.monotonic() + _ACTIVE_WITHIN_S
        while time.monotonic() < deadline:
            found = self._lambda.get_function_configuration(FunctionName=name, Qualifier=version)
            if found["State"] == "Active":
                return
            if found["State"] == "Failed":
                raise RuntimeError(found.get("StateReason", "Failed"))
            time.sleep(0.01)
        raise RuntimeError(f"{name} was still pending after {_ACTIVE_WITHIN_S:.0f} s")

    def delete(self, name: str) -> None:
        """Deletes a function; its environments end."""
        self._lambda.delete_function(FunctionName=name)

    def warm(self, name: str, count: int) -> None:
        """Makes environments ahead. RuntimeError when some cannot be made."""
        address = f"http://{self._host}:{self._port}"
        if (ready := make_environments(CliEndpoint(address, {}), name, count)) < count:
            raise RuntimeError(f"{ready} of {count} environments of {name} could be made")

    def call(self, name: str, event: bytes) -> Call:
        """One invocation as the load client sends it."""
        return invocation(self._host, self._port, name, event)


def firelet_command(data: Path) -> list[str]:
    """``firelet up`` on a free port with that data directory."""
    program = str(Path(sys.executable).with_name("firelet"))
    return [program, "up", "--port", "0", "--data-dir", str(data)]


@contextlib.contextmanager
def running_firelet(scratch: Path, **variables: str) -> Iterator[Firelet]:
    """The console script beside this interpreter, on a free port, with an empty data directory and
    with ``variables`` in its environment."""
    command = firelet_command(scratch / "data")
    with ready_server(command, scratch / "firelet.log", variables) as server:
        yield Firelet(server.pid, server.host, server.port)


# The emulator is a binary inside AWS's SAM CLI. That package is installed without what it
# depends on: only the file is wanted.
_EMULATOR_PACKAGE = "aws-sam-cli==1.170.0"
_CLIENT_PACKAGE = "awslambdaric==4.2.2"
_EMULATOR_MACHINES = {"x86_64": "x86_64", "aarch64": "arm64"}
_EMULATOR_WITHIN_S = 20.0


def _emulator_home() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Path(cache) / "firelet" / f"emulator-{version}"


def _find_emulator() -> Path | None:
    machine = _EMULATOR_MACHINES.get(platform.machine())
    pattern = f"lib/python*/site-packages/samcli/local/rapid/aws-lambda-rie-{machine}"
    return next(_emulator_home().glob(pattern), None)


def has_emulator() -> bool:
    """Whether ``install_emulator`` has run for this version of Python."""
    return _find_emulator() is not None


def install_emulator() -> None:
    """Puts the emulator and AWS's runtime client into a virtual environment of their own."""
    home = _emulator_home()
    venv.create(home, clear=True, with_pip=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", _EMULATOR_PACKAGE], check=True)
    subprocess.run([*pip, _CLIENT_PACKAGE], check=True)
    binary = _find_emulator()
    if binary is None:
        shutil.rmtree(home)
        raise RuntimeError(f"{_EMULATOR_PACKAGE} holds no emulator for {platform.machine()}")
    binary.chmod(0o755)


@contextlib.contextmanager
def running_emulator(scratch: Path, handler: str) -> Iterator[int]:
    """The emulator in front of one handler; yields its port. INIT runs at the first call."""
    binary = _find_emulator()
    assert binary is not None, "has_emulator says whether it is installed"
    task = scratch / "task"
    task.mkdir(exist_ok=True)
    (task / PYTHON_SOURCE.file_name).write_text(PYTHON_SOURCE.text)
    port, api_port = free_port(), free_port()
    command = [
        str(binary),
        *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
        *("--runtime-api-address", f"127.0.0.1:{api_port}"),
        str(_emulator_home() / "bin" / "python"),
        *("-m", "awslambdaric", f"app.{handler}"),
    ]
    variables = environment(
        AWS_LAMBDA_FUNCTION_TIMEOUT=str(_TIMEOUT_S),
        AWS_LAMBDA_FUNCTION_MEMORY_SIZE=str(MEMORY_MIB),
        LAMBDA_TASK_ROOT=str(task),
    )
    process = subprocess.Popen(
        command,
        cwd=task,
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await_port(port, _EMULATOR_WITHIN_S)
        yield port
    finally:
        # The emulator starts the runtime in a group of its own and ends it on SIGTERM.
        stop(process)


def emulator_call(port: int, event: bytes) -> Call:
    """One invocation: the emulator knows its function by the name ``function`` only."""
    return invocation("127.0.0.1", port, "function", event)
