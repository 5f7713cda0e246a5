"""A machine is a sandbox like any other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from fake_vmm import PEAK_BYTES, FakeHost, Process
from firelet.linux import multiplex
from firelet.model.errors import PlatformError, SandboxEnded
from firelet.sandbox.driver import ExtensionStart, RuntimeExit, RuntimeStart, Sandbox
from firelet.sandbox.microvm import machine_sandbox
from firelet.sandbox.microvm.driver import MicrovmDriver
from firelet.sandbox.microvm.machine_sandbox import MachineSandbox
from guest_ends import PATIENCE_S, frame, message, opening
from machines import Bench, FakeTree, spec
from sandbox_contract import SandboxContract, Told, Watched

EXITED = {"event": "exited", "status": 0, "launch": None, "out_of_memory": False}

pytestmark = pytest.mark.usefixtures("nothing_leaks")


def run(process: Process) -> int | None:
    """Does what the environment of the start says."""
    kind = process.environment["KIND"]
    if kind == "exit 3":
        return 3 << 8
    if kind == "killed":
        return int(signal.SIGKILL)
    if kind == "print":
        process.print(b"printed\n")
    elif kind == "log":
        process.log(b"logged\n")
    else:
        return None
    return 0


def print_own(process: Process) -> int:
    process.print("OWN={OWN}\n".format(**process.environment).encode())
    return 0


def start_of(kind: str) -> RuntimeStart:
    return RuntimeStart(environment={"KIND": kind}, arguments=None, name="python3.13")


def extension_of(kind: str) -> ExtensionStart:
    return ExtensionStart(name=kind, path=f"/opt/extensions/{kind}", environment={"OWN": "mine"})


@pytest.fixture(params=["groups", "no groups"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    host = FakeHost(run, {"print": print_own, "hang": lambda _process: None})
    return Bench(tmp_path / "microvm", host, FakeTree() if request.param == "groups" else None)


@pytest.fixture
async def driver(bench: Bench) -> AsyncIterator[MicrovmDriver]:
    driver = bench.driver()
    await driver.open()
    yield driver
    await driver.close()


@pytest.fixture
async def sandbox(driver: MicrovmDriver) -> AsyncIterator[MachineSandbox]:
    sandbox = await driver.create(spec())
    yield sandbox
    await sandbox.stop()


@pytest.fixture
async def watched(sandbox: Sandbox) -> Watched:
    return Watched(sandbox)


class TestMachineSandbox(SandboxContract):
    def start_of(self, kind: str) -> RuntimeStart:
        return start_of(kind)

    def extension_of(self, kind: str) -> ExtensionStart:
        return extension_of(kind)


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.001)


def guest_of(bench: Bench) -> Any:
    guest = bench.host.machines[-1].guest
    assert guest is not None
    return guest


async def test_the_peak_of_its_memory_is_what_the_guest_says(watched: Watched) -> None:
    assert watched.sandbox.memory_peak_bytes() == PEAK_BYTES


async def test_what_was_written_before_an_end_is_there_when_the_end_is_told(
    watched: Watched, bench: Bench
) -> None:
    """More than a pipe holds by itself, and less than one reading of the link brings."""
    read = 0

    def on_exit(_ending: RuntimeExit) -> None:
        nonlocal read
        with contextlib.suppress(BlockingIOError):
            while data := os.read(watched.sandbox.output_fd, 1 << 20):
                read += len(data)

    watched.sandbox.watch(on_exit)
    watched.sandbox.start_runtime(start_of("hang"))
    await eventually(lambda: bench.host.heard["start"] == 1)
    guest = guest_of(bench)
    guest._link.mux.send(guest._pipes[0].stream, bytes(200_000))
    guest._link.mux.message(EXITED)
    data = bytes(guest._link.mux.outgoing)
    guest._link.mux.outgoing.clear()
    await guest.say_raw(data)
    await eventually(lambda: read > 0)
    assert read == 200_000


# Hostile guests.

HUGE = 10**400
RUBBISH = [
    message(event="exited"),
    message(**{**EXITED, "status": "x"}),
    message(**{**EXITED, "status": HUGE}),
    message(**{**EXITED, "status": None}),
    message(**{**EXITED, "launch": {"step": 1, "path": [], "reason": None}}),
    message(**{**EXITED, "launch": {"unknown": "x"}}),
    message(**{**EXITED, "launch": 7}),
    message(**EXITED) * 2,
    message(event="memory", peak_bytes=-1),
    message(event="memory", peak_bytes=HUGE),
    message(event="memory", peak_bytes="1"),
    message(event="memory", peak_bytes=float("inf")),
    message(event="memory", peak_bytes=float("nan")),
    message(event="memory"),
    message(event="error"),
    message(event="error", step="", path=None),
    message(event="error", step="one", path=None) * 2,
    message(event="connected"),
    message(event="connected", stream=[]),
    message(event="extension exited"),
    message(event="sandbox ended"),
    message(event="refused", reason="x" * 500_000),
    message(event="hello", kernel=1, python=None, uptime_s="x"),
    message(event="output", id="1", data="?"),
    message(),
    opening(101),
    opening(101, **{"for": "output"}),  # it has been claimed
    opening(101, **{"for": "log"}),
    opening(101, **{"for": "extension", "name": "never started"}),
    opening(101, **{"for": "extension", "name": []}),
    opening(101, **{"for": ["api"]}),
    opening(101, **{"for": "file system", "name": "files-0"}),  # it shares nothing
    opening(101, **{"for": "file system", "name": []}),
    b"".join(opening(2 * number + 101, **{"for": "api"}) for number in range(5_000)),
    frame(multiplex.DATA, 2, b"on a stream that nobody has opened"),
    b"\xff" * 100,
]


@pytest.mark.parametrize("data", RUBBISH, ids=lambda data: repr(data[7:60]))
async def test_a_guest_that_says_what_cannot_be_ends_its_machine_and_nothing_else(
    watched: Watched, bench: Bench, data: bytes
) -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    watched.sandbox.start_runtime(start_of("hang"))
    await eventually(lambda: bench.host.heard["start"] == 1)
    watched.sandbox.freeze()  # what it has said already is read nevertheless
    with contextlib.suppress(ConnectionError):  # it is cut off before it has said all of it
        await guest_of(bench).say_raw(data)
    assert await watched.ending() == RuntimeExit(None, None)
    with pytest.raises(PlatformError):
        watched.sandbox.start_runtime(start_of("exit 3"))
    await bench.host.machines[-1].wait()
    async with asyncio.timeout(PATIENCE_S):
        await watched.sandbox.stop()
    assert failures == []


IGNORED = [
    message(event="assigned"),
    message(event="killed"),
    message(event="awake"),
    message(event="pong", id="77"),
    message(event="connected", stream=88),
    message(event="not connected", stream=88, errno=HUGE),
    message(event="extension exited", name="nobody", status=0, out_of_memory=False),
    message(event="extension failed", name="nobody", errno=HUGE),
    message(event="something new"),
    message(event=None),
    message(event="memory", peak_bytes=1) * 20_000,
    (opening(9_001, **{"for": "api"}) + frame(multiplex.RESET, 9_001)) * 2_000,
]


@pytest.mark.parametrize("data", IGNORED, ids=lambda data: repr(data[7:60]))
async def test_what_nobody_waits_for_is_nothing(
    watched: Watched, bench: Bench, data: bytes
) -> None:
    told = Told()
    fd = watched.sandbox.start_extension(extension_of("hang"), told)
    os.close(fd)
    await eventually(lambda: bench.host.heard["extension"] == 1)
    await guest_of(bench).say_raw(data)
    watched.sandbox.start_runtime(start_of("exit 3"))
    assert await watched.ending() == RuntimeExit(3, None)
    assert told.failed == told.exited == []


async def test_an_end_of_a_runtime_that_was_not_started_ends_the_machine(
    watched: Watched, bench: Bench
) -> None:
    await guest_of(bench).say_raw(message(**EXITED))
    assert await watched.ending() == RuntimeExit(None, None)
    assert watched.sandbox.is_dead


async def test_an_extension_ends_once(watched: Watched, bench: Bench) -> None:
    told = Told()
    os.close(watched.sandbox.start_extension(extension_of("hang"), told))
    await eventually(lambda: bench.host.heard["extension"] == 1)
    end = message(event="extension exited", name="hang", status=0, out_of_memory=False)
    await guest_of(bench).say_raw(end * 2)
    watched.sandbox.start_runtime(start_of("exit 3"))
    await watched.ending()
    assert told.exited == [("hang", RuntimeExit(0, None))]


async def test_an_extension_whose_output_the_guest_never_sends_leaves_no_pipe(
    watched: Watched, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = guest_of(bench)
    monkeypatch.setattr(guest, "_start_extension", lambda _message: None)
    for _ in range(3):
        os.close(watched.sandbox.start_extension(extension_of("hang"), Told()))
        await watched.sandbox.kill_processes()


async def test_a_machine_that_cannot_be_frozen_dead_is_thawed_before_it_is_ended(
    watched: Watched, bench: Bench
) -> None:
    watched.sandbox.freeze()
    await guest_of(bench).say_raw(b"\xff" * 100)
    await eventually(lambda: watched.sandbox.is_dead)
    if bench.tree is not None:
        assert not bench.tree.groups[-1].is_frozen
    await bench.host.machines[-1].wait()


async def test_a_machine_that_ends_by_itself_is_told(watched: Watched, bench: Bench) -> None:
    watched.sandbox.start_runtime(start_of("hang"))
    await eventually(lambda: bench.host.heard["start"] == 1)
    signal.pidfd_send_signal(bench.host.machines[-1].pidfd, signal.SIGKILL)
    assert await watched.ending() == RuntimeExit(None, None)
    assert watched.sandbox.is_dead


async def test_a_connection_that_is_given_up_is_given_up_in_the_guest(
    sandbox: MachineSandbox, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = guest_of(bench)
    opened: list[int] = []
    monkeypatch.setattr(guest._link, "_on_open", lambda stream, _purpose: opened.append(stream))
    for number in range(1, 4):
        connecting = asyncio.create_task(sandbox.connect(8080))
        await eventually(lambda number=number: len(opened) == number)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
    await eventually(lambda: not any(map(guest._link.mux.credit, opened)))


async def test_who_waits_for_a_connection_hears_of_the_end(
    sandbox: MachineSandbox, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest_of(bench)._link, "_on_open", lambda *_: None)
    connecting = asyncio.create_task(sandbox.connect(8080))
    await asyncio.sleep(0)
    sandbox.kill()
    with pytest.raises(PlatformError):
        await connecting


async def test_a_step_that_is_not_reached_in_time_is_the_platforms_fault(
    sandbox: MachineSandbox, bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine_sandbox, "STEP_TIMEOUT_S", 0.01)
    monkeypatch.setattr(sandbox._awaited, "_timeout_s", 0.01)  # made with the longer one
    bench.host.withheld |= {"assigned", "resting"}
    with pytest.raises(PlatformError, match="'assigned' in time"):
        await sandbox.assign(spec())
    with pytest.raises(PlatformError, match="rest in time"):
        await sandbox.rest(tmp_path)


async def test_who_waits_for_a_step_hears_of_the_end(sandbox: MachineSandbox, bench: Bench) -> None:
    bench.host.withheld.add("assigned")
    waiting = asyncio.create_task(sandbox.assign(spec()))
    await eventually(lambda: bench.host.heard["assign"] == 2)
    signal.pidfd_send_signal(bench.host.machines[-1].pidfd, signal.SIGKILL)
    with pytest.raises(SandboxEnded):
        await waiting


async def test_the_step_that_failed_is_in_the_error(sandbox: MachineSandbox, bench: Bench) -> None:
    bench.host.withheld.add("assigned")
    waiting = asyncio.create_task(sandbox.assign(spec()))
    await eventually(lambda: bench.host.heard["assign"] == 2)
    await guest_of(bench).say_raw(message(event="error", step="mount_code: no", path="/var/task"))
    with pytest.raises(PlatformError, match="A sandbox failed at: mount_code: no /var/task"):
        await waiting


async def test_a_stop_that_is_cancelled_goes_on_and_who_stops_again_waits_for_it(
    sandbox: MachineSandbox, bench: Bench
) -> None:
    first = asyncio.create_task(sandbox.stop())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await sandbox.stop()
    assert bench.homes() == []
    if bench.tree is not None:
        assert bench.tree.groups[-1].is_removed


async def test_one_that_was_never_started_can_be_killed_and_stopped(
    bench: Bench, tmp_path: Path
) -> None:
    directory = tmp_path / "m"
    directory.mkdir()
    ended: list[Any] = []
    machine = MachineSandbox(
        "0" * 32,
        bench.host.make(spec()),
        directory,
        None,
        ended.append,
    )
    machine.freeze()
    machine.thaw()
    with pytest.raises(SandboxEnded):
        machine.start_runtime(start_of("hang"))
    with pytest.raises(SandboxEnded):
        machine.begin_awakening()
    machine.kill()
    await machine.stop()
    assert ended == [machine]
    assert not directory.exists()


def test_one_that_cannot_be_made_leaves_no_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match="No such file"):
        MachineSandbox("0" * 32, None, tmp_path / "missing", None, print)
    (tmp_path / "api").touch()
    with pytest.raises(OSError, match="in use"):
        MachineSandbox("0" * 32, None, tmp_path, None, print)


async def test_a_full_backlog_refuses_connections_of_the_guest(
    watched: Watched, bench: Bench
) -> None:
    data = b"".join(opening(2 * number + 101, **{"for": "api"}) for number in range(300))
    await guest_of(bench).say_raw(data)
    watched.sandbox.start_runtime(start_of("exit 3"))
    assert await watched.ending() == RuntimeExit(3, None)
    listener: socket.socket = watched.sandbox.listener
    accepted = []
    try:
        while True:
            accepted.append(listener.accept()[0])
    except BlockingIOError:
        assert 100 < len(accepted) < 300
    finally:
        for sock in accepted:
            sock.close()
