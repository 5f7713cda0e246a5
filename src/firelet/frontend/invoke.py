"""The Invoke operation: the hot path, matched and served before the generic machinery.

From the raw request to an ``Invocation`` and from its outcome to the response, without the
service model: the headers and checks are those of AWS's Invoke API.
Source: docs.aws.amazon.com/lambda/latest/api/API_Invoke.html and recorded answers.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

import orjson

from firelet.control.invoke import Invoker, check_tenant
from firelet.control.registry import Registry
from firelet.control.targets import Resolved
from firelet.frontend.callers import Callers
from firelet.frontend.failures import failure_response
from firelet.frontend.invoke_request import (
    LOG_TYPES,
    References,
    decode_client_context,
    make_request_id,
    parse_choice,
    parse_tenant_id,
)
from firelet.model import limits
from firelet.model.arn import FunctionRef
from firelet.model.errors import InvalidRequestContent, RequestTooLarge
from firelet.model.invocation import Invocation, Outcome
from firelet.wire.draining import drain
from firelet.wire.http1 import Request, Response
from firelet.wire.prompt import PromptFuture

# What is served here and has no handler in the table of operations.
OPERATIONS = ("Invoke",)

_PREFIX = b"/2015-03-31/functions/"
_SUFFIX = b"/invocations"
_TYPES = ("RequestResponse", "Event", "DryRun")
_JSON = (b"content-type", b"application/json")
_EMPTY = Outcome(payload=b"", executed_version="")


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncInvocation:
    """An Event invocation as it is handed to the queue."""

    account: str
    region: str
    ref: FunctionRef
    invoked_arn: str
    request_id: str
    payload: bytes
    client_context: str | None
    trace_id: str | None
    tenant_id: str | None = None


class AsyncSink(Protocol):
    """Takes Event invocations; returns when they are durable."""

    async def put(self, event: AsyncInvocation) -> None: ...


class InvokeEndpoint:
    """``match`` is a fast route of the router."""

    def __init__(
        self,
        registry: Registry,
        invoker: Invoker,
        events: AsyncSink,
        callers: Callers,
    ) -> None:
        self._registry = registry
        self._invoker = invoker
        self._events = events
        self._callers = callers
        self._running: set[asyncio.Task[None]] = set()
        self._references = References()

    def match(self, request: Request) -> Awaitable[Response] | None:
        """The response to an Invoke request; None for every other request."""
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
        try:
            response = await self._invoke(request, name, request_id)
        except Exception as error:
            # The supervisor of the hot path: what is not an error of ours is logged there.
            response = failure_response(error, request_id)
        if not answer.done():
            answer.set_result(response)

    async def _invoke(self, request: Request, name: bytes, request_id: str) -> Response:
        headers = request.headers
        caller = self._callers.identify(request)
        ref = self._references.find(name, request.query)
        kind = parse_choice(headers, b"x-amz-invocation-type", "invocationType", _TYPES)
        wants_tail = parse_choice(headers, b"x-amz-log-type", "logType", LOG_TYPES) == "Tail"
        tenant_id = parse_tenant_id(headers.get(b"x-amz-tenant-id"))
        resolved = self._registry.resolve(caller.account, caller.region, ref)
        check_tenant(resolved.version, tenant_id)
        is_event = kind == "Event"
        check_payload(
            request.body,
            limits.PAYLOAD_ASYNC_MAX_BYTES if is_event else limits.PAYLOAD_SYNC_MAX_BYTES,
            "InvokeFunction",
        )
        client_context = decode_client_context(headers.get(b"x-amz-client-context"))
        trace_id = make_trace_id(headers.get(b"x-amzn-trace-id"))
        if kind == "DryRun":
            return _respond(204, _EMPTY, request_id, resolved, trace_id)
        if is_event:
            await self._events.put(
                AsyncInvocation(
                    account=caller.account,
                    region=caller.region,
                    ref=ref,
                    invoked_arn=resolved.invoked_arn,
                    request_id=request_id,
                    payload=request.body,
                    client_context=client_context,
                    trace_id=trace_id,
                    tenant_id=tenant_id,
                )
            )
            return _respond(202, _EMPTY, request_id, resolved, trace_id)
        trace_id = resolved.trace(trace_id)
        outcome = await self._invoker.invoke(
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
        )
        return _respond(200, outcome, request_id, resolved, trace_id)


def _respond(
    status: int, outcome: Outcome, request_id: str, resolved: Resolved, trace_id: str
) -> Response:
    headers = [
        _JSON,
        (b"x-amzn-requestid", request_id.encode()),
        (b"x-amzn-remapped-content-length", b"0"),
        (b"x-amzn-trace-id", trace_id.encode("latin-1")),
    ]
    if outcome.executed_version:
        headers.append((b"x-amz-executed-version", outcome.executed_version.encode()))
    if outcome.function_error is not None:
        headers.append((b"x-amz-function-error", outcome.function_error.encode()))
    if outcome.log_tail:
        headers.append((b"x-amz-log-result", base64.b64encode(outcome.log_tail)))
    return Response(status, outcome.payload, headers)


def check_payload(body: bytes, limit: int, operation: str) -> None:
    """Size first, then JSON: what AWS checks of a payload, and all that it checks."""
    if len(body) > limit:
        raise RequestTooLarge(
            f"Request must be smaller than {limit} bytes for the {operation} operation"
        )
    if not body:
        return
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestContent(
            "Could not parse request body into json: Could not parse payload into json:"
            f" {error.msg}: line {error.lineno} column {error.colno} (char {error.pos})"
        ) from None


def make_trace_id(header: bytes | None = None) -> str:
    """The caller's trace header, else a new root; whether it is traced is not yet decided."""
    if header is not None:
        return header.decode("latin-1")
    return f"Root=1-{int(time.time()):08x}-{os.urandom(12).hex()}"
