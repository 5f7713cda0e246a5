"""Bodies that come over time: outgoing answers, and requests that are taken as they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from firelet.wire.http1 import (
    Flow,
    HttpLimits,
    OutgoingBody,
    RejectionReason,
    Request,
    Response,
    StreamedResponse,
    plain_rejection,
)
from firelet.wire.http1_connection import Connection
from firelet.wire.http1_live import Connections
from protocol.fake_transport import FakeTransport

HEAD_END = b"\r\n\r\n"


class FakeFlow:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")


class Streams:
    """An app whose every answer is streamed by the test."""

    def __init__(self) -> None:
        self.flow = FakeFlow()
        self.body = OutgoingBody(self.flow)
        self.requests: list[Request] = []
        self.status = 200
        self.headers: tuple[tuple[bytes, bytes], ...] = ((b"x-a", b"b"),)

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        return StreamedResponse(self.status, headers=self.headers, stream=self.body)


def connect(streams: Streams) -> tuple[Connection, FakeTransport, Connections]:
    shared = Connections(streams, HttpLimits(), plain_rejection, None)
    connection = Connection(shared)
    return connection, FakeTransport(connection), shared


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_an_answer_leaves_piece_by_piece() -> None:
    streams = Streams()
    connection, transport, _ = connect(streams)
    connection.data_received(GET)
    head, rest = bytes(transport.written).split(HEAD_END)
    assert b"Transfer-Encoding: chunked" in head
    assert b"Content-Length" not in head
    assert b"x-a: b" in head
    assert rest == b""
    streams.body.write(b"one ", b"two")
    assert transport.written.endswith(HEAD_END + b"7\r\none two\r\n")
    streams.body.write(b"")  # would be the end
    streams.body.write(b"x" * 100_000)
    assert transport.written.endswith(b"\r\n186a0\r\n" + b"x" * 100_000 + b"\r\n")
    streams.body.end()
    assert transport.written.endswith(b"x\r\n0\r\n\r\n")
    assert not transport.is_closed


async def test_a_second_request_waits_for_the_end_of_the_stream() -> None:
    streams = Streams()
    connection, transport, _ = connect(streams)
    connection.data_received(GET + GET)
    assert len(streams.requests) == 1
    body, streams.body = streams.body, OutgoingBody()
    body.write(b"x")
    body.end()
    assert len(streams.requests) == 2
    streams.body.end()
    assert transport.written.count(b"0\r\n\r\n") == 2


async def test_what_is_written_before_the_head_waits_for_it() -> None:
    streams = Streams()
    streams.body.write(b"early")
    streams.body.end()
    connection, transport, _ = connect(streams)
    connection.data_received(GET)
    assert transport.written.endswith(HEAD_END + b"5\r\nearly\r\n0\r\n\r\n")


async def test_a_body_that_cannot_be_completed_has_no_last_chunk() -> None:
    streams = Streams()
    connection, transport, _ = connect(streams)
    connection.data_received(GET)
    streams.body.write(b"half")
    streams.body.abort()
    assert transport.written.endswith(b"4\r\nhalf\r\n")
    assert transport.is_closed
    assert not transport.was_aborted


async def test_http10_has_no_chunks_and_the_connection_ends_the_body() -> None:
    streams = Streams()
    connection, transport, _ = connect(streams)
    connection.data_received(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    streams.body.write(b"one ", b"two")
    assert b"Transfer-Encoding" not in transport.written
    assert transport.written.endswith(b"Connection: close\r\n\r\none two")
    streams.body.end()
    assert transport.is_closed


async def test_a_head_request_has_no_body() -> None:
    streams = Streams()
    connection, transport, _ = connect(streams)
    connection.data_received(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    streams.body.write(b"dropped")
    assert transport.written.endswith(HEAD_END)
    assert streams.body.is_over


async def test_a_slow_client_pauses_the_flow() -> None:
    streams = Streams()
    connection, transport, _ = connect(streams)
    connection.data_received(GET)
    transport.is_stuck = True
    streams.body.write(b"x" * 10)
    assert streams.flow.calls[-1:] == ["pause"]
    transport.is_stuck = False
    transport.read_by_client(1_000)
    assert streams.flow.calls[-1:] == ["resume"]


async def test_a_client_that_goes_away_frees_the_flow_and_the_rest_is_dropped() -> None:
    streams = Streams()
    connection, transport, shared = connect(streams)
    connection.data_received(GET)
    transport.is_stuck = True
    streams.body.write(b"x" * 10)
    written = bytes(transport.written)
    connection.connection_lost(None)
    assert streams.flow.calls[-1:] == ["resume"]
    streams.body.write(b"more")
    streams.body.end()
    assert transport.written == written
    assert not shared.live


async def test_a_client_that_never_reads_on_is_given_up() -> None:
    streams = Streams()
    connection, transport, shared = connect(streams)
    connection.data_received(GET)
    transport.is_stuck = True
    streams.body.write(b"x" * 10)
    for _ in range(40):
        connection.on_sweep(1.0)
    assert transport.was_aborted
    assert streams.body.is_over
    await shared.close(0, 0)


async def test_a_header_that_breaks_its_line_is_not_sent() -> None:
    streams = Streams()
    streams.headers = ((b"x-a", b"b\r\nx-c: d"),)
    connection, transport, _ = connect(streams)
    connection.data_received(GET)
    assert transport.written.startswith(b"HTTP/1.1 500 ")
    assert b"x-c" not in transport.written
    assert streams.body.is_over


async def test_an_answer_for_a_client_that_has_gone_is_dropped() -> None:
    answers: list[asyncio.Future[Response]] = []

    def app(_: Request) -> asyncio.Future[Response]:
        # Not cancelled with its client: it is shielded, as an application may do.
        inner = asyncio.get_running_loop().create_future()
        answers.append(inner)
        return asyncio.shield(inner)

    shared = Connections(app, HttpLimits(), plain_rejection, None)
    connection = Connection(shared)
    FakeTransport(connection)
    connection.data_received(GET)
    connection.connection_lost(None)
    body = OutgoingBody()
    answers[0].set_result(StreamedResponse(200, stream=body))
    await asyncio.sleep(0)
    body.write(b"x")
    body.end()
    assert not shared.live


class Taken:
    """A body that the test takes as it comes."""

    def __init__(self, flow: Flow, limit: int = 1_000) -> None:
        self.flow = flow
        self.limit = limit
        self.events: list[object] = []

    def on_piece(self, piece: bytes) -> None:
        self.events.append(piece)

    def on_end(self, trailers: Mapping[bytes, bytes]) -> Response:
        self.events.append(dict(trailers))
        return Response(202, b"taken")

    def on_broken(self, reason: RejectionReason | None) -> None:
        self.events.append(("broken", reason))


class Taker:
    """Opens the bodies of requests below /take, and refuses those below /refuse."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.opened: list[bytes] = []

    def __call__(self, request: Request) -> Response:
        return Response(200, b"collected " + request.body)

    def open_body(
        self, method: bytes, target: bytes, headers: Mapping[bytes, bytes], flow: Flow
    ) -> Taken | Response | None:
        assert method == b"POST"
        assert headers[b"host"] == b"a"
        self.opened.append(target)
        if target == b"/refuse":
            return Response(400, b"no")
        if target != b"/take":
            return None
        self.taken.append(Taken(flow))
        return self.taken[-1]


def connect_taker(
    taker: Taker, **limits: float | bool
) -> tuple[Connection, FakeTransport, Connections]:
    shared = Connections(
        taker,
        HttpLimits(**limits),  # type: ignore[arg-type]
        plain_rejection,
        None,
        taker.open_body,
    )
    connection = Connection(shared)
    return connection, FakeTransport(connection), shared


CHUNKED = b" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
POST = b"POST /take" + CHUNKED


async def test_a_body_is_taken_as_it_arrives_with_its_trailers() -> None:
    taker = Taker()
    connection, transport, _ = connect_taker(taker)
    connection.data_received(POST + b"3\r\non")
    assert taker.taken[0].events == [b"on"]
    connection.data_received(b"e\r\n3\r\ntwo\r\n0\r\nX-Why: not\r\n")
    assert taker.taken[0].events == [b"on", b"e", b"two"]
    assert not transport.written
    connection.data_received(b"\r\n")
    assert taker.taken[0].events[-1] == {b"x-why": b"not"}
    assert transport.written.endswith(b"taken")


async def test_the_request_behind_a_taken_one_is_served() -> None:
    taker = Taker()
    connection, transport, _ = connect_taker(taker)
    connection.data_received(POST + b"1\r\nx\r\n0\r\n\r\n" + GET)
    assert transport.written.count(b"HTTP/1.1 2") == 2
    assert transport.written.endswith(b"collected ")


async def test_other_bodies_are_collected() -> None:
    taker = Taker()
    connection, transport, _ = connect_taker(taker)
    connection.data_received(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab")
    assert transport.written.endswith(b"collected ab")
    assert taker.opened == [b"/x"]
    connection.data_received(GET)  # has no body: nobody is asked
    assert len(taker.opened) == 1


async def test_a_body_of_announced_length_is_taken_too() -> None:
    taker = Taker()
    connection, transport, _ = connect_taker(taker)
    connection.data_received(b"POST /take HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab")
    assert taker.taken[0].events == [b"ab", {}]
    assert transport.written.endswith(b"taken")


async def test_a_refused_body_is_not_read() -> None:
    taker = Taker()
    connection, transport, _ = connect_taker(taker)
    connection.data_received(b"POST /refuse" + CHUNKED + b"3\r\none\r\n")
    assert transport.written.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in transport.written
    assert transport.has_sent_eof
    connection.data_received(b"3\r\ntwo\r\n0\r\n\r\n" + GET)
    assert transport.written.count(b"HTTP/1.1") == 1


async def test_the_flow_pauses_and_resumes_reading() -> None:
    taker = Taker()
    connection, transport, _ = connect_taker(taker)
    connection.data_received(POST + b"3\r\none\r\n")
    flow = taker.taken[0].flow
    flow.pause()
    flow.pause()
    assert transport.is_reading_paused
    flow.resume()
    flow.resume()
    assert not transport.is_reading_paused
    connection.connection_lost(None)
    flow.pause()
    assert not transport.is_reading_paused


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"3e9\r\n" + b"x" * 1_001, RejectionReason.BODY_TOO_LARGE),
        (b"zz\r\n", RejectionReason.BAD_REQUEST),
        (b"3\r\nonetwo", RejectionReason.BAD_REQUEST),
        (b"0\r\n" + b"a: b\r\n" * 300, RejectionReason.HEADERS_TOO_LARGE),
        (b"1;" + b"x" * 2_000_000, RejectionReason.HEADERS_TOO_LARGE),
    ],
)
async def test_a_body_that_is_no_body_is_refused_and_its_taker_told(
    data: bytes, reason: RejectionReason
) -> None:
    taker = Taker()
    connection, transport, _ = connect_taker(taker)
    connection.data_received(POST)
    connection.data_received(data)
    assert taker.taken[0].events[-1] == ("broken", reason)
    assert transport.written.startswith(b"HTTP/1.1 %d" % reason.value)


async def test_a_length_over_the_taker_s_limit_is_refused_at_once() -> None:
    taker = Taker()
    connection, transport, _ = connect_taker(taker)
    connection.data_received(b"POST /take HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n")
    assert taker.taken[0].events == [("broken", RejectionReason.BODY_TOO_LARGE)]
    assert transport.written.startswith(b"HTTP/1.1 413 ")


async def test_a_lost_connection_breaks_the_body() -> None:
    taker = Taker()
    connection, _, _ = connect_taker(taker)
    connection.data_received(POST + b"3\r\non")
    connection.connection_lost(None)
    assert taker.taken[0].events == [b"on", ("broken", None)]


async def test_a_taken_body_may_pause_for_as_long_as_it_likes() -> None:
    taker = Taker()
    connection, transport, shared = connect_taker(taker, body_s=5.0)
    connection.data_received(POST + b"3\r\non")
    for _ in range(1_000):
        connection.on_sweep(1.0)
    assert not transport.is_closed
    assert not transport.written
    await shared.close(0, 0)


async def test_a_taken_body_behind_an_unanswered_request_ends_the_connection() -> None:
    waiting: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    taker = Taker()
    shared = Connections(lambda _: waiting, HttpLimits(), plain_rejection, None, taker.open_body)
    connection = Connection(shared)
    transport = FakeTransport(connection)
    connection.data_received(GET + POST + b"1\r\nx\r\n0\r\n\r\n" + GET)
    assert not transport.written
    waiting.set_result(Response(200, b"first"))
    await asyncio.sleep(0)
    assert transport.written.count(b"HTTP/1.1") == 2
    assert transport.written.endswith(b"Connection: close\r\nContent-Length: 5\r\n\r\ntaken")


async def test_reading_is_paused_once_for_both_reasons() -> None:
    """A body that is held up, and requests that wait behind an unanswered one."""
    waiting: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    taker = Taker()
    shared = Connections(lambda _: waiting, HttpLimits(), plain_rejection, None, taker.open_body)
    connection = Connection(shared)
    transport = FakeTransport(connection)
    connection.data_received(GET * 20 + POST + b"3\r\none\r\n")
    assert transport.is_reading_paused
    flow = taker.taken[0].flow
    flow.pause()
    flow.resume()
    assert transport.is_reading_paused
    flow.pause()
    waiting.set_result(Response(200, b""))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert transport.is_reading_paused
    flow.resume()
    assert not transport.is_reading_paused
    connection.connection_lost(None)


async def test_chunks_that_come_by_the_hundred_are_taken_as_one_piece() -> None:
    taker = Taker()
    connection, _, _ = connect_taker(taker)
    connection.data_received(POST + b"1\r\nx\r\n" * 400)
    connection.data_received(b"1\r\ny\r\n" * 400 + b"0\r\n\r\n")
    assert taker.taken[0].events[:2] == [b"x" * 400, b"y" * 400]


async def test_what_came_before_a_chunk_that_is_none_is_taken() -> None:
    taker = Taker()
    connection, _, _ = connect_taker(taker)
    connection.data_received(POST + b"1\r\nx\r\n" * 100 + b"zz\r\n")
    assert taker.taken[0].events == [b"x" * 100, ("broken", RejectionReason.BAD_REQUEST)]
