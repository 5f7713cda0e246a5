"""The physical floors: the least that this machine asks for a call, a process, an interpreter.

What firelet adds is read against them. The servers run in processes of their own
(``python -m bench.floors http|protocol``), like what they are compared with.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvloop

from bench.first import PAUSE_S
from bench.load import Load, run_load
from bench.processes import REPOSITORY, ready_server
from bench.wire import Line, invocation
from firelet.wire.http1 import HttpServer, Request, Response

_STARTS = 30
_CALLS_AFTER_PAUSES = 100
_TIMEOUT_S = 10.0
_BODY = b"{}"
_RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


@dataclass(frozen=True, slots=True)
class Floors:
    """``http``: firelet's HTTP server with a constant answer. ``protocol``: an asyncio Protocol
    that writes constant bytes. Each by number of clients. ``paused_ms``: calls of the first one,
    sorted, each after as long a pause as before the first call of a function."""

    http: dict[int, Load]
    protocol: dict[int, Load]
    paused_ms: list[float]
    fork_ms: list[float]
    interpreter_ms: list[float]


def measure_floors(clients: tuple[int, ...], duration_s: float, scratch: Path) -> Floors:
    """Everything, one after the other."""
    return Floors(
        http=_measure_server("http", clients, duration_s, scratch),
        protocol=_measure_server("protocol", clients, duration_s, scratch),
        paused_ms=_measure_paused(scratch),
        fork_ms=_measure_forks(),
        interpreter_ms=_measure_interpreter(),
    )


def _measure_server(
    name: str, clients: tuple[int, ...], duration_s: float, scratch: Path
) -> dict[int, Load]:
    command = [sys.executable, "-m", "bench.floors", name]
    with ready_server(command, scratch / f"{name}.log") as server:
        call = invocation(server.host, server.port, "floor", _BODY)
        return {count: run_load(call, count, duration_s) for count in clients}


def _measure_paused(scratch: Path) -> list[float]:
    command = [sys.executable, "-m", "bench.floors", "http"]
    samples = []
    with ready_server(command, scratch / "paused.log") as server:
        call = invocation(server.host, server.port, "floor", _BODY)
        with Line(call.host, call.port, _TIMEOUT_S) as line:
            for _ in range(_CALLS_AFTER_PAUSES):
                time.sleep(PAUSE_S)
                samples.append(line.ask(call)[1])
    return sorted(samples)


def _measure_forks() -> list[float]:
    program = REPOSITORY / "bench" / "fork_floor.py"
    command = [sys.executable, "-SI", str(program)]
    done = subprocess.run(command, capture_output=True, check=True)
    samples: list[float] = json.loads(done.stdout)
    return sorted(samples)


def _measure_interpreter() -> list[float]:
    command = [sys.executable, "-SI", "-c", "pass"]
    samples = []
    for _ in range(_STARTS):
        began = time.perf_counter()
        subprocess.run(command, check=True)
        samples.append((time.perf_counter() - began) * 1000)
    return sorted(samples)


# From here on: the processes that are measured.


class _Constant(asyncio.Protocol):
    """Answers every read; the load client sends a whole request in one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's own class

    def data_received(self, data: bytes) -> None:
        self._transport.write(_RESPONSE)


def _constant_app(_: Request) -> Response:
    return Response(200, _BODY, ((b"content-type", b"application/json"),))


async def _serve(name: str) -> None:
    if name == "http":
        host, port = await HttpServer(_constant_app).listen("127.0.0.1", 0)
    else:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Constant, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
    gc.freeze()
    print(f"ready http://{host}:{port}", flush=True)
    await asyncio.Event().wait()


def main(name: str) -> None:
    """One server by its name."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(name))


if __name__ == "__main__":
    main(sys.argv[1])
