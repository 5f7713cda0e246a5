"""The WebSocket protocol on one connection: messages in and out, limits, idleness, closing.

What it is: an ``UpgradedStream`` over wsproto, which does the framing. What it is not: routes or
events; ``listener`` gets whole messages. Control frames are answered here.
Source: RFC 6455; quotas of WebSocket APIs at
docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html
Which close codes go with idleness and with the end of two hours is firelet's choice.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from wsproto.connection import Connection, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from firelet.model import limits
from firelet.wire.http1 import Request

AnyMessage: TypeAlias = "Message[str] | Message[bytes] | Message[bytearray]"

VERSION = b"13"
# What a client that does not read may leave unread, before it is cut off (firelet).
UNSENT_MAX_BYTES = limits.MIB
# For the client to answer our Close before the connection is cut (firelet).
CLOSE_WAIT_S = 5.0
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class WebSocketLimits:
    """Quotas of API Gateway, by default."""

    message_bytes: int = limits.WEBSOCKET_MESSAGE_MAX_BYTES
    frame_bytes: int = limits.WEBSOCKET_FRAME_MAX_BYTES
    idle_s: float = limits.WEBSOCKET_IDLE_S
    lifetime_s: float = limits.WEBSOCKET_LIFETIME_S


class Listener(Protocol):
    """Whom a connection tells. Neither call may fail."""

    def on_message(self, message: str | bytes) -> None: ...

    def on_closed(self, code: int, reason: str) -> None:
        """Called once; 1006 when the client went away without a word."""


class WebSocketStream:
    """One connection; see the module. ``clock`` is monotonic."""

    def __init__(self, quotas: WebSocketLimits, clock: Callable[[], float] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._quotas = quotas
        self._clock = clock or self._loop.time
        self._listener: Listener | None = None
        self._frames = Connection(ConnectionType.SERVER)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._parts: list[str | bytes] = []
        self._message_bytes = 0
        self._frame_bytes = 0
        self._opened = self._last_active = self._clock()
        self._closed: tuple[int, str] | None = None
        self._is_lost = False
        self._is_paused = False

    def listen(self, listener: Listener) -> None:
        """Before it is opened."""
        self._listener = listener

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._transport is not None and self._closed is None and not self._is_lost

    @property
    def quiet_s(self) -> float:
        """How long ago a frame last came or went."""
        return self._clock() - self._last_active

    @property
    def is_clogged(self) -> bool:
        """The client does not read what it is sent."""
        transport = self._transport
        return transport is not None and transport.get_write_buffer_size() > UNSENT_MAX_BYTES

    def send(self, message: str | bytes) -> None:
        """Sends one message; nothing once the connection is closing."""
        if self.is_open:
            self._last_active = self._clock()
            if isinstance(message, str):
                self._write(TextMessage(data=message))
            else:
                self._write(BytesMessage(data=message))

    def close(self, code: int, reason: str = "") -> None:
        """Begins to close; the client has some seconds to agree."""
        if not self.is_open:
            return
        self._closed = (code, reason)
        self._write(CloseConnection(code=code, reason=reason))
        self._set_timer(CLOSE_WAIT_S, self._cut)

    def pause_reading(self) -> None:
        """No messages for now."""
        if self.is_open and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Messages again."""
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    # The connection's calls (``UpgradedStream``).

    def on_open(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._opened = self._last_active = self._clock()
        self._watch()

    def on_data(self, data: bytes) -> None:
        self._last_active = self._clock()
        try:
            self._frames.receive_data(data)
            for event in self._frames.events():
                if isinstance(event, Message):
                    self._take(event)
                elif isinstance(event, Ping):
                    if self.is_open:
                        self._write(event.response())
                elif isinstance(event, CloseConnection):
                    self._agree(event)
                elif not isinstance(event, Pong):
                    raise RemoteProtocolError(f"unexpected {type(event).__name__}")
                if self._is_lost or (self._closed is not None and isinstance(event, Message)):
                    return
        except RemoteProtocolError:
            self._fail(CloseReason.PROTOCOL_ERROR)
        except LocalProtocolError:
            self._cut()  # It sends on although it has closed.

    def on_lost(self) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        code, reason = self._closed or (CloseReason.ABNORMAL_CLOSURE.value, "")
        if self._listener is not None:
            self._listener.on_closed(code, reason)

    def on_drain(self) -> None:
        self.close(CloseReason.GOING_AWAY, "Going away")

    # Their parts.

    def _take(self, event: AnyMessage) -> None:
        if self._closed is not None:
            return
        data = event.data
        size = len(data.encode()) if isinstance(data, str) else len(data)
        self._message_bytes += size
        self._frame_bytes += size
        quotas = self._quotas
        if self._message_bytes > quotas.message_bytes or self._frame_bytes > quotas.frame_bytes:
            self.close(CloseReason.MESSAGE_TOO_BIG, "Message too large")
            return
        if size:  # Empty fragments count towards no limit, and may come without end.
            self._parts.append(data if isinstance(data, str) else bytes(data))
        if event.frame_finished:
            self._frame_bytes = 0
        if event.message_finished:
            parts, self._parts = self._parts, []
            self._message_bytes = 0
            assert self._listener is not None
            whole = "".join(map(str, parts)) if isinstance(data, str) else _join(parts)
            self._listener.on_message(whole)

    def _agree(self, event: CloseConnection) -> None:
        """The client closes, or has agreed that we do."""
        if self._closed is None:
            self._closed = (event.code, event.reason or "")
            self._write(event.response())
        if self._transport is not None:
            self._transport.close()

    def _fail(self, reason: CloseReason) -> None:
        if self.is_open:
            self.close(reason.value)
        if self._transport is not None:
            self._transport.close()

    def _write(self, event: Event) -> None:
        transport = self._transport
        if transport is None:
            return
        transport.write(self._frames.send(event))
        if transport.get_write_buffer_size() > UNSENT_MAX_BYTES:
            self._cut()

    def _cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _watch(self) -> None:
        """Closes what is idle or has been open for too long; else looks again when it may be."""
        if not self.is_open:
            return
        now = self._clock()
        idle_left = self._last_active + self._quotas.idle_s - now
        life_left = self._opened + self._quotas.lifetime_s - now
        if min(idle_left, life_left) <= 0:
            self.close(CloseReason.GOING_AWAY, "Going away")
        else:
            self._set_timer(min(idle_left, life_left), self._watch)

    def _set_timer(self, delay_s: float, action: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, action)


def accept_key(request: Request) -> bytes | None:
    """The value of Sec-WebSocket-Accept; None when the request does not ask for a WebSocket.

    The version is the caller's to check. Source: RFC 6455, section 4.2.
    """
    headers = request.headers
    options = headers.get(b"connection", b"").lower().replace(b" ", b"").split(b",")
    key = headers.get(b"sec-websocket-key", b"")
    if (
        request.method != b"GET"
        or request.upgrade != b"websocket"
        or b"upgrade" not in options
        or not _is_key(key)
    ):
        return None
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest)


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False


def _join(parts: list[str | bytes]) -> bytes:
    return b"".join(part for part in parts if isinstance(part, bytes))
