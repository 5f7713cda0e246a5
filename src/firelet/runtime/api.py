"""The Runtime API of one sandbox: the HTTP that runtime clients speak on 127.0.0.1:9001.

An ``http1.App``. What comes in is from customer code and is trusted in nothing.
Source: docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html; error types and sentences as in
AWS's runtime interface emulator.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import orjson

from firelet.model import limits
from firelet.runtime.credentials import CredentialsEndpoint
from firelet.runtime.exchange import Exchange, RuntimeAnswer, RuntimeEvent
from firelet.runtime.phases import InvalidTransition
from firelet.wire.http1 import HttpLimits, Rejection, RejectionReason, Request, Response
from firelet.wire.prompt import PromptFuture

_VERSION = b"/2018-06-01/runtime/"
_NEXT = _VERSION + b"invocation/next"
_INVOCATION = _VERSION + b"invocation/"
_INIT_ERROR = _VERSION + b"init/error"
_RESTORE_NEXT = _VERSION + b"restore/next"
_RESTORE_ERROR = _VERSION + b"restore/error"
CREDENTIALS_PATH = "/2021-04-23/credentials"
_JSON = (b"content-type", b"application/json")
_ACCEPTED = Response(202, b'{"status":"OK"}\n', (_JSON,))
_ERROR_TYPE = b"lambda-runtime-function-error-type"
_KNOWN_ERROR_TYPE = re.compile(r"(Runtime|Function)\.[A-Z][a-zA-Z]+")
# What the function names its errors ends up in log lines of ours: names only.
_OWN_ERROR_TYPE = re.compile(r"[A-Za-z_][\w.:$-]{0,127}")

# A runtime may wait for its next event for ever; its head is small and its body is limited.
HTTP_LIMITS = HttpLimits(
    body_bytes=limits.RESPONSE_MAX_BYTES,
    header_bytes=limits.MIB,
    keep_alive_s=None,
    max_connections=64,
    joins_answers=True,
)

OVERSIZED_TYPE = "Function.ResponseSizeTooLarge"
OVERSIZED_MESSAGE = (
    "Response payload size exceeded maximum allowed payload size"
    f" ({limits.RESPONSE_MAX_BYTES} bytes)."
)


def format_error(error_type: str, message: str) -> bytes:
    """An error document in the key order of the Runtime API."""
    return orjson.dumps({"errorMessage": message, "errorType": error_type})


def _refuse(status: int, error_type: str, message: str) -> Response:
    return Response(status, format_error(error_type, message), (_JSON,))


class RuntimeApi:
    """Serves one exchange. ``reject`` belongs to the same sandbox's HTTP server."""

    def __init__(self, exchange: Exchange, restores: CredentialsEndpoint | None = None) -> None:
        """``restores`` in environments with SnapStart: only those have restore calls, and ask for
        their credentials here."""
        self._exchange = exchange
        self._restores = restores

    def __call__(self, request: Request) -> Response | asyncio.Future[Response]:
        path = request.path
        try:
            if request.method == b"GET":
                if path == _NEXT:
                    return self._next()
                if path == b"/2018-06-01/ping":
                    return Response(200, b"pong")
                if path == _RESTORE_NEXT and self._restores is not None:
                    self._exchange.restore_next()
                    return Response(200, b"")
                if path == CREDENTIALS_PATH.encode() and self._restores is not None:
                    return self._restores.answer(request)
            elif request.method == b"POST":
                if path.startswith(_INVOCATION):
                    return self._answer(request, path[len(_INVOCATION) :])
                if path == _INIT_ERROR or (path == _RESTORE_ERROR and self._restores is not None):
                    self._exchange.fail_init(_parse_error(request))
                    return _ACCEPTED
        except InvalidTransition as error:
            return _refuse(403, "InvalidStateTransition", str(error))
        return _refuse(404, "InvalidPath", "The path is not part of the Runtime API.")

    def reject(self, rejection: Rejection) -> Response:
        """What the HTTP server answers when it refuses a request before it reaches us.

        A result over the limit is the function's error: the invocation ends with it.
        """
        if rejection.reason is not RejectionReason.BODY_TOO_LARGE:
            status = rejection.reason.value
            return _refuse(status, "TruncatedHTTPRequest", "The request could not be served.")
        if self._exchange.request_id is not None and rejection.target.endswith(
            (self._exchange.request_id + "/response").encode()
        ):
            body = format_error(OVERSIZED_TYPE, OVERSIZED_MESSAGE)
            try:
                self._exchange.respond(RuntimeAnswer(body, True, OVERSIZED_TYPE))
            except InvalidTransition as error:
                return _refuse(403, "InvalidStateTransition", str(error))
        return _refuse(
            413,
            "RequestEntityTooLarge",
            f"Exceeded maximum allowed payload size ({limits.RESPONSE_MAX_BYTES} bytes).",
        )

    def _next(self) -> PromptFuture[Response]:
        event = self._exchange.next()
        answer = _NextAnswer(self._exchange, event)
        event.listen(answer.on_event)
        return answer

    def _answer(self, request: Request, rest: bytes) -> Response:
        request_id, _, what = rest.partition(b"/")
        if what not in (b"response", b"error"):
            return _refuse(404, "InvalidPath", "The path is not part of the Runtime API.")
        current = self._exchange.request_id
        if current is None or request_id != current.encode():
            return _refuse(400, "InvalidRequestID", "Invalid request ID")
        if what == b"error":
            self._exchange.respond(_parse_error(request))
            return _ACCEPTED
        mode = request.headers.get(b"lambda-runtime-function-response-mode", b"streaming")
        if mode != b"streaming":  # one that streams to a buffered invocation is collected
            return _refuse(
                400,
                "InvalidFunctionResponseMode",
                f"Invalid function response mode: {mode.decode('latin-1')}",
            )
        self._exchange.respond(RuntimeAnswer(request.body))
        return _ACCEPTED


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
    """The error document as posted; its type from the header, else from the document."""
    named = request.headers.get(_ERROR_TYPE, b"").decode("latin-1")
    if not _KNOWN_ERROR_TYPE.fullmatch(named):
        named = _type_in(request.body) or "Function.Unknown"
    return RuntimeAnswer(request.body, True, named)


def _type_in(body: bytes) -> str | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    value = document.get("errorType") if isinstance(document, dict) else None
    return value if isinstance(value, str) and _OWN_ERROR_TYPE.fullmatch(value) else None
