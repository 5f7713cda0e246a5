"""Whatever a guest says, in whatever order and with values of any kind: nothing is raised into the
event loop, and nothing stays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firelet.linux import multiplex
from firelet.sandbox.driver import ExtensionStart, RuntimeStart
from firelet.sandbox.microvm.console import Console
from firelet.sandbox.microvm.machine_sandbox import MachineSandbox
from firelet.sandbox.microvm.vmm import Vmm, WrongState
from guest_ends import frame, message, opening
from sandbox_contract import Told, Watched

pytestmark = pytest.mark.usefixtures("nothing_leaks")

START = RuntimeStart(environment={}, arguments=None, name="python3.13")
EXTENSION = ExtensionStart(name="hang", path="/opt/extensions/hang", environment={})
EXITED = {"event": "exited", "status": 0, "launch": None, "out_of_memory": False}

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["output", "log", "api", "connect", "extension", "hang", "file system"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
EVENTS = (
    *("hello", "output", "failed", "started", "refused", "pong", "awake", "resting", "memory"),
    *("error", "exited", "killed", "embryo", "assigned", "connected", "not connected"),
    *("exited program", "extension exited", "extension failed", "sandbox ended"),
)
FIELDS = (
    *("id", "data", "code", "signal", "reason", "kernel", "python", "uptime_s", "peak_bytes"),
    *("step", "path", "errno", "status", "launch", "out_of_memory", "name", "stream"),
)
MESSAGES = st.builds(
    lambda event, fields: message(**{**fields, "event": event}),
    st.sampled_from(EVENTS) | VALUES,
    st.dictionaries(st.sampled_from(FIELDS), VALUES),
)
OPENINGS = st.builds(
    lambda stream, purpose: opening(stream, **purpose),
    st.integers(0, 9),
    st.dictionaries(st.sampled_from(["for", "name", "port"]), VALUES),
)
FRAMES = st.builds(frame, st.integers(2, 6), st.integers(0, 9), st.binary(max_size=8))
SENSIBLE = st.sampled_from(
    [
        message(**EXITED),
        message(event="memory", peak_bytes=5),
        message(event="extension exited", name="hang", status=0, out_of_memory=False),
        opening(1, **{"for": "output"}),
        opening(3, **{"for": "log"}),
        opening(5, **{"for": "api"}),
        opening(7, **{"for": "extension", "name": "hang"}),
        *(frame(kind, stream) for kind in range(2, 6) for stream in (1, 3, 5, 7)),
        *(frame(multiplex.DATA, stream, b"data") for stream in (1, 3, 5, 7)),
    ]
)


class StubVmm:
    """A machine that is nothing but the platform's end of its channel."""

    def __init__(self) -> None:
        self.console = Console()
        self._channel, self.port = socket.socketpair()

    @property
    def pidfd(self) -> int:
        raise WrongState("There is no process.")

    def take_channel(self) -> socket.socket:
        return self._channel

    async def stop(self) -> None:
        self.port.close()


@settings(max_examples=150, deadline=None)
@given(said=st.lists(MESSAGES | OPENINGS | FRAMES | SENSIBLE, max_size=12))
def test_whatever_a_guest_says_nothing_is_raised_and_nothing_stays(said: list[bytes]) -> None:
    asyncio.run(_listen_to(said))


async def _listen_to(said: list[bytes]) -> None:
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root, "machine")
        directory.mkdir()
        vmm = StubVmm()
        stopped: list[MachineSandbox] = []
        machine = MachineSandbox("0" * 32, cast(Vmm, vmm), directory, None, stopped.append)
        machine.attach()
        watched = Watched(machine)
        machine.start_runtime(START)
        os.close(machine.start_extension(EXTENSION, Told()))
        for data in said:
            with contextlib.suppress(ConnectionError):
                vmm.port.sendall(data)
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(watched.endings) <= 2
        assert 0 <= machine.memory_peak_bytes() < 2**40
        await machine.stop()
        assert stopped == [machine]
    assert failures == []
