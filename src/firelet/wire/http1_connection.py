"""One HTTP/1.1 connection from the server's side.

``Connection`` serves the requests that ``http1_reader`` finds: order of answers, back-pressure,
time limits, and the fate of handlers when a client goes away. It does not listen (``http1``); what
it shares with the other connections of its server is in ``http1_live``.

This is the hot path of the product. What a request does not need costs it nothing: no task for
an answer given at once, no timer per request (one coarse sweep per server counts quiet seconds),
no queue unless the client pipelines.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from types import CoroutineType
from typing import cast

from firelet.wire.http1_head import BODILESS
from firelet.wire.http1_live import Connections
from firelet.wire.http1_message import (
    Rejection,
    RejectionReason,
    Request,
    Response,
    plain_rejection,
)
from firelet.wire.http1_reader import CLOSE, Phase, RequestReader
from firelet.wire.http1_stream import (
    SEND_BUFFER_BYTES,
    OutgoingBody,
    StreamedResponse,
)
from firelet.wire.http1_upgrade import UpgradedConnection, UpgradedResponse
from firelet.wire.prompt import PromptFuture

logger = logging.getLogger(__name__)

# Requests, or bytes of their bodies, that wait behind an unanswered one before reading stops.
PIPELINE_MAX = 16
PIPELINE_BYTES_MAX = 256 * 1024
# Up to this size, head and body leave in one buffer: copying is cheaper than a second write.
JOIN_MAX_BYTES = 64 * 1024
# How much longer a rejected client may talk, so that it reads its answer and not a reset.
LINGER_BYTES_MAX = 64 * 1024 * 1024
LINGER_S = 30.0
# When there are too many connections: an unfinished request may be given up that has stopped for so
# long, or whose connection has had no answer for so long although bytes still come.
STALLED_S = 2.0
UNFINISHED_S = 30.0
# Connections above the maximum that are told so; the ones beyond are cut off without a word.
OVERLOAD_SPARE = 64

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_IDLE, _HEAD, _BODY, _ENDED = Phase


class Connection(asyncio.Protocol):
    """Serves one connection: one request in flight at a time, answers in order.

    A client that closes its sending side counts as gone and its handler is cancelled (as Go's
    net/http does): half-closing cannot be told from giving up.
    """

    __slots__ = (
        "_active",
        "_app",
        "_backlog",
        "_backlog_bytes",
        "_heads",
        "_heard_at",
        "_held",
        "_ignored_bytes",
        "_is_body_paused",
        "_is_continue_due",
        "_is_draining",
        "_is_feeding",
        "_is_lost",
        "_is_open",
        "_is_reading_paused",
        "_is_writing_paused",
        "_limits",
        "_loop",
        "_quiet_s",
        "_reader",
        "_serving",
        "_shared",
        "_stalled_s",
        "_streaming",
        "_streaming_line",
        "_transport",
        "_unsent_bytes",
    )

    _transport: asyncio.Transport
    _reader: RequestReader
    _serving: tuple[Request, bytes]

    def __init__(self, shared: Connections) -> None:
        self._shared = shared
        self._app = shared.app
        self._limits = shared.limits
        self._heads = shared.heads
        self._loop = asyncio.get_running_loop()
        # Open: answers may be written. Lost: the transport has said its last word.
        self._is_open = False
        self._is_draining = False
        # Answers that wait to leave together with the next one (``HttpLimits.joins_answers``).
        self._is_feeding = False
        self._held = b""
        self._is_lost = False
        # The request in flight, and what waits behind it: a Response is a rejection.
        self._active: asyncio.Future[Response] | None = None
        # The body of its answer, while that comes over time, and how its head said it would end.
        self._streaming: OutgoingBody | None = None
        self._streaming_line = b""
        self._backlog: deque[tuple[Request | Response, bytes]] = deque()
        self._backlog_bytes = 0
        self._is_continue_due = False
        # Why reading is paused: requests wait, or what takes the body of one is slow.
        self._is_reading_paused = False
        self._is_body_paused = False
        self._is_writing_paused = False
        self._ignored_bytes = 0
        # When it was made, or last answered, by the loop's clock.
        self._heard_at = self._loop.time()
        # Kept by the sweep: seconds without progress of the client, and of our writing.
        self._quiet_s = 0.0
        self._stalled_s = 0.0
        self._unsent_bytes = 0

    # The transport's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._is_open = True
        shared = self._shared
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        self._reader = RequestReader(
            self, address, self._limits, shared.body_limit, shared.open_body
        )
        shared.live[self] = None
        shared.arm()
        if len(shared.live) > self._limits.max_connections:
            shared.make_room(self)
        excess = len(shared.live) - self._limits.max_connections
        if excess > OVERLOAD_SPARE:
            self.abort()
        elif excess > 0:
            self._reader.reject(RejectionReason.OVERLOADED)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        phase = reader.phase
        if phase is _ENDED:
            self._ignored_bytes += len(data)
            if self._ignored_bytes > LINGER_BYTES_MAX:
                self.abort()
            return
        if phase is not _HEAD:  # A head has its time from the first byte on, not from the last.
            self._quiet_s = 0.0
        if self._limits.joins_answers:
            self._is_feeding = True
            reader.feed(data)
            self._is_feeding = False
            if self._held and self._active is None:
                self._send(b"")
        else:
            reader.feed(data)
        if reader.phase is not _IDLE:
            self._shared.arm()

    def eof_received(self) -> None:
        self._give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._give_up()
        self._reader.detach()
        if self._active is None:
            self._shared.release(self)

    def pause_writing(self) -> None:
        self._is_writing_paused = True
        if self._streaming is not None:
            self._streaming.pause()
            self._shared.arm()  # A client that never reads on is given up.

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        if self._streaming is not None:
            self._streaming.resume()
        self._serve_backlog()

    # The server's calls.

    @property
    def is_busy(self) -> bool:
        """A request is being read, served or queued."""
        phase = self._reader.phase
        return self._active is not None or bool(self._backlog) or phase is _HEAD or phase is _BODY

    @property
    def worth(self) -> tuple[bool, float]:
        """Of spare connections, those with less are ended first: unfinished requests, then those
        that have asked for nothing for longest."""
        return self._reader.phase is _IDLE, self._heard_at

    @property
    def is_spare(self) -> bool:
        """It asks for nothing now, or has stopped in the middle of asking."""
        if self._active is not None or self._backlog or self._transport.get_write_buffer_size():
            return False
        if self._reader.phase is _IDLE or self._quiet_s >= STALLED_S:
            return True
        return self._loop.time() - self._heard_at >= UNFINISHED_S

    def drain(self) -> None:
        """Closes now if idle, else after the answer that is due."""
        self._is_draining = True
        if not self.is_busy:
            self._close()

    def abort(self) -> None:
        """Closes without another byte."""
        self._give_up()
        self._transport.abort()

    def on_sweep(self, elapsed_s: float) -> bool:
        """``elapsed_s`` more have passed. False: nothing here can time out."""
        if self._is_lost:
            return False
        unsent = self._transport.get_write_buffer_size()
        if unsent:
            has_moved = unsent < self._unsent_bytes
            self._unsent_bytes = unsent
            self._stalled_s = 0.0 if has_moved else self._stalled_s + elapsed_s
            if self._stalled_s > self._limits.write_s:
                self.abort()
            return True
        self._unsent_bytes = 0
        self._stalled_s = 0.0
        if self._active is not None:
            return False
        phase = self._reader.phase
        allowed_s = self._allowed_silence_s(phase)
        if allowed_s is None:
            return False
        self._quiet_s += elapsed_s
        if self._quiet_s > allowed_s:
            if phase is _HEAD or phase is _BODY:
                self._reader.reject(RejectionReason.TIMEOUT)
            elif phase is _IDLE:
                self._close()
            else:
                self.abort()
        return True

    def _allowed_silence_s(self, phase: Phase) -> float | None:
        if phase is _IDLE:
            return self._limits.keep_alive_s
        if phase is _HEAD:
            return self._limits.header_s
        if phase is _BODY:
            # Whoever takes a body as it comes knows how long that may take.
            return None if self._reader.is_streaming else self._limits.body_s
        return LINGER_S

    # The calls of whoever takes a body as it comes.

    def pause(self) -> None:
        """Reads no more for now."""
        if not self._is_body_paused and self._is_open and not self._transport.is_closing():
            self._is_body_paused = True
            if not self._is_reading_paused:
                self._transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        if self._is_body_paused:
            self._is_body_paused = False
            if not self._is_reading_paused and not self._transport.is_closing():
                self._transport.resume_reading()

    # The reader's calls.

    def on_request(self, request: Request, connection_line: bytes) -> None:
        if self._active is None and not self._is_writing_paused:
            self._serve(request, connection_line)
            return
        self._backlog.append((request, connection_line))
        self._backlog_bytes += len(request.body)
        if not self._is_reading_paused and (
            len(self._backlog) >= PIPELINE_MAX or self._backlog_bytes > PIPELINE_BYTES_MAX
        ):
            self._is_reading_paused = True
            if not self._is_body_paused:
                self._transport.pause_reading()

    def on_answered(self, request: Request, connection_line: bytes, response: Response) -> None:
        if self._active is None and not self._is_writing_paused:
            self._answer(response, request, connection_line)
        else:
            # Sent behind a request that is still unanswered: no client of ours does that.
            self._reader.end()
            self._backlog.append((response, CLOSE))

    def on_rejection(self, rejection: Rejection) -> None:
        response = self._shared.reject(rejection)
        if rejection.method == b"HEAD":
            response = Response(response.status, b"", response.headers)
        self.on_refusal(response)

    def on_refusal(self, response: Response) -> None:
        self.resume()
        if self._active is None and not self._is_writing_paused:
            self._write_last(response)
        else:
            self._backlog.append((response, CLOSE))

    def on_expect_continue(self) -> None:
        self._is_continue_due = True
        self._continue_if_clear()

    # Serving.

    def _serve(self, request: Request, connection_line: bytes) -> None:
        try:
            answer = self._app(request)
            if isinstance(answer, Response):
                self._answer(answer, request, connection_line)
                return
            future: asyncio.Future[Response] = (
                self._loop.create_task(answer)
                if isinstance(answer, CoroutineType)
                else asyncio.ensure_future(answer)
            )
        except Exception as error:
            self._answer(self._fail(request, error), request, connection_line)
            return
        if future.done():
            self._answer(self._take(future, request), request, connection_line)
            return
        self._active = future
        self._serving = (request, connection_line)
        if isinstance(future, PromptFuture):
            future.listen(self._on_answer)
        else:
            future.add_done_callback(self._on_answer)

    def _on_answer(self, future: asyncio.Future[Response]) -> None:
        self._active = None
        request, connection_line = self._serving
        del self._serving
        response = self._take(future, request)
        if self._is_open:
            self._answer(response, request, connection_line)
            self._serve_backlog()
        else:
            if isinstance(response, StreamedResponse):
                response.stream.drop()
            elif isinstance(response, UpgradedResponse) and response.stream is not None:
                response.stream.on_lost()
            if self._is_lost:
                self._shared.release(self)

    def _take(self, future: asyncio.Future[Response], request: Request) -> Response:
        try:
            return future.result()
        except (Exception, asyncio.CancelledError) as error:
            return self._fail(request, error)

    def _fail(self, request: Request, error: BaseException) -> Response:
        # Cancelled: the client has gone, or the application withdrew. Neither is a failure.
        if not isinstance(error, asyncio.CancelledError):
            logger.error(
                "http handler failed method=%s path=%s",
                request.method.decode(),
                request.path.decode("latin-1"),
                exc_info=error,
            )
        reason = RejectionReason.INTERNAL_ERROR
        return self._shared.reject(Rejection(reason, request.method, request.target))

    def _serve_backlog(self) -> None:
        backlog = self._backlog
        while backlog and self._active is None and not self._is_writing_paused:
            waiting, connection_line = backlog.popleft()
            if isinstance(waiting, Response):
                self._write_last(waiting)
            else:
                self._backlog_bytes -= len(waiting.body)
                self._serve(waiting, connection_line)
        if self._is_reading_paused and not backlog and self._is_open:
            self._is_reading_paused = False
            if not self._is_body_paused:
                self._transport.resume_reading()
        self._continue_if_clear()

    def _continue_if_clear(self) -> None:
        """Asks for the body that the client holds back, after the answers that are due before."""
        if self._is_continue_due and self._active is None and not self._backlog:
            self._is_continue_due = False
            if self._reader.phase is _BODY:
                self._transport.write(_CONTINUE)

    # Writing.

    def _answer(self, response: Response, request: Request, connection_line: bytes) -> None:
        # A refusal is not joined: what was sent behind the request relied on its success.
        if self._is_draining or (self._is_feeding and response.status >= 400):
            connection_line = CLOSE
        if isinstance(response, StreamedResponse):
            self._stream(response, connection_line, request.method == b"HEAD")
            return
        if isinstance(response, UpgradedResponse):
            self._upgrade(response, connection_line)
            return
        self._write(response, connection_line, request.method == b"HEAD")
        if connection_line is CLOSE:
            self._close()

    def _write_last(self, response: Response) -> None:
        """Writes a rejection and goes on reading: closing now would reset what is on its way."""
        self._is_feeding = False
        self._write(response, CLOSE, False)
        self._is_open = False
        self._transport.write_eof()

    def _write(self, response: Response, connection_line: bytes, is_head: bool) -> None:
        try:
            head = self._heads.format(response, connection_line)
        except ValueError:
            logger.exception("http response not written status=%d", response.status)
            response = plain_rejection(Rejection(RejectionReason.INTERNAL_ERROR))
            head = self._heads.format(response, connection_line)
        body = response.body
        self._quiet_s = 0.0
        self._heard_at = self._loop.time()
        if is_head or not body or response.status in BODILESS:
            self._send(head)
        elif len(body) < JOIN_MAX_BYTES:
            self._send(head + body)
        else:
            # Not ``writelines``, which skips flow control in some releases of 3.12 and 3.13
            # (CVE-2024-12254). uvloop sends both in one writev all the same.
            self._send(head)
            self._send(body)

    def _stream(self, response: StreamedResponse, connection_line: bytes, is_head: bool) -> None:
        """Writes the head; the body is written by whoever has ``response.stream``."""
        # HTTP/1.0 knows no chunks: there, a body ends with the connection.
        is_chunked = not self._reader.is_http10
        self._streaming_line = connection_line if is_chunked else CLOSE
        try:
            head = self._heads.format(
                response, self._streaming_line, _CHUNKED if is_chunked else b""
            )
        except ValueError:
            logger.exception("http response not written status=%d", response.status)
            response.stream.drop()
            failed = plain_rejection(Rejection(RejectionReason.INTERNAL_ERROR))
            self._write(failed, CLOSE, is_head)
            self._close()
            return
        self._quiet_s = 0.0
        self._is_feeding = False
        self._send(head)
        if is_head or response.status in BODILESS:
            response.stream.drop()
            self._on_streamed(True)
            return
        self._active = self._loop.create_future()
        self._streaming = response.stream
        self._transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)
        response.stream.open(self._transport, is_chunked, self._on_streamed)

    def _upgrade(self, response: UpgradedResponse, connection_line: bytes) -> None:
        """Writes the head and hands the connection over; nothing of it is ours from then on."""
        stream = response.stream
        assert stream is not None
        if self._reader.phase is not _IDLE or self._backlog or connection_line is CLOSE:
            # More than the request was sent, or the server is going away.
            stream.on_lost()
            self._write(plain_rejection(Rejection(RejectionReason.BAD_REQUEST)), CLOSE, False)
            self._close()
            return
        self._is_feeding = False
        self._send(self._heads.format(response, b"", b""))
        self._is_open = False
        self._reader.end()
        self._loop.call_soon(self._reader.detach)  # It may be in the middle of a call.
        shared = self._shared
        upgraded = UpgradedConnection(stream, self._transport, shared.release)
        shared.live[upgraded] = None
        shared.release(self)
        upgraded.start()

    def _on_streamed(self, is_whole: bool) -> None:
        """All of the body was written, or all that there will be of it."""
        self._active = self._streaming = None
        if is_whole and self._streaming_line is not CLOSE and not self._is_draining:
            self._serve_backlog()
        elif is_whole or not self._reader.is_http10:
            self._close()  # Without a last chunk, if it is not whole.
        else:
            self.abort()

    def _send(self, data: bytes) -> None:
        """Writes, or holds back what the answer to the next request of the same segment takes
        along: one packet and one wake-up of the client instead of two."""
        if self._is_feeding:
            self._held += data
            return
        if self._held:
            data, self._held = self._held + data, b""
        self._transport.write(data)

    # Ending.

    def _close(self) -> None:
        """Closes as soon as what is written has left."""
        if self._held:
            self._is_feeding = False
            self._send(b"")
        self._give_up()
        self._transport.close()

    def _give_up(self) -> None:
        """Nobody reads further answers: drops what waits and cancels what is in flight."""
        if not self._is_open:
            return  # A second cancellation would break off the handler's cleaning up.
        self._is_open = False
        self._reader.end()
        self._backlog.clear()
        if self._streaming is not None:
            stream, self._streaming, self._active = self._streaming, None, None
            stream.drop()
        elif self._active is not None:
            self._active.cancel()
