"""Calls and notes between two processes of the platform, over a Unix stream socket.

What it is: one end of a conversation between equals. Either side may call the other, and tell it
what needs no answer; messages arrive in the order in which they were sent, notes and answers
alike. A cancelled call is cancelled over there too. When the peer ends, all calls fail with
``PeerLost``. What it is not: knowledge of what is said; messages are msgspec Structs of whoever
owns the border (``worker_messages``).
"""

from __future__ import annotations

import array
import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from firelet.model.errors import FireletError, PlatformError
from firelet.wire.rpc_failures import Failure, describe, rebuild
from firelet.wire.rpc_frames import Frame, FrameError, FrameKind, FrameReader, format_frame

log = logging.getLogger(__name__)

# Below malloc's threshold for mapping memory afresh at every receive.
_RECEIVE_BYTES = 64 * 1024
_FDS_MAX = 253  # SCM_MAX_FD: what the kernel lets one message carry
_IOVECS_MAX = 64
# With so much unsent, calls wait before they are sent.
CONGESTED_BYTES = 1 << 20


class PeerLost(PlatformError):
    """The other process has ended, or has broken the protocol."""


class Undelivered(PeerLost):
    """The other process ended before the call was sent: nothing of it can have been done."""


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The root of all messages of a conversation."""


M = TypeVar("M", bound=Message)


class Service(Protocol):
    """What a process does for its peer. Errors of ``answer`` reach the caller."""

    async def answer(self, message: Message, payload: bytes) -> tuple[Message, bytes]: ...

    def note(self, message: Message) -> None:
        """Called in the order of arrival, also between answers. It must not fail."""


class Codec:
    """Bodies to bytes and back. ``messages`` is the union of all that may arrive."""

    def __init__(self, messages: object) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._messages: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(messages)
        self._failures = msgspec.msgpack.Decoder(Failure)

    def encode(self, message: Message | Failure) -> bytes:
        return self._encoder.encode(message)

    def decode(self, body: bytes) -> Message:
        return self._messages.decode(body)

    def decode_failure(self, body: bytes) -> Failure:
        return self._failures.decode(body)


class Peer:
    """Owns ``sock``. Call ``open`` first."""

    def __init__(self, sock: socket.socket, codec: Codec) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._codec = codec
        self._service: Service | None = None
        self._on_lost: Callable[[], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._writer = _Writer(sock, self._loop, self._lose)
        self._numbers = 0
        self._calls: dict[int, asyncio.Future[tuple[Message, bytes]]] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}
        self._is_open = True

    def open(self, service: Service, on_lost: Callable[[], None]) -> None:
        """Begins to listen. ``on_lost`` is called once, when the other process ends; not for
        ``close``."""
        self._service = service
        self._on_lost = on_lost
        self._loop.add_reader(self._socket.fileno(), self._on_readable)

    @property
    def is_open(self) -> bool:
        return self._is_open

    @property
    def is_congested(self) -> bool:
        """Whether the peer is slow to read what it was sent."""
        return self._writer.size > CONGESTED_BYTES

    async def call(self, request: Message, expected: type[M], payload: bytes = b"") -> M:
        """The answer, for those that have no payload."""
        answer, _ = await self.call_for_payload(request, expected, payload)
        return answer

    async def call_for_payload(
        self, request: Message, expected: type[M], payload: bytes = b""
    ) -> tuple[M, bytes]:
        """The answer and its payload. The error that answering it raised; Undelivered when the
        peer is away already, PeerLost when it goes away meanwhile."""
        await self._writer.wait_for_room()
        if not self._is_open:
            raise _undelivered()
        self._numbers += 1
        number = self._numbers
        future: asyncio.Future[tuple[Message, bytes]] = self._loop.create_future()
        self._calls[number] = future
        self._post(FrameKind.CALL, number, request, payload)
        try:
            answer, answered = await future
        except asyncio.CancelledError:
            if number in self._calls and self._is_open:
                self._writer.post(Frame(FrameKind.CANCEL, number, b""))
            raise
        finally:
            self._calls.pop(number, None)
        if not isinstance(answer, expected):
            raise PlatformError(f"A worker process answered with {type(answer).__name__}.")
        return answer, answered

    def tell(self, message: Message) -> None:
        """Sends a note. Never waits; what is told to a peer that has ended is lost with it."""
        if self._is_open:
            self._post(FrameKind.NOTE, 0, message)

    def room(self) -> asyncio.Future[None]:
        """Done when the peer has read so much that it is not congested, or is gone."""
        return self._writer.room()

    async def flush(self) -> None:
        """Returns when all is sent, or the peer is gone."""
        await self._writer.wait_until_sent()

    def close(self) -> None:
        """Ends the conversation: calls fail, and what is being answered is cancelled."""
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._socket.fileno())
        unsent = self._writer.close()
        self._reader.close()
        self._socket.close()
        for number, future in self._calls.items():
            if not future.done():
                future.set_exception(_undelivered() if number in unsent else _lost())
        for task in self._answering.values():
            task.cancel()

    def _lose(self) -> None:
        if self._is_open:
            self.close()
            assert self._on_lost is not None
            self._on_lost()

    def _post(
        self, kind: FrameKind, number: int, message: Message | Failure, payload: bytes = b""
    ) -> None:
        self._writer.post(Frame(kind, number, self._codec.encode(message), payload))

    def _on_readable(self) -> None:
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(
                _RECEIVE_BYTES, socket.CMSG_SPACE(_FDS_MAX * 4), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            self._lose()
            return
        if not data or flags & socket.MSG_CTRUNC:
            self._lose()
            return
        try:
            for frame in self._reader.feed(data, _descriptors(ancillary)):
                self._on_frame(frame)
        except (FrameError, msgspec.MsgspecError):
            log.exception("conversation with another process broken off")
            self._lose()

    def _on_frame(self, frame: Frame) -> None:
        if not self._is_open:
            return  # something before it in the same packet ended the conversation
        assert self._service is not None
        kind, number = frame.kind, frame.number
        if kind is FrameKind.NOTE:
            self._service.note(self._codec.decode(frame.body))
        elif kind is FrameKind.CALL:
            request = self._codec.decode(frame.body)
            task = self._loop.create_task(self._answer(number, request, frame.payload))
            self._answering[number] = task
        elif kind is FrameKind.CANCEL:
            cancelled = self._answering.get(number)
            if cancelled is not None:
                cancelled.cancel()
        else:
            self._on_answer(frame)

    def _on_answer(self, frame: Frame) -> None:
        future = self._calls.get(frame.number)
        if future is None or future.done():
            return  # the caller has given up
        if frame.kind is FrameKind.ANSWER:
            future.set_result((self._codec.decode(frame.body), frame.payload))
        else:
            future.set_exception(rebuild(self._codec.decode_failure(frame.body), frame.payload))

    async def _answer(self, number: int, request: Message, payload: bytes) -> None:
        """The supervisor of one call: whatever goes wrong, a caller waits to hear of it."""
        assert self._service is not None
        try:
            answer, answered = await self._service.answer(request, payload)
        except Exception as error:
            if not isinstance(error, FireletError):
                log.exception("call failed request=%s", type(request).__name__)
            if self._is_open:
                self._post(FrameKind.FAILURE, number, *describe(error))
        else:
            if self._is_open:
                self._post(FrameKind.ANSWER, number, answer, answered)
        finally:
            self._answering.pop(number, None)


class _Unsent(NamedTuple):
    """The rest of a frame. ``number`` is that of a call, else 0."""

    data: memoryview
    fd: int | None
    number: int


class _Writer:
    """What waits to be sent. All that is posted in one turn of the loop goes in one system call."""

    def __init__(
        self, sock: socket.socket, loop: asyncio.AbstractEventLoop, on_lost: Callable[[], None]
    ) -> None:
        self._socket = sock
        self._loop = loop
        self._on_lost = on_lost
        self._waiting: deque[_Unsent] = deque()
        self._has_turn = False
        self._is_watching = False
        self._watchers: list[tuple[int, asyncio.Future[None]]] = []
        self.size = 0

    def post(self, frame: Frame) -> None:
        data, fd = format_frame(frame)
        number = frame.number if frame.kind is FrameKind.CALL else 0
        self._waiting.append(_Unsent(memoryview(data), fd, number))
        self.size += len(data)
        if not self._has_turn and not self._is_watching:
            self._has_turn = True
            self._loop.call_soon(self._send)

    async def wait_for_room(self) -> None:
        if self.size > CONGESTED_BYTES:
            await self._wait_for(CONGESTED_BYTES)

    async def wait_until_sent(self) -> None:
        if self.size:
            await self._wait_for(0)

    def close(self) -> set[int]:
        """The numbers of the calls that were not sent to their last byte."""
        self._watch(False)
        numbers = {unsent.number for unsent in self._waiting}
        for unsent in self._waiting:
            if unsent.fd is not None:
                os.close(unsent.fd)
        self._waiting.clear()
        self.size = 0
        self._wake()
        return numbers

    def room(self) -> asyncio.Future[None]:
        return self._watch_size(CONGESTED_BYTES)

    async def _wait_for(self, size: int) -> None:
        await self._watch_size(size)

    def _watch_size(self, size: int) -> asyncio.Future[None]:
        """Done when no more than that is unsent."""
        future: asyncio.Future[None] = self._loop.create_future()
        if self.size > size:
            self._watchers.append((size, future))
        else:
            future.set_result(None)
        return future

    def _wake(self) -> None:
        still = []
        for size, future in self._watchers:
            if self.size > size:
                still.append((size, future))
            elif not future.done():
                future.set_result(None)
        self._watchers = still

    def _send(self) -> None:
        self._has_turn = False
        while self._waiting:
            views, fd = self._next_batch()
            rights = [] if fd is None else [_rights(fd)]
            try:
                sent = self._socket.sendmsg(views, rights, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                break
            except OSError:
                self._on_lost()
                return
            self._advance(sent)
        self._watch(bool(self._waiting))
        if self._watchers:
            self._wake()

    def _next_batch(self) -> tuple[list[memoryview], int | None]:
        """As many as go together: a descriptor travels with the first byte of a system call."""
        views: list[memoryview] = []
        fd = self._waiting[0].fd
        for unsent in self._waiting:
            if (views and unsent.fd is not None) or len(views) == _IOVECS_MAX:
                break
            views.append(unsent.data)
        return views, fd

    def _advance(self, sent: int) -> None:
        self.size -= sent
        while sent:
            data, fd, number = self._waiting.popleft()
            if fd is not None:
                os.close(fd)
            if sent < len(data):
                self._waiting.appendleft(_Unsent(data[sent:], None, number))
                return
            sent -= len(data)

    def _watch(self, is_wanted: bool) -> None:
        if is_wanted != self._is_watching:
            self._is_watching = is_wanted
            if is_wanted:
                self._loop.add_writer(self._socket.fileno(), self._send)
            else:
                self._loop.remove_writer(self._socket.fileno())


def make_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a new conversation: ours, and the one for the other process."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def _rights(fd: int) -> tuple[int, int, bytes]:
    return (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]).tobytes())


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def _lost() -> PeerLost:
    return PeerLost("The worker process has ended.")


def _undelivered() -> Undelivered:
    return Undelivered("The worker process has ended.")
