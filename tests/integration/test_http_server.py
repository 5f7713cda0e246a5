"""The HTTP server and client over real sockets, on uvloop and on the standard loop."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
import uvloop

from firelet.wire.client import BadResponse, HttpClient
from firelet.wire.http1 import App, HttpLimits, HttpServer, Request, Response

Run = Callable[[Coroutine[None, None, None]], None]


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a scenario to its end on a loop of its own, which must end without open tasks."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(scenario: Coroutine[None, None, None]) -> None:
        async def check() -> None:
            await scenario
            assert asyncio.all_tasks() == {asyncio.current_task()}

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(check())

    return run


def echo(request: Request) -> Response:
    return Response(200, request.body, ((b"X-Peer", request.peer.encode()),))


@asynccontextmanager
async def serving(app: App, **limits: object) -> AsyncIterator[tuple[str, int]]:
    server = HttpServer(app, limits=HttpLimits(**limits))  # type: ignore[arg-type]
    address = await server.listen("127.0.0.1", 0)
    try:
        yield address
    finally:
        await server.close()


@pytest.mark.parametrize("size", [0, 1, 65_536, 6 * 1024 * 1024])
def test_bodies_of_all_sizes_come_back_over_one_connection(run: Run, size: int) -> None:
    async def scenario() -> None:
        body = os.urandom(size)
        async with serving(echo) as address, HttpClient(*address) as client:
            for _ in range(3):
                response = await client.request(b"POST", b"/x", (), body)
                assert (response.status, response.body == body) == (200, True)
                assert response.headers[b"x-peer"] == b"127.0.0.1"

    run(scenario())


def test_a_standard_client_reads_the_413_while_it_is_still_sending(run: Run) -> None:
    async def scenario() -> None:
        async with serving(echo, body_bytes=1000) as address:

            def post() -> int:
                connection = HTTPConnection(*address)
                connection.request("POST", "/", b"x" * 20_000_000)
                status = connection.getresponse().status
                connection.close()
                return status

            assert await asyncio.to_thread(post) == 413

    run(scenario())


def test_pipelined_requests_are_answered_in_order(run: Run) -> None:
    async def app(request: Request) -> Response:
        # The first takes the most turns.
        for _ in range(100 - int(request.target[1:])):
            await asyncio.sleep(0)
        return Response(200, request.target[1:])

    async def scenario() -> None:
        async with serving(app) as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % i for i in range(99)))
            writer.write(b"GET /99 HTTP/1.0\r\n\r\n")
            written = await reader.read()
            bodies = [part.split(b"HTTP")[0] for part in written.split(b"\r\n\r\n")[1:]]
            assert bodies == [b"%d" % i for i in range(100)]
            writer.close()
            await writer.wait_closed()

    run(scenario())


def test_a_handler_is_cancelled_when_its_client_closes_or_resets(run: Run) -> None:
    async def scenario() -> None:
        started: asyncio.Queue[None] = asyncio.Queue()
        cancelled: asyncio.Queue[None] = asyncio.Queue()

        async def app(request: Request) -> Response:
            started.put_nowait(None)
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.put_nowait(None)
            return Response(200)

        async with serving(app) as address:
            for is_reset in (False, True):
                _, writer = await asyncio.open_connection(*address)
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
                await started.get()
                if is_reset:
                    writer.transport.abort()
                else:
                    writer.close()
                await cancelled.get()

    run(scenario())


def test_a_response_larger_than_the_socket_buffers_waits_for_its_reader(run: Run) -> None:
    async def scenario() -> None:
        body = os.urandom(30_000_000)
        async with serving(lambda request: Response(200, body)) as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"GET / HTTP/1.1\r\n\r\n" * 2 + b"GET / HTTP/1.0\r\n\r\n")
            written = await reader.read()
            assert written.count(body) == 3
            writer.close()
            await writer.wait_closed()

    run(scenario())


def test_a_connection_too_many_reads_its_503(run: Run) -> None:
    async def scenario() -> None:
        async with (
            # Where silence may last for ever; else the first would make room.
            serving(echo, max_connections=1, keep_alive_s=None) as address,
            HttpClient(*address) as first,
            HttpClient(*address) as second,
        ):
            assert (await first.request(b"GET", b"/")).status == 200
            reader, writer = await asyncio.open_connection(*address)
            assert b" 503 " in await reader.readline()
            writer.close()
            await writer.wait_closed()
            await first.close()
            # The server learns of the close in a turn of its own.
            while (await second.request(b"GET", b"/")).status == 503:
                await second.close()

    run(scenario())


def test_a_silent_connection_makes_room_for_another(run: Run) -> None:
    async def scenario() -> None:
        async with serving(echo, max_connections=1) as address, HttpClient(*address) as second:
            reader, writer = await asyncio.open_connection(*address)
            assert (await second.request(b"GET", b"/")).status == 200
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    run(scenario())


def test_expect_continue_is_answered_for_the_client(run: Run) -> None:
    async def scenario() -> None:
        async with serving(echo) as address, HttpClient(*address) as client:
            expect = ((b"Expect", b"100-continue"),)
            response = await client.request(b"POST", b"/", expect, b"hi")
            assert (response.status, response.body) == (200, b"hi")

    run(scenario())


def test_a_unix_listener_is_served_and_has_no_peer(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        server = HttpServer(echo)
        await server.listen_socket(listener)
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert b"\r\nX-Peer: \r\n" in await reader.read()
        writer.close()
        await writer.wait_closed()
        await server.close()
        assert listener.fileno() == -1

    run(scenario())


IN_OTHER_NAMESPACE = """
import socket, sys
from firelet.linux import namespaces, network
namespaces.unshare(namespaces.CLONE_NEWNET)
network.raise_loopback()
listener = socket.create_server(("127.0.0.1", 9001))
channel = socket.socket(fileno=int(sys.argv[1]))
socket.send_fds(channel, [b"!"], [listener.fileno()])
listener.close()
client = socket.create_connection(("127.0.0.1", 9001))
client.sendall(b"POST / HTTP/1.0\\r\\nContent-Length: 2\\r\\n\\r\\nhi")
print(client.makefile("rb").read().decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a network namespace")
def test_a_listener_from_another_network_namespace_is_served(run: Run) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            child = subprocess.Popen(
                [sys.executable, "-c", IN_OTHER_NAMESPACE, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdout=subprocess.PIPE,
                text=True,
            )
            _, (fd,), _, _ = await asyncio.to_thread(socket.recv_fds, ours, 1, 1)
        server = HttpServer(echo)
        await server.listen_socket(socket.socket(fileno=fd))
        output, _ = await asyncio.to_thread(child.communicate)
        assert output.startswith("HTTP/1.1 200 OK")
        assert output.rstrip("\n").endswith("hi")
        await server.close()

    run(scenario())


def test_close_drains_and_then_refuses_connections(run: Run) -> None:
    async def scenario() -> None:
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        asked = asyncio.Event()

        def app(request: Request) -> asyncio.Future[Response]:
            asked.set()
            return answer

        server = HttpServer(app)
        address = await server.listen("127.0.0.1", 0)
        async with HttpClient(*address) as client, asyncio.TaskGroup() as group:
            request = group.create_task(client.request(b"GET", b"/"))
            await asked.wait()
            closing = group.create_task(server.close(drain_s=60))
            await asyncio.sleep(0)
            answer.set_result(Response(200, b"late"))
            assert (await request).body == b"late"
            await closing
            with pytest.raises(ConnectionRefusedError):
                await client.request(b"GET", b"/")

    run(scenario())


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[str, int]]:
    """A server that gives one recorded answer per connection, then closes it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        await asyncio.to_thread(thread.join)
        listener.close()


def test_the_client_understands_every_framing_and_connects_again(run: Run) -> None:
    async def scenario() -> None:
        ok = b"HTTP/1.1 200 OK\r\n"
        answers = [
            ok + b"Content-Length: 2\r\nConnection: close\r\n\r\nhi",
            ok + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" + ok + b"Connection: close\r\n\r\nhi",
        ]
        async with answering(*answers) as address, HttpClient(*address) as client:
            for _ in answers:
                response = await client.request(b"GET", b"/")
                assert (response.status, response.body) == (200, b"hi")

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", ConnectionResetError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", ConnectionResetError),
        (b"rubbish\r\n\r\n", BadResponse),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000, BadResponse),
    ],
)
def test_the_client_reports_answers_that_end_early_or_are_wrong(
    run: Run, answer: bytes, error: type[Exception]
) -> None:
    async def scenario() -> None:
        async with (
            answering(answer) as address,
            HttpClient(*address, response_bytes=1000) as client,
        ):
            with pytest.raises(error):
                await client.request(b"GET", b"/")

    run(scenario())


def test_a_head_answer_keeps_the_connection_in_step(run: Run) -> None:
    async def scenario() -> None:
        def app(request: Request) -> Response:
            return Response(200, b"body of " + request.method)

        async with serving(app) as address, HttpClient(*address) as client:
            assert (await client.request(b"HEAD", b"/")).body == b""
            assert (await client.request(b"GET", b"/")).body == b"body of GET"

    run(scenario())


def test_a_response_that_does_not_come_in_time_costs_the_connection(run: Run) -> None:
    async def scenario() -> None:
        async def app(request: Request) -> Response:
            if request.target == b"/slow":
                await asyncio.Event().wait()
            return Response(200, b"hi")

        async with serving(app) as address, HttpClient(*address, response_s=1.0) as client:
            with pytest.raises(TimeoutError):
                await client.request(b"GET", b"/slow")
            assert (await client.request(b"GET", b"/")).body == b"hi"

    run(scenario())
