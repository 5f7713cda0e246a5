"""A Runtime API for tests of runtime clients: scripted events out, every request recorded.

It is strict where a client could cheat (Content-Length, no bytes too many) and reads pipelined
requests in order. One instance serves one client process; ``drained`` says that the client asked
for an event when the script had no more.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

REQUEST_ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
ARN = "arn:aws:lambda:us-east-1:123456789012:function:hello"
TRACE_ID = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"


@dataclasses.dataclass(frozen=True)
class Event:
    """What one ``/next`` answers. A header of None is left out."""

    body: bytes = b"{}"
    headers: Mapping[str, str | None] = dataclasses.field(default_factory=dict)

    def to_bytes(self, closes: bool) -> bytes:
        headers: dict[str, str | None] = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": REQUEST_ID,
            "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + 60_000),
            "Lambda-Runtime-Invoked-Function-Arn": ARN,
            "Lambda-Runtime-Trace-Id": TRACE_ID,
            **self.headers,
        }
        return _answer("200 OK", headers, self.body, closes)


@dataclasses.dataclass(frozen=True)
class Recorded:
    """One request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int
    chunks: Sequence[bytes] = ()
    trailers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclasses.dataclass
class Faults:
    """How the server misbehaves."""

    closes_politely: bool = False  # "Connection: close" on each answer
    closes_abruptly: bool = False  # no header: the connection just ends after each answer
    answer_status: str = "202 Accepted"  # of /response
    dribbles: bool = False  # answers arrive a few bytes at a time
    raw_next: bytes | None = None  # what /next answers instead of an event


class FakeRuntimeApi:
    """Listens on loopback from construction to ``close``."""

    def __init__(self, events: Sequence[Event], faults: Faults | None = None) -> None:
        self._events = list(events)
        self._faults = faults or Faults()
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self.requests: list[Recorded] = []
        self.drained = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                connection.close()
        for thread in self._threads:
            thread.join()

    def paths(self) -> list[str]:
        """What was called, without the common prefix and the request id."""
        return [
            request.path.removeprefix("/2018-06-01/runtime/").replace(REQUEST_ID, "{id}")
            for request in self.requests
        ]

    def answers(self) -> list[Recorded]:
        """The requests that carried something: responses and errors."""
        return [request for request in self.requests if request.method == "POST"]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                number = len(self._connections)
                self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection, number))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, connection.makefile("rb") as stream:
            try:
                while request := _read_request(stream, number):
                    self.requests.append(request)
                    answer = self._answer(request)
                    if answer is None:
                        self.drained.set()
                        stream.read(1)
                        return
                    step = 3 if self._faults.dribbles else len(answer)
                    for start in range(0, len(answer), step):
                        connection.sendall(answer[start : start + step])
                    if self._faults.closes_politely or self._faults.closes_abruptly:
                        # Unread pipelined bytes would turn the close into a reset that could
                        # overtake the answer.
                        connection.shutdown(socket.SHUT_WR)
                        while stream.read(65536):
                            pass
                        return
            except (ConnectionError, ValueError):
                # The client was killed in the middle, or the test is over.
                return

    def _answer(self, request: Recorded) -> bytes | None:
        closes = self._faults.closes_politely
        if request.path.endswith("/invocation/next"):
            if self._faults.raw_next is not None:
                return self._faults.raw_next
            if not self._events:
                return None
            return self._events.pop(0).to_bytes(closes)
        status = "202 Accepted"
        if request.path.endswith("/response"):
            status = self._faults.answer_status
        return _answer(status, {"Content-Type": "application/json"}, b'{"status":"OK"}\n', closes)


def _answer(status: str, headers: Mapping[str, str | None], body: bytes, closes: bool) -> bytes:
    lines = [f"HTTP/1.1 {status}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
    lines.append(f"Content-Length: {len(body)}")
    if closes:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _read_request(stream: Any, number: int) -> Recorded | None:
    first = stream.readline()
    if not first:
        return None
    method, path, version = first.decode("ascii").split()
    assert version == "HTTP/1.1"
    headers = _read_fields(stream)
    if headers is None:
        return None
    if "transfer-encoding" in headers:
        return _read_chunked(stream, method, path, headers, number)
    length = int(headers.get("content-length", "0"))
    body = stream.read(length)
    assert len(body) == length
    return Recorded(method, path, headers, body, number)


def _read_fields(stream: Any) -> dict[str, str] | None:
    fields: dict[str, str] = {}
    while (line := stream.readline()) != b"\r\n":
        if not line.endswith(b"\r\n"):
            return None
        name, colon, value = line.decode("utf-8").partition(":")
        assert colon
        fields[name.lower()] = value.strip()
    return fields


def _read_chunked(
    stream: Any, method: str, path: str, headers: Mapping[str, str], number: int
) -> Recorded | None:
    assert headers["transfer-encoding"] == "chunked"
    assert "content-length" not in headers
    chunks = []
    while line := stream.readline():
        size = int(line, 16)
        if not size:
            trailers = _read_fields(stream)
            assert trailers is not None
            body = b"".join(chunks)
            return Recorded(method, path, headers, body, number, chunks, trailers)
        chunks.append(stream.read(size))
        assert stream.read(2) == b"\r\n"
    return None
