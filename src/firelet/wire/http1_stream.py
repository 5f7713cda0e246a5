"""Bodies that come over time, in both directions of an HTTP/1.1 connection.

``OutgoingBody`` is written to by whoever makes an answer; ``IncomingBody`` takes a request's body
as it arrives. Framing and flow only: nothing here is collected, and no task or queue lies between
the two sockets. ``http1_connection`` and ``http1_reader`` are the other ends.
Source: RFC 9112, sections 7.1 (chunks, trailers) and 6.3 (bodies that end with the connection).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from firelet.wire.http1_message import RejectionReason, Response

# Up to this size, the parts of a chunk leave in one buffer: copying is cheaper than two writes.
_JOIN_MAX_BYTES = 16 * 1024
# Unsent bytes at which a body asks for a pause. uvloop reads up to 250 KiB at once.
SEND_BUFFER_BYTES = 512 * 1024
_LAST_CHUNK = b"0\r\n\r\n"


class Flow(Protocol):
    """Where bytes come from: told when they come too fast. Both may be called again."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class OutgoingBody:
    """The body of one ``StreamedResponse``. It may be written to from the beginning; what is
    written before the head was sent waits for it. Once the client is gone, all of it is dropped.

    ``flow`` is paused while the client is slow to read, and resumed when it has read or is gone.
    """

    def __init__(self, flow: Flow | None = None) -> None:
        # Over: it has ended, or there is no client (any more); nothing is sent from then on.
        self.is_over = False
        self._flow = flow
        self._transport: asyncio.Transport | None = None
        self._is_chunked = True
        self._on_end: Callable[[bool], None] | None = None
        # Before it is opened: what was written, and whether it has ended and is whole.
        self._early: list[bytes] = []
        self._ending: bool | None = None

    # The application's side.

    def write(self, *parts: bytes) -> None:
        """Sends ``parts``, one after the other, as one chunk. Returns at once."""
        transport = self._transport
        if transport is None:
            if not self.is_over:
                self._early.extend(parts)
            return
        size = sum(map(len, parts))
        if not size:
            return  # a chunk without bytes would be the last one
        if not self._is_chunked:
            for part in parts:
                transport.write(part)
        elif size <= _JOIN_MAX_BYTES:
            transport.write(b"%x\r\n%b\r\n" % (size, b"".join(parts)))
        else:
            transport.write(b"%x\r\n" % size)
            for part in parts:
                transport.write(part)
            transport.write(b"\r\n")

    def end(self) -> None:
        """The body is complete."""
        self._finish(is_whole=True)

    def abort(self) -> None:
        """The body cannot be completed: the connection is cut, so that the client notices."""
        self._finish(is_whole=False)

    def drop(self) -> None:
        """There is no client to send it to (any more)."""
        if not self.is_over:
            self.is_over = True
            self._transport = self._on_end = None
            self._early.clear()
            if self._flow is not None:
                self._flow.resume()

    # The connection's side.

    def open(
        self, transport: asyncio.Transport, is_chunked: bool, on_end: Callable[[bool], None]
    ) -> None:
        """The head is sent. ``on_end`` is called once, with whether the body is whole."""
        self._transport = transport
        self._is_chunked = is_chunked
        self._on_end = on_end
        early, self._early = self._early, []
        if early:
            self.write(*early)
        if self._ending is not None:
            self._finish(is_whole=self._ending)

    def pause(self) -> None:
        """The client does not read as fast as it is written to."""
        if self._flow is not None and not self.is_over:
            self._flow.pause()

    def resume(self) -> None:
        """It has read nearly all."""
        if self._flow is not None:
            self._flow.resume()

    def _finish(self, *, is_whole: bool) -> None:
        transport, on_end = self._transport, self._on_end
        if self.is_over:
            return
        if transport is None or on_end is None:
            self._ending = is_whole
            return
        self.is_over = True
        self._transport = self._on_end = self._flow = None
        if is_whole and self._is_chunked:
            transport.write(_LAST_CHUNK)
        on_end(is_whole)


@dataclass(slots=True)
class StreamedResponse(Response):
    """An answer whose body comes over time. ``stream`` is opened when the head has been sent;
    ``body`` is not used, and framing headers are the server's to write."""

    stream: OutgoingBody = field(default_factory=OutgoingBody)


class IncomingBody(Protocol):
    """Takes the body of one request as it arrives. It may not fail."""

    @property
    def limit(self) -> int:
        """How many bytes it takes. One more is BODY_TOO_LARGE."""

    def on_piece(self, piece: bytes) -> None: ...

    def on_end(self, trailers: Mapping[bytes, bytes]) -> Response:
        """It is complete: the answer. Names of trailers are lower-case."""

    def on_broken(self, reason: RejectionReason | None) -> None:
        """It will not be completed: refused for ``reason``, or None when the connection is lost.
        What is answered then, if anything, is worded by ``on_reject``."""


OpenBody = Callable[[bytes, bytes, Mapping[bytes, bytes], Flow], IncomingBody | Response | None]
"""Asked for each request that has a body, by its method, target and headers. None: it is collected
as usual. A Response: it is not read, and that is the last answer of the connection."""
