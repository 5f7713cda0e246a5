"""A closed-loop load client: N keep-alive connections, each with one request under way.

It runs as a process of its own (``python -m bench.load``), so that it shares no event loop with
what it measures. Nothing of a measured window is left out; the warm-up before it is.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvloop

from bench.processes import REPOSITORY
from bench.wire import Call, parse_answer

WARM_UP_REQUESTS = 300
_SLACK_S = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """What one run measured. ``latencies_ms`` holds every request of the window, sorted."""

    clients: int
    latencies_ms: list[float]
    elapsed_s: float

    @property
    def per_second(self) -> float:
        return len(self.latencies_ms) / self.elapsed_s


def run_load(call: Call, clients: int, duration_s: float) -> Load:
    """Loads ``call`` from a process of its own. RuntimeError when a request failed."""
    order = {
        "host": call.host,
        "port": call.port,
        "request": base64.b64encode(call.encode()).decode(),
        "clients": clients,
        "duration_s": duration_s,
    }
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=duration_s + _SLACK_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the load client failed: {done.stderr[-2000:]}")
    result = json.loads(done.stdout)
    return Load(clients, sorted(result["latencies_ms"]), result["elapsed_s"])


def has_wrk() -> bool:
    """Whether the load generator wrk is on PATH."""
    return shutil.which("wrk") is not None


def run_wrk(call: Call, clients: int, duration_s: float) -> float:
    """Requests per second by wrk, whose client costs less than ours. RuntimeError on failures."""
    warm_up = _wrk(call, clients, 1)
    assert warm_up > 0
    return _wrk(call, clients, max(1, round(duration_s)))


def _wrk(call: Call, clients: int, duration_s: int) -> float:
    lines = ['wrk.method = "POST"', f"wrk.body = {_lua(call.body.decode())}"]
    lines += [f"wrk.headers[ {_lua(k)} ] = {_lua(v)}" for k, v in call.headers.items()]
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "call.lua"
        script.write_text("\n".join(lines) + "\n")
        url = f"http://{call.host}:{call.port}{call.path}"
        command = ["wrk", "-t1", f"-c{clients}", f"-d{duration_s}s", "-s", str(script), url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    if re.search(r"Non-2xx|Socket errors", done.stdout):
        raise RuntimeError(f"requests failed under wrk:\n{done.stdout}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    if found is None:
        raise RuntimeError(f"wrk said:\n{done.stdout}")
    return float(found[1])


def _lua(text: str) -> str:
    """A string literal; never put right after a bracket, which would become part of it."""
    assert "]==]" not in text
    return f"[==[{text}]==]"


# From here on: the client process.


class _Run:
    """The state that all connections share: when the window opened and what it saw."""

    def __init__(self, request: bytes, clients: int, duration_s: float) -> None:
        self.request = request
        self.duration_s = duration_s
        self.left_to_warm = max(WARM_UP_REQUESTS, clients)
        self.began = 0.0
        self.ends = float("inf")
        self.last = 0.0
        self.latencies_ms: list[float] = []
        self.open_connections = clients
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def record(self, sent: float, received: float) -> bool:
        """Notes one answer; False when the connection has nothing more to send."""
        if sent >= self.began > 0:
            self.latencies_ms.append((received - sent) * 1000)
            self.last = received
        elif self.began == 0:
            self.left_to_warm -= 1
            if self.left_to_warm == 0:
                self.began = received
                self.ends = received + self.duration_s
        return received < self.ends

    def close_one(self) -> None:
        self.open_connections -= 1
        if self.open_connections == 0 and not self.finished.done():
            self.finished.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.finished.done():
            self.finished.set_exception(error)


class _Connection(asyncio.Protocol):
    def __init__(self, run: _Run) -> None:
        self._run = run
        self._data = b""
        self._sent = 0.0
        self._is_done = False
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's own class
        self._send()

    def data_received(self, data: bytes) -> None:
        received = time.perf_counter()
        self._data = self._data + data if self._data else data
        try:
            answer = parse_answer(self._data)
        except ValueError as error:
            self._run.fail(error)
            return
        if answer is None:
            return
        if not answer.is_success:
            self._run.fail(RuntimeError(f"a request failed: {self._data[:1000]!r}"))
            return
        self._data = b""
        if self._run.record(self._sent, received):
            self._send()
        else:
            self._is_done = True
            self._transport.close()
            self._run.close_one()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_done:
            self._run.fail(exc or ConnectionError("the server hung up"))

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._run.request)


async def _drive(order: dict[str, object]) -> dict[str, object]:
    clients = int(str(order["clients"]))
    run = _Run(
        base64.b64decode(str(order["request"])), clients, duration_s=float(str(order["duration_s"]))
    )
    loop = asyncio.get_running_loop()
    host, port = str(order["host"]), int(str(order["port"]))
    for _ in range(clients):
        await loop.create_connection(lambda: _Connection(run), host, port)
    await run.finished
    return {"latencies_ms": run.latencies_ms, "elapsed_s": run.last - run.began}


def main() -> None:
    """Reads an order as JSON from standard input and writes what was measured."""
    order = json.load(sys.stdin)
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        json.dump(runner.run(_drive(order)), sys.stdout)


if __name__ == "__main__":
    main()
