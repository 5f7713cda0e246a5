"""Functions and clients that abuse streams: wrong order, double answers, bytes one by one, silence.

What they do harms their own invocation: a function that is invoked meanwhile does not notice, the
platform holds no memory of it, and its log knows of no fault.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from hostile_sites import ECHO, MIB, resident_bytes, send, status_of, unharmed
from running_platform import Deployer, Platform, wait_until

pytest_plugins = ("platform_fixtures",)

FLAT_BYTES = 48 * MIB
# Speaks to the Runtime API behind its client's back. ``DEED`` is run with ``own``, the id.
SPEAKS = """
import json, os, socket, threading, time
HOST, PORT = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
def dial():
    return socket.create_connection((HOST, int(PORT)), timeout=20)
def begin(own, kind="application/octet-stream"):
    connection = dial()
    connection.sendall(
        b"POST /2018-06-01/runtime/invocation/%b/response HTTP/1.1\\r\\nHost: a\\r\\n"
        b"Lambda-Runtime-Function-Response-Mode: streaming\\r\\nContent-Type: %b\\r\\n"
        b"Transfer-Encoding: chunked\\r\\n\\r\\n" % (own.encode(), kind.encode())
    )
    return connection
def post(path, body=b"{}"):
    connection = dial()
    connection.sendall(b"POST /2018-06-01/runtime/%b HTTP/1.1\\r\\nHost: a\\r\\n"
                       b"Content-Length: %d\\r\\n\\r\\n%b" % (path.encode(), len(body), body))
    return connection
def status(connection):
    return int(connection.recv(65536).split(b" ", 2)[1])
def chunk(data):
    return b"%x\\r\\n%b\\r\\n" % (len(data), data)
END = b"0\\r\\n\\r\\n"
HTTP = "application/vnd.awslambda.http-integration-response"
def handler(event, context):
    own = context.aws_request_id
DEED
"""
# What the function does, and whether the client must still get the right answer, "right".
DEEDS = {
    "a stream, then a whole response": (
        "stream = begin(own)\n"
        "stream.sendall(chunk(b'right'))\n"
        "print('SAID', status(post('invocation/%s/response' % own, b'wrong')), flush=True)\n"
        "stream.sendall(END)\n"
        "status(stream)\n",
        b"right",
        "SAID 403",
    ),
    "a stream, then an error": (
        "stream = begin(own)\n"
        "stream.sendall(chunk(b'right'))\n"
        "print('SAID', status(post('invocation/%s/error' % own)), flush=True)\n"
        "stream.sendall(END)\n"
        "status(stream)\n",
        b"right",
        "SAID 403",
    ),
    "two streams at once": (
        "one = begin(own)\n"
        "one.sendall(chunk(b'right'))\n"
        "print('SAID', status(begin(own)), flush=True)\n"
        "one.sendall(END)\n"
        "status(one)\n",
        b"right",
        "SAID 403",
    ),
    "a response, then a stream": (
        "first = status(post('invocation/%s/response' % own, b'right'))\n"
        "print('SAID', first, status(begin(own)), flush=True)\n",
        b"right",
        "SAID 202 403",
    ),
    "an error of INIT in mid-stream": (
        "stream = begin(own)\n"
        "stream.sendall(chunk(b'right'))\n"
        "print('SAID', status(post('init/error')), flush=True)\n"
        "stream.sendall(END)\n"
        "status(stream)\n",
        b"right",
        "SAID 403",
    ),
    "single bytes": (
        "stream = begin(own)\n"
        "for _ in range(30):\n"
        "    stream.sendall(b'1\\r\\nx\\r\\n' * 40_000)\n"
        "stream.sendall(END)\n"
        "status(stream)\n",
        b"x" * 1_200_000,
        None,
    ),
    "byte by byte": (
        "stream = begin(own)\n"
        "stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)\n"
        "for byte in chunk(b'right') + END:\n"
        "    stream.sendall(bytes([byte]))\n"
        "    time.sleep(0.01)\n"
        "status(stream)\n",
        b"right",
        None,
    ),
    "hundreds of other connections, half of a head on each": (
        "held = []\n"
        "with open('/dev/null') as _:\n"
        "    try:\n"
        "        while len(held) < 500:\n"
        "            held.append(dial())\n"
        "            held[-1].sendall(b'POST /2018-06-01/runtime/invocation/')\n"
        "    except OSError:\n"
        "        pass\n"
        "for each in held:\n"
        "    each.close()\n"
        "while True:\n"  # until there is room for another one
        "    with dial() as other:\n"
        "        other.sendall(b'GET /2018-06-01/none HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')\n"
        "        try:\n"
        "            if other.recv(100):\n"
        "                break\n"
        "        except OSError:\n"
        "            pass\n"
        "    time.sleep(0.05)\n"
        "stream = begin(own)\n"
        "stream.sendall(chunk(b'right') + END)\n"
        "status(stream)\n",
        b"right",
        None,
    ),
}


@pytest.fixture
def neighbour(deploy: Deployer, platform: Platform) -> str:
    name = deploy(ECHO)
    assert platform.invoke(name, 1).json == 1
    return name


@pytest.fixture
def no_harm(platform: Platform, neighbour: str) -> Iterator[None]:
    logged, resident = platform.log_path.stat().st_size, resident_bytes(platform)
    with unharmed(platform, neighbour):
        yield
    said = platform.log_path.read_bytes()[logged:]
    assert b"Traceback" not in said, said.decode()
    assert resident_bytes(platform) - resident < FLAT_BYTES


def speaking(deed: str) -> str:
    return SPEAKS.replace("DEED", "".join(f"    {line}\n" for line in deed.splitlines()))


def stream(platform: Platform, name: str) -> tuple[bytes, dict[str, Any]]:
    """The body of a streamed response and what completes it."""
    answer = platform.client("lambda").invoke_with_response_stream(FunctionName=name, Payload=b"1")
    *chunks, last = list(answer["EventStream"])
    return b"".join(each["PayloadChunk"]["Payload"] for each in chunks), last["InvokeComplete"]


@pytest.mark.usefixtures("no_harm")
@pytest.mark.parametrize("deed", DEEDS)
def test_what_a_function_does_beside_its_stream_is_refused(
    deploy: Deployer, platform: Platform, deed: str
) -> None:
    code, body, said = DEEDS[deed]
    name = deploy(speaking(code), Timeout=20, MemorySize=512)

    got, complete = stream(platform, name)

    assert (got, complete) == (body, {})
    if said is not None:
        wait_until(
            lambda: any(said in line for line in platform.log_lines(f"/aws/lambda/{name}")),
            f"the function says: {said}",
        )


HEADS = {
    "endless": (b"b' ' * 1_500_000", 502),
    "endless in single bytes": (b"b' '", 502),
    "of zeros": (b"b'\\\\0' * 100", 502),
    "line breaks in a header": (
        b"""b'{"statusCode": 200, "headers": {"X-A": "b\\\\\\\\r\\\\\\\\nX-C: d"}}' + bytes(8)""",
        None,
    ),
    "a status that is none": (b"""b'{"statusCode": 99999}' + bytes(8)""", 502),
    "deep": (b"b'[' * 100_000 + bytes(8)", 502),
}


@pytest.mark.usefixtures("no_harm")
@pytest.mark.parametrize("head", HEADS)
def test_heads_of_streams_that_are_none_are_bad_gateways(
    deploy: Deployer, platform: Platform, head: str
) -> None:
    text, status = HEADS[head]
    piece = text.decode().replace("\\\\", "\\")
    sends = (
        "for _ in range(60):\n    stream.sendall(chunk(b' ') * 20_000)\n"
        if head.endswith("bytes")
        else f"stream.sendall(chunk({piece}))\n"
    )
    code = f"stream = begin(own, HTTP)\n{sends}stream.sendall(END)\nstatus(stream)\n"
    name = deploy(speaking(code), Timeout=20, MemorySize=512)
    client = platform.client("lambda")
    url = client.create_function_url_config(
        FunctionName=name, AuthType="NONE", InvokeMode="RESPONSE_STREAM"
    )["FunctionUrl"]
    for statement, action in (("a", "lambda:InvokeFunctionUrl"), ("b", "lambda:InvokeFunction")):
        client.add_permission(
            FunctionName=name, StatementId=statement, Action=action, Principal="*"
        )
    request = f"GET / HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nConnection: close\r\n\r\n"

    answer = send(platform, request.encode())

    if status is None:
        assert status_of(answer) in (200, 502)
        lines = answer.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
        assert not [line for line in lines if line.startswith(b"x-c:")]
    else:
        assert status_of(answer) == status


@pytest.mark.usefixtures("no_harm")
def test_clients_that_read_nothing_of_their_streams_harm_themselves(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy(
        "def handler(event, context):\n    for _ in range(300):\n        yield b'x' * 65536\n",
        Timeout=5,
    )
    request = (
        f"POST /2021-11-15/functions/{name}/response-streaming-invocations HTTP/1.1\r\n"
        "Host: a\r\nContent-Length: 1\r\n\r\n1"
    )
    with contextlib.ExitStack() as held:
        for _ in range(8):
            connection = socket.create_connection(("127.0.0.1", platform.port), timeout=30)
            held.enter_context(connection).sendall(request.encode())
        wait_until(
            lambda: (
                sum("Task timed out" in line for line in platform.log_lines(f"/aws/lambda/{name}"))
                == 8
            ),
            "each function is ended when its time is over",
            30,
        )
