"""The operation InvokeWithResponseStream: an invocation whose response is sent while it comes.

Served before the generic machinery, as Invoke is. The answer is an event stream: a PayloadChunk
for each piece, then one InvokeComplete, which says how it ended. Errors before the first byte that
are not the function's are ordinary answers.
Source: docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html and the service
model. ErrorCode is a type of the platform's (``Sandbox.Timedout``) or ``Unhandled``, as clients of
the real service tell them apart; what is sent when the platform itself fails after the first byte
is not known of AWS: firelet sends the code and the sentence of the error that it would have been.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Awaitable
from typing import Any

import orjson

from firelet.control.invoke import Invoker, check_tenant
from firelet.control.registry import Registry
from firelet.control.targets import Resolved
from firelet.frontend.callers import Callers
from firelet.frontend.failures import failure_response, tell
from firelet.frontend.invoke import check_payload, make_trace_id
from firelet.frontend.invoke_request import (
    LOG_TYPES,
    References,
    decode_client_context,
    make_request_id,
    parse_choice,
    parse_tenant_id,
)
from firelet.model import limits
from firelet.model.invocation import Invocation, Outcome
from firelet.model.streaming import StreamHead, StreamSource
from firelet.wire.draining import drain
from firelet.wire.eventstream import CONTENT_TYPE, EventFormat
from firelet.wire.http1 import OutgoingBody, Request, Response, StreamedResponse
from firelet.wire.prompt import PromptFuture

# What is served here and has no handler in the table of operations.
OPERATIONS = ("InvokeWithResponseStream",)

_PREFIX = b"/2021-11-15/functions/"
_SUFFIX = b"/response-streaming-invocations"
_TYPES = ("RequestResponse", "DryRun")
_CHUNK = EventFormat(
    {
        ":event-type": "PayloadChunk",
        ":content-type": "application/octet-stream",
        ":message-type": "event",
    }
)
_COMPLETE = EventFormat(
    {
        ":event-type": "InvokeComplete",
        ":content-type": "application/json",
        ":message-type": "event",
    }
)
_PLATFORM_TYPE = re.compile(r"(Runtime|Function|Sandbox|Extension)\.[A-Z]\w*")
_UNHANDLED = "Unhandled"


class StreamEndpoint:
    """``match`` is a fast route of the router."""

    def __init__(self, registry: Registry, invoker: Invoker, callers: Callers) -> None:
        self._registry = registry
        self._invoker = invoker
        self._callers = callers
        self._running: set[asyncio.Task[None]] = set()
        self._references = References()

    def match(self, request: Request) -> Awaitable[Response] | None:
        """The answer to an InvokeWithResponseStream request; None for every other request."""
        path = request.path
        if not (request.method == b"POST" and path.startswith(_PREFIX) and path.endswith(_SUFFIX)):
            return None
        name = path[len(_PREFIX) : -len(_SUFFIX)]
        if b"/" in name:
            return None
        # A client that goes away cancels only the Future: as on AWS, its function runs on.
        loop = asyncio.get_running_loop()
        answer: PromptFuture[Response] = PromptFuture(loop=loop)
        task = loop.create_task(self._serve(request, name, answer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return answer

    async def drain(self, timeout_s: float) -> None:
        """Waits for the invocations that run, then gives up those that still do."""
        await drain(self._running, timeout_s)

    async def _serve(self, request: Request, name: bytes, answer: PromptFuture[Response]) -> None:
        request_id = make_request_id()
        events = _Events(answer)
        try:
            await self._invoke(request, name, request_id, events)
        except Exception as error:
            # The supervisor of this path: what is not an error of ours is logged there.
            if events.has_begun:
                told = tell(error, request_id)
                events.complete({"ErrorCode": told.code, "ErrorDetails": told.message})
            elif not answer.done():
                answer.set_result(failure_response(error, request_id))

    async def _invoke(
        self, request: Request, name: bytes, request_id: str, events: _Events
    ) -> None:
        headers = request.headers
        caller = self._callers.identify(request)
        ref = self._references.find(name, request.query)
        kind = parse_choice(headers, b"x-amz-invocation-type", "invocationType", _TYPES)
        wants_tail = parse_choice(headers, b"x-amz-log-type", "logType", LOG_TYPES) == "Tail"
        tenant_id = parse_tenant_id(headers.get(b"x-amz-tenant-id"))
        resolved = self._registry.resolve(caller.account, caller.region, ref)
        check_tenant(resolved.version, tenant_id)
        check_payload(request.body, limits.PAYLOAD_SYNC_MAX_BYTES, "InvokeFunction")
        client_context = decode_client_context(headers.get(b"x-amz-client-context"))
        trace_id = make_trace_id(headers.get(b"x-amzn-trace-id"))
        if kind == "DryRun":
            events.headers = _format_headers(request_id, resolved, trace_id)
            events.answer_whole(204)
            return
        trace_id = resolved.trace(trace_id)
        events.headers = _format_headers(request_id, resolved, trace_id)
        outcome = await self._invoker.stream(
            Invocation(
                request_id=request_id,
                function=resolved.version,
                invoked_arn=resolved.invoked_arn,
                payload=request.body or b"{}",
                client_context=client_context,
                trace_id=trace_id,
                tenant_id=tenant_id,
                wants_tail=wants_tail,
                received=time.monotonic(),
            ),
            resolved.function_key,
            resolved.reserved_concurrency,
            events,
        )
        events.complete(_completion(outcome))


class _Events:
    """The answer to one call: implements ``model.streaming.ResponseSink``."""

    def __init__(self, answer: PromptFuture[Response]) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self._answer = answer
        self._body: OutgoingBody | None = None

    @property
    def has_begun(self) -> bool:
        """Whether an ordinary answer is no longer possible."""
        return self._body is not None

    def begin(self, head: StreamHead, source: StreamSource) -> None:
        self._open(source)

    def write(self, piece: bytes) -> None:
        body = self._body
        assert body is not None
        if not body.is_over:
            body.write(*_CHUNK.parts(piece))

    def complete(self, event: dict[str, Any]) -> None:
        """The last event."""
        body = self._body or self._open(None)
        body.write(_COMPLETE.format(orjson.dumps(event)))
        body.end()

    def answer_whole(self, status: int) -> None:
        """Nothing is streamed."""
        if not self._answer.done():
            self._answer.set_result(Response(status, b"", self.headers))

    def _open(self, source: StreamSource | None) -> OutgoingBody:
        body = self._body = OutgoingBody(source)
        if self._answer.done():
            body.drop()  # the client has gone
        else:
            self._answer.set_result(StreamedResponse(200, headers=self.headers, stream=body))
        return body


def _format_headers(
    request_id: str, resolved: Resolved, trace_id: str
) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", CONTENT_TYPE.encode()),
        (b"x-amzn-requestid", request_id.encode()),
        (b"x-amzn-trace-id", trace_id.encode("latin-1")),
        (b"x-amz-executed-version", resolved.version.version.encode()),
    ]


def _completion(outcome: Outcome) -> dict[str, Any]:
    """The members of InvokeComplete; those that say nothing are left out."""
    event: dict[str, Any] = {}
    if outcome.function_error is not None:
        error_type = outcome.error_type or _UNHANDLED
        is_platforms = _PLATFORM_TYPE.fullmatch(error_type) and error_type != "Function.Unknown"
        event["ErrorCode"] = error_type if is_platforms else _UNHANDLED
        event["ErrorDetails"] = outcome.payload.decode("utf-8", "replace")
    if outcome.log_tail:
        event["LogResult"] = base64.b64encode(outcome.log_tail).decode()
    return event
