"""The Invoke operation: the hot path, matched and served before the generic machinery.

From the raw request to an ``Invocation`` and from its outcome to the response, without the
service model: the headers and checks are those of AWS's Invoke API.
Source: docs.aws.amazon.com/lambda/latest/api/API_Invoke.html and recorded answers.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import re
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl, unquote

import orjson

from firelet.control.invoke import Invoker, check_tenant
from firelet.control.registry import Registry
from firelet.control.targets import Resolved
from firelet.frontend.callers import Callers
from firelet.frontend.failures import failure_response
from firelet.model import limits
from firelet.model.arn import FunctionRef, parse_function_ref
from firelet.model.errors import (
    InvalidParameterValue,
    InvalidRequestContent,
    RequestTooLarge,
    ValidationError,
)
from firelet.model.invocation import Invocation, Outcome
from firelet.wire.http1 import Request, Response
from firelet.wire.prompt import PromptFuture

# What is served here and has no handler in the table of operations.
OPERATIONS = ("Invoke",)

_PREFIX = b"/2015-03-31/functions/"
_SUFFIX = b"/invocations"
_NAME_PATTERN = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?"
    r"(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)
_NAME = re.compile(_NAME_PATTERN)
_QUALIFIER = re.compile(r"\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+")
_TENANT_ID = re.compile(r"[a-zA-Z0-9\._:\/=+\-@ ]+")
_TENANT_ID_MAX = 256
_TYPES = ("RequestResponse", "Event", "DryRun")
_LOG_TYPES = ("None", "Tail")
_JSON = (b"content-type", b"application/json")
_EMPTY = Outcome(payload=b"", executed_version="")
_REFS_MAX = 4_096
_REF_BYTES_MAX = 512  # of name and query; longer ones are not worth remembering


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
        self._refs: dict[tuple[bytes, bytes], FunctionRef] = {}

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
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _serve(self, request: Request, name: bytes, answer: PromptFuture[Response]) -> None:
        request_id = _make_request_id()
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
        ref = self._find_ref(name, request.query)
        kind = _choice(headers, b"x-amz-invocation-type", "invocationType", _TYPES)
        wants_tail = _choice(headers, b"x-amz-log-type", "logType", _LOG_TYPES) == "Tail"
        tenant_id = _parse_tenant_id(headers.get(b"x-amz-tenant-id"))
        resolved = self._registry.resolve(caller.account, caller.region, ref)
        check_tenant(resolved.version, tenant_id)
        is_event = kind == "Event"
        check_payload(
            request.body,
            limits.PAYLOAD_ASYNC_MAX_BYTES if is_event else limits.PAYLOAD_SYNC_MAX_BYTES,
            "InvokeFunction",
        )
        client_context = _decode_client_context(headers.get(b"x-amz-client-context"))
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
        outcome = await self._invoker.invoke(
            Invocation(
                request_id=request_id,
                function=resolved.version,
                invoked_arn=resolved.invoked_arn,
                payload=request.body or b"{}",
                client_context=client_context,
                trace_id=resolved.trace(trace_id),
                tenant_id=tenant_id,
                wants_tail=wants_tail,
                received=time.monotonic(),
            ),
            resolved.function_key,
            resolved.reserved_concurrency,
        )
        return _respond(200, outcome, request_id, resolved, trace_id)

    def _find_ref(self, name: bytes, query: bytes) -> FunctionRef:
        """Parsed once for all calls that name the function alike; errors are not remembered."""
        ref = self._refs.get((name, query))
        if ref is None:
            ref = _parse_ref(name, query)
            if len(name) + len(query) <= _REF_BYTES_MAX:
                if len(self._refs) >= _REFS_MAX:
                    self._refs.clear()
                self._refs[name, query] = ref
        return ref


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


def _parse_ref(name: bytes, query: bytes) -> FunctionRef:
    text = unquote(name.decode("latin-1"))
    if _NAME.fullmatch(text) is None:
        raise _invalid(text, "functionName", f"satisfy regular expression pattern: {_NAME_PATTERN}")
    ref = parse_function_ref(text)
    if not query:
        return ref
    qualifier = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)).get("Qualifier")
    if qualifier is None:
        return ref
    if _QUALIFIER.fullmatch(qualifier) is None:
        raise _invalid(
            qualifier, "qualifier", f"satisfy regular expression pattern: {_QUALIFIER.pattern}"
        )
    return ref.with_qualifier(qualifier)


def _choice(
    headers: dict[bytes, bytes], header: bytes, member: str, allowed: tuple[str, ...]
) -> str:
    value = headers.get(header)
    if value is None:
        return allowed[0]
    text = value.decode("latin-1")
    if text not in allowed:
        raise _invalid(text, member, f"satisfy enum value set: [{', '.join(allowed)}]")
    return text


def _invalid(value: str, member: str, rule: str) -> ValidationError:
    return ValidationError(
        f"1 validation error detected: Value '{value}' at '{member}' failed to satisfy"
        f" constraint: Member must {rule}"
    )


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


def _decode_client_context(header: bytes | None) -> str | None:
    """Base64 JSON on the API, plain JSON on the Runtime API."""
    if header is None:
        return None
    if len(header) > limits.CLIENT_CONTEXT_MAX_BYTES:
        raise InvalidParameterValue("Client context must be no more than 3583 bytes.")
    try:
        decoded = base64.b64decode(header, validate=True)
        orjson.loads(decoded)
    except (binascii.Error, orjson.JSONDecodeError):
        raise InvalidRequestContent(
            "Client context must be a valid Base64-encoded JSON object."
        ) from None
    # On one line: it becomes a header again.
    return orjson.dumps(orjson.loads(decoded)).decode()


def _make_request_id() -> str:
    """A random UUID of version 4 (RFC 9562), for a third of what the class in ``uuid`` takes."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _parse_tenant_id(header: bytes | None) -> str | None:
    """Source: service model, shape TenantId."""
    if header is None:
        return None
    text = header.decode("latin-1")
    if not text or len(text) > _TENANT_ID_MAX:
        rule = f"less than or equal to {_TENANT_ID_MAX}" if text else "greater than or equal to 1"
        raise _invalid(text, "tenantId", f"have length {rule}")
    if _TENANT_ID.fullmatch(text) is None:
        raise _invalid(
            text, "tenantId", f"satisfy regular expression pattern: {_TENANT_ID.pattern}"
        )
    return text


def make_trace_id(header: bytes | None = None) -> str:
    """The caller's trace header, else a new root that is not sampled."""
    if header is not None:
        return header.decode("latin-1")
    return f"Root=1-{int(time.time()):08x}-{os.urandom(12).hex()};Sampled=0"
