"""The message channel to a process of the guest."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from firelet.linux import messages
from firelet.model.errors import PlatformError, SandboxEnded
from firelet.sandbox.channel import Channel, make_pair


class Peer:
    """Our channel, and the guest's end as a plain socket."""

    def __init__(self) -> None:
        ours, self.socket = make_pair()
        self.received: list[tuple[dict[str, Any], list[int]]] = []
        self.closes = 0
        self.changed = asyncio.Event()
        self.channel = Channel(ours, self._on_message, self._on_close)

    def _on_message(self, message: dict[str, Any], fds: list[int]) -> None:
        self.received.append((message, fds))
        self.changed.set()

    def _on_close(self) -> None:
        self.closes += 1
        self.changed.set()

    async def change(self) -> None:
        await self.changed.wait()
        self.changed.clear()


@pytest.fixture
async def peer() -> Any:
    peer = Peer()
    yield peer
    peer.channel.close()
    peer.socket.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


async def test_one_packet_is_one_message(peer: Peer) -> None:
    for number in range(3):
        messages.send(peer.socket, {"event": "n", "number": number})
    await peer.change()
    assert [message["number"] for message, _ in peer.received] == [0, 1, 2]


async def test_a_message_goes_out_with_its_descriptors(peer: Peer, pipe: tuple[int, int]) -> None:
    peer.channel.send({"op": "spawn"}, [pipe[1]])
    message, fds = messages.receive(peer.socket)
    assert message == {"op": "spawn"}
    os.write(fds[0], b"x")
    os.close(fds[0])
    assert os.read(pipe[0], 1) == b"x"


async def test_descriptors_that_arrive_are_closed_on_exec(
    peer: Peer, pipe: tuple[int, int]
) -> None:
    messages.send(peer.socket, {"event": "embryo"}, [pipe[0]])
    await peer.change()
    ((_, fds),) = peer.received
    assert not os.get_inheritable(fds[0])
    os.close(fds[0])


async def test_the_end_of_the_peer_is_told_once(peer: Peer) -> None:
    peer.socket.close()
    await peer.change()
    assert (peer.closes, peer.channel.is_open) == (1, False)


async def test_messages_sent_before_the_end_arrive_before_it(peer: Peer) -> None:
    messages.send(peer.socket, {"event": "exited"})
    peer.socket.close()
    await peer.change()
    assert [message["event"] for message, _ in peer.received] == ["exited"]
    assert peer.closes == 1


async def test_a_peer_that_breaks_the_protocol_counts_as_gone(peer: Peer) -> None:
    peer.socket.send(b"\xff no json")
    await peer.change()
    assert (peer.closes, peer.channel.is_open) == (1, False)


async def test_a_callback_may_close_the_channel(peer: Peer) -> None:
    pair = make_pair()
    holder: list[Channel] = []
    done = asyncio.Event()

    def close(_message: dict[str, Any], _fds: list[int]) -> None:
        holder[0].close()
        done.set()

    holder.append(Channel(pair[0], close, lambda: None))
    messages.send(pair[1], {"a": 1})
    messages.send(pair[1], {"a": 2})
    await done.wait()
    assert not holder[0].is_open
    pair[1].close()


async def test_nothing_is_sent_after_a_close(peer: Peer) -> None:
    peer.channel.close()
    peer.channel.close()
    with pytest.raises(PlatformError, match="has ended"):
        peer.channel.send({"op": "start"})
    assert peer.closes == 0


async def test_a_peer_that_is_gone_is_an_error_for_the_sender(peer: Peer) -> None:
    peer.socket.close()
    with pytest.raises(SandboxEnded):
        peer.channel.send({"op": "start"})


async def test_a_peer_that_does_not_read_is_an_error_and_does_not_block(peer: Peer) -> None:
    def flood() -> None:
        for _ in range(10_000):
            peer.channel.send({"op": "signal", "padding": "x" * 10_000})

    with pytest.raises(PlatformError, match="cannot be reached"):
        flood()


def test_a_pair_keeps_the_borders_of_messages() -> None:
    one, other = make_pair()
    with one, other:
        assert one.type == socket.SOCK_SEQPACKET
