"""Order of answers, back-pressure, time limits and ends of a server's connection."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from firelet.wire import http1_connection, http1_head, http1_live
from firelet.wire.http1 import (
    App,
    HttpLimits,
    Rejection,
    RejectionReason,
    Request,
    Response,
    plain_rejection,
)
from firelet.wire.http1_connection import Connection
from firelet.wire.http1_live import Connections
from firelet.wire.prompt import PromptFuture
from protocol.fake_transport import FakeTransport

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"


def echo(request: Request) -> Response:
    return Response(200, request.target + b"|" + request.body)


class Deferred:
    """An app that answers when the test says so."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: list[asyncio.Future[Response]] = []

    def __call__(self, request: Request) -> asyncio.Future[Response]:
        self.requests.append(request)
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]


def connect(
    app: App = echo,
    *,
    shared: Connections | None = None,
    peer: Any = ("192.0.2.7", 1),
    **limits: Any,
) -> tuple[Connection, FakeTransport]:
    shared = shared or Connections(app, HttpLimits(**limits), plain_rejection, None)
    connection = Connection(shared)
    return connection, FakeTransport(connection, peer)


def split_answers(written: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Parses answers that all carry Content-Length, or have no body."""
    answers = []
    rest = bytes(written)
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {n.lower(): v for n, v in (line.split(": ", 1) for line in lines)}
        size = int(headers.get("content-length", 0))
        answers.append((int(first.split()[1]), headers, rest[:size]))
        rest = rest[size:]
    return answers


def statuses(transport: FakeTransport) -> list[int]:
    return [status for status, _, _ in split_answers(transport.written)]


async def turn(times: int = 3) -> None:
    """Lets callbacks that are due run."""
    for _ in range(times):
        await asyncio.sleep(0)


def sweep(connection: Connection, seconds: float) -> None:
    connection.on_sweep(seconds)


# Answers


async def test_an_answer_given_at_once_is_one_write_and_no_task() -> None:
    connection, transport = connect()
    tasks = len(asyncio.all_tasks())
    connection.data_received(b"POST /x HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi")
    assert len(asyncio.all_tasks()) == tasks
    (write,) = transport.writes
    assert re.fullmatch(
        rb"HTTP/1\.1 200 OK\r\nDate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n"
        rb"Content-Length: 5\r\n\r\n/x\|hi",
        write,
    )
    assert not transport.is_closed


async def test_a_coroutine_is_answered_by_one_task_and_a_future_by_none() -> None:
    async def later(request: Request) -> Response:
        await asyncio.sleep(0)
        return echo(request)

    connection, transport = connect(later)
    connection.data_received(GET % 1)
    assert len(asyncio.all_tasks()) == 2
    await turn()
    assert split_answers(transport.written)[0][2] == b"/1|"

    app = Deferred()
    connection, transport = connect(app)
    connection.data_received(GET % 1)
    assert len(asyncio.all_tasks()) == 1
    app.answers[0].set_result(Response(201))
    await turn()
    assert statuses(transport) == [201]


async def test_a_future_that_is_done_is_answered_without_a_turn_of_the_loop() -> None:
    done: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    done.set_result(Response(202))
    connection, transport = connect(lambda request: done)
    connection.data_received(GET % 1)
    assert statuses(transport) == [202]


async def test_a_prompt_future_is_answered_before_its_result_is_set() -> None:
    answers: list[PromptFuture[Response]] = []

    def app(request: Request) -> PromptFuture[Response]:
        answers.append(PromptFuture())
        return answers[-1]

    connection, transport = connect(app)
    connection.data_received(GET % 1 + GET % 2)
    answers[0].set_result(Response(200))
    # Without a turn of the loop, and the request behind it has been served as well.
    assert statuses(transport) == [200]
    answers[1].set_result(Response(201))
    assert statuses(transport) == [200, 201]


async def test_a_prompt_future_is_cancelled_when_its_client_goes_away() -> None:
    answer: PromptFuture[Response] = PromptFuture()
    shared = Connections(lambda request: answer, HttpLimits(), plain_rejection, None)
    connection, transport = connect(shared=shared)
    connection.data_received(GET % 1)
    transport.hang_up()
    assert answer.cancelled()
    await turn()
    assert not transport.written
    assert not shared.live


async def test_large_bodies_are_not_copied_behind_their_head() -> None:
    body = b"x" * http1_connection.JOIN_MAX_BYTES
    connection, transport = connect(lambda request: Response(200, body))
    connection.data_received(GET % 1)
    assert len(transport.writes) == 2
    assert split_answers(transport.written)[0][2] == body


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_content_carry_no_body_and_no_length(status: int) -> None:
    connection, transport = connect(lambda request: Response(status, b"ignored"))
    connection.data_received(GET % 1)
    ((found, headers, body),) = split_answers(transport.written)
    assert (found, body) == (status, b"")
    assert "content-length" not in headers


async def test_the_answer_to_head_has_the_length_and_no_body() -> None:
    connection, transport = connect()
    connection.data_received(b"HEAD /abc HTTP/1.1\r\n\r\n")
    assert b"Content-Length: 5\r\n" in transport.written
    assert transport.written.endswith(b"\r\n\r\n")


async def test_http_1_0_is_closed_unless_it_asks_to_be_kept_and_then_told_so() -> None:
    connection, transport = connect()
    connection.data_received(b"GET / HTTP/1.0\r\n\r\n")
    assert split_answers(transport.written)[0][1]["connection"] == "close"
    assert transport.is_closed
    connection, transport = connect()
    connection.data_received(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert split_answers(transport.written)[0][1]["connection"] == "keep-alive"
    assert not transport.is_closed


async def test_connection_close_is_honoured_and_what_follows_is_ignored() -> None:
    connection, transport = connect()
    connection.data_received(b"GET /1 HTTP/1.1\r\nConnection: close\r\n\r\n" + GET % 2)
    assert [body for _, _, body in split_answers(transport.written)] == [b"/1|"]
    assert transport.is_closed


async def test_a_header_that_would_break_its_line_becomes_a_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    evil = ((b"X-A", b"b\r\nSet-Cookie: c=d"),)
    connection, transport = connect(lambda request: Response(200, b"", evil))
    connection.data_received(GET % 1)
    assert statuses(transport) == [500]
    assert b"Set-Cookie" not in transport.written
    assert len(caplog.records) == 1


async def test_unix_sockets_have_no_peer() -> None:
    seen: list[str] = []

    def app(request: Request) -> Response:
        seen.append(request.peer)
        return Response(200)

    for peer in (("192.0.2.7", 1), ("2001:db8::1", 1, 0, 0), "", None):
        connect(app, peer=peer)[0].data_received(GET % 1)
    assert seen == ["192.0.2.7", "2001:db8::1", "", ""]


# Failures of the app


async def raise_later(request: Request) -> Response:
    await asyncio.sleep(0)
    raise ValueError("secret")


def raise_now(request: Request) -> Response:
    raise ValueError("secret")


@pytest.mark.parametrize("app", [raise_now, raise_later])
async def test_an_exception_is_logged_once_and_answered_500(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    connection, transport = connect(app)
    connection.data_received(b"GET /1?token=x HTTP/1.1\r\n\r\n" + GET % 2)
    await turn(6)
    assert statuses(transport) == [500, 500]
    assert b"secret" not in transport.written
    assert len(caplog.records) == 2
    assert caplog.records[0].exc_info is not None
    assert "token" not in caplog.text.split("Traceback")[0]


async def test_something_that_is_no_answer_becomes_a_500(caplog: pytest.LogCaptureFixture) -> None:
    connection, transport = connect(lambda request: None)  # type: ignore[arg-type,return-value]
    connection.data_received(GET % 1)
    assert statuses(transport) == [500]
    assert "TypeError" in caplog.text


async def test_a_withdrawn_future_is_answered_500_and_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Deferred()
    connection, transport = connect(app)
    connection.data_received(GET % 1)
    app.answers[0].cancel()
    await turn()
    assert statuses(transport) == [500]
    assert not caplog.records


async def test_a_broken_on_reject_falls_back_to_the_default(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def on_reject(rejection: Rejection) -> Response:
        raise KeyError(rejection.reason)

    shared = Connections(echo, HttpLimits(), on_reject, None)
    connection, transport = connect(shared=shared)
    connection.data_received(b"rubbish\r\n\r\n")
    assert statuses(transport) == [400]
    assert len(caplog.records) == 1


# Pipelining


async def test_pipelined_requests_are_served_one_at_a_time_and_in_order() -> None:
    app = Deferred()
    connection, transport = connect(app)
    connection.data_received(GET % 1 + GET % 2 + GET % 3)
    assert [request.target for request in app.requests] == [b"/1"]
    for number in range(3):
        app.answers[number].set_result(Response(200, b"%d" % number))
        await turn()
    assert [body for _, _, body in split_answers(transport.written)] == [b"0", b"1", b"2"]


async def test_a_post_and_the_next_get_in_one_segment_reach_the_app_in_the_same_call() -> None:
    waiting = Deferred()

    def app(request: Request) -> Response | asyncio.Future[Response]:
        return Response(202) if request.method == b"POST" else waiting(request)

    connection, transport = connect(app)
    post = b"POST /response HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
    connection.data_received(post + GET % 1)
    assert statuses(transport) == [202]
    assert len(waiting.requests) == 1


async def test_reading_stops_above_a_bound_of_waiting_requests_and_goes_on_below() -> None:
    app = Deferred()
    connection, transport = connect(app)
    connection.data_received(GET % 0)
    for number in range(http1_connection.PIPELINE_MAX - 1):
        connection.data_received(GET % number)
    assert not transport.is_reading_paused
    connection.data_received(GET % 99)
    assert transport.is_reading_paused
    for number in range(http1_connection.PIPELINE_MAX + 1):
        app.answers[number].set_result(Response(200))
        await turn()
    assert not transport.is_reading_paused
    assert len(statuses(transport)) == http1_connection.PIPELINE_MAX + 1


async def test_reading_stops_when_waiting_bodies_are_large() -> None:
    app = Deferred()
    connection, transport = connect(app)
    size = http1_connection.PIPELINE_BYTES_MAX + 1
    body = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    connection.data_received(GET % 1 + body)
    assert transport.is_reading_paused


async def test_a_rejection_waits_for_the_answers_before_it() -> None:
    app = Deferred()
    connection, transport = connect(app)
    connection.data_received(GET % 1 + GET % 2 + b"rubbish\r\n\r\n")
    assert not transport.written
    app.answers[0].set_result(Response(201))
    await turn()
    app.answers[1].set_result(Response(202))
    await turn()
    assert statuses(transport) == [201, 202, 400]
    assert transport.has_sent_eof


# Rejections


async def test_an_oversized_body_is_answered_before_it_is_read_and_then_swallowed() -> None:
    connection, transport = connect(body_bytes=10)
    connection.data_received(b"POST / HTTP/1.1\r\nContent-Length: 5000\r\n\r\n")
    ((status, headers, _),) = split_answers(transport.written)
    assert (status, headers["connection"]) == (413, "close")
    assert transport.has_sent_eof
    connection.data_received(b"x" * 5000 + GET % 1)
    assert not transport.is_closed
    assert len(statuses(transport)) == 1
    transport.hang_up()
    assert transport.is_closed


async def test_a_rejected_client_may_not_send_for_ever() -> None:
    connection, transport = connect()
    connection.data_received(b"rubbish\r\n")
    piece = b"x" * (http1_connection.LINGER_BYTES_MAX // 8)
    for _ in range(8):
        connection.data_received(piece)
    assert not transport.was_aborted
    connection.data_received(b"x")
    assert transport.was_aborted

    connection, transport = connect()
    connection.data_received(b"rubbish\r\n")
    sweep(connection, http1_connection.LINGER_S)
    connection.data_received(b"x")
    assert not transport.was_aborted
    sweep(connection, 1)
    assert transport.was_aborted


async def test_a_rejected_head_request_gets_no_body() -> None:
    connection, transport = connect(body_bytes=1)
    connection.data_received(b"HEAD / HTTP/1.1\r\nContent-Length: 5\r\n\r\n")
    assert statuses(transport) == [413]
    assert transport.written.endswith(b"\r\n\r\n")


async def test_connections_above_the_maximum_are_told_so_and_far_above_cut_off() -> None:
    app = Deferred()
    shared = Connections(app, HttpLimits(max_connections=2), plain_rejection, None)
    welcome = [connect(shared=shared) for _ in range(2)]
    for connection, _ in welcome:
        connection.data_received(GET % 1)
    told = [connect(shared=shared)[1] for _ in range(http1_connection.OVERLOAD_SPARE)]
    assert {tuple(statuses(transport)) for transport in told} == {(503,)}
    _, transport = connect(shared=shared)
    assert transport.was_aborted
    assert not transport.written
    for answer in app.answers:
        answer.set_result(Response(200))
    await turn()
    assert [statuses(transport) for _, transport in welcome] == [[200], [200]]


async def test_connections_that_ask_for_nothing_make_room_the_quietest_first() -> None:
    shared = Connections(echo, HttpLimits(max_connections=100), plain_rejection, None)
    held = [connect(shared=shared) for _ in range(100)]
    for number in (*range(5), 50):
        await asyncio.sleep(0.001)
        held[number][0].data_received(GET % 1)
    held[99][0].data_received(b"GET / HT")
    sweep(held[99][0], 5.0)
    newcomer, transport = connect(shared=shared)
    newcomer.data_received(GET % 1)
    assert statuses(transport) == [200]
    ended = [number for number, (_, transport) in enumerate(held) if transport.was_aborted]
    # Then those that came first, without those that have just been served.
    silent = [number for number in range(99) if number >= 5 and number != 50]
    assert ended == [*silent[: http1_live.EVICTED_AT_ONCE - 1], 99]
    assert len(shared.live) == 101 - http1_live.EVICTED_AT_ONCE


async def test_unfinished_requests_make_room_once_they_have_stopped() -> None:
    shared = Connections(echo, HttpLimits(max_connections=2), plain_rejection, None)
    head, body = connect(shared=shared), connect(shared=shared)
    head[0].data_received(b"GET / HT")
    body[0].data_received(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\na")
    assert statuses(connect(shared=shared)[1]) == [503]
    for connection, _ in (head, body):
        sweep(connection, http1_connection.STALLED_S)
    newcomer, transport = connect(shared=shared)
    newcomer.data_received(GET % 1)
    assert statuses(transport) == [200]
    assert head[1].was_aborted
    assert body[1].was_aborted


async def test_bodies_that_come_byte_by_byte_make_room_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = Connections(echo, HttpLimits(max_connections=1), plain_rejection, None)
    slow, transport = connect(shared=shared)
    slow.data_received(b"POST / HTTP/1.1\r\nContent-Length: 500\r\n\r\na")
    sweep(slow, http1_connection.STALLED_S)
    slow.data_received(b"b")
    assert statuses(connect(shared=shared)[1]) == [503]
    assert not transport.was_aborted
    monkeypatch.setattr(http1_connection, "UNFINISHED_S", 0.0)
    assert statuses(connect(shared=shared)[1]) == []
    assert transport.was_aborted


async def test_where_silence_may_last_for_ever_nothing_makes_room() -> None:
    shared = Connections(
        echo, HttpLimits(max_connections=1, keep_alive_s=None), plain_rejection, None
    )
    connection, transport = connect(shared=shared)
    assert statuses(connect(shared=shared)[1]) == [503]
    connection.data_received(GET % 1)
    assert statuses(transport) == [200]


async def test_on_reject_words_the_answer() -> None:
    seen: list[Rejection] = []

    def on_reject(rejection: Rejection) -> Response:
        seen.append(rejection)
        return Response(418)

    shared = Connections(echo, HttpLimits(body_bytes=1), on_reject, None)
    connection, transport = connect(shared=shared)
    connection.data_received(b"POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\n")
    assert statuses(transport) == [418]
    assert seen == [Rejection(RejectionReason.BODY_TOO_LARGE, b"POST", b"/a", 1)]


# 100-continue

EXPECT = b"POST /2 HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_continue_is_sent_before_the_body_is_read() -> None:
    connection, transport = connect()
    connection.data_received(EXPECT)
    assert transport.written == CONTINUE
    connection.data_received(b"hi")
    assert statuses(transport) == [100, 200]


async def test_continue_waits_for_the_answers_before_it() -> None:
    app = Deferred()
    connection, transport = connect(app)
    connection.data_received(GET % 1 + EXPECT)
    assert not transport.written
    app.answers[0].set_result(Response(200))
    await turn()
    assert statuses(transport) == [200, 100]


async def test_an_oversized_body_is_refused_instead_of_asked_for() -> None:
    connection, transport = connect(body_bytes=1)
    connection.data_received(EXPECT)
    assert statuses(transport) == [413]


# Clients that go away


@pytest.mark.parametrize("way", ["eof", "reset"])
async def test_a_future_is_cancelled_when_its_client_goes_away(way: str) -> None:
    app = Deferred()
    connection, transport = connect(app)
    connection.data_received(GET % 1 + GET % 2)
    if way == "eof":
        transport.hang_up()
    else:
        connection.connection_lost(ConnectionResetError())
    assert app.answers[0].cancelled()
    await turn()
    assert len(app.requests) == 1
    assert not transport.written


async def test_a_task_is_cancelled_when_its_client_goes_away_and_its_last_words_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(request: Request) -> Response:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("while cleaning up")

    shared = Connections(app, HttpLimits(), plain_rejection, None)
    connection, transport = connect(shared=shared)
    connection.data_received(GET % 1)
    await turn()
    transport.hang_up()
    await turn()
    assert len(caplog.records) == 1
    assert not transport.written
    assert not shared.live


async def test_a_connection_counts_until_its_handler_has_ended() -> None:
    release = asyncio.Event()

    async def app(request: Request) -> Response:
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()
        return Response(200)

    shared = Connections(app, HttpLimits(), plain_rejection, None)
    connection, transport = connect(shared=shared)
    connection.data_received(GET % 1)
    await turn()
    transport.hang_up()
    await turn()
    assert list(shared.live) == [connection]
    connection.on_sweep(1000)
    release.set()
    await turn()
    assert not shared.live


async def test_a_lost_connection_leaves_nothing_to_the_garbage_collector() -> None:
    async def open_and_lose() -> None:
        connection, transport = connect()
        connection.data_received(GET % 1)
        transport.hang_up()
        await turn()
        transport.forget()

    await open_and_lose()
    gc.collect()
    gc.disable()
    try:
        await open_and_lose()
        assert not [found for found in gc.get_objects() if isinstance(found, Connection)]
    finally:
        gc.enable()


async def test_noise_and_early_ends_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="firelet")
    for data in (b"", b"\0", b"GET", b"GET / HTTP/1.1\r\nA", GET % 1, EXPECT, EXPECT + b"x"):
        connection, transport = connect()
        connection.data_received(data)
        transport.hang_up()
        await turn()
        assert transport.is_closed
    assert not caplog.records


# Back-pressure


async def test_nothing_more_is_served_while_the_client_does_not_read() -> None:
    connection, transport = connect()
    transport.is_stuck = True
    connection.data_received(GET % 1 + GET % 2)
    assert len(statuses(transport)) == 1
    transport.is_stuck = False
    transport.read_by_client(10_000)
    assert [body for _, _, body in split_answers(transport.written)] == [b"/1|", b"/2|"]


async def test_a_client_that_reads_nothing_is_dropped_and_a_slow_one_is_not() -> None:
    connection, transport = connect(lambda request: Response(200, b"x" * 1000), write_s=10)
    transport.is_stuck = True
    connection.data_received(GET % 1)
    for _ in range(5):
        sweep(connection, 9)
        transport.read_by_client(1)
    assert not transport.was_aborted
    for _ in range(3):
        sweep(connection, 6)
    assert transport.was_aborted


async def test_a_closing_connection_does_not_wait_for_ever_for_its_client_to_read() -> None:
    connection, transport = connect(write_s=10)
    transport.is_stuck = True
    connection.data_received(b"GET / HTTP/1.0\r\n\r\n")
    sweep(connection, 9)
    assert not transport.was_aborted
    sweep(connection, 9)
    assert transport.was_aborted


# Time limits


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    connection, transport = connect(keep_alive_s=10)
    connection.data_received(GET % 1)
    sweep(connection, 10)
    connection.data_received(GET % 1)
    sweep(connection, 10)
    assert not transport.is_closed
    sweep(connection, 1)
    assert transport.is_closed
    assert statuses(transport) == [200, 200]


async def test_an_idle_connection_may_be_kept_for_ever_and_needs_no_sweep() -> None:
    connection, transport = connect(keep_alive_s=None)
    connection.data_received(GET % 1)
    assert connection.on_sweep(1e9) is False
    assert not transport.is_closed


async def test_a_request_in_flight_has_no_time_limit_here() -> None:
    connection, transport = connect(Deferred(), keep_alive_s=1, header_s=1)
    connection.data_received(GET % 1)
    assert connection.on_sweep(1e9) is False
    assert not transport.is_closed


async def test_a_head_that_dribbles_is_refused() -> None:
    connection, transport = connect(header_s=10)
    connection.data_received(b"GET / HTTP/1.1\r\n")
    for _ in range(10):
        connection.data_received(b"a")
        sweep(connection, 1)
    assert not transport.written
    sweep(connection, 1)
    assert statuses(transport) == [408]
    assert transport.has_sent_eof


async def test_a_body_may_be_slow_but_not_silent() -> None:
    connection, transport = connect(body_s=10)
    connection.data_received(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
    for _ in range(5):
        connection.data_received(b"a")
        sweep(connection, 10)
    assert not transport.written
    sweep(connection, 1)
    assert statuses(transport) == [408]


class FakeTimer:
    """Stands for the loop's ``call_later``: runs what was set when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.due: list[Callable[[], object]] = []
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "call_later", self._call_later)

    def _call_later(self, delay: float, callback: Callable[[], object]) -> FakeTimer:
        self.due.append(callback)
        return self

    def cancel(self) -> None:
        self.due.clear()

    def fire(self) -> None:
        due, self.due = self.due, []
        for callback in due:
            callback()


async def test_one_sweep_serves_all_connections_and_rests_when_nothing_can_time_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timer = FakeTimer(monkeypatch)
    shared = Connections(echo, HttpLimits(keep_alive_s=None), plain_rejection, None)
    first, _ = connect(shared=shared)
    second, _ = connect(shared=shared)
    assert len(timer.due) == 1
    timer.fire()
    assert not timer.due
    first.data_received(GET % 1)
    second.data_received(GET % 1)
    assert len(timer.due) == 1
    second.data_received(b"GET / HT")
    timer.fire()
    assert len(timer.due) == 1
    second.data_received(b"TP/1.1\r\n\r\n")
    timer.fire()
    assert not timer.due


async def test_the_date_is_written_once_per_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = FakeTimer(monkeypatch)
    dates = iter(["first", "second"])
    monkeypatch.setattr(http1_head, "formatdate", lambda usegmt: next(dates))
    connection, transport = connect()
    connection.data_received(GET % 1 + GET % 2)
    timer.fire()
    connection.data_received(GET % 3)
    found = [headers["date"] for _, headers, _ in split_answers(transport.written)]
    assert found == ["first", "first", "second"]


# Closing the server


async def test_close_ends_idle_connections_at_once_and_lets_busy_ones_answer() -> None:
    app = Deferred()
    shared = Connections(app, HttpLimits(), plain_rejection, None)
    _, idle = connect(shared=shared)
    busy, transport = connect(shared=shared)
    busy.data_received(GET % 1 + GET % 2)
    closing = asyncio.ensure_future(shared.close(drain_s=60, flush_s=1))
    await turn()
    assert idle.is_closed
    assert not transport.is_closed
    app.answers[0].set_result(Response(200))
    await closing
    ((status, headers, _),) = split_answers(transport.written)
    assert (status, headers["connection"]) == (200, "close")
    assert not transport.was_aborted
    assert not shared.live


async def test_close_without_drain_aborts_what_is_busy_and_cancels_its_handler() -> None:
    app = Deferred()
    shared = Connections(app, HttpLimits(), plain_rejection, None)
    busy, transport = connect(shared=shared)
    busy.data_received(GET % 1)
    await shared.close(drain_s=0, flush_s=1)
    assert transport.was_aborted
    assert app.answers[0].cancelled()
    assert not shared.live
