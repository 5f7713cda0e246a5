"""How long things take with machines: boots, starts, clones, calls, streams.

Everything is below the HTTP API, in the process that runs this: see ``bench.slot`` for the same
with namespaces. Called by ``bench.microvm``.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.machine_host import PIECE_BYTES, Host, Noting, make_spec, vmm_pid
from firelet.model.function import FunctionVersion
from firelet.model.invocation import Invocation
from firelet.model.streaming import StreamHead, StreamSource
from firelet.sandbox.microvm.machine_sandbox import MachineSandbox
from firelet.worker.node import Node
from firelet.worker.slots import Slot

BOOTS = 5
STARTS = 15
CALLS = 1_000
WORKS = 5
PINGS = 1_000
SUSTAINED = 30
AT_ONCE = 2
STREAMS = 3
STREAM_BYTES = 16 * 1024 * 1024
_WARM_UP = 30
_EVENT = b"{}"


@dataclass(slots=True)
class Boots:
    """Milliseconds since the start of the VMM, one of each for each machine: until pid 1 said
    hello, until an embryo waits, until the first answer of a function that was booted for."""

    hello_ms: list[float] = field(default_factory=list)
    embryo_ms: list[float] = field(default_factory=list)
    answer_ms: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Starts:
    """Milliseconds since it was asked for: until the sandbox was ready (which for a clone is
    when it is restored: nobody waits for its guest), until INIT was over or the clone went on,
    until the first answer. ``cpu_ms`` is what the VMM has used by then: steadier than any time on a
    host that does other things as well."""

    ready_ms: list[float] = field(default_factory=list)
    init_ms: list[float] = field(default_factory=list)
    answer_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Calls:
    """Milliseconds of warm calls, and what one costs the VMM; None where there is none."""

    taken_ms: list[float]
    cpu_ms: float | None


@dataclass(frozen=True, slots=True)
class Streams:
    """Of responses of ``STREAM_BYTES``. ``first_ms``: from the invocation to the first byte."""

    first_ms: list[float]
    mb_per_s: list[float]


class Sink:
    """Takes a response, and notes when it began."""

    def __init__(self) -> None:
        self.began_at = 0.0
        self.size = 0

    def begin(self, head: StreamHead, source: StreamSource) -> None:
        self.began_at = time.perf_counter()

    def write(self, piece: bytes) -> None:
        self.size += len(piece)


async def call(slot: Slot, payload: bytes = _EVENT, sink: Sink | None = None) -> float:
    """Milliseconds of one invocation. RuntimeError unless it went well."""
    began = time.perf_counter()
    outcome = await slot.invoke(
        Invocation(
            request_id="bench",
            function=slot.version,
            invoked_arn="",
            payload=payload,
            sink=sink,
        )
    )
    taken = (time.perf_counter() - began) * 1000
    if outcome.function_error is not None:
        raise RuntimeError(f"the function failed: {outcome.payload!r}")
    free: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    slot.when_free(lambda _slot: free.set_result(None))
    await free
    return taken


async def measure_boots(host: Host, version: FunctionVersion) -> Boots:
    """Machines that are booted for their function, one after the other; pid 1 of the first ones is
    asked no more than to say hello."""
    found = Boots()
    await host.booting_node.activate(version)
    for _ in range(BOOTS):
        machine, _interpreter = await host.booting.make(make_spec(version))
        try:
            began = time.perf_counter()
            await machine.vmm.boot()
            await machine.attach().hello()
            found.hello_ms.append((time.perf_counter() - began) * 1000)
        finally:
            await machine.stop()
    for _ in range(BOOTS):
        slot = await host.booting_node.start(version)
        try:
            await call(slot)
        finally:
            ended = time.perf_counter()
            await slot.close()
        began = host.booting.began_at
        found.embryo_ms.append((host.booting.embryo_at - began) * 1000)
        found.answer_ms.append((ended - began) * 1000)
    return found


async def measure_first(node: Node, version: FunctionVersion) -> float:
    """Milliseconds until the first answer where there is no embryo of its kind yet: one is made,
    kept and restored."""
    began = time.perf_counter()
    slot = await node.start(version)
    try:
        await call(slot)
        return (time.perf_counter() - began) * 1000
    finally:
        await slot.close()


async def measure_starts(node: Node, noting: Noting, version: FunctionVersion) -> Starts:
    """From embryos or from the snapshot of the version, one after the other."""
    found = Starts()
    for number in range(STARTS + 1):
        began = time.perf_counter()
        slot = await node.start(version)
        at = [noting.ready_at, time.perf_counter()]
        try:
            await call(slot)
            at.append(time.perf_counter())
            cpu_ms = _cpu_s(vmm_pid(slot.sandbox)) * 1000
        finally:
            await slot.close()
        if number:  # the first one reads what the others find in memory
            kept = (found.ready_ms, found.init_ms, found.answer_ms)
            for values, moment in zip(kept, at, strict=True):
                values.append((moment - began) * 1000)
            found.cpu_ms.append(cpu_ms)
    return found


async def measure_calls(node: Node, version: FunctionVersion) -> Calls:
    """Warm calls, one after the other."""
    slot = await node.start(version)
    try:
        for _ in range(_WARM_UP):
            await call(slot)
        is_machine = isinstance(slot.sandbox, MachineSandbox)
        before = _cpu_s(vmm_pid(slot.sandbox)) if is_machine else 0.0
        taken = [await call(slot) for _ in range(CALLS)]
        if not is_machine:
            return Calls(taken, None)
        return Calls(taken, (_cpu_s(vmm_pid(slot.sandbox)) - before) * 1000 / CALLS)
    finally:
        await slot.close()


async def measure_work(node: Node, version: FunctionVersion) -> list[float]:
    """Milliseconds of calls that need the processor, the first ones left out."""
    slot = await node.start(version)
    try:
        taken = [await call(slot, b"0") for _ in range(2 * WORKS)]
    finally:
        await slot.close()
    return taken[WORKS:]


async def measure_pings(host: Host, version: FunctionVersion) -> list[float]:
    """Milliseconds of a question to pid 1 of a guest and its answer: what a call cannot be faster
    than."""
    slot = await host.node.start(version)
    try:
        sandbox = slot.sandbox
        assert isinstance(sandbox, MachineSandbox)
        channel = sandbox._channel
        assert channel is not None
        taken = []
        for _ in range(_WARM_UP + PINGS):
            began = time.perf_counter()
            await channel.ping()
            taken.append((time.perf_counter() - began) * 1000)
    finally:
        await slot.close()
    return taken[_WARM_UP:]


async def measure_sustained(node: Node, version: FunctionVersion) -> float:
    """Starts per second, each with one call and an end, ``AT_ONCE`` at any time."""
    left = iter(range(SUSTAINED))

    async def one_after_the_other() -> None:
        for _ in left:
            slot = await node.start(version)
            try:
                await call(slot)
            finally:
                await slot.close()

    began = time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))
    return SUSTAINED / (time.perf_counter() - began)


async def measure_streams(node: Node, version: FunctionVersion) -> Streams:
    """A function that yields 64 KiB pieces, read as fast as they come."""
    first_ms, mb_per_s = [], []
    pieces = STREAM_BYTES // PIECE_BYTES
    slot = await node.start(version)
    try:
        await call(slot, b"1", Sink())
        for _ in range(STREAMS):
            sink = Sink()
            began = time.perf_counter()
            await call(slot, str(pieces).encode(), sink)
            ended = time.perf_counter()
            if sink.size != STREAM_BYTES:
                raise RuntimeError(f"{sink.size} bytes of the stream came")
            first_ms.append((sink.began_at - began) * 1000)
            mb_per_s.append(STREAM_BYTES / 1e6 / (ended - sink.began_at))
    finally:
        await slot.close()
    return Streams(first_ms, mb_per_s)


def _cpu_s(pid: int) -> float:
    """CPU seconds of the threads of a process. Source: proc(5), schedstat, in nanoseconds."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in threads) / 1e9
