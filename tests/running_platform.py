"""A real platform in a process of its own, its clients, and what they deploy to it.

Nothing is faked: the process is ``firelet up`` with a free port and a data directory of its own.
``platform_fixtures`` hands these to tests.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import itertools
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from firelet.frontend.status import STATUS_PATH

REGION = "us-east-1"
ACCOUNT = "000000000000"
PYTHON = f"python3.{sys.version_info.minor}"
FIRELET = (sys.executable, "-m", "firelet.cli")
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}

LINK = 0o120777 << 16  # the external attributes of a symbolic link in a zip
# A runtime client with no more than a shell.
BOOTSTRAP = """#!/bin/bash
set -eu
api=${AWS_LAMBDA_RUNTIME_API%:*} port=${AWS_LAMBDA_RUNTIME_API#*:}
call() {  # method, path, body
    exec 9<>/dev/tcp/$api/$port
    printf '%s /2018-06-01/runtime/%s HTTP/1.1\\r\\nHost: a\\r\\n' "$1" "$2" >&9
    printf 'Content-Length: %d\\r\\n\\r\\n%s' "${#3}" "$3" >&9
    length=0
    while IFS=$'\\r' read -r line <&9 && [ -n "${line%$'\\r'}" ]; do
        line=${line%$'\\r'}
        case ${line,,} in
            lambda-runtime-aws-request-id:*) id=${line#*: } ;;
            content-length:*) length=${line#*: } ;;
        esac
    done
    body=
    [ "$length" = 0 ] || read -r -N "$length" body <&9
    exec 9>&-
}
while true; do
    call GET invocation/next ''
    call POST "invocation/$id/response" "{\\"got\\": $body, \\"handler\\": \\"$_HANDLER\\"}"
done
"""

# Until what is waited for is taken not to come: a machine may have much else to do.
PATIENCE_S = 30.0
_START_S = 60.0
_STOP_S = 30.0
_CGROUPS = Path("/sys/fs/cgroup")
_MAKING_A_CLIENT = threading.Lock()  # of which sessions allow one at a time


def pack(files: Mapping[str, str | bytes], *, executable: tuple[str, ...] = ()) -> bytes:
    """A deployment package; names in ``executable`` get the x bits."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if name in executable else 0o100644) << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def archive_of(*entries: tuple[str, bytes, int]) -> bytes:
    """A zip of (name, content, external attributes), names as they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, attributes in entries:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = attributes
            archive.writestr(entry, content)
    return buffer.getvalue()


def wait_until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> Any:
    """The first true answer of ``condition``; fails with ``what`` when none comes in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a synchronous invocation gave."""

    status: int
    body: bytes
    error: str | None
    version: str | None
    request_id: str
    log: str
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Platform:
    """One ``firelet up``. ``stop`` and ``kill`` end it; ``start`` may be called again."""

    def __init__(
        self, data_dir: Path, accept: str | None, variables: Mapping[str, str] | None = None
    ) -> None:
        self.data_dir = data_dir
        self.url = ""
        self._accept = accept
        self._variables = dict(variables or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: dict[tuple[str, str, str, bool], Any] = {}
        self._seen: dict[int, str] = {}
        self._owner = ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def start(self) -> None:
        command = [*FIRELET, "up", "--port", "0", "--data-dir", str(self.data_dir)]
        if self._accept is not None:
            command += ["--accept", self._accept]
        with self.log_path.open("ab") as stderr:
            self._process = subprocess.Popen(
                command,
                cwd=self.data_dir.parent,
                env={**clean_environment(), **self._variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        line = self._read_line()
        if not line.startswith("ready "):
            self.kill()
            pytest.fail(f"the platform did not start: {self.log_path.read_text()[-4000:]}")
        self.url = line.removeprefix("ready ").strip()
        self._owner = f"{self.pid}-{_start_time(self.pid)}"
        self._clients.clear()

    @property
    def log_path(self) -> Path:
        return self.data_dir.with_suffix(".stderr")

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: what a crash or the kernel's out-of-memory killer does."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> int:
        assert self._process is not None
        self._seen = {pid: _start_time(pid) for pid in self.processes()}
        process, self._process = self._process, None
        process.send_signal(number)
        try:
            return process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            pytest.fail(f"the platform did not end; stderr: {self.log_path.read_text()[-4000:]}")
        finally:
            assert process.stdout is not None
            process.stdout.close()

    def processes(self) -> set[int]:
        """The platform's children, and every process that sees its data directory mounted."""
        mark = os.fsencode(self.data_dir)
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    is_child = self._process is not None and _parent(entry) == self._process.pid
                    if is_child or mark in (entry / "mountinfo").read_bytes():
                        found.add(int(entry.name))
        return found

    def leftovers(self) -> list[str]:
        """What an ended platform has left: processes, mounts, control groups."""
        left = [
            f"process {pid} {_command(pid)}"
            for pid, started in self._seen.items()
            if started and _start_time(pid) == started
        ]
        left += [f"mount seen by {pid} {_command(pid)}" for pid in self.processes()]
        # Its own, and those of its worker processes.
        owners = [self._owner, *(f"{pid}-{started}" for pid, started in self._seen.items())]
        left += [
            str(home / owner)
            for home in cgroup_homes()
            for owner in filter(None, owners)
            if (home / owner).exists()
        ]
        return left

    def client(
        self,
        service: str,
        *,
        account: str = ACCOUNT,
        region: str = REGION,
        is_strict: bool = True,
    ) -> Any:
        """A boto3 client that never retries; the account is chosen by the access key. One that is
        not strict sends what boto3 itself would refuse."""
        key = (service, account, region, is_strict)
        with _MAKING_A_CLIENT:
            if key not in self._clients:
                self._clients[key] = _session().client(
                    service,
                    endpoint_url=self.url,
                    region_name=region,
                    aws_access_key_id=account,
                    aws_secret_access_key="any",
                    config=Config(
                        retries={"total_max_attempts": 1},
                        read_timeout=60,
                        max_pool_connections=64,
                        parameter_validation=is_strict,
                        proxies={},
                    ),
                )
        return self._clients[key]

    def invoke(self, name: str, event: Any = None, **options: Any) -> Answer:
        """A synchronous invocation; ``event`` is sent as JSON unless it is bytes."""
        options.setdefault("client", None)
        client = options.pop("client") or self.client("lambda")
        payload = event if isinstance(event, bytes) else json.dumps(event).encode()
        response = client.invoke(FunctionName=name, Payload=payload, **options)
        meta = response["ResponseMetadata"]
        return Answer(
            status=response["StatusCode"],
            body=response["Payload"].read(),
            error=response.get("FunctionError"),
            version=response.get("ExecutedVersion"),
            request_id=meta["RequestId"],
            log=base64.b64decode(response.get("LogResult", "")).decode(),
            headers=meta["HTTPHeaders"],
        )

    def make_role(self, name: str = "lambda-role", *, account: str = ACCOUNT) -> str:
        """The ARN of a role that functions may have."""
        iam = self.client("iam", account=account)
        with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
        return f"arn:aws:iam::{account}:role/{name}"

    def log_lines(self, group: str) -> list[str]:
        """Every message of a log group, in order; none while the group does not exist."""
        logs = self.client("logs")
        try:
            pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
            return [event["message"] for page in pages for event in page["events"]]
        except logs.exceptions.ResourceNotFoundException:
            return []

    def status_of(self, name: str) -> dict[str, Any]:
        """What ``firelet top`` shows of one function; nothing when it is not there."""
        with urllib.request.urlopen(self.url + STATUS_PATH) as answer:
            functions = json.load(answer)["functions"]
        return next((each for each in functions if each["name"] == name), {})

    def _read_line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        fd, received, deadline = self._process.stdout.fileno(), b"", time.monotonic() + _START_S
        while not received.endswith(b"\n"):
            readable, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(fd, 4_096) if readable else b""
            if not chunk:
                break
            received += chunk
        return received.decode()


class Deployer:
    """Deploys functions under names of their own, and deletes them at the end of the test."""

    _numbers = itertools.count(1)

    def __init__(self, platform: Platform, patience_s: float = PATIENCE_S) -> None:
        self._platform = platform
        self._patience_s = patience_s
        self._names: list[str] = []
        self._role = platform.make_role()

    def name(self, stem: str = "f") -> str:
        """A name that no other test uses; deleted at the end if it was created."""
        name = f"{stem}-{next(self._numbers)}-{uuid.uuid4().hex[:6]}"
        self._names.append(name)
        return name

    def __call__(
        self,
        code: str | Mapping[str, str | bytes] | bytes,
        *,
        executable: tuple[str, ...] = (),
        **options: Any,
    ) -> str:
        """A function that is active; ``code`` is the text of app.py, files, or a whole zip. What is
        not said of it is as AWS has it, but for its time: 3 s are little on a busy machine."""
        name = options.pop("FunctionName", None) or self.name()
        options.setdefault("Timeout", 20)
        self.create(name, code, executable=executable, **options)
        self.settle(name)
        return name

    def create(
        self,
        name: str,
        code: str | Mapping[str, str | bytes] | bytes,
        *,
        executable: tuple[str, ...] = (),
        **options: Any,
    ) -> Any:
        """CreateFunction and its answer."""
        package = as_package(code, executable)
        settings = {
            "FunctionName": name,
            "Runtime": PYTHON,
            "Handler": "app.handler",
            "Role": self._role,
            "Code": {"ZipFile": package},
            **options,
        }
        return self._platform.client("lambda").create_function(**settings)

    def settle(self, name: str) -> Any:
        """Waits until nothing is pending; the configuration."""
        client = self._platform.client("lambda")

        def settled() -> Any:
            found = client.get_function_configuration(FunctionName=name)
            pending = found["State"] == "Pending" or found["LastUpdateStatus"] == "InProgress"
            return None if pending else found

        return wait_until(settled, f"{name} is ready", self._patience_s)

    def update(self, name: str, code: str | Mapping[str, str | bytes]) -> Any:
        """UpdateFunctionCode, waited for."""
        self._platform.client("lambda").update_function_code(
            FunctionName=name, ZipFile=as_package(code, ())
        )
        return self.settle(name)

    def close(self) -> None:
        client = self._platform.client("lambda")
        for name in self._names:
            with contextlib.suppress(client.exceptions.ResourceNotFoundException):
                client.delete_function(FunctionName=name)


@functools.cache
def _session() -> Any:
    """One for all clients: it keeps what it has read of AWS's models, which is most of the work."""
    return boto3.session.Session()


def cgroup_homes() -> list[Path]:
    """Where platforms keep their control groups, one directory for each process that has some."""
    return [_CGROUPS / "firelet", *_CGROUPS.glob("*/firelet")]


def as_package(code: str | Mapping[str, str | bytes] | bytes, executable: tuple[str, ...]) -> bytes:
    if isinstance(code, bytes):
        return code
    return pack({"app.py": code} if isinstance(code, str) else code, executable=executable)


def clean_environment() -> dict[str, str]:
    """This process's environment without what would send a client elsewhere."""
    unwanted = re.compile("AWS_|FIRELET_|TF_|https?_proxy|no_proxy|PYTHONPATH", re.IGNORECASE)
    return {name: value for name, value in os.environ.items() if not unwanted.match(name)}


def has_ended(pid: int) -> bool:
    """Whether nothing of the process is left, its threads included, which share its descriptors:
    those are closed with the last of them."""
    try:
        return not _start_time(pid) and len(os.listdir(f"/proc/{pid}/task")) == 1
    except OSError:
        return True


def _start_time(pid: int) -> str:
    """In clock ticks since boot: tells a process from a later one with its number. Empty for one
    that has ended, be it reaped yet or not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _parent(entry: Path) -> int:
    return int((entry / "stat").read_text().rpartition(")")[2].split()[1])


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
    return ""
