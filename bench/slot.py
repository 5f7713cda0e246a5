"""One slot alone, without the frontend: ``python -m bench.slot [RUNTIME]``.

What a start and a warm invocation cost below the HTTP API, in the process that runs this, with the
real driver. Needs what ``firelet up`` needs.

The CPU of a start is told by process: it is steadier than any time on a machine that is shared.
What the kernel's own threads do after a sandbox (its network namespace, its control groups) is in
the last figure alone, which holds the work of every other program too.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from firelet.model.function import Code, FunctionVersion, LoggingConfig, State
from firelet.model.invocation import Invocation
from firelet.model.isolation import Isolation
from firelet.runtime.credentials import SessionCredentials
from firelet.sandbox import cgroups
from firelet.sandbox.driver import SandboxDriver
from firelet.sandbox.drivers import Drivers
from firelet.sandbox.embryos import Bounds
from firelet.sandbox.host import probe_host
from firelet.sandbox.namespaces import NamespacesDriver, NamespacesSettings
from firelet.sandbox.seccomp_profile import compile_profile, compile_snapshot_profile
from firelet.worker.node import Node, NodeParts
from firelet.worker.slots import Slot

_DIGEST = "0" * 64
_STARTS = 25
_CALLS = 2_000
_PAUSE_S = 0.25  # in which the next embryo is made
_SUSTAINED = 300
_AT_ONCE = 4
_PYTHON = ("app.py", "def handler(event, context):\n    return event\n")
_NODE = ("app.mjs", "export const handler = async (event) => event;\n")


class _Code:
    """The code store with one package."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def ensure(self, digest: str) -> Path:
        return self._root / digest

    async def discard(self, digest: str) -> None:
        raise AssertionError(f"nothing is unwanted here: {digest}")


class _NoLog:
    def write(self, timestamp_ms: int, message: str) -> None:
        """Lines are made, and not kept."""


def _version(runtime: str) -> FunctionVersion:
    return FunctionVersion(
        account="000000000000",
        region="us-east-1",
        name="bench",
        role="arn:aws:iam::000000000000:role/bench",
        runtime=runtime,
        handler="app.handler",
        code=Code(digest=_DIGEST, sha256="", size=0),
        logging=LoggingConfig(log_group="/aws/lambda/bench"),
        memory_mib=1_769,
        last_modified="",
        revision_id="",
        state=State.ACTIVE,
    )


async def _measure(runtime: str, root: Path) -> None:
    facts = await asyncio.to_thread(probe_host)
    tree = None if facts.cgroup_version is None else cgroups.open_tree(facts.cgroup_version)
    driver = NamespacesDriver(
        NamespacesSettings(
            code_store=root,
            is_rootless=facts.is_rootless,
            profile=compile_profile(),
            snapshot_profile=compile_snapshot_profile(may_join=facts.is_rootless),
            embryos=Bounds(least=2, most=16),
        ),
        facts.interpreters,
        tree,
    )

    async def open_driver() -> SandboxDriver:
        await driver.open()
        return driver

    drivers = Drivers({Isolation.NAMESPACES: open_driver}, Isolation.NAMESPACES)
    await drivers.open()
    version = _version(runtime)
    node = Node(
        NodeParts(
            driver=drivers,
            code=_Code(root),
            runtimes=facts.interpreters.keys(),
            open_log=lambda _version, _stream: _NoLog(),
            credentials=lambda _version: SessionCredentials("", "", "", math.inf),
            revoke=lambda _key: None,
        )
    )
    try:
        await _starts(node, version)
        await _sustained(node, version)
        await _calls(node, version)
    finally:
        await node.close()
        await drivers.close()


async def _starts(node: Node, version: FunctionVersion) -> None:
    taken: list[float] = []
    for _ in range(_STARTS + 1):
        began = time.perf_counter()
        slot = await node.start(version)
        taken.append(time.perf_counter() - began)
        await slot.close()
        await asyncio.sleep(_PAUSE_S)
    # The first one starts the zygote.
    print(f"zygote and first start: {taken[0] * 1e3:.0f} ms")
    _tell("start with INIT, from an embryo", taken[1:])


async def _sustained(node: Node, version: FunctionVersion) -> None:
    """Starts, one call each, stops: ``_AT_ONCE`` of them at any time."""
    left = iter(range(_SUSTAINED))
    spent: dict[str, float] = {}
    first = await node.start(version)
    zygote = int(_stat_of(_init_of(first))[1])
    await first.close()

    async def one_after_the_other() -> None:
        for _ in left:
            slot = await node.start(version)
            await _call(slot)
            for name, seconds in _cpu_of_sandbox(slot).items():
                spent[name] = spent.get(name, 0.0) + seconds
            await slot.close()

    before = _cpu_s(zygote)
    ended = _cpu_of_ended_s(zygote)
    kernel = _cpu_of_kernel_s()
    busy = _busy_s()
    own = time.process_time()
    began = time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(_AT_ONCE)))
    elapsed_s = time.perf_counter() - began
    spent["platform"] = time.process_time() - own
    spent["pid 1"] = _cpu_of_ended_s(zygote) - ended
    spent["zygote"] = _cpu_s(zygote) - before
    spent["threads of the kernel"] = _cpu_of_kernel_s() - kernel
    spent["whole machine"] = _busy_s() - busy
    print(f"sustained, {_AT_ONCE} at once: {_SUSTAINED / elapsed_s:.0f} starts/s")
    for name, seconds in spent.items():
        print(f"CPU of a start, {name}: {seconds / _SUSTAINED * 1e3:.2f} ms")


def _cpu_of_sandbox(slot: Slot) -> dict[str, float]:
    """CPU seconds until now of the runtime of a sandbox."""
    init = _init_of(slot)
    children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    return {"runtime": sum(_cpu_s(int(pid)) for pid in children)}


def _init_of(slot: Slot) -> int:
    """Pid 1 of a sandbox by its number on the host."""
    pidfd: int = slot.sandbox.pidfd  # type: ignore[attr-defined]
    info = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
    (line,) = [line for line in info.splitlines() if line.startswith("Pid:")]
    return int(line.split()[1])


def _stat_of(pid: int) -> list[str]:
    """State, parent and what follows. Source: proc(5), stat."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process with one thread. Source: proc(5), schedstat, in nanoseconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _cpu_of_ended_s(pid: int) -> float:
    """CPU seconds of the children that this process has reaped, their ends included."""
    return sum(map(int, _stat_of(pid)[13:15])) / os.sysconf("SC_CLK_TCK")


def _cpu_of_kernel_s() -> float:
    """CPU seconds of the kernel's threads: the children of number 2."""
    total = 0.0
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if _stat_of(int(path.name))[1] == "2":
                total += _cpu_s(int(path.name))
    return total


def _busy_s() -> float:
    """CPU seconds that the machine was not idle."""
    user, nice, system, _idle, _wait, irq, softirq = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


async def _calls(node: Node, version: FunctionVersion) -> None:
    slot = await node.start(version)
    await _call(slot)
    before = resource.getrusage(resource.RUSAGE_SELF)
    taken = [await _call(slot) for _ in range(_CALLS)]
    after = resource.getrusage(resource.RUSAGE_SELF)
    await slot.close()
    _tell("warm call", taken)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"CPU of the platform for a call: {cpu_s / _CALLS * 1e6:.0f} µs")


async def _call(slot: Slot) -> float:
    began = time.perf_counter()
    await slot.invoke(
        Invocation(request_id="bench", function=slot.version, invoked_arn="", payload=b"{}")
    )
    taken = time.perf_counter() - began
    free: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    slot.when_free(lambda _slot: free.set_result(None))
    await free
    return taken


def _tell(what: str, taken: list[float]) -> None:
    taken.sort()
    print(
        f"{what}: p50 {statistics.median(taken) * 1e3:.3f} ms,"
        f" min {taken[0] * 1e3:.3f}, max {taken[-1] * 1e3:.3f}, {len(taken)} times"
    )


def main() -> None:
    runtime = sys.argv[1] if len(sys.argv) > 1 else f"python3.{sys.version_info.minor}"
    name, text = _NODE if runtime.startswith("nodejs") else _PYTHON
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, _DIGEST)
        package.mkdir()
        (package / name).write_text(text)
        for path in (Path(folder), package, package / name):
            path.chmod(0o755)
        uvloop.run(_measure(runtime, Path(folder)))


if __name__ == "__main__":
    main()
