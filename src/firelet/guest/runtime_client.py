"""The Runtime API as a runtime client sees it: one kept-alive connection, HTTP/1.1 cut to size.

It is not a general HTTP client: answers must carry Content-Length, and nothing is ever
redirected, compressed or chunked. The answer to an invocation and the question for the next one
leave in one send, so that a warm invocation costs one write and as few reads as the server allows.
Called by ``python_runtime`` only. Source: AWS guide, "Using the Lambda runtime API".
"""

from __future__ import annotations

# The C socket: the ``socket`` module costs several milliseconds that a fresh interpreter would
# spend before INIT, and nothing of it is needed here.
import _socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Tuple

    Fields = Dict[str, str]
    Answer = Tuple[int, Fields, bytes]

_PREFIX = b"/2018-06-01/runtime/"
_RECEIVE_BYTES = 65536
_MAX_HEAD_BYTES = 1 << 20
# Larger than this, the cause is left out of the request rather than cut into invalid JSON.
MAX_XRAY_CAUSE_BYTES = 65536


class RuntimeApiError(RuntimeError):
    """The Runtime API refused a call, broke the protocol or went away. The runtime ends."""


class _ConnectionLost(Exception):
    """The server closed the connection where an answer should have begun."""


class Invocation:
    """One event and what the headers said about it; header values stay text."""

    __slots__ = (
        "attempt_id",
        "body",
        "client_context",
        "cognito_identity",
        "content_type",
        "deadline_ms",
        "function_arn",
        "request_id",
        "tenant_id",
        "trace_id",
    )

    def __init__(self, fields: Fields, body: bytes) -> None:
        get = fields.get
        try:
            self.request_id = fields["lambda-runtime-aws-request-id"]
            self.deadline_ms = int(fields.get("lambda-runtime-deadline-ms", "0"))
        except (KeyError, ValueError) as error:
            raise RuntimeApiError(f"Failed to get next: bad header {error}") from error
        self.function_arn = get("lambda-runtime-invoked-function-arn")
        self.trace_id = get("lambda-runtime-trace-id")
        self.client_context = get("lambda-runtime-client-context")
        self.cognito_identity = get("lambda-runtime-cognito-identity")
        self.tenant_id = get("lambda-runtime-aws-tenant-id")
        self.content_type = get("content-type")
        # Names this attempt; echoed so that a late answer cannot meet a later attempt.
        self.attempt_id = get("lambda-runtime-invocation-id")
        self.body = body


class RuntimeApi:
    """The calls of the Runtime API. Connects at the first call; one owner, one thread."""

    def __init__(self, address: str) -> None:
        """``address`` is AWS_LAMBDA_RUNTIME_API: ``host:port`` without a scheme."""
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdigit():
            raise RuntimeApiError(f"AWS_LAMBDA_RUNTIME_API is not host:port: {address}")
        self._peer = (host, int(port))
        self._host = b" HTTP/1.1\r\nHost: " + address.encode("ascii") + b"\r\n"
        self._next = b"GET " + _PREFIX + b"invocation/next" + self._host + b"\r\n"
        self._socket: _socket.socket | None = None
        self._received = b""
        # Answers that this connection has given: an unanswered request may be sent again only
        # if the connection had worked, which is how a kept-alive connection goes stale.
        self._answers = 0
        # What to send again then, and whether it begins with an unanswered POST.
        self._unanswered = b""
        self._is_post_unanswered = False

    def next_invocation(self) -> Invocation:
        """Blocks until there is an event. The sandbox may be frozen meanwhile: no time limit.

        Errors: RuntimeApiError, also when the answer to the previous invocation was refused.
        """
        if not self._unanswered:
            self._send(self._next)
        elif self._is_post_unanswered:
            status, _, body = self._receive()
            self._is_post_unanswered = False
            self._unanswered = self._next
            if status != 202:
                _refused(status, body)
            if self._socket is None:
                self._send(self._next)
        status, fields, body = self._receive()
        self._unanswered = b""
        if status != 200:
            raise RuntimeApiError(f"Failed to get next: {status} {body!r}")
        return Invocation(fields, body)

    def post_response(self, invocation: Invocation, body: bytes, content_type: bytes) -> None:
        """Answers the invocation and asks for the next; the outcome shows in next_invocation."""
        self._post_and_ask(invocation, b"/response", body, b"Content-Type: " + content_type)

    def post_error(
        self, invocation: Invocation, body: bytes, error_type: str, xray_cause: bytes
    ) -> None:
        """Answers the invocation with an error document and asks for the next event."""
        headers = b"Content-Type: application/json" + _error_type_header(error_type)
        if xray_cause and len(xray_cause) <= MAX_XRAY_CAUSE_BYTES:
            headers += b"\r\nLambda-Runtime-Function-XRay-Error-Cause: " + xray_cause
        self._post_and_ask(invocation, b"/error", body, headers)

    def begin_stream(self, invocation: Invocation, content_type: bytes) -> bytes:
        """The head of an answer that is sent in chunks, to be sent with the first of them. The
        connection is the stream's until ``end_stream``."""
        # What has been streamed cannot be sent again: the connection counts as never used.
        self._answers = 0
        headers = (
            b"Content-Type: %b\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n"
            b"Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n"
            b"Transfer-Encoding: chunked" % content_type
        )
        return b"POST %binvocation/%b/response%b%b%b\r\n\r\n" % (
            _PREFIX,
            invocation.request_id.encode(),
            self._host,
            headers,
            _attempt_header(invocation),
        )

    def send_piece(self, data: bytes) -> bool:
        """Sends some of a stream; blocks while it is not read. False: it has been refused."""
        connection = self._socket or self._connect()
        try:
            connection.sendall(data)
            connection.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False
        return False  # answered, or closed, before it was complete

    def end_stream(self, last: bytes | None) -> None:
        """Sends the end of a stream, unless it has been refused, and asks for the next event."""
        self._is_post_unanswered = True
        self._unanswered = self._next
        if last is not None:
            self._send(last + self._next)
            self._unanswered = self._next

    def post_init_error(self, body: bytes, error_type: str) -> None:
        """Reports that the function could not be initialised; returns when that is accepted."""
        self._report_failure(b"init/error", body, error_type)

    def _report_failure(self, target: bytes, body: bytes, error_type: str) -> None:
        headers = b"Content-Type: application/json" + _error_type_header(error_type)
        self._send(self._post(target, body, headers))
        status, _, answer = self._receive()
        self._unanswered = b""
        if status != 202:
            raise RuntimeApiError(
                "Request to Lambda Runtime"
                f" '/2018-06-01/runtime/{target.decode()}' endpoint failed. "
                f"Reason: '{status}'. Response body: '{answer!r}'"
            )

    def restore_next(self) -> None:
        """Tells that INIT is done and a snapshot may be taken, then lets go of the connection: it
        is not one that clones could share."""
        self._send(b"GET " + _PREFIX + b"restore/next" + self._host + b"\r\n")
        status, _, body = self._receive()
        self._unanswered = b""
        self._disconnect()
        if status != 200:
            raise RuntimeApiError(f"Failed to reach the restore point: {status} {body!r}")

    def post_restore_error(self, body: bytes, error_type: str) -> None:
        """Reports that an after-restore hook failed; returns when that is accepted."""
        self._report_failure(b"restore/error", body, error_type)

    def _post_and_ask(
        self, invocation: Invocation, outcome: bytes, body: bytes, headers: bytes
    ) -> None:
        headers += _attempt_header(invocation)
        target = b"invocation/" + invocation.request_id.encode() + outcome
        self._is_post_unanswered = True
        self._send(self._post(target, body, headers) + self._next)

    def _post(self, target: bytes, body: bytes, headers: bytes) -> bytes:
        return b"POST %b%b%b%b\r\nContent-Length: %d\r\n\r\n%b" % (
            _PREFIX,
            target,
            self._host,
            headers,
            len(body),
            body,
        )

    def _send(self, requests: bytes) -> None:
        self._unanswered = requests
        connection = self._socket
        if connection is None:
            connection = self._connect()
        try:
            connection.sendall(requests)
        except (BrokenPipeError, ConnectionResetError):
            # The server has closed. It may have answered first (a body that it refuses to
            # read): what to do is decided where that answer is looked for.
            return

    def _connect(self) -> _socket.socket:
        connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        try:
            connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            connection.connect(self._peer)
        except OSError as error:
            connection.close()
            raise RuntimeApiError("Runtime API at {}:{}: {}".format(*self._peer, error)) from error
        self._socket = connection
        self._received = b""
        self._answers = 0
        return connection

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _receive(self) -> Answer:
        while True:
            try:
                answer = self._read_answer()
            except _ConnectionLost:
                self._disconnect()
                if not self._answers:
                    raise RuntimeApiError("The Runtime API closed the connection") from None
                self._send(self._unanswered)
            else:
                self._answers += 1
                if answer[1].get("connection", "").lower() == "close":
                    self._disconnect()
                return answer

    def _read_answer(self) -> Answer:
        received = self._received
        end = received.find(b"\r\n\r\n")
        while end < 0:
            if len(received) > _MAX_HEAD_BYTES:
                raise RuntimeApiError("The Runtime API's answer has no end of headers")
            received += self._read(_RECEIVE_BYTES, is_first=not received)
            end = received.find(b"\r\n\r\n")
        status, fields = _parse_head(received[:end])
        length = fields.get("content-length", "")
        if not length.isdigit():
            raise RuntimeApiError("The Runtime API's answer has no Content-Length")
        start = end + 4
        missing = start + int(length) - len(received)
        if missing > 0:
            parts = [received[start:]]
            while missing > 0:
                parts.append(self._read(min(missing, 1 << 20), is_first=False))
                missing -= len(parts[-1])
            self._received = b""
            return status, fields, b"".join(parts)
        stop = start + int(length)
        self._received = received[stop:]
        return status, fields, received[start:stop]

    def _read(self, size: int, is_first: bool) -> bytes:
        try:
            data = self._socket.recv(size) if self._socket is not None else b""
        except ConnectionResetError:
            data = b""
        if not data:
            if is_first:
                raise _ConnectionLost
            raise RuntimeApiError("The Runtime API closed the connection inside an answer")
        return data


def _parse_head(head: bytes) -> tuple[int, Fields]:
    lines = head.decode("utf-8", "replace").split("\r\n")
    first = lines[0]
    if not first.startswith("HTTP/1.") or not first[9:12].isdigit():
        raise RuntimeApiError(f"The Runtime API answered {first[:100]!r}")
    fields = {}
    for index in range(1, len(lines)):
        name, _, value = lines[index].partition(":")
        fields[name.lower()] = value.strip()
    return int(first[9:12]), fields


def _refused(status: int, body: bytes) -> None:
    """A refused answer ends the runtime, except one that was too large: that is the function's
    fault, the platform has already said so to the caller, and this environment is sound."""
    if status != 413:
        raise RuntimeApiError(f"Failed to post invocation response: {status} {body!r}")
    text = body.decode("utf-8", "replace").strip()
    sys.stderr.write(
        f"[ERROR] [{int(time.time() * 1000)}] LAMBDA_RUNTIME Failed to post handler success "
        f"response. Http response code: 413. {text}\n"
    )


def _attempt_header(invocation: Invocation) -> bytes:
    if invocation.attempt_id is None:
        return b""
    return b"\r\nLambda-Runtime-Invocation-Id: " + invocation.attempt_id.encode()


def _error_type_header(error_type: str) -> bytes:
    # A class may be named anything; a header may not.
    if not (error_type.isascii() and error_type.isprintable()):
        return b""
    return b"\r\nLambda-Runtime-Function-Error-Type: " + error_type.encode("ascii")
