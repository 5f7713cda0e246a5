"""The channel to a guest, against a guest that follows a script."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from firelet.linux import multiplex
from firelet.model.errors import SandboxEnded
from firelet.sandbox.microvm import guest_channel
from firelet.sandbox.microvm.guest_channel import GuestChannel, GuestExit, GuestFault

HELLO = {"event": "hello", "kernel": "6.1", "python": "3.11.7", "uptime_s": 1.5}


class Guest:
    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._mux = multiplex.Multiplexer(1)

    def say(self, **message: Any) -> None:
        self._mux.message(message)
        self.socket.sendall(self._mux.outgoing)
        self._mux.outgoing.clear()

    def write(self, name: str, data: bytes) -> None:
        self.say(event="output", id=name, data=base64.b64encode(data).decode())

    async def take(self) -> dict[str, Any]:
        """The next message; one at a time comes in these tests."""
        while True:
            data = await asyncio.get_running_loop().sock_recv(self.socket, 65536)
            for frame in self._mux.feed(data):
                return frame.content


@pytest.fixture
async def ends() -> AsyncIterator[tuple[GuestChannel, Guest]]:
    one, other = socket.socketpair()
    channel, guest = GuestChannel(one), Guest(other)
    yield channel, guest
    channel.close()
    other.close()


Ends = tuple[GuestChannel, Guest]


async def test_the_guest_says_hello(ends: Ends) -> None:
    channel, guest = ends
    guest.say(**HELLO)
    assert (await channel.hello()).kernel == "6.1"
    assert (await channel.hello()).uptime_s == 1.5


async def test_a_guest_that_is_told_to_rest_is_told_nothing_after_that(ends: Ends) -> None:
    channel, guest = ends
    resting = asyncio.create_task(channel.rest())
    assert (await guest.take())["do"] == "rest"
    channel.tell(do="what a connection of the host has just answered")
    guest.say(event="resting")
    await resting
    await asyncio.sleep(0)
    with pytest.raises(BlockingIOError):
        guest.socket.recv(1)


async def test_a_program_runs_and_its_output_comes_with_its_end(ends: Ends) -> None:
    channel, guest = ends
    running = asyncio.create_task(channel.run(["/bin/x"], environment={"A": "b"}))
    message = await guest.take()
    assert message == {
        "id": "1",
        "do": "run",
        "arguments": ["/bin/x"],
        "environment": {"A": "b"},
        "directory": "/",
    }
    guest.say(event="started", id="1")
    guest.write("1", b"one ")
    guest.write("1", b"two")
    guest.say(event="exited program", id="1", code=0, signal=None)
    assert await running == GuestExit(0, None, b"one two")


async def test_output_is_kept_up_to_a_limit(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_channel, "OUTPUT_KEPT_BYTES", 5)
    channel, guest = ends
    running = asyncio.create_task(channel.run(["/bin/x"]))
    await guest.take()
    for _ in range(3):
        guest.write("1", b"abc")
    guest.say(event="exited program", id="1", code=None, signal=9)
    assert await running == GuestExit(None, 9, b"abcab")


async def test_a_program_that_cannot_be_started_is_told(ends: Ends) -> None:
    channel, guest = ends
    running = asyncio.create_task(channel.run(["/missing"]))
    await guest.take()
    guest.say(event="failed", id="1", reason="no such file or directory")
    with pytest.raises(GuestFault, match="no such file"):
        await running


async def test_a_program_that_nobody_waits_for_any_more_is_killed(ends: Ends) -> None:
    channel, guest = ends
    running = asyncio.create_task(channel.run(["/bin/x"]))
    await guest.take()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await guest.take() == {"do": "signal", "id": "1", "number": 9}
    guest.write("1", b"late")
    guest.say(event="exited program", id="1", code=0, signal=None)
    asked = asyncio.create_task(channel.ping())
    guest.say(event="pong", id=(await guest.take())["id"])
    await asked


async def test_a_restored_guest_is_told_the_time_and_gets_a_seed_of_its_own(ends: Ends) -> None:
    channel, guest = ends
    seeds = set()
    for _ in range(2):
        asked = asyncio.create_task(channel.awaken())
        message = await guest.take()
        assert message["now_ns"] > 0
        assert len(bytes.fromhex(message["seed"])) == guest_channel.SEED_BYTES
        seeds.add(message["seed"])
        guest.say(event="awake")
        await asked
        # Once more: the first time it may have been slow to hear.
        late = await guest.take()
        assert late["do"] == "clock"
        assert late["now_ns"] > message["now_ns"]
    assert len(seeds) == 2


@pytest.mark.parametrize(
    "message",
    [
        {"event": "surprise"},
        {"no": "event"},
        {"event": "hello"},
        {"event": "error", "reason": "not understood"},
        {"event": "output", "id": "1", "data": "%"},
    ],
)
async def test_a_guest_that_breaks_the_protocol_is_of_no_use_any_more(
    ends: Ends, message: dict[str, Any]
) -> None:
    channel, guest = ends
    guest.say(**message)
    with pytest.raises(GuestFault, match="broke the protocol"):
        await channel.hello()
    with pytest.raises(GuestFault, match="broke the protocol"):
        await channel.ping()


async def test_the_end_of_the_guest_ends_every_call(ends: Ends) -> None:
    channel, guest = ends
    calls = [asyncio.create_task(call) for call in (channel.hello(), channel.ping())]
    await guest.take()
    guest.socket.close()
    for call in calls:
        with pytest.raises(SandboxEnded):
            await call


async def test_a_closed_channel_may_be_closed_again(ends: Ends) -> None:
    channel, _ = ends
    channel.close()
    channel.close()
    with pytest.raises(SandboxEnded):
        await channel.ping()
