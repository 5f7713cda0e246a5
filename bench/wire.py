"""HTTP requests as the load generators need them: built once, as bytes, or as parts for wrk."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

_HEAD_END = b"\r\n\r\n"
_NO_CONTENT = b"204"
# The credentials are of a client's usual length, and nobody's.
_HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "Boto3/1.44 bench",
    "X-Amz-Date": "20260101T000000Z",
    "Authorization": (
        "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/lambda/aws4_request,"
        f" SignedHeaders=host;x-amz-date, Signature={'0' * 64}"
    ),
}


@dataclass(frozen=True, slots=True)
class Call:
    """One request to one server, always the same."""

    host: str
    port: int
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "POST"

    def encode(self) -> bytes:
        """The request as it goes over the wire."""
        lines = [
            f"{self.method} {self.path} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
            f"Content-Length: {len(self.body)}",
        ]
        return "\r\n".join(lines).encode() + _HEAD_END + self.body


def invocation(host: str, port: int, function: str, body: bytes) -> Call:
    """AWS's Invoke."""
    path = f"/2015-03-31/functions/{quote(function)}/invocations"
    return Call(host, port, path, body, _HEADERS)


def operation(
    host: str, port: int, method: str, path: str, params: Mapping[str, Any] | None = None
) -> Call:
    """Any other operation of Lambda's API; ``params`` are the members of its body."""
    body = b"" if params is None else json.dumps(params).encode()
    return Call(host, port, path, body, _HEADERS, method)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response and how many bytes it took."""

    is_success: bool
    body: bytes
    size: int


def parse_answer(data: bytes) -> Answer | None:
    """The response that ``data`` starts with; None while it is incomplete.

    Only as much of HTTP as the servers measured here speak: ValueError for a body without length.
    """
    end = data.find(_HEAD_END)
    if end < 0:
        return None
    head = data[:end].lower()
    if head[9:12] == _NO_CONTENT:
        return Answer(is_success=True, body=b"", size=end + len(_HEAD_END))
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise ValueError(f"no Content-Length in {data[:end]!r}")
    stop = head.find(b"\r\n", at + 2)
    length = int(head[at + 17 : stop if stop > 0 else end])
    size = end + len(_HEAD_END) + length
    if len(data) < size:
        return None
    is_success = head[9:10] == b"2" and b"\r\nx-amz-function-error:" not in head
    return Answer(is_success, data[size - length : size], size)


class Line:
    """One connection, kept for one call after the other. Connected before any clock starts."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self._connection = socket.create_connection((host, port), timeout=timeout_s)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, call: Call) -> tuple[bytes, float]:
        """The answer's body and the milliseconds it took. RuntimeError for one of failure."""
        request = call.encode()
        began = time.perf_counter()
        self._connection.sendall(request)
        data = b""
        while (answer := parse_answer(data)) is None:
            received = self._connection.recv(65_536)
            if not received:
                raise ConnectionError(f"{call.path}: the server hung up after {data!r}")
            data += received
        elapsed_ms = (time.perf_counter() - began) * 1000
        if not answer.is_success:
            raise RuntimeError(f"{call.path} failed: {data!r}")
        return answer.body, elapsed_ms

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._connection.close()


def call_once(call: Call, timeout_s: float) -> tuple[bytes, float]:
    """One call on a connection of its own: the body and the milliseconds."""
    with Line(call.host, call.port, timeout_s) as line:
        return line.ask(call)
