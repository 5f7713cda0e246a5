"""A response that the runtime streams: from the body of its POST to the invocation's sink.

What it is: the ``IncomingBody`` of one ``POST …/response`` in streaming mode. Each piece goes on
in the turn of the loop in which it arrives; nothing is kept, except for an invocation without a
sink, whose response is collected as if the runtime had not streamed it. What it is not: the HTTP
or the routes, which are ``runtime.api``'s.
Source: AWS guide, "Using the Lambda runtime API for custom runtimes", response streaming; names
of errors as in AWS's runtime interface emulator. The sentences of this module are firelet's own,
made after that of a whole response that is too large.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping

from firelet.model import limits
from firelet.model.streaming import OCTET_STREAM, ResponseSink, StreamHead
from firelet.runtime.exchange import Exchange, RuntimeAnswer, StreamFacts
from firelet.runtime.posted import ACCEPTED, format_error, name_error, refuse
from firelet.wire.http1 import Flow, RejectionReason, Response

OVERSIZED_TYPE = "Function.ResponseSizeTooLarge"
TRUNCATED_TYPE = "Runtime.TruncatedResponse"
_TRUNCATED_MESSAGE = "The connection ended before the response was complete."
_ERROR_TYPE = b"lambda-runtime-function-error-type"
_ERROR_BODY = b"lambda-runtime-function-error-body"


def oversized_message(limit: int) -> str:
    """AWS's sentence, with the limit that holds."""
    return f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."


class ResponseStream:
    """One response. ``sink`` None: it is collected. InvalidTransition when none is owed.

    To the sink it is the source, which can be paused until the response is over: the connection is
    read on then, whatever the client has still to read, since the runtime's next request is on it.
    """

    def __init__(self, exchange: Exchange, flow: Flow, content_type: bytes | None) -> None:
        exchange.begin_stream(self.cut)
        sink = exchange.sink
        self.limit = limits.RESPONSE_MAX_BYTES if sink is None else limits.STREAM_MAX_BYTES
        self._exchange = exchange
        self._flow = flow
        self._content_type = content_type
        self._sink: ResponseSink | None = sink
        self._collected = bytearray()  # Not a list: pieces may be of one byte each.
        self.is_oversized = False
        self._size = 0
        self._first_at = 0.0
        self._is_cut = False

    def cut(self) -> None:
        """The invocation is over without it: what still comes is read and dropped."""
        if not self._is_cut:
            self._is_cut = True
            self._sink = None
            self._collected.clear()
            self._flow.resume()

    def pause(self) -> None:
        if not self._is_cut:
            self._flow.pause()

    def resume(self) -> None:
        if not self._is_cut:
            self._flow.resume()

    def on_piece(self, piece: bytes) -> None:
        if self._is_cut:
            return
        if not self._size:
            self._begin()
        self._size += len(piece)
        if self._sink is None:
            self._collected += piece
        else:
            self._sink.write(piece)

    def on_end(self, trailers: Mapping[bytes, bytes]) -> Response:
        if self._is_cut:
            return refuse(403, "InvalidStateTransition", "The invocation is over.")
        failed = _parse_trailers(trailers)
        if failed is not None:
            self._end(*failed)
            return ACCEPTED
        if not self._size:
            self._begin()
        self._end(bytes(self._collected), None)
        return ACCEPTED

    def on_broken(self, reason: RejectionReason | None) -> None:
        if self._is_cut:
            return
        if reason is RejectionReason.BODY_TOO_LARGE:
            self.is_oversized = True
            message = oversized_message(self.limit)
            self._end(format_error(OVERSIZED_TYPE, message), OVERSIZED_TYPE)
        else:
            document = format_error(TRUNCATED_TYPE, _TRUNCATED_MESSAGE)
            self._end(document, TRUNCATED_TYPE, was_lost=reason is None)

    def _begin(self) -> None:
        self._first_at = time.monotonic()
        if self._sink is not None:
            content_type = self._content_type
            named = OCTET_STREAM if content_type is None else content_type.decode("latin-1")
            self._sink.begin(StreamHead(named), self)

    def _end(self, payload: bytes, error_type: str | None, *, was_lost: bool = False) -> None:
        now = time.monotonic()
        facts = StreamFacts(self._size, self._first_at or now, now, was_lost)
        answer = RuntimeAnswer(
            payload,
            error_type is not None,
            error_type,
            None if self._exchange.sink is None else facts,
        )
        self._is_cut = True
        self._sink = None
        self._collected.clear()
        self._flow.resume()
        self._exchange.end_stream(answer)


def _parse_trailers(trailers: Mapping[bytes, bytes]) -> tuple[bytes, str] | None:
    """Error document and type when the handler failed in mid-stream. A document that is no base64
    is left out: it comes from customer code, and the type says what there is to say."""
    named = trailers.get(_ERROR_TYPE)
    encoded = trailers.get(_ERROR_BODY)
    if named is None and encoded is None:
        return None
    try:
        body = base64.b64decode(encoded or b"", validate=True)
    except binascii.Error:
        body = b""
    error_type = name_error(named, body)
    return body or format_error(error_type, ""), error_type
