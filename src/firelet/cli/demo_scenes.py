"""What the demo shows, scene by scene, each with what it expects.

What it is: calls to a running platform through boto3 and the aws command, and comparisons. What
it is not: how results look (``demo``) or where the platform comes from (``demo_platform``).
An expectation that does not hold raises CliError with the reason.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from firelet.cli.deployment import ensure_role, wait_until
from firelet.cli.endpoint import Endpoint
from firelet.cli.failure import CliError
from firelet.cli.guess import BOOTSTRAP_RUNTIME, FALLBACK_PYTHON, newest
from firelet.cli.package import open_package
from firelet.cli.terminal import format_duration

WARM_CALLS = 50
CROWD = 5
_BUSY_S = 0.5
_FUNCTIONS = Path(__file__).parent / "demo_functions"
_EVENT = b'{"name":"demo"}'
_NAMESPACES = ("mnt", "pid", "net", "ipc", "uts")
_LOGS_WITHIN_S = 10.0
_COMMAND_WITHIN_S = 30.0
_CALL_WITHIN_S = 30.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Deployment:
    """One function of the demo. Times are seconds; the rest is for the table."""

    function: str
    runtime: str
    tool: str
    deploy_s: float
    first_s: float
    warm_s: float


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing that was shown: what was tried and what came of it."""

    title: str
    result: str


def find_aws() -> str | None:
    """The aws command: beside this interpreter first, since a virtual environment may hide it."""
    beside = Path(sys.executable).parent / "aws"
    return str(beside) if beside.is_file() else shutil.which("aws")


class Scenes:
    """The demo's script over one platform. ``runtimes`` is what this host can run."""

    def __init__(self, endpoint: Endpoint, runtimes: Sequence[str]) -> None:
        import boto3
        import botocore.config

        self._endpoint = endpoint
        self._python = newest("python", runtimes) or FALLBACK_PYTHON
        self._node = newest("nodejs", runtimes)
        session = boto3.Session("test", "test", region_name=endpoint.region)
        config = botocore.config.Config(retries={"total_max_attempts": 1})
        self._lambda = session.client("lambda", endpoint_url=endpoint.url, config=config)
        self._logs = session.client("logs", endpoint_url=endpoint.url, config=config)
        self._role = ensure_role(session.client("iam", endpoint_url=endpoint.url, config=config))

    def deploy_python(self) -> Deployment:
        return self._deploy("demo-python", self._python, "greet.py", "greet.handler")

    def deploy_node(self) -> Deployment | None:
        """None when the host has no Node.js."""
        if self._node is None:
            return None
        return self._deploy("demo-node", self._node, "greet.mjs", "greet.handler")

    def deploy_shell(self, aws: str | None) -> Deployment:
        """A runtime of its own, deployed and called by the aws command where there is one."""
        name = "demo-bash"
        if aws is None:
            return self._deploy(name, BOOTSTRAP_RUNTIME, "bootstrap", "bootstrap")
        with tempfile.TemporaryDirectory() as folder:
            zipped, event, answer = (Path(folder, file) for file in ("zip", "event", "answer"))
            zipped.write_bytes(open_package(_FUNCTIONS / "bootstrap").zipped)
            event.write_bytes(_EVENT)
            started = time.monotonic()
            create = ["create-function", "--runtime", BOOTSTRAP_RUNTIME, "--handler", "bootstrap"]
            create += ["--role", self._role, "--zip-file", f"fileb://{zipped}"]
            self._run_aws(aws, [*create, "--function-name", name])
            wait_until(self._lambda, "function_active_v2", name)
            deploy_s = time.monotonic() - started
            deployment = self._measure(name, BOOTSTRAP_RUNTIME, "aws", deploy_s)
            # As a file, since versions 1 and 2 of the command read an inline payload differently.
            call = ["invoke", "--function-name", name, "--payload", f"fileb://{event}"]
            self._run_aws(aws, [*call, str(answer)])
            self._expect_message(name, answer.read_bytes(), "hello from bash")
        return deployment

    def behaviour(self) -> Sequence[Callable[[], list[Observation]]]:
        """The scenes after the deployments, in their order."""
        return (
            self.show_cold_starts,
            self.show_log_tail,
            self.show_function_error,
            self.show_timeout,
            self.show_walls,
            self.show_async,
        )

    def show_cold_starts(self) -> list[Observation]:
        """Calls at the same time while one environment is there: the others start cold."""
        event = json.dumps({"name": "crowd", "sleep": _BUSY_S})

        def call(_number: int) -> tuple[float, str]:
            started = time.monotonic()
            answer = self._lambda.invoke(FunctionName="demo-python", Payload=event)
            body = answer["Payload"].read()
            self._expect_message("demo-python", body, "hello crowd")
            return time.monotonic() - started, json.loads(body)["environment"]

        with ThreadPoolExecutor(CROWD) as crowd:
            calls = list(crowd.map(call, range(CROWD)))
        environments = {environment for _, environment in calls}
        _expect(
            len(environments) == CROWD,
            f"{CROWD} calls at once were served by {len(environments)} environments",
        )
        added = format_duration(max(took for took, _ in calls) - _BUSY_S)
        text = f"{CROWD} calls at once in {CROWD} environments; the slowest waited {added}"
        return [Observation("cold starts", text)]

    def show_log_tail(self) -> list[Observation]:
        answer = self._lambda.invoke(
            FunctionName="demo-python", LogType="Tail", Payload=b'{"name":"log"}'
        )
        lines = base64.b64decode(answer["LogResult"]).decode().splitlines()
        _expect("greeting log" in lines, f"the log tail has no line of the function: {lines}")
        report = next((line for line in lines if line.startswith("REPORT RequestId:")), "")
        _expect(bool(report), f"the log tail has no REPORT line: {lines}")
        return [Observation("log tail", " ".join(report.split("\t")[1:]).strip())]

    def show_function_error(self) -> list[Observation]:
        self._create("demo-fail", self._python, "fail.py", "fail.handler", Timeout=1)
        answer = self._lambda.invoke(FunctionName="demo-fail", Payload=b"{}")
        error = json.loads(answer["Payload"].read())
        shown = f"{error.get('errorType')}: {error.get('errorMessage')}"
        _expect(answer.get("FunctionError") == "Unhandled", f"the error was not reported: {error}")
        _expect(shown == "ValueError: this function fails on purpose", f"wrong error: {error}")
        return [Observation("function error", f"HTTP {answer['StatusCode']}, {shown}")]

    def show_timeout(self) -> list[Observation]:
        started = time.monotonic()
        answer = self._lambda.invoke(FunctionName="demo-fail", Payload=b'{"sleep":10}')
        took = time.monotonic() - started
        error = json.loads(answer["Payload"].read())
        message: str = error.get("errorMessage", "")
        _expect(message.endswith("Task timed out after 1.00 seconds"), f"no timeout: {error}")
        _expect(took < 5, f"a timeout of one second took {took:.1f} s")
        return [Observation("timeout", f"{message.split(' ', 2)[-1]} ({format_duration(took)})")]

    def show_walls(self) -> list[Observation]:
        """What a function sees of this machine: nothing that it should not."""
        self._create("demo-walls", self._python, "walls.py", "walls.handler")
        with tempfile.NamedTemporaryFile(prefix="firelet-demo-", dir="/tmp") as secret:
            event = {"namespaces": _NAMESPACES, "host_file": secret.name}
            answer = self._lambda.invoke(FunctionName="demo-walls", Payload=json.dumps(event))
            seen: dict[str, Any] = json.loads(answer["Payload"].read())
        _expect("FunctionError" not in answer, f"the function failed: {seen}")
        shared = [
            kind
            for kind in _NAMESPACES
            if seen["namespaces"][kind] == os.readlink(f"/proc/self/ns/{kind}")
        ]
        _expect(not shared, f"the function shares namespaces with the host: {shared}")
        _expect(seen["uid"] != 0, "the function runs as root")
        _expect(not seen["host_file"], "the function sees the host's /tmp")
        _expect(len(seen["pids"]) < 10, f"the function sees other processes: {seen['pids']}")
        for place in ("root", "code"):
            _expect(seen[f"write_to_{place}"] != "written", f"the function can write to {place}")
        _expect(seen["write_to_tmp"] == "written", f"no write to /tmp: {seen['write_to_tmp']}")
        return [
            Observation("user", f"uid {seen['uid']} on host {seen['hostname']!r}"),
            Observation("processes visible", ", ".join(map(str, seen["pids"]))),
            Observation("network interfaces", ", ".join(seen["interfaces"])),
            Observation("namespaces of its own", ", ".join(_NAMESPACES)),
            Observation(
                "write to / and /var/task", f"{seen['write_to_root']}; {seen['write_to_code']}"
            ),
            Observation("write to /tmp", "its own: the host's files are not there"),
        ]

    def show_async(self) -> list[Observation]:
        mark = f"event-{time.monotonic_ns()}"
        started = time.monotonic()
        answer = self._lambda.invoke(
            FunctionName="demo-python",
            InvocationType="Event",
            Payload=json.dumps({"name": mark}),
        )
        accepted = time.monotonic() - started
        _expect(answer["StatusCode"] == 202, f"the event was not accepted: {answer['StatusCode']}")
        _wait_for(lambda: self._is_logged(f"greeting {mark}"), "the event's log line")
        done = time.monotonic() - started
        times = f"202 in {format_duration(accepted)}, in the logs after {format_duration(done)}"
        return [Observation("asynchronous event", times)]

    def _is_logged(self, text: str) -> bool:
        found = self._logs.filter_log_events(
            logGroupName="/aws/lambda/demo-python", filterPattern=f'"{text}"'
        )
        return any(text in event["message"] for event in found["events"])

    def _deploy(self, name: str, runtime: str, file: str, handler: str) -> Deployment:
        started = time.monotonic()
        self._create(name, runtime, file, handler)
        return self._measure(name, runtime, "boto3", time.monotonic() - started)

    def _create(self, name: str, runtime: str, file: str, handler: str, **settings: Any) -> None:
        self._lambda.create_function(
            FunctionName=name,
            Runtime=runtime,
            Handler=handler,
            Role=self._role,
            Code={"ZipFile": open_package(_FUNCTIONS / file).zipped},
            **settings,
        )
        wait_until(self._lambda, "function_active_v2", name)

    def _measure(self, name: str, runtime: str, tool: str, deploy_s: float) -> Deployment:
        """Calls by plain HTTP on one connection, so that the client's own work is not counted."""
        parts = urlsplit(self._endpoint.url)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=_CALL_WITHIN_S)
        times: list[float] = []
        try:
            for _ in range(1 + WARM_CALLS):
                started = time.perf_counter()
                connection.request("POST", f"/2015-03-31/functions/{name}/invocations", _EVENT)
                body = connection.getresponse().read()
                times.append(time.perf_counter() - started)
                self._expect_message(name, body, "hello ")
        except (OSError, HTTPException) as error:
            raise CliError(f"calling {name} by HTTP: {error}") from None
        finally:
            connection.close()
        return Deployment(name, runtime, tool, deploy_s, times[0], statistics.median(times[1:]))

    def _run_aws(self, aws: str, arguments: Sequence[str]) -> None:
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": self._endpoint.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": self._endpoint.region,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_PAGER": "",
        }
        environment.pop("AWS_PROFILE", None)
        done = subprocess.run(
            [aws, "lambda", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_COMMAND_WITHIN_S,
            check=False,
        )
        reason = done.stderr.strip().rpartition("\n")[2]
        _expect(done.returncode == 0, f"aws lambda {arguments[0]} failed: {reason}")

    def _expect_message(self, name: str, body: bytes, start: str) -> None:
        try:
            message = json.loads(body)["message"]
        except (ValueError, KeyError, TypeError):
            message = None
        is_right = isinstance(message, str) and message.startswith(start)
        _expect(is_right, f"{name} answered {body.decode(errors='replace')}")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise CliError(otherwise)


def _wait_for(is_done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _LOGS_WITHIN_S
    while not is_done():
        _expect(time.monotonic() < deadline, f"{what} did not come within {_LOGS_WITHIN_S:.0f} s")
        time.sleep(_POLL_S)
