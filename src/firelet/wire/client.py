"""A small HTTP/1.1 client: one kept-alive connection, one request at a time.

For firelet's own calls to itself and for benchmarks. It follows no redirects, knows no cookies,
proxies, compression or TLS, and never sends a request twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

import httptools

from firelet.model.limits import CONTROL_REQUEST_MAX_BYTES

_BODILESS = frozenset((204, 304))


@dataclass(slots=True)
class ClientResponse:
    """One answer. Header names are lower-case; repeated headers are joined by ``b", "``."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class BadResponse(ConnectionError):
    """The server did not speak HTTP/1.1, or more of it than was allowed."""


class HttpClient:
    """Connects at the first request, and again after the server has closed the connection.

    Times are seconds; ``response_s`` None waits for ever. With ``unix_path`` it connects to that
    socket, and host and port are only what it says in ``Host``. Errors of ``request``:
    ConnectionError and its kin when the server cannot be reached or goes away, BadResponse, and
    TimeoutError. After any of them, and after a cancellation, the next request begins on a new
    connection.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        connect_s: float = 5.0,
        response_s: float | None = 60.0,
        response_bytes: int = CONTROL_REQUEST_MAX_BYTES,
        unix_path: str | None = None,
    ) -> None:
        self._unix_path = unix_path
        self._host = host
        self._port = port
        self._connect_s = connect_s
        self._response_s = response_s
        self._response_bytes = response_bytes
        self._exchange: _Exchange | None = None
        self._is_busy = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def request(
        self,
        method: bytes,
        target: bytes,
        headers: Sequence[tuple[bytes, bytes]] = (),
        body: bytes = b"",
    ) -> ClientResponse:
        """Sends one request and returns its answer. ``Content-Length`` and a missing ``Host`` are
        added. RuntimeError while another request is under way."""
        if self._is_busy:
            raise RuntimeError("the connection is waiting for an answer")
        self._is_busy = True
        try:
            exchange = await self._connect()
            answer = exchange.send(method, self._format(method, target, headers, body))
            try:
                async with asyncio.timeout(self._response_s):
                    return await answer
            except (OSError, asyncio.CancelledError):
                # An answer that comes later must not meet a later request.
                exchange.abort()
                raise
        finally:
            self._is_busy = False

    async def close(self) -> None:
        """Closes the connection and waits until it is gone."""
        if self._exchange is not None:
            self._exchange.abort()
            await self._exchange.closed
            self._exchange = None

    async def _connect(self) -> _Exchange:
        if self._exchange is None or not self._exchange.is_usable:
            async with asyncio.timeout(self._connect_s):
                self._exchange = await self._open()
        return self._exchange

    async def _open(self) -> _Exchange:
        loop = asyncio.get_running_loop()
        if self._unix_path is not None:
            _, exchange = await loop.create_unix_connection(
                lambda: _Exchange(self._response_bytes), self._unix_path
            )
        else:
            _, exchange = await loop.create_connection(
                lambda: _Exchange(self._response_bytes), self._host, self._port
            )
        return exchange

    def _format(
        self, method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> bytes:
        lines = [b"%b %b HTTP/1.1" % (method, target)]
        if not any(name.lower() == b"host" for name, _ in headers):
            lines.append(f"Host: {self._host}:{self._port}".encode("ascii"))
        lines += [name + b": " + value for name, value in headers]
        if body or method not in (b"GET", b"HEAD", b"DELETE"):
            lines.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join((*lines, b"", body))


class _Exchange(asyncio.Protocol):
    """One connection from the client's side: at most one request without its answer."""

    def __init__(self, response_bytes: int) -> None:
        self._response_bytes = response_bytes
        self._transport: asyncio.Transport
        self.closed = asyncio.get_running_loop().create_future()
        self._answer: asyncio.Future[ClientResponse] | None = None
        self._method = b""
        self._parser = httptools.HttpResponseParser(self)
        self._is_kept = True
        self._status = 0
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._room = response_bytes
        self._is_until_eof = False

    @property
    def is_usable(self) -> bool:
        return self._is_kept and not self._transport.is_closing()

    def send(self, method: bytes, request: bytes) -> asyncio.Future[ClientResponse]:
        self._method = method
        self._room = self._response_bytes
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def abort(self) -> None:
        self._is_kept = False
        self._transport.abort()

    # The transport's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._room -= len(data)
        if self._answer is None:
            self.abort()  # Nobody asked.
            return
        try:
            if self._room < 0:
                raise BadResponse("the response is too large")
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, BadResponse) as error:
            self._fail(BadResponse(str(error)))
            self.abort()

    def eof_received(self) -> None:
        if self._is_until_eof:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_kept = False
        self._fail(exc or ConnectionResetError("the server closed the connection"))
        self.closed.set_result(None)

    # The parser's calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        value = value.rstrip()
        present = self._headers.get(name)
        self._headers[name] = value if present is None else present + b", " + value

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if self._status < 200:
            return
        self._is_kept = self._parser.should_keep_alive()
        if self._method == b"HEAD":
            # The parser would wait for the body that the length announces.
            self._finish()
            self._parser = httptools.HttpResponseParser(self)
        elif self._status not in _BODILESS:
            framing = (b"content-length", b"transfer-encoding")
            self._is_until_eof = not any(name in self._headers for name in framing)

    def on_body(self, piece: bytes) -> None:
        self._body.append(piece)

    def on_message_complete(self) -> None:
        if self._status < 200:
            self._headers = {}  # 100 Continue and the like announce the answer.
        else:
            self._finish()

    # Their parts.

    def _finish(self) -> None:
        response = ClientResponse(self._status, self._headers, b"".join(self._body))
        self._headers = {}
        self._body = []
        self._is_until_eof = False
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(response)
        if not self._is_kept:
            self.abort()

    def _fail(self, error: Exception) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)
