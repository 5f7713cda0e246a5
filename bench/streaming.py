"""Streamed responses: ``python -m bench.streaming [--rounds N]``. Needs what ``firelet up`` needs.

How long a byte takes from a handler to its caller, how much goes through in a second, and how much
memory the platform takes for it. The floor of the second is the same bytes through a bare relay on
the same event loop: a process that reads one connection and writes another, with back-pressure,
and does nothing else. Both are measured by turns, since other programs may run on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvloop

from bench.functions import PYTHON, Source
from bench.platforms import Firelet, running_firelet
from bench.processes import ready_server
from bench.wire import Call

MIB = 1024 * 1024
PIECE_BYTES = 64 * 1024
STREAM_BYTES = 200 * MIB
_FIRST_BYTES = 300  # calls
_LATER_BYTES = 20  # of each
_TIMEOUT_S = 60.0
_SAMPLE_S = 0.01
_RECEIVE_BYTES = MIB
_LAST_CHUNK = b"0\r\n\r\n"

SOURCE = Source(
    "app.py",
    f"""\
import time

PIECE = b"x" * {PIECE_BYTES}


def clock(event, context):
    for _ in range(event):
        yield b"<%d>" % time.monotonic_ns()
        time.sleep(0.001)


def bulk(event, context):
    for _ in range(event):
        yield PIECE
""",
)


@dataclass(frozen=True, slots=True)
class Throughput:
    """One stream of 200 MB. ``grown_mib`` is what the platform's memory grew by meanwhile."""

    mb_per_s: float
    grown_mib: float = 0.0


def streaming_call(call: Call, event: object) -> Call:
    """The same function by InvokeWithResponseStream."""
    path = call.path.replace("/2015-03-31/", "/2021-11-15/")
    path = path.replace("/invocations", "/response-streaming-invocations")
    return Call(call.host, call.port, path, json.dumps(event).encode(), call.headers)


def measure_latencies(call: Call) -> tuple[list[float], list[float]]:
    """Milliseconds from the handler's clock to ours, sorted: first bytes, and later ones. All
    clocks of a machine are one."""
    first_ms: list[float] = []
    later_ms: list[float] = []
    request = streaming_call(call, _LATER_BYTES).encode()
    with socket.create_connection((call.host, call.port), timeout=_TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(_FIRST_BYTES):
            connection.sendall(request)
            data, kept = b"", first_ms
            while not data.endswith(_LAST_CHUNK):
                data = connection.recv(PIECE_BYTES)
                now = time.monotonic_ns()
                for part in data.split(b"<")[1:]:
                    stamp = part.partition(b">")[0]
                    if stamp.isdigit():
                        kept.append((now - int(stamp)) / 1e6)
                        kept = later_ms
    return sorted(first_ms), sorted(later_ms)


def measure_stream(call: Call, pid: int) -> Throughput:
    """200 MB by a client that reads as fast as it can."""
    request = streaming_call(call, STREAM_BYTES // PIECE_BYTES).encode()
    with _Memory(pid) as memory:
        mb_per_s = _read(call.host, call.port, request, _LAST_CHUNK)
    return Throughput(mb_per_s, memory.grown_mib)


def _read(host: str, port: int, request: bytes, last: bytes) -> float:
    """MB per second, from the first byte to the last."""
    buffer = memoryview(bytearray(_RECEIVE_BYTES))
    with socket.create_connection((host, port), timeout=_TIMEOUT_S) as connection:
        connection.sendall(request)
        size = connection.recv_into(buffer)
        began = time.perf_counter()
        total = 0
        while size:
            total += size
            if last and size >= len(last) and buffer[size - len(last) : size] == last:
                break
            size = connection.recv_into(buffer)
    if total < STREAM_BYTES:
        raise RuntimeError(f"the stream ended after {total} bytes: {bytes(buffer[:300])!r}")
    return total / 1e6 / (time.perf_counter() - began)


class _Memory:
    """Looks at a process's resident memory as long as it is entered."""

    def __init__(self, pid: int) -> None:
        self._path = f"/proc/{pid}/statm"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._before = self._most = 0.0

    @property
    def grown_mib(self) -> float:
        return self._most - self._before

    def __enter__(self) -> _Memory:
        self._before = self._most = self._read()
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            self._most = max(self._most, self._read())

    def _read(self) -> float:
        pages = int(Path(self._path).read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / MIB


class _Relay(asyncio.Protocol):
    """One end of a bare relay: what it reads, the other end writes."""

    def __init__(self) -> None:
        self.other: _Relay | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=512 * 1024)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()


async def _serve_relay() -> None:
    """Each client gets 200 MB from a source of its own, through this process."""
    loop = asyncio.get_running_loop()
    joining: set[asyncio.Task[None]] = set()

    async def join(front: _Relay) -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(True)
        threading.Thread(target=_pour, args=(theirs,)).start()
        back = _Relay()
        back.other, front.other = front, back
        await loop.create_connection(lambda: back, sock=ours)

    class Front(_Relay):
        def data_received(self, data: bytes) -> None:
            task = loop.create_task(join(self))
            joining.add(task)
            task.add_done_callback(joining.discard)

    server = await loop.create_server(Front, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"ready http://{host}:{port}", flush=True)
    await server.serve_forever()


def _pour(connection: socket.socket) -> None:
    """The source is a process of its own, as a function is."""
    pid = os.fork()
    if pid == 0:
        piece = b"x" * PIECE_BYTES
        for _ in range(STREAM_BYTES // PIECE_BYTES):
            connection.sendall(piece)
        os._exit(0)
    connection.close()
    os.waitpid(pid, 0)


def _quantile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]


def _measure(firelet: Firelet, relay: tuple[str, int], rounds: int) -> None:
    for handler in ("clock", "bulk"):
        firelet.create(handler, PYTHON, SOURCE, handler)
    clock, bulk = firelet.call("clock", b"1"), firelet.call("bulk", b"1")
    measure_latencies(clock)
    first_ms, later_ms = measure_latencies(clock)
    for name, values in (("first byte", first_ms), ("later bytes", later_ms)):
        print(
            f"{name:<12} p50 {_quantile(values, 0.5):.3f} ms   p99 {_quantile(values, 0.99):.3f} ms"
            f"   of {len(values)}"
        )
    # The first one finds the platform as small as it is; later ones may use memory that is kept.
    first = measure_stream(bulk, firelet.pid)
    floors, streams = [], []
    for _ in range(rounds):
        floors.append(_read(*relay, b"go", b""))
        streams.append(measure_stream(bulk, firelet.pid))
    speeds = [stream.mb_per_s for stream in streams]
    grown = max(stream.grown_mib for stream in (first, *streams))
    print(f"throughput   median {statistics.median(speeds):.0f} MB/s   best {max(speeds):.0f}")
    print(f"bare relay   median {statistics.median(floors):.0f} MB/s   best {max(floors):.0f}")
    print(f"memory       grew by {grown:.1f} MiB at most, while 200 MB passed")


def main() -> None:
    """Measures and prints."""
    if sys.argv[1:] == ["relay"]:
        uvloop.run(_serve_relay())
        return
    parser = argparse.ArgumentParser(prog="python -m bench.streaming", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="streams of each kind [7]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="firelet-bench-") as scratch:
        directory = Path(scratch)
        command = [sys.executable, "-m", "bench.streaming", "relay"]
        with (
            running_firelet(directory) as firelet,
            ready_server(command, directory / "relay.log") as relay,
        ):
            _measure(firelet, (relay.host, relay.port), options.rounds)


if __name__ == "__main__":
    main()
