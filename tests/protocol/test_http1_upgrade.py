"""Connections that change to another protocol, on a fake transport."""

from __future__ import annotations

import asyncio

import pytest

from firelet.wire.http1 import (
    HttpLimits,
    Request,
    Response,
    UpgradedResponse,
    plain_rejection,
)
from firelet.wire.http1_connection import Connection
from firelet.wire.http1_live import Connections
from firelet.wire.http1_upgrade import UpgradedConnection
from protocol.fake_transport import FakeTransport

REQUEST = b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: Echo\r\n\r\n"


class FakeStream:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.received = b""
        self.calls: list[str] = []

    def on_open(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.calls.append("open")

    def on_data(self, data: bytes) -> None:
        self.received += data

    def on_lost(self) -> None:
        self.calls.append("lost")

    def on_drain(self) -> None:
        self.calls.append("drain")


class SwitchingTransport(FakeTransport):
    """A transport whose protocol can be exchanged."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def feed(self, data: bytes) -> None:
        self._protocol.data_received(data)


class Server:
    """An app that agrees to every offer, at once or when ``release`` is called."""

    def __init__(self, *, waits: bool = False) -> None:
        self.stream = FakeStream()
        self.requests: list[Request] = []
        self._pending: asyncio.Future[Response] | None = None
        self._waits = waits
        self.shared = Connections(self, HttpLimits(), plain_rejection, None)
        self.connection = Connection(self.shared)
        self.transport = SwitchingTransport(self.connection)

    def __call__(self, request: Request) -> Response | asyncio.Future[Response]:
        self.requests.append(request)
        if not request.upgrade:
            return Response(200, b"plain")
        if not self._waits:
            return self.agree()
        self._pending = asyncio.get_running_loop().create_future()
        return self._pending

    def agree(self) -> Response:
        headers = ((b"Connection", b"Upgrade"), (b"Upgrade", b"echo"))
        return UpgradedResponse(101, b"", headers, self.stream)

    async def release(self) -> None:
        assert self._pending is not None
        if not self._pending.done():
            self._pending.set_result(self.agree())
        await asyncio.sleep(0)


async def test_after_the_head_all_bytes_belong_to_the_other_protocol() -> None:
    server = Server()
    server.transport.feed(REQUEST)
    assert server.requests[0].upgrade == b"echo"
    head = bytes(server.transport.written)
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert head.endswith(b"Connection: Upgrade\r\nUpgrade: echo\r\n\r\n")
    assert b"Content-Length" not in head
    server.transport.feed(b"GET / HTTP/1.1\r\n")
    assert server.stream.received == b"GET / HTTP/1.1\r\n"
    assert server.stream.transport is server.transport
    assert len(server.requests) == 1


async def test_an_application_may_answer_an_offer_as_usual() -> None:
    server = Server()
    server.transport.feed(REQUEST.replace(b"Upgrade: Echo\r\n", b""))
    server.transport.feed(b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [request.upgrade for request in server.requests] == [b"", b""]
    assert server.transport.written.count(b"HTTP/1.1 200 ") == 2


async def test_an_offer_ends_with_its_request() -> None:
    server = Server(waits=True)
    server.transport.feed(REQUEST.replace(b"GET /a", b"PUT /a"))
    assert server._pending is not None
    server._pending.set_result(Response(200))
    await asyncio.sleep(0)
    server.transport.feed(b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [request.upgrade for request in server.requests] == [b"echo", b""]


@pytest.mark.parametrize("early", [b"\x81\x80abcd", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])
async def test_whoever_does_not_wait_for_the_answer_is_refused(early: bytes) -> None:
    server = Server(waits=True)
    server.transport.feed(REQUEST)
    server.transport.feed(early)
    await server.release()
    written = bytes(server.transport.written)
    assert written.startswith(b"HTTP/1.1 400 ")
    assert b" 101 " not in written
    assert server.stream.calls == ["lost"]
    assert server.stream.received == b""


async def test_a_client_that_goes_before_the_answer_was_never_open() -> None:
    server = Server(waits=True)
    server.transport.feed(REQUEST)
    server.transport.hang_up()
    await asyncio.sleep(0)
    assert server._pending is not None
    assert server._pending.cancelled()
    assert not server.shared.live


async def test_a_server_that_closes_lets_the_other_protocol_say_good_bye() -> None:
    server = Server()
    server.transport.feed(REQUEST)
    (live,) = server.shared.live
    assert isinstance(live, UpgradedConnection)
    await server.shared.close(0.0, 1.0)
    assert server.stream.calls == ["open", "drain", "lost"]
    assert not server.shared.live


async def test_a_lost_connection_is_told_once_and_forgotten() -> None:
    server = Server()
    server.transport.feed(REQUEST)
    assert not any(isinstance(one, Connection) for one in server.shared.live)
    server.transport.close()
    await asyncio.sleep(0)
    assert server.stream.calls == ["open", "lost"]
    assert not server.shared.live
