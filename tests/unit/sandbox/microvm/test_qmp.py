"""QEMU's machine protocol against a script of lines."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from firelet.sandbox.microvm.qmp import Qmp
from firelet.sandbox.microvm.vmm import VmmEnded, VmmRefused, VmmSilent

VERSION = {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "Debian 1"}
GREETING = {"QMP": {"version": VERSION, "capabilities": []}}


class Monitor:
    """QEMU's end: takes commands and answers what it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.commands: list[dict[str, Any]] = []

    def say(self, *lines: dict[str, Any]) -> None:
        self.socket.sendall(b"".join(json.dumps(line).encode() + b"\r\n" for line in lines))

    async def take(self) -> dict[str, Any]:
        data = b""
        while not data.endswith(b"\n"):
            data += await asyncio.get_running_loop().sock_recv(self.socket, 65536)
        self.commands.append(json.loads(data))
        return self.commands[-1]

    async def answer(self, **line: Any) -> None:
        command = await self.take()
        self.say({**line, "id": command["id"]})


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Qmp, Monitor]]:
    one, other = socket.socketpair()
    qmp, monitor = Qmp(one, timeout_s=0.05), Monitor(other)
    yield qmp, monitor
    qmp.close()
    other.close()


Ends = tuple[Qmp, Monitor]


async def test_it_takes_the_greeting_and_asks_for_commands(ends: Ends) -> None:
    qmp, monitor = ends
    monitor.say(GREETING)
    version, _ = await asyncio.gather(qmp.open(), monitor.answer(**{"return": {}}))
    assert version == "7.2.22 (Debian 1)"
    assert [c["execute"] for c in monitor.commands] == ["qmp_capabilities"]


async def test_events_and_late_answers_are_not_taken_for_the_answer(ends: Ends) -> None:
    qmp, monitor = ends
    with pytest.raises(VmmSilent, match="query-status"):
        await qmp.execute("query-status")
    late = await monitor.take()
    monitor.say({"return": {"late": 1}, "id": late["id"]}, {"event": "STOP", "data": {}})
    answer, _ = await asyncio.gather(
        qmp.execute("query-migrate", {"a": 1}), monitor.answer(**{"return": {"status": "ok"}})
    )
    assert json.loads(bytes(answer)) == {"status": "ok"}
    assert monitor.commands[-1]["arguments"] == {"a": 1}


async def test_a_refusal_has_its_reason(ends: Ends) -> None:
    qmp, monitor = ends
    fault = {"class": "CommandNotFound", "desc": "no such command"}
    with pytest.raises(VmmRefused, match="no such command") as refused:
        await asyncio.gather(qmp.execute("nonsense"), monitor.answer(error=fault))
    assert refused.value.kind == "CommandNotFound"


async def test_descriptors_go_with_their_command(ends: Ends) -> None:
    qmp, monitor = ends
    with open(os.devnull, "rb") as file, pytest.raises(VmmSilent):
        await qmp.execute("getfd", {"fdname": "x"}, fds=[file.fileno()])
    data, fds, _, _ = socket.recv_fds(monitor.socket, 65536, 4)
    assert json.loads(data)["execute"] == "getfd"
    assert len(fds) == 1
    os.close(fds[0])


async def test_the_end_of_qemu_is_told(ends: Ends) -> None:
    qmp, monitor = ends
    monitor.socket.close()
    with pytest.raises(VmmEnded):
        await qmp.execute("query-status")


async def test_events_without_end_do_not_stop_the_clock(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    qmp, _ = ends
    reads = 0

    async def never_waits(*_: object) -> bytes:
        nonlocal reads
        reads += 1
        assert reads < 200_000, "nothing else has run"
        return b'{"event": "RTC_CHANGE"}\n'

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_recv", never_waits)
    with pytest.raises(VmmSilent, match="query-status"):
        await qmp.execute("query-status")


@pytest.mark.parametrize("line", [b"not json\n", b'{"event": "RESET"}\n'])
async def test_what_is_no_greeting_is_refused(ends: Ends, line: bytes) -> None:
    qmp, monitor = ends
    monitor.socket.sendall(line)
    with pytest.raises(VmmRefused, match="Protocol"):
        await qmp.open()
