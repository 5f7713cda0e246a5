"""A response while it comes: what a streamed invocation says to whoever asked for it.

How to use it. Write a class with the two methods of ``ResponseSink`` and call
``outcome = await invoker.stream(invocation, function_key, reserved, sink)``
(``control.invoke``; a sink belongs to one invocation). Then, in this order:

1. Before the first byte the call may raise, as ``Invoker.invoke`` does: answer with the error.
2. ``sink.begin(head, source)`` once, with the first byte, and only if there is a response: not
   for a function that fails before it has sent any. A handler that does not stream comes the same
   way, in one piece, with ``head.is_streamed`` False.
3. ``sink.write(piece)`` any number of times, as bytes arrive and in the same turn of the loop. It
   must return at once and must not fail. One that cannot take more calls ``source.pause()``, which
   stops the function's writing a few hundred kilobytes later, and then ``source.resume()``.
4. The call returns the Outcome, which is the end: all went well if ``outcome.function_error`` is
   None; else ``outcome.payload`` is the error document and ``error_type`` its name, also when
   ``begin`` was called long before (timeout, crash, an error of the handler in mid-stream). It may
   also raise after ``begin``: the platform has failed, and the response is cut short.

A client that goes away does not end its function, as on AWS: go on taking pieces and drop them,
and do not stay paused. ``wire.http1_stream.OutgoingBody`` does all that for HTTP clients: it is a
response body to which pieces are written, and which pauses the source by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

OCTET_STREAM = "application/octet-stream"
# What the Runtime API calls a response that begins with status and headers: JSON, then NUL bytes.
HTTP_INTEGRATION = "application/vnd.awslambda.http-integration-response"
HTTP_PRELUDE_END = b"\0" * 8


@dataclass(frozen=True, slots=True)
class StreamHead:
    """``content_type`` as the runtime named it for a stream; JSON for one that does not stream."""

    content_type: str = OCTET_STREAM
    is_streamed: bool = True


class StreamSource(Protocol):
    """Where the pieces come from. Both may be called again, and at any time."""

    def pause(self) -> None:
        """No more for now; a few pieces may still come."""

    def resume(self) -> None: ...


class ResponseSink(Protocol):
    """Takes one response; see above."""

    def begin(self, head: StreamHead, source: StreamSource) -> None: ...
    def write(self, piece: bytes) -> None: ...


class WholeResponse:
    """The source of a response that is there already: there is nothing to pause."""

    def pause(self) -> None:
        """Nothing follows."""

    def resume(self) -> None:
        """Nothing follows."""
