"""A handler that is a generator streams: what it yields is sent as it is yielded.

An extra of firelet: AWS's own client for Python does not stream, and refuses a generator as a
value that has no JSON. A generator yields bytes or text; if the first thing it yields is a dict,
that is the status, the headers and the cookies of an HTTP answer
(``{"statusCode": 201, "headers": {…}, "cookies": […]}``), as ``awslambda.HttpResponseStream``
sends them in Node.js. Sending blocks while the caller is slow to read.
Called by ``python_runtime``. Source: AWS guide, response streaming of custom runtimes.
"""

from __future__ import annotations

import base64
import json

from firelet.guest.python_fault import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Generator, Tuple

    from firelet.guest.runtime_client import Invocation, RuntimeApi

    Report = Callable[[Exception], Tuple[bytes, str]]

GENERATOR = type(_ for _ in ())

_OCTET_STREAM = b"application/octet-stream"
_HTTP_INTEGRATION = b"application/vnd.awslambda.http-integration-response"
_HTTP_PRELUDE_END = bytes(8)
_LAST_CHUNK = b"0\r\n\r\n"
# Up to this size, a chunk and its length leave in one buffer.
_JOIN_MAX_BYTES = 65536


def post_stream(
    api: RuntimeApi, invocation: Invocation, pieces: Generator[Any, None, Any], report: Report
) -> None:
    """Streams the response and asks for the next event. ``report`` tells of an error of the
    handler after the first piece, and gives its document and type.

    Errors: Fault, or what the handler raises before its first piece: nothing has been sent then.
    """
    first, content_type = _begin(pieces)
    stream = _Stream(api, invocation, content_type)
    try:
        if stream.write(first):
            for piece in pieces:
                if not stream.write(_to_bytes(piece)):
                    break
        pieces.close()
    except Exception as error:
        stream.fail(*report(error))
    else:
        stream.end()


def _begin(pieces: Generator[Any, None, Any]) -> tuple[bytes, bytes]:
    """The first bytes, and the content type."""
    first = next(pieces, b"")
    if not isinstance(first, dict):
        return _to_bytes(first), _OCTET_STREAM
    try:
        prelude = json.dumps(first)
    except (TypeError, ValueError) as error:
        raise Fault("Runtime.MarshalError", f"Unable to marshal response: {error}") from None
    return prelude.encode() + _HTTP_PRELUDE_END, _HTTP_INTEGRATION


def _to_bytes(piece: Any) -> bytes:
    if isinstance(piece, str):
        return piece.encode()
    if isinstance(piece, (bytes, bytearray, memoryview)):
        return bytes(piece)
    raise Fault(
        "Runtime.MarshalError",
        f"Unable to marshal response: Object of type {type(piece).__name__} is not bytes or str",
    )


class _Stream:
    """One response in chunks. Its head leaves with the first of them."""

    def __init__(self, api: RuntimeApi, invocation: Invocation, content_type: bytes) -> None:
        self._api = api
        self._is_refused = False
        self._unsent = api.begin_stream(invocation, content_type)

    def write(self, piece: bytes) -> bool:
        """False: nobody takes any more of it."""
        size = len(piece)
        if not size or self._is_refused:
            return not self._is_refused
        head = self._unsent + b"%x\r\n" % size
        # The end of a chunk waits for the next one, and saves a send.
        self._unsent = b"\r\n"
        if size <= _JOIN_MAX_BYTES:
            self._is_refused = not self._api.send_piece(head + piece)
        else:
            self._is_refused = not (self._api.send_piece(head) and self._api.send_piece(piece))
        return not self._is_refused

    def end(self) -> None:
        self._finish(_LAST_CHUNK)

    def fail(self, document: bytes, error_type: str) -> None:
        trailers = b"Lambda-Runtime-Function-Error-Body: " + base64.b64encode(document) + b"\r\n"
        if error_type.isascii() and error_type.isprintable():
            trailers += b"Lambda-Runtime-Function-Error-Type: %b\r\n" % error_type.encode("ascii")
        self._finish(b"0\r\n" + trailers + b"\r\n")

    def _finish(self, last: bytes) -> None:
        self._api.end_stream(None if self._is_refused else self._unsent + last)
