"""``firelet invoke --debug``: a debugger attaches from the host, and then the function runs."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from firelet.sandbox.interpreters import find_node
from running_platform import FIRELET, PYTHON, Deployer, Platform, clean_environment, wait_until

pytest_plugins = ("platform_fixtures",)

_WITHIN_S = 60.0
CODE = (
    "def handler(event, context):\n    total = event['n'] + 1\n    print('ran')\n    return total\n"
)


def free_port() -> int:
    """Not one of those that the kernel hands out: such a one may be somebody else's by the time it
    is listened at."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(lowest // 2, lowest), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    pytest.fail("no port is free")


class Adapter:
    """As much of the Debug Adapter Protocol as a breakpoint needs."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_WITHIN_S)
        self._stream = self._socket.makefile("rb")
        self._numbers = itertools.count(1)
        self._seen: list[dict[str, Any]] = []

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def send(self, command: str, **arguments: Any) -> int:
        number = next(self._numbers)
        message = {"seq": number, "type": "request", "command": command, "arguments": arguments}
        body = json.dumps(message).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        return number

    def ask(self, command: str, **arguments: Any) -> Any:
        number = self.send(command, **arguments)
        answer = self._wait(lambda message: message.get("request_seq") == number)
        assert answer["success"], answer
        return answer.get("body")

    def wait_for(self, event: str) -> Any:
        return self._wait(lambda message: message.get("event") == event).get("body")

    def _wait(self, wanted: Any) -> dict[str, Any]:
        while True:
            for index, message in enumerate(self._seen):
                if wanted(message):
                    return self._seen.pop(index)
            self._seen.append(self._read())

    def _read(self) -> dict[str, Any]:
        length = 0
        while line := self._stream.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if not length:
            raise ConnectionError("the debugger hung up")
        message: dict[str, Any] = json.loads(self._stream.read(length))
        return message


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def start(
    started: list[subprocess.Popen[str]], platform: Platform, name: str, port: int
) -> subprocess.Popen[str]:
    command = [*FIRELET, "invoke", name, '{"n": 41}', "--debug", "--port", str(port)]
    process = subprocess.Popen(
        # What runs in the background of a shell script ignores SIGINT, and so would this.
        ["env", "--default-signal=INT", *command, "--endpoint", platform.url],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    started.append(process)
    return process


def connect(process: subprocess.Popen[str], port: int) -> Adapter:
    """To the port that the command has the platform listen at."""

    def connected() -> Adapter | None:
        assert process.poll() is None, process.communicate()
        try:
            return Adapter(port)
        except ConnectionRefusedError:
            return None

    adapter: Adapter = wait_until(connected, "a debugger can connect", _WITHIN_S)
    return adapter


def test_a_breakpoint_in_python_stops_the_function(
    deploy: Deployer, platform: Platform, started: list[subprocess.Popen[str]]
) -> None:
    name = deploy(CODE, Runtime=PYTHON, Timeout=1)
    port = free_port()
    process = start(started, platform, name, port)
    adapter = connect(process, port)
    adapter.ask("initialize", adapterID="tests", clientID="tests")
    adapter.send("attach", justMyCode=False)
    adapter.wait_for("initialized")
    adapter.ask("setBreakpoints", source={"path": "/var/task/app.py"}, breakpoints=[{"line": 3}])
    adapter.ask("configurationDone")

    stopped = adapter.wait_for("stopped")
    time.sleep(1.5)  # longer than the function's timeout
    frames = adapter.ask("stackTrace", threadId=stopped["threadId"])["stackFrames"]
    value = adapter.ask("evaluate", expression="total", frameId=frames[0]["id"])["result"]
    assert value == "42"
    adapter.send("continue", threadId=stopped["threadId"])

    out, said = process.communicate(timeout=_WITHIN_S)
    adapter.close()
    assert (process.returncode, out.strip()) == (0, "42")
    assert f"waiting for a debugger at 127.0.0.1:{port}" in said
    assert "ran\n" in said


def test_node_waits_for_its_inspector(
    deploy: Deployer, platform: Platform, started: list[subprocess.Popen[str]]
) -> None:
    node = find_node()
    if node is None:
        pytest.skip("node is not installed (PATH)")
    name = deploy(
        {"app.js": "exports.handler = async (event) => event.n + 1;\n"}, Runtime=node.runtime
    )
    port = free_port()
    process = start(started, platform, name, port)

    def find_target() -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=5) as answer:
                return json.load(answer)[0]
        except (urllib.error.URLError, ConnectionError, IndexError):
            return None

    target = wait_until(find_target, "the inspector answers", _WITHIN_S)
    assert process.poll() is None, process.communicate()
    let_run(port, target["id"])
    out, _ = process.communicate(timeout=_WITHIN_S)
    assert (process.returncode, out.strip()) == (0, "42")


def let_run(port: int, target: str) -> None:
    """Connects a WebSocket as a debugger does and lets the program go on, which stops at its first
    line once."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=_WITHIN_S)
    connection.sendall(
        f"GET /{target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    received = connection.recv(4_096)
    assert received.startswith(b"HTTP/1.1 101")
    for number, (method, then) in enumerate(
        (
            ("Runtime.enable", b'{"id":0,'),
            ("Debugger.enable", b'{"id":1,'),
            ("Runtime.runIfWaitingForDebugger", b'{"method":"Debugger.paused"'),
            ("Debugger.resume", b'{"id":3,'),
        )
    ):
        text = json.dumps({"id": number, "method": method}).encode()
        # A frame of text, masked with zeros.
        connection.sendall(bytes([0x81, 0x80 | len(text)]) + b"\0" * 4 + text)
        while then not in received:
            piece = connection.recv(65_536)
            assert piece, f"the inspector hung up after {method}"
            received += piece
    connection.close()


def test_ctrl_c_ends_the_wait_and_the_environment(
    deploy: Deployer, platform: Platform, started: list[subprocess.Popen[str]]
) -> None:
    name = deploy(CODE, Runtime=PYTHON)
    port = free_port()
    process = start(started, platform, name, port)
    connect(process, port).close()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=_WITHIN_S)

    def is_free() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    wait_until(is_free, "nothing listens at the port", _WITHIN_S)
    assert platform.invoke(name, {"n": 1}).json == 2


def test_what_cannot_be_debugged_is_one_sentence(deploy: Deployer, platform: Platform) -> None:
    name = deploy(CODE, Runtime=PYTHON)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = subprocess.run(
            [*FIRELET, "invoke", name, "--debug", "--port", port, "--endpoint", platform.url],
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=_WITHIN_S,
            check=False,
        )
    assert said.returncode == 1
    assert f"Port {port} of 127.0.0.1: " in said.stderr
