"""What the gateways cost: ``python -m bench.gateway``.

A function URL, an HTTP API and Invoke are called in turns on one connection each, so that what else
the machine does meets all three. A WebSocket message goes to a function and its result comes back,
alone and with a thousand other connections open.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import resource
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from rich import box
from rich.console import Console
from rich.table import Table

from bench.functions import NO_OP_EVENT, PYTHON, PYTHON_SOURCE, Source
from bench.platforms import Firelet, running_firelet
from bench.report import machine_facts
from bench.rows import percentile
from bench.wire import Call, Line

_FUNCTION = "gateway"
_ACCOUNT = "000000000000"
_REGION = "us-east-1"
_ARN = f"arn:aws:lambda:{_REGION}:{_ACCOUNT}:function:{_FUNCTION}"
_TIMEOUT_S = 30.0
_TURN = 50  # calls of one kind, before it is another's turn
_WARM_UP = 300
_MASK = b"abcd"
_ANSWERS = Source(
    "app.py", "def answer(event, context):\n    return {'statusCode': 200, 'body': 'x'}\n"
)
_MESSAGE = b'{"action":"x"}'


def measure_http(
    firelet: Firelet, client: Callable[[str], Any], calls: int
) -> dict[str, list[float]]:
    """Milliseconds of ``calls`` calls by each way, sorted."""
    invoke = firelet.call(_FUNCTION, NO_OP_EVENT)
    url_id = _make_url(client("lambda"))
    api_id = _make_http_api(client("apigatewayv2"))
    headers = {"Content-Type": "application/json"}
    ways = {
        "Invoke": invoke,
        "function URL": Call(invoke.host, invoke.port, f"/_firelet/url/{url_id}/", b"{}", headers),
        "HTTP API": Call(invoke.host, invoke.port, f"/_firelet/api/{api_id}/x", b"{}", headers),
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    with contextlib.ExitStack() as stack:
        lines = {
            way: stack.enter_context(Line(call.host, call.port, _TIMEOUT_S))
            for way, call in ways.items()
        }
        for way, call in ways.items():
            for _ in range(_WARM_UP):
                lines[way].ask(call)
        for _ in range(max(1, calls // _TURN)):
            for way, call in ways.items():
                taken[way] += [lines[way].ask(call)[1] for _ in range(_TURN)]
    return {way: sorted(times) for way, times in taken.items()}


def measure_sockets(
    firelet: Firelet, client: Callable[[str], Any], calls: int, others: int
) -> tuple[list[float], list[float], float]:
    """Milliseconds of a message's way there and back, alone and beside ``others`` open ones, both
    sorted; and the KiB that one of those holds."""
    call = firelet.call(_FUNCTION, b"")
    path = f"/_firelet/api/{_make_websocket_api(client('apigatewayv2'))}/prod"
    with contextlib.ExitStack() as stack:
        line = stack.enter_context(_WebSocket(call.host, call.port, path))
        alone = line.ask_often(_WARM_UP + calls)[_WARM_UP:]
        before = _resident_kib(firelet.pid)
        for _ in range(others):
            stack.enter_context(_WebSocket(call.host, call.port, path))
        held = (_resident_kib(firelet.pid) - before) / max(1, others)
        beside = line.ask_often(calls)
    return sorted(alone), sorted(beside), held


class _WebSocket:
    """One connection that speaks as much of the protocol as this needs."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self._connection = socket.create_connection((host, port), timeout=_TIMEOUT_S)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = (
            f"GET {path} HTTP/1.1",
            f"Host: {host}:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}",
            "Sec-WebSocket-Version: 13",
        )
        self._connection.sendall("\r\n".join((*lines, "", "")).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._connection.recv(1)
        if not head.startswith(b"HTTP/1.1 101 "):
            raise RuntimeError(f"no WebSocket: {head!r}")
        body = bytes(byte ^ _MASK[at % 4] for at, byte in enumerate(_MESSAGE))
        self._frame = struct.pack("!BB", 0x81, 0x80 | len(body)) + _MASK + body

    def ask_often(self, count: int) -> list[float]:
        """Milliseconds of each message and its answer."""
        return [self._ask() for _ in range(count)]

    def _ask(self) -> float:
        began = time.perf_counter()
        self._connection.sendall(self._frame)
        received = self._connection.recv(65_536)
        elapsed_ms = (time.perf_counter() - began) * 1000
        if received[:1] != b"\x81" or b"Internal" in received:
            raise RuntimeError(f"no answer: {received!r}")
        return elapsed_ms

    def __enter__(self) -> _WebSocket:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._connection.close()


def _make_url(client: Any) -> str:
    """The id of a URL that everybody may call; so may API Gateway."""
    for statement, action, principal in (
        ("url", "lambda:InvokeFunctionUrl", "*"),
        ("invoke", "lambda:InvokeFunction", "*"),
    ):
        client.add_permission(
            FunctionName=_FUNCTION, StatementId=statement, Action=action, Principal=principal
        )
    url: str = client.create_function_url_config(FunctionName=_FUNCTION, AuthType="NONE")[
        "FunctionUrl"
    ]
    return url.partition("//")[2].partition(".")[0]


def _make_http_api(client: Any) -> str:
    api_id: str = client.create_api(Name="bench", ProtocolType="HTTP", Target=_ARN)["ApiId"]
    return api_id


def _make_websocket_api(client: Any) -> str:
    """One whose every message goes to the function, and its result back."""
    api_id: str = client.create_api(
        Name="bench", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action"
    )["ApiId"]
    integration = client.create_integration(
        ApiId=api_id, IntegrationType="AWS_PROXY", IntegrationUri=f"{_ARN}-answers"
    )
    route = client.create_route(
        ApiId=api_id,
        RouteKey="$default",
        Target=f"integrations/{integration['IntegrationId']}",
        RouteResponseSelectionExpression="$default",
    )
    client.create_route_response(
        ApiId=api_id, RouteId=route["RouteId"], RouteResponseKey="$default"
    )
    client.create_stage(ApiId=api_id, StageName="prod", AutoDeploy=True)
    return api_id


def _median(ordered: list[float]) -> float:
    middle = percentile(ordered, 0.5)
    assert middle is not None
    return middle


def _resident_kib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return float(line.split()[1])
    raise RuntimeError("no VmRSS")


@contextlib.contextmanager
def _running(scratch: Path) -> Iterator[tuple[Firelet, Callable[[str], Any]]]:
    """A platform with both functions, and clients of it."""
    with running_firelet(scratch) as firelet:
        firelet.create(_FUNCTION, PYTHON, PYTHON_SOURCE, "no_op")
        firelet.create(f"{_FUNCTION}-answers", PYTHON, _ANSWERS, "answer")
        call = firelet.call(_FUNCTION, b"")

        def client(service: str) -> Any:
            return boto3.client(
                service,
                endpoint_url=f"http://{call.host}:{call.port}",
                region_name=_REGION,
                aws_access_key_id=_ACCOUNT,
                aws_secret_access_key="any",
                config=Config(retries={"total_max_attempts": 1}),
            )

        client("lambda").add_permission(
            FunctionName=f"{_FUNCTION}-answers",
            StatementId="api",
            Action="lambda:InvokeFunction",
            Principal="apigateway.amazonaws.com",
        )
        yield firelet, client


def main() -> None:
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description=__doc__)
    parser.add_argument("--calls", type=int, default=2_000, help="calls by each way [2000]")
    parser.add_argument("--open", type=int, default=1_000, help="open WebSockets [1000]")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with (
        tempfile.TemporaryDirectory(prefix="firelet-bench-") as scratch,
        _running(Path(scratch)) as (firelet, client),
    ):
        http = measure_http(firelet, client, options.calls)
        alone, beside, held_kib = measure_sockets(firelet, client, options.calls, options.open)
    console = Console()
    console.print("  ".join(f"{name}: {value}" for name, value in machine_facts().items()))
    table = Table("way", "p50 ms", "p99 ms", "p50 over Invoke", box=box.SIMPLE)
    base = _median(http["Invoke"])
    rows = {
        **http,
        "WebSocket, alone": alone,
        f"WebSocket, beside {options.open} open": beside,
    }
    for way, times in rows.items():
        p50, p99 = _median(times), percentile(times, 0.99)
        table.add_row(way, f"{p50:.3f}", f"{p99:.3f}", f"{p50 - base:+.3f}")
    console.print(table)
    console.print(f"one open WebSocket holds {held_kib:.1f} KiB of the platform")


if __name__ == "__main__":
    main()
