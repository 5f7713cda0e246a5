"""The answer to one request whose function streams: implements ``model.streaming.ResponseSink``.

A stream of the HTTP integration type begins with status, headers and cookies as JSON, then eight
NUL bytes; any other is a body with 200. Called by ``function_url``.
Source: docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html and the runtime
clients that write such preludes.
"""

from __future__ import annotations

from collections.abc import Callable

from firelet.gateway.http_event import parse_prelude
from firelet.gateway.proxy_event import MalformedResult
from firelet.gateway.serving import Answer
from firelet.model.limits import MIB
from firelet.model.streaming import (
    HTTP_INTEGRATION,
    HTTP_PRELUDE_END,
    StreamHead,
    StreamSource,
)
from firelet.wire.http1 import OutgoingBody, Response, StreamedResponse

PRELUDE_MAX_BYTES = MIB  # firelet: what a whole head may have


class StreamedAnswer:
    """``finish`` adds what every answer has, and makes the answer to a malformed prelude."""

    def __init__(
        self,
        future: Answer,
        finish: Callable[[Response], Response],
        fail: Callable[[MalformedResult], Response],
    ) -> None:
        self._future = future
        self._finish = finish
        self._fail = fail
        self._body: OutgoingBody | None = None
        # What has come of a prelude that is not complete; None once it is, or if there is none.
        self._prelude: bytearray | None = None
        self._is_dropped = False
        self._source: StreamSource | None = None

    @property
    def has_begun(self) -> bool:
        """Whether another answer is no longer possible."""
        return self._body is not None or self._is_dropped

    def begin(self, head: StreamHead, source: StreamSource) -> None:
        self._source = source
        if head.content_type == HTTP_INTEGRATION:
            self._prelude = bytearray()
        else:
            content_type = (b"content-type", head.content_type.encode("latin-1", "replace"))
            self._open(Response(200, b"", (content_type,)))

    def write(self, piece: bytes) -> None:
        if self._prelude is not None:
            self._read_prelude(self._prelude, piece)
        elif self._body is not None and not self._body.is_over:
            self._body.write(piece)

    def end(self) -> None:
        """The function has ended well."""
        if self._prelude is not None:
            self._refuse(MalformedResult("the stream ended within its prelude"))
        elif self._body is not None:
            self._body.end()

    def abort(self) -> None:
        """It has not; the client must not take what it got for the whole."""
        if self._body is not None:
            self._body.abort()

    def _read_prelude(self, prelude: bytearray, piece: bytes) -> None:
        # Only what is new is looked at: a prelude may come byte by byte.
        start = max(0, len(prelude) - len(HTTP_PRELUDE_END) + 1)
        prelude += piece
        end = prelude.find(HTTP_PRELUDE_END, start)
        if end < 0:
            if len(prelude) > PRELUDE_MAX_BYTES:
                self._refuse(MalformedResult("the prelude of the stream is too long"))
            return
        self._prelude = None
        rest = bytes(prelude[end + len(HTTP_PRELUDE_END) :])
        try:
            self._open(parse_prelude(bytes(prelude[:end])))
        except MalformedResult as error:
            self._refuse(error)
            return
        if rest and self._body is not None:
            self._body.write(rest)

    def _open(self, head: Response) -> None:
        body = self._body = OutgoingBody(self._source)
        if self._future.done():
            body.drop()  # the client has gone
            return
        head = self._finish(head)
        self._future.set_result(StreamedResponse(head.status, headers=head.headers, stream=body))

    def _refuse(self, error: MalformedResult) -> None:
        self._prelude = None
        self._is_dropped = True
        response = self._fail(error)
        if not self._future.done():
            self._future.set_result(self._finish(response))
