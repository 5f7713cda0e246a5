"""Where one call spends its time: ``python -m bench.waterfall [CALLS]``.

Prints the steps of a warm and of a cold call of a Python function in µs, from the client's send to
its receipt of the answer. The platform is ``firelet up`` with marks around a few of its methods (a
mark costs about 0.5 µs); client, platform and sandbox read the same monotonic clock.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.functions import PYTHON, Source
from bench.platforms import Firelet
from bench.processes import ready_server
from bench.wire import Line

_CALLS = 2_000
_COLD_CALLS = 12
_BLOCK_S = 0.6  # the environment that there is stays busy so long, for the other call to be cold
_TIMEOUT_S = 60.0
_HANDLER = "handler entered"
_END = "client has the answer"

_SOURCE = Source(
    "app.py",
    """\
import time


def handler(event, context):
    entered = time.monotonic_ns()
    if event:
        time.sleep(event)
    return entered
""",
)

Stamps = list[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class _Call:
    """What the client saw, in nanoseconds of the monotonic clock."""

    sent: int
    entered: int
    received: int


def _measure(calls: int) -> tuple[list[_Call], list[_Call], Stamps]:
    """Warm calls, cold calls, and the platform's marks."""
    with tempfile.TemporaryDirectory(prefix="firelet-waterfall-") as folder:
        stamps = Path(folder, "stamps.json")
        command = [sys.executable, "-m", "bench.waterfall", "--platform", str(stamps)]
        command += ["up", "--port", "0", "--data-dir", str(Path(folder, "data"))]
        with ready_server(command, Path(folder, "log")) as server:
            firelet = Firelet(server.pid, server.host, server.port)
            cold = [_cold_call(firelet, f"cold-{number}") for number in range(_COLD_CALLS)]
            firelet.create("warm", PYTHON, _SOURCE, "handler")
            call = firelet.call("warm", b"0")
            with Line(call.host, call.port, _TIMEOUT_S) as line:
                warm = [_ask(firelet, "warm", line) for _ in range(calls)]
        return warm[calls // 10 :], cold, json.loads(stamps.read_text())


def _ask(firelet: Firelet, name: str, line: Line, event: bytes = b"0") -> _Call:
    call = firelet.call(name, event)
    sent = time.monotonic_ns()
    body, _ = line.ask(call)
    return _Call(sent, int(body), time.monotonic_ns())


def _cold_call(firelet: Firelet, name: str) -> _Call:
    """The second of two calls at a time: the first has the only environment."""
    firelet.create(name, PYTHON, _SOURCE, "handler")
    call = firelet.call(name, b"0")
    with (
        Line(call.host, call.port, _TIMEOUT_S) as blocked,
        Line(call.host, call.port, _TIMEOUT_S) as line,
    ):
        blocking = threading.Thread(
            target=_ask, args=(firelet, name, blocked, str(_BLOCK_S).encode())
        )
        blocking.start()
        time.sleep(_BLOCK_S / 2)  # for the embryo to be replaced as well
        measured = _ask(firelet, name, line)
        blocking.join()
    firelet.delete(name)
    return measured


def _tell(title: str, calls: list[_Call], stamps: Stamps) -> None:
    """The medians of the steps between marks, which are the same for every call of a kind."""
    steps: dict[str, list[float]] = {}
    for call in calls:
        marks = [mark for mark in stamps if call.sent <= mark[1] <= call.received]
        marks += [(_HANDLER, call.entered), (_END, call.received)]
        before = call.sent
        for label, at in sorted(marks, key=lambda mark: mark[1]):
            steps.setdefault(label, []).append((at - before) / 1000)
            before = at
    total = statistics.median((call.received - call.sent) / 1000 for call in calls)
    print(f"\n{title}: {total:,.0f} µs at the median of {len(calls)}")
    reached = 0.0
    for label, taken in steps.items():
        step = statistics.median(taken)
        reached += step
        print(f"{step:9,.0f} µs  {reached:9,.0f}  {label}")


# From here on: the platform's process.


def _run_platform(file: Path) -> None:
    """``firelet`` with the rest of the command line, and marks written to ``file`` at its end."""
    # Only here: the client must not spend its time on importing a platform.
    from firelet.cli.main import run
    from firelet.control.latencies import Latencies
    from firelet.frontend.invoke import InvokeEndpoint
    from firelet.runtime.exchange import Exchange
    from firelet.sandbox.namespaces import NamespacesDriver
    from firelet.worker.node import Node
    from firelet.worker.slots import Slot

    stamps: Stamps = []
    atexit.register(lambda: file.write_text(json.dumps(stamps)))
    _mark(stamps, InvokeEndpoint, "match", "request read, and found to be a call")
    _mark(stamps, Node, "start", "no environment is free: one is asked for")
    _mark(stamps, NamespacesDriver, "create", "an embryo is the function's sandbox", is_after=True)
    _mark(stamps, Slot, "initialise", "Runtime API served, INIT begins")
    _mark(stamps, Exchange, "next", "runtime asks for an event")
    _mark(stamps, Slot, "invoke", "an environment is chosen")
    _mark(stamps, Exchange, "dispatch", "event written to the runtime", is_after=True)
    _mark(stamps, Exchange, "respond", "result read from the runtime")
    _mark(stamps, Latencies, "note", "log lines written, environment given back", is_after=True)
    run()


def _mark(stamps: Stamps, owner: type, name: str, label: str, *, is_after: bool = False) -> None:
    """Notes the time at each call of a method, or when it is done."""
    original: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(original)
    def marked(*args: Any, **kwargs: Any) -> Any:
        if not is_after:
            stamps.append((label, time.monotonic_ns()))
            return original(*args, **kwargs)
        result = original(*args, **kwargs)
        stamps.append((label, time.monotonic_ns()))
        return result

    @functools.wraps(original)
    async def marked_later(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        stamps.append((label, time.monotonic_ns()))
        return result

    is_later = is_after and asyncio.iscoroutinefunction(original)
    setattr(owner, name, marked_later if is_later else marked)


def main() -> None:
    """Measures and prints; or is the measured platform."""
    if sys.argv[1:2] == ["--platform"]:
        file = Path(sys.argv[2])
        del sys.argv[1:3]
        _run_platform(file)
        return
    warm, cold, stamps = _measure(int(sys.argv[1]) if len(sys.argv) > 1 else _CALLS)
    _tell("warm call", warm, stamps)
    _tell("cold call", cold, stamps)


if __name__ == "__main__":
    main()
