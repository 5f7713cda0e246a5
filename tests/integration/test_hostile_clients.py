"""Bytes that no well-behaved client sends, at the platform's own port."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from running_platform import Deployer, Platform

pytest_plugins = ("platform_fixtures",)

ECHO = "def handler(event, context):\n    return event\n"
# Less than what one is held up for who waits for another; plenty for a machine with much to do.
PROMPT_S = 10.0
Connect = Callable[[], socket.socket]


@pytest.fixture
def connect(platform: Platform) -> Iterator[Connect]:
    """Opens sockets to the platform, and closes them after the test."""
    with contextlib.ExitStack() as stack:

        def open_one() -> socket.socket:
            connection = socket.create_connection(("127.0.0.1", platform.port), timeout=10)
            return stack.enter_context(connection)

        yield open_one


@pytest.fixture
def still_well(deploy: Deployer, platform: Platform) -> Iterator[None]:
    """After the test a function, deployed before it, still answers correctly and fast."""
    name = deploy(ECHO)
    assert platform.invoke(name, "well").json == "well"
    yield
    began = time.monotonic()
    assert platform.invoke(name, "well").json == "well"
    assert time.monotonic() - began < PROMPT_S


def answer_to(connection: socket.socket, data: bytes) -> bytes:
    """Everything that comes back until the platform closes; empty when it just closes."""
    received = b""
    with contextlib.suppress(ConnectionError):
        connection.sendall(data)
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65_536):
            received += chunk
    return received


def status_of(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


@pytest.mark.usefixtures("still_well")
@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 1000,
        b"\xff\xfe\xfd" * 500 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0",
    ],
    ids=[
        "zeros",
        "high bytes",
        "a TLS hello",
        "no target",
        "unknown version",
        "a header without a colon",
        "a negative length",
        "two lengths",
        "a bad chunk",
        "both lengths",
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_closed(
    connect: Connect, data: bytes
) -> None:
    response = answer_to(connect(), data)

    assert response == b"" or 400 <= status_of(response) < 500


@pytest.mark.usefixtures("still_well")
def test_a_head_that_is_too_large_is_refused_before_it_is_read(connect: Connect) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Filler: " + b"y" * (8 << 20)

    response = answer_to(connect(), head)

    assert response == b"" or status_of(response) in (400, 413, 431)


@pytest.mark.usefixtures("still_well")
def test_a_head_of_endless_headers_is_refused(connect: Connect) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(200_000))

    response = answer_to(connect(), head)

    assert response == b"" or status_of(response) in (400, 413, 431)


@pytest.mark.usefixtures("still_well")
def test_an_announced_body_that_is_too_large_is_refused_without_reading_it(
    connect: Connect,
) -> None:
    request = b"POST /2015-03-31/functions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"

    response = answer_to(connect(), request % (1 << 40))

    assert status_of(response) == 413


@pytest.mark.usefixtures("still_well")
def test_a_chunked_body_without_an_end_is_refused_at_the_limit(connect: Connect) -> None:
    connection = connect()
    head = b"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: a\r\n"
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"

    response = answer_to(connection, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 100)

    assert response == b"" or status_of(response) == 413


@pytest.mark.usefixtures("still_well")
def test_a_body_that_ends_early_is_never_handled(
    connect: Connect, deploy: Deployer, platform: Platform
) -> None:
    name = deploy("n = 0\ndef handler(event, context):\n    global n\n    n += 1\n    return n\n")
    connection = connect()
    connection.sendall(
        f"POST /2015-03-31/functions/{name}/invocations HTTP/1.1\r\nHost: a\r\n"
        'Content-Length: 100\r\n\r\n{"half":'.encode()
    )
    connection.shutdown(socket.SHUT_WR)

    response = answer_to(connection, b"")

    assert response == b"" or 400 <= status_of(response) < 500
    assert platform.invoke(name).json == 1


@pytest.mark.usefixtures("still_well")
def test_hundreds_of_half_open_and_slow_connections_do_not_slow_others_down(
    connect: Connect, deploy: Deployer, platform: Platform
) -> None:
    name = deploy(ECHO)
    connections = [connect() for _ in range(300)]
    for number, connection in enumerate(connections):
        if number % 3:
            connection.sendall(b"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nX: ")

    began = time.monotonic()
    for number in range(50):
        # Each slow client sends one more byte: none of them ever gets to the end of its head.
        connections[number].sendall(b"y" if number % 3 else b"G")
        assert platform.invoke(name, number).json == number

    assert time.monotonic() - began < 2 * PROMPT_S


@pytest.mark.usefixtures("still_well")
def test_pipelined_requests_are_answered_in_order(connect: Connect, deploy: Deployer) -> None:
    name = deploy(
        "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event\n"
    )
    request = (
        f"POST /2015-03-31/functions/{name}/invocations HTTP/1.1\r\nHost: a\r\n"
        "Content-Length: {}\r\n{}\r\n{}"
    )
    bodies = ["0.3", "0.2", "0.1", "0"]
    data = "".join(
        request.format(len(body), "Connection: close\r\n" if body == "0" else "", body)
        for body in bodies
    )

    response = answer_to(connect(), data.encode())

    answers = [part.partition(b"\r\n\r\n")[2] for part in response.split(b"HTTP/1.1 ")[1:]]
    assert answers == [body.encode() for body in bodies]


@pytest.mark.usefixtures("still_well")
def test_an_unknown_path_and_an_unknown_service_are_errors_and_no_faults(connect: Connect) -> None:
    for target in (
        b"/",
        b"/2015-03-31/none",
        b"/%00",
        b"/..%2f..%2fetc/passwd",
        b"/_firelet/code/x",
    ):
        for method in (b"GET", b"POST", b"DELETE", b"BREW"):
            response = answer_to(
                connect(),
                method + b" " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            )
            assert 400 <= status_of(response) < 500 or status_of(response) == 501, (method, target)


@pytest.mark.usefixtures("still_well")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"FunctionName": 5}',
        b'{"Code": {"ZipFile": "!!"}}',
        b"\xff",
    ],
    ids=["empty", "a list", "null", "deep", "a number", "no base64", "no utf-8"],
)
def test_a_body_that_is_not_what_the_operation_takes_is_the_callers_error(
    connect: Connect, body: bytes
) -> None:
    head = b"POST /2015-03-31/functions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"

    response = answer_to(connect(), head + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    assert status_of(response) == 400
