"""The Runtime API of one sandbox: the HTTP that runtime clients speak on 127.0.0.1:9001.

An ``http1.App``. What comes in is from customer code and is trusted in nothing.
Source: docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html; error types and sentences as in
AWS's runtime interface emulator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from firelet.model import limits
from firelet.runtime import extension_api
from firelet.runtime.credentials import CredentialsEndpoint
from firelet.runtime.exchange import Exchange, RuntimeAnswer, RuntimeEvent
from firelet.runtime.phases import InvalidTransition
from firelet.runtime.posted import ACCEPTED, format_error, name_error, refuse
from firelet.runtime.streaming import OVERSIZED_TYPE, ResponseStream, oversized_message
from firelet.wire.http1 import Flow, HttpLimits, Rejection, RejectionReason, Request, Response
from firelet.wire.prompt import PromptFuture

_VERSION = b"/2018-06-01/runtime/"
_NEXT = _VERSION + b"invocation/next"
_INVOCATION = _VERSION + b"invocation/"
_INIT_ERROR = _VERSION + b"init/error"
_RESTORE_NEXT = _VERSION + b"restore/next"
_RESTORE_ERROR = _VERSION + b"restore/error"
CREDENTIALS_PATH = "/2021-04-23/credentials"
_ERROR_TYPE = b"lambda-runtime-function-error-type"
_MODE = b"lambda-runtime-function-response-mode"
_STREAMING = b"streaming"

# A runtime may wait for its next event for ever; its head is small and its body is limited.
HTTP_LIMITS = HttpLimits(
    body_bytes=limits.RESPONSE_MAX_BYTES,
    header_bytes=limits.MIB,
    keep_alive_s=None,
    max_connections=64,
    joins_answers=True,
)

OVERSIZED_MESSAGE = oversized_message(limits.RESPONSE_MAX_BYTES)


class RuntimeApi:
    """Serves one exchange. ``reject`` belongs to the same sandbox's HTTP server."""

    def __init__(
        self,
        exchange: Exchange,
        restores: CredentialsEndpoint | None = None,
        extensions: Callable[[Request], Response | asyncio.Future[Response]] | None = None,
        *,
        is_cloned_whole: bool = False,
    ) -> None:
        """``restores`` in environments with SnapStart: only those have restore calls, and ask for
        their credentials here. ``extensions`` serves the APIs that share this address.
        ``is_cloned_whole``: a snapshot goes on in its clones with whatever it waits for."""
        self._exchange = exchange
        self._restores = restores
        self._extensions = extensions
        self._is_cloned_whole = is_cloned_whole
        # The one that was opened last, until what is said about it when it breaks is known.
        self._stream: ResponseStream | None = None

    def __call__(self, request: Request) -> Response | asyncio.Future[Response]:
        path = request.path
        try:
            if request.method == b"GET":
                if path == _NEXT:
                    return self._next()
                if path == b"/2018-06-01/ping":
                    return Response(200, b"pong")
                if path == _RESTORE_NEXT and self._restores is not None:
                    return self._rest()
                if path == CREDENTIALS_PATH.encode() and self._restores is not None:
                    return self._restores.answer(request)
            elif request.method == b"POST":
                if path.startswith(_INVOCATION):
                    return self._answer(request, path[len(_INVOCATION) :])
                if path == _INIT_ERROR or (path == _RESTORE_ERROR and self._restores is not None):
                    self._exchange.fail_init(_parse_error(request))
                    return ACCEPTED
        except InvalidTransition as error:
            return refuse(403, "InvalidStateTransition", str(error))
        if self._extensions is not None and path.startswith(extension_api.PREFIXES):
            return self._extensions(request)
        return refuse(404, "InvalidPath", "The path is not part of the Runtime API.")

    def _rest(self) -> Response | asyncio.Future[Response]:
        """A snapshot that waits for this answer has it in each clone, which asks again."""
        if self._exchange.restore_next() and self._is_cloned_whole:
            return asyncio.get_running_loop().create_future()
        return Response(200, b"")

    def open_body(
        self, method: bytes, target: bytes, headers: Mapping[bytes, bytes], flow: Flow
    ) -> ResponseStream | Response | None:
        """Takes the response of a runtime that streams it; everything else is collected."""
        if headers.get(_MODE) != _STREAMING or method != b"POST":
            return None
        path = target.partition(b"?")[0]
        request_id, _, what = path[len(_INVOCATION) :].partition(b"/")
        if not path.startswith(_INVOCATION) or what != b"response":
            return None
        if not self._is_current(request_id):
            return refuse(400, "InvalidRequestID", "Invalid request ID")
        content_type = headers.get(b"content-type")
        try:
            self._stream = ResponseStream(self._exchange, flow, content_type)
        except InvalidTransition as error:
            return refuse(403, "InvalidStateTransition", str(error))
        return self._stream

    def reject(self, rejection: Rejection) -> Response:
        """What the HTTP server answers when it refuses a request before it reaches us.

        A result over the limit is the function's error: the invocation ends with it, as it has
        already when that was streamed.
        """
        if rejection.reason is not RejectionReason.BODY_TOO_LARGE:
            status = rejection.reason.value
            return refuse(status, "TruncatedHTTPRequest", "The request could not be served.")
        stream, self._stream = self._stream, None
        if (stream is None or not stream.is_oversized) and self._is_response(rejection.target):
            body = format_error(OVERSIZED_TYPE, OVERSIZED_MESSAGE)
            try:
                self._exchange.respond(RuntimeAnswer(body, True, OVERSIZED_TYPE))
            except InvalidTransition as error:
                return refuse(403, "InvalidStateTransition", str(error))
        return refuse(
            413,
            "RequestEntityTooLarge",
            f"Exceeded maximum allowed payload size ({rejection.limit} bytes).",
        )

    def _next(self) -> PromptFuture[Response]:
        event = self._exchange.next()
        answer = _NextAnswer(self._exchange, event)
        event.listen(answer.on_event)
        return answer

    def _answer(self, request: Request, rest: bytes) -> Response:
        request_id, _, what = rest.partition(b"/")
        if what not in (b"response", b"error"):
            return refuse(404, "InvalidPath", "The path is not part of the Runtime API.")
        if not self._is_current(request_id):
            return refuse(400, "InvalidRequestID", "Invalid request ID")
        if what == b"error":
            self._exchange.respond(_parse_error(request))
            return ACCEPTED
        mode = request.headers.get(_MODE, _STREAMING)
        if mode != _STREAMING:
            return refuse(
                400,
                "InvalidFunctionResponseMode",
                f"Invalid function response mode: {mode.decode('latin-1')}",
            )
        self._exchange.respond(RuntimeAnswer(request.body))
        return ACCEPTED

    def _is_response(self, target: bytes) -> bool:
        current = self._exchange.request_id
        return current is not None and target.endswith((current + "/response").encode())

    def _is_current(self, request_id: bytes) -> bool:
        current = self._exchange.request_id
        return current is not None and request_id == current.encode()


class _NextAnswer(PromptFuture[Response]):
    """The response to GET next: no task, and no turn of the loop after the event is there."""

    def __init__(self, exchange: Exchange, event: PromptFuture[RuntimeEvent]) -> None:
        super().__init__(loop=event.get_loop())
        self._exchange = exchange
        self._event = event

    def on_event(self, event: PromptFuture[RuntimeEvent]) -> None:
        if self.done():
            return
        if event.cancelled():
            super().cancel()
            return
        result = event.result()
        self.set_result(Response(200, result.payload, result.headers))

    def cancel(self, msg: Any | None = None) -> bool:
        # A runtime that lost its connection asks again, and must not find its event gone.
        self._exchange.withdraw(self._event)
        return super().cancel(msg)


def _parse_error(request: Request) -> RuntimeAnswer:
    """The error document as posted, and its type."""
    return RuntimeAnswer(
        request.body, True, name_error(request.headers.get(_ERROR_TYPE), request.body)
    )
