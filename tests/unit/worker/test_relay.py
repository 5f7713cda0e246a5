"""The debugger's relay on real sockets: clients by the hundred, and those that give up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from firelet.worker.debugging import CONNECTIONS_MAX, Relay


class Inside:
    """The sandbox: its loopback is the host's own."""

    id = "inside"

    def __init__(self) -> None:
        self.attempts = 0

    async def connect(self, port: int) -> socket.socket:
        self.attempts += 1
        sock = socket.socket()
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        return sock


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def debugger() -> AsyncIterator[int]:
    """The port of something that sends back what it gets."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(100):
            writer.write(piece)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_no_more_than_so_many_are_joined_and_others_follow(debugger: int) -> None:
    relay = Relay(Inside(), debugger)  # type: ignore[arg-type]
    port = await relay.listen(0)
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS_MAX)]
    for reader, writer in held:
        writer.write(b"hi")
        assert await reader.read(10) == b"hi"
    refused = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
    for reader, writer in refused:
        assert await reader.read(10) == b""
        writer.close()
    held[0][1].close()
    await until(lambda: relay._joined < CONNECTIONS_MAX)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"next")
    assert await reader.read(10) == b"next"
    for _, each in (*held, (reader, writer)):
        each.close()
    await until(lambda: not relay._joined)
    await relay.close()


async def test_a_sandbox_may_carry_the_connection_itself() -> None:
    ours, theirs = socket.socketpair()

    class Carrying(Inside):
        async def connect(self, port: int) -> socket.socket:
            ours.setblocking(False)
            return ours

    relay = Relay(Carrying(), 5678)  # type: ignore[arg-type]
    reader, writer = await asyncio.open_connection("127.0.0.1", await relay.listen(0))
    with theirs:
        theirs.setblocking(False)
        writer.write(b"over")
        assert await asyncio.get_running_loop().sock_recv(theirs, 10) == b"over"
        await asyncio.get_running_loop().sock_sendall(theirs, b"and back")
        assert await reader.read(10) == b"and back"
    assert await reader.read(10) == b""
    writer.close()
    await until(lambda: not relay._joined)
    await relay.close()


async def test_who_gives_up_before_the_debugger_listens_is_forgotten() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        unused = nobody.getsockname()[1]
    inside = Inside()
    relay = Relay(inside, unused)  # type: ignore[arg-type]
    port = await relay.listen(0)
    _, gone = await asyncio.open_connection("127.0.0.1", port)
    _, waits = await asyncio.open_connection("127.0.0.1", port)
    await until(lambda: inside.attempts >= 2)
    gone.close()
    await until(lambda: relay._joined == 1)
    await relay.close()
    await until(lambda: not relay._joined)
    waits.close()
