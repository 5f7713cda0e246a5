"""Bytes from a client → requests: framing and limits of HTTP/1.1, without any I/O.

llhttp does the parsing (httptools, none of its leniencies); this module adds what llhttp leaves
to its user: limits, the guards of RFC 9112 against request smuggling, ``Expect`` and
``Upgrade`` offers. ``http1_connection`` feeds it and serves what comes out.
Source: RFC 9110, RFC 9112 (sections 3.2, 6.1, 6.3, 9.3).
"""

from __future__ import annotations

import logging
from enum import Enum
from typing import Protocol

import httptools

from firelet.wire.http1_message import (
    BodyLimit,
    HttpLimits,
    Rejection,
    RejectionReason,
    RepeatedHeader,
    Request,
    Response,
)
from firelet.wire.http1_stream import Flow, IncomingBody, OpenBody

logger = logging.getLogger(__name__)

# The Connection header of an answer, line and all; HTTP/1.1 persists without one.
PERSIST = b""
KEEP_ALIVE = b"Connection: keep-alive\r\n"
CLOSE = b"Connection: close\r\n"
# Pieces of a body up to this size are put together as they come.
_SMALL_PIECE_BYTES = 4096
# Of a body that is taken as it comes, so many chunks are handed on as they were sent.
_PIECES_AT_ONCE = 16


class Phase(Enum):
    """What the next bytes from the client are."""

    IDLE = "the start of a request, if anything"
    HEAD = "the rest of a head"
    BODY = "the rest of a body"
    ENDED = "nothing that counts: the last request was read, or refused"


# Names of this module are looked up faster than members of an Enum.
_IDLE, _HEAD, _BODY, _ENDED = Phase


class RequestSink(Flow, Protocol):
    """Whom a reader tells what it read; as a Flow, it pauses what is fed."""

    def on_request(self, request: Request, connection_line: bytes) -> None:
        """A complete request. ``connection_line`` goes into its answer; CLOSE: it is the last."""

    def on_answered(self, request: Request, connection_line: bytes, response: Response) -> None:
        """A request whose body was taken as it came, and its answer."""

    def on_rejection(self, rejection: Rejection) -> None:
        """What was being read is refused; nothing more will be read."""

    def on_refusal(self, response: Response) -> None:
        """The same, by the application and in its words."""

    def on_expect_continue(self) -> None:
        """The client holds the body back until it is asked for it."""


class _Refused(Exception):
    """Leaves llhttp after a rejection; never leaves this module."""


class RequestReader:
    """Reads the requests of one connection. ``phase`` says where it stands."""

    __slots__ = (
        "_body",
        "_body_limit",
        "_body_room",
        "_connection_line",
        "_headers",
        "_is_upgrade",
        "_limits",
        "_method",
        "_offer",
        "_open_body",
        "_parser",
        "_peer",
        "_pieces",
        "_repeats",
        "_request_headers",
        "_sink",
        "_stream",
        "_target",
        "_undelivered_bytes",
        "is_http10",
        "phase",
    )

    def __init__(
        self,
        sink: RequestSink,
        peer: str,
        limits: HttpLimits,
        body_limit: BodyLimit | None,
        open_body: OpenBody | None = None,
    ) -> None:
        self.phase = _IDLE
        self._sink = sink
        self._peer = peer
        self._limits = limits
        self._body_limit = body_limit
        self._open_body = open_body
        # Takes the body that is being read, if it is not collected.
        self._stream: IncomingBody | None = None
        self.is_http10 = False  # the last head that was read
        self._parser = httptools.HttpRequestParser(self)
        self._method = b""
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._request_headers: dict[bytes, bytes] = {}
        self._repeats = 0
        self._connection_line = PERSIST
        # Small pieces are put together: a list of them would be many times as large as they are.
        self._body: list[bytes | bytearray] = []
        # Of the body that is taken as it comes: what the bytes that are being parsed hold of it.
        self._pieces: list[bytes] = []
        self._body_room = 0
        self._is_upgrade = False
        self._offer = b""  # the protocol that the request offers to change to
        self._undelivered_bytes = 0  # fed since a head or a piece of a body last came out

    def feed(self, data: bytes) -> None:
        """Takes the next bytes. Must not be called once ``phase`` is ENDED."""
        if self.phase is _IDLE:
            self.phase = _HEAD
        self._undelivered_bytes += len(data)
        self._parse(data)
        if self._pieces:
            self._deliver()
        # Of unfinished requests: heads without end, and trailers and chunk extensions, which
        # count towards no other limit.
        if (
            self.phase is not _IDLE
            and self.phase is not _ENDED
            and (
                self._undelivered_bytes > self._limits.header_bytes
                or len(self._headers) > self._limits.header_count
            )
        ):
            self.reject(RejectionReason.HEADERS_TOO_LARGE)

    @property
    def is_streaming(self) -> bool:
        """The application takes the body that is being read as it comes."""
        return self._stream is not None

    def end(self, reason: RejectionReason | None = None) -> None:
        """Nothing more is read. May be called while a request is being delivered."""
        self.phase = _ENDED
        self._body.clear()
        self._deliver()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.on_broken(reason)

    def detach(self) -> None:
        """Lets go of what refers back here, so that no cycle is left to the collector."""
        del self._parser, self._sink

    def reject(self, reason: RejectionReason, limit: int | None = None) -> None:
        """Refuses what is being read."""
        self.end(reason)
        headers = {} if limit is None else self._request_headers
        self._sink.on_rejection(
            Rejection(reason, self._method, self._target, limit, headers, self._peer)
        )

    # The parser's calls, in their order.

    def on_url(self, url: bytes) -> None:
        if self.phase is _ENDED:
            raise _Refused
        self.phase = _HEAD
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        headers = self._headers
        if name not in headers:
            headers[name] = value.rstrip()
            return
        if name == b"host":
            self._refuse(RejectionReason.BAD_REQUEST)  # RFC 9112 section 3.2
        self._repeats += 1
        if self._repeats > self._limits.header_count:  # Joining them takes quadratic time.
            self._refuse(RejectionReason.HEADERS_TOO_LARGE)
        separator = b"; " if name == b"cookie" else b", "
        headers[name] = RepeatedHeader.of(headers[name], value.rstrip(), separator)

    def on_headers_complete(self) -> None:
        headers = self._headers
        # Trailers, if any, go to a dict of their own and no further.
        self._request_headers = headers
        self._headers = {}
        self.phase = _BODY
        parser = self._parser
        self._method = parser.get_method()
        if parser.should_keep_alive() and b"connection" not in headers:
            self._connection_line = PERSIST
            self.is_http10 = False
        else:
            self._connection_line = self._choose_connection_line()
        if len(headers) + self._repeats > self._limits.header_count or (
            self._undelivered_bytes > self._limits.header_bytes and self._is_head_too_large()
        ):
            self._refuse(RejectionReason.HEADERS_TOO_LARGE)
        self._undelivered_bytes = 0
        self._repeats = 0
        if parser.should_upgrade():
            if self._method == b"CONNECT":
                self._refuse(RejectionReason.BAD_REQUEST)
            self._is_upgrade = True
        elif b"content-length" in headers or b"transfer-encoding" in headers:
            self._expect_body(headers)

    def on_body(self, piece: bytes) -> None:
        self._undelivered_bytes = 0
        self._body_room -= len(piece)
        if self._body_room < 0:
            self._refuse(RejectionReason.BODY_TOO_LARGE, self._find_body_limit())
        if self._stream is not None:
            self._pieces.append(piece)
        elif not self._body or len(piece) > _SMALL_PIECE_BYTES:
            self._body.append(piece)
        elif isinstance(last := self._body[-1], bytearray):
            last += piece
        else:
            self._body.append(bytearray(piece))

    def on_message_complete(self) -> None:
        if self._is_upgrade:
            return  # The same request is parsed once more: _parse_without_upgrade.
        body = b""
        if self._body:
            body = b"".join(self._body)
            self._body.clear()
        request = Request(self._method, self._target, self._request_headers, body, self._peer)
        if self._offer:
            request.upgrade, self._offer = self._offer, b""
        self._method = b""
        self._target = b""
        trailers = self._headers
        if trailers:
            self._headers = {}
        line = self._connection_line
        self.phase = _ENDED if line is CLOSE else _IDLE
        stream = self._stream
        if stream is None:
            self._sink.on_request(request, line)
        else:
            self._deliver()
            self._stream = None
            self._sink.on_answered(request, line, stream.on_end(trailers))

    # Their parts.

    def _deliver(self) -> None:
        """What has come of a body goes to whoever takes it. Chunks that come by the hundred go as
        one piece: each costs a turn of all that lies behind, and some clients send single bytes."""
        pieces, self._pieces = self._pieces, []
        if len(pieces) > _PIECES_AT_ONCE:
            pieces = [b"".join(pieces)]
        for piece in pieces:
            if self._stream is not None:
                self._stream.on_piece(piece)

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            self._parse_without_upgrade(data[stop.args[0] :])
        except httptools.HttpParserError as error:
            # Ended: _Refused, or bytes after the last request, which are nobody's.
            if self.phase is _ENDED:
                return
            if isinstance(error, httptools.HttpParserCallbackError):
                logger.exception("http request not read")
                self.reject(RejectionReason.INTERNAL_ERROR)
            else:
                self.reject(RejectionReason.BAD_REQUEST)

    def _parse_without_upgrade(self, rest: bytes) -> None:
        """Reads a request that offers another protocol (``h2c``) as plain HTTP/1.1.

        llhttp stops after such a head and skips the body, which Java's HttpClient sends all the
        same; so the head is parsed again without the offer, then what followed it.
        """
        headers = self._request_headers
        self._offer = headers.pop(b"upgrade").lower()
        lines = [b"%b %b HTTP/1.1" % (self._method, self._target)]
        lines += [name + b": " + value for name, value in headers.items()]
        self._is_upgrade = False
        self._target = b""
        self.phase = _HEAD
        self._parser = httptools.HttpRequestParser(self)
        self._parse(b"\r\n".join((*lines, b"", rest)))

    def _choose_connection_line(self) -> bytes:
        version = self._parser.get_http_version()
        is_kept = self._parser.should_keep_alive()
        self.is_http10 = version == "1.0"
        if version == "1.1":
            return PERSIST if is_kept else CLOSE
        if version != "1.0":
            self._refuse(RejectionReason.BAD_REQUEST)
        return KEEP_ALIVE if is_kept else CLOSE

    def _is_head_too_large(self) -> bool:
        # What was fed may hold more than the head, so it is counted only when that can matter.
        fields = self._request_headers.items()
        size = len(self._method) + len(self._target) + len(b"  HTTP/1.1\r\n\r\n")
        size += sum(len(name) + len(value) + len(b": \r\n") for name, value in fields)
        return size > self._limits.header_bytes

    def _expect_body(self, headers: dict[bytes, bytes]) -> None:
        length = headers.get(b"content-length")
        if length is None:
            is_chunked = headers[b"transfer-encoding"].lower() == b"chunked"
            # HTTP/1.0 has no such header, so a hop before us may have framed otherwise.
            if not is_chunked or self._parser.get_http_version() != "1.1":
                self._refuse(RejectionReason.BAD_REQUEST)
        if self._open_body is not None:
            self._offer_body(self._open_body, headers)
        limit = self._body_room = self._find_body_limit()
        if length is not None and int(length) > limit:
            self._refuse(RejectionReason.BODY_TOO_LARGE, limit)
        if (
            b"expect" in headers
            and headers[b"expect"].lower() == b"100-continue"
            and self._parser.get_http_version() == "1.1"
        ):
            self._sink.on_expect_continue()

    def _offer_body(self, open_body: OpenBody, headers: dict[bytes, bytes]) -> None:
        """Asks the application whether it takes the body as it comes."""
        opened = open_body(self._method, self._target, headers, self._sink)
        if isinstance(opened, Response):
            self.end()
            self._sink.on_refusal(opened)
            raise _Refused
        self._stream = opened

    def _find_body_limit(self) -> int:
        if self._stream is not None:
            return self._stream.limit
        if self._body_limit is None:
            return self._limits.body_bytes
        return self._body_limit(self._method, self._target, self._request_headers)

    def _refuse(self, reason: RejectionReason, limit: int | None = None) -> None:
        """Rejects from inside a call of the parser, which must not go on."""
        self.reject(reason, limit)
        raise _Refused
