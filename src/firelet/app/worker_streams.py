"""Streamed responses of a worker process, on their way to the control process.

Each piece is a note, sent as it comes. The function is held up while the control process asks for
a pause, since its client is slow, and while the socket to it is congested: what waits here is
bounded by that, and by what one read of a connection brings.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from firelet.model.streaming import StreamHead, StreamSource
from firelet.wire.rpc import Message
from firelet.wire.worker_messages import ResponseBegan, ResponsePiece


class Line(Protocol):
    """What ``wire.rpc.Peer`` offers."""

    @property
    def is_congested(self) -> bool: ...
    def tell(self, message: Message) -> None: ...
    def room(self) -> asyncio.Future[None]: ...


class ForwardingSink:
    """The sink of one invocation in the environment ``number``."""

    def __init__(self, number: int, line: Line) -> None:
        self._number = number
        self._line = line
        self._source: StreamSource | None = None
        self._is_held_up = False  # by the control process
        self._room: asyncio.Future[None] | None = None  # that is waited for

    def begin(self, head: StreamHead, source: StreamSource) -> None:
        self._source = source
        self._line.tell(ResponseBegan(self._number, head.content_type))

    def write(self, piece: bytes) -> None:
        assert self._source is not None
        self._line.tell(ResponsePiece(self._number, piece))
        if self._room is None and self._line.is_congested:
            self._source.pause()
            self._room = self._line.room()
            self._room.add_done_callback(self._on_room)

    def pause(self) -> None:
        """The control process asks for it."""
        self._is_held_up = True
        if self._source is not None:
            self._source.pause()

    def resume(self) -> None:
        """The control process takes more."""
        self._is_held_up = False
        self._go_on()

    def _on_room(self, _room: asyncio.Future[None]) -> None:
        self._room = None
        self._go_on()

    def _go_on(self) -> None:
        if not self._is_held_up and self._room is None and self._source is not None:
            self._source.resume()
