"""The front door of the API: an HTTP request to the handler of its operation and back.

What it is: an ``http1.App``. The invoke hot path and plain pages are asked first; everything else
goes through the service models: route, parse, validate, handle, serialise. What it is not:
authorization, or knowledge of any single operation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias
from uuid import uuid4

from firelet.frontend.failures import INTERNAL_MESSAGE, failure_response, to_response
from firelet.frontend.operations import Call, Operations, Reply
from firelet.iam.accounts import DEFAULT_REGION, Accounts
from firelet.iam.sigv4 import Signature, parse_signature
from firelet.model import limits
from firelet.model.errors import (
    FireletError,
    NotYetImplemented,
    RequestEntityTooLarge,
    RequestTooLarge,
)
from firelet.wire.aws.model import Operation, Service
from firelet.wire.aws.protocol import Protocol as WireProtocol
from firelet.wire.aws.route import Route, RouteTable, UnknownAction
from firelet.wire.aws.serialize import Answer
from firelet.wire.aws.validate import Validator
from firelet.wire.http1 import App, Rejection, RejectionReason, Request, Response

Answering: TypeAlias = Response | Awaitable[Response]
FastRoute: TypeAlias = Callable[[Request], Answering | None]


class Sites(Protocol):
    """Addresses that have limits of their own for bodies; None: the request is not for them."""

    def body_limit(self, target: bytes, headers: Mapping[bytes, bytes]) -> int | None: ...

    def refuse_body(self, request: Request) -> Response | None:
        """The answer to a request, given without its body, which is too large."""


# Decoding a package of megabytes takes long enough to keep others waiting.
_PARSE_IN_THREAD_BYTES = limits.MIB

# So many targets of Invoke are remembered, with the host they were sent to, and none that is longer
# than a name and a qualifier.
_REMEMBERED_MAX = 4_096
_REMEMBERED_BYTES = 512

# AWS's name, in the sentence of a refused body, of the operations that carry a payload.
_INVOKE_OPERATIONS = {"Invoke": "InvokeFunction", "InvokeWithResponseStream": "InvokeFunction"}

# What the HTTP server refuses before there is a request: code and sentence (firelet's own).
_REFUSALS = {
    RejectionReason.BAD_REQUEST: ("BadRequestException", "The request is not valid HTTP."),
    RejectionReason.TIMEOUT: ("RequestTimeoutException", "The request took too long to arrive."),
    RejectionReason.HEADERS_TOO_LARGE: (
        "RequestHeaderSectionTooLarge",
        "The headers of the request are too large.",
    ),
    RejectionReason.INTERNAL_ERROR: ("ServiceException", INTERNAL_MESSAGE),
    RejectionReason.OVERLOADED: (
        "ServiceUnavailableException",
        "firelet has no room for this request now. Please try again.",
    ),
}


class Router:
    """Serves the operations in ``operations``, whose services are in ``services``.

    ``fast`` routes answer or decline with None, in their order, before anything else is read.
    ``pages`` are apps by the prefix of the raw target. ``sites`` say which bodies are too large
    for their addresses, and answer those. With ``is_strict`` an unknown output
    member fails the call (for tests).
    """

    def __init__(
        self,
        operations: Operations,
        services: Sequence[Service],
        *,
        accounts: Accounts | None = None,
        default_region: str = DEFAULT_REGION,
        fast: Sequence[FastRoute] = (),
        sites: Sequence[Sites] = (),
        pages: Mapping[bytes, App] | None = None,
        is_strict: bool = False,
    ) -> None:
        self._operations = operations
        self._routes = RouteTable(services)
        self._protocol = WireProtocol(Validator(), is_strict=is_strict)
        self._accounts = accounts or Accounts()
        self._default_region = default_region
        self._fast = tuple(fast)
        self._sites = tuple(sites)
        self._pages = tuple((pages or {}).items())
        self._invokes: set[tuple[bytes, bytes, bytes]] = set()

    def __call__(self, request: Request) -> Answering:
        try:
            for answer in self._fast:
                answered = answer(request)
                if answered is not None:
                    return answered
        except Exception as error:
            return failure_response(error, str(uuid4()))
        for prefix, page in self._pages:
            if request.target.startswith(prefix):
                return page(request)
        return self._serve(request)

    async def _serve(self, request: Request) -> Response:
        """Supervises one call: whatever fails becomes its answer, and is logged if we are at fault.

        The route is found outside the call, since it decides the protocol of a failure.
        """
        request_id = str(uuid4())
        signature = parse_signature(request.headers, request.query)
        try:
            route = self._routes.find(
                request.method,
                request.target,
                request.headers,
                request.body,
                None if signature is None else signature.service,
            )
        except UnknownAction as error:
            return failure_response(error, request_id, error.service)
        except FireletError as error:
            return failure_response(error, request_id)
        try:
            return to_response(await self._call(request, route, signature, request_id), request_id)
        except Exception as error:
            service = route.operation.service
            return failure_response(error, request_id, service, route.protocol)

    async def _call(
        self, request: Request, route: Route, signature: Signature | None, request_id: str
    ) -> Answer:
        """From a routed request to the handler's answer."""
        service, operation = route.operation.service.name, route.operation.name
        handler = self._operations.find(service, operation)
        if handler is None:
            raise NotYetImplemented(f"firelet does not implement {service}:{operation} yet")
        access_key = None if signature is None else signature.access_key
        region = None if signature is None else signature.region
        result = await handler(
            Call(
                service=service,
                operation=operation,
                account=self._accounts.find(access_key),
                region=region or self._default_region,
                request_id=request_id,
                params=await self._parse(request, route),
                base_url=find_base_url(request.headers),
                access_key=access_key,
            )
        )
        reply = result if isinstance(result, Reply) else Reply(output=result or {})
        answer = self._protocol.format(route, reply.output, request_id)
        if reply.status is not None:
            answer.status = reply.status
        answer.headers.update((name.lower(), text) for name, text in reply.headers.items())
        return answer

    async def _parse(self, request: Request, route: Route) -> dict[str, Any]:
        parse, query = self._protocol.parse, request.query
        if len(request.body) > _PARSE_IN_THREAD_BYTES:
            return await asyncio.to_thread(parse, route, query, request.headers, request.body)
        return parse(route, query, request.headers, request.body)

    def body_limit(self, method: bytes, target: bytes, headers: Mapping[bytes, bytes]) -> int:
        """The longest body that a request may have, before it is read. The calls of a function
        are many and alike: that they are calls is remembered, since finding out takes 6 µs."""
        host = headers.get(b"host", b"")
        if (method, target, host) in self._invokes:
            return limits.PAYLOAD_SYNC_MAX_BYTES
        for site in self._sites:
            limit = site.body_limit(target, headers)
            if limit is not None:
                return limit
        operation = self._operation_at(method, target)
        if operation is None or operation.name not in _INVOKE_OPERATIONS:
            return limits.CONTROL_REQUEST_MAX_BYTES
        if len(target) + len(host) <= _REMEMBERED_BYTES:
            if len(self._invokes) >= _REMEMBERED_MAX:
                self._invokes.clear()
            self._invokes.add((method, target, host))
        return limits.PAYLOAD_SYNC_MAX_BYTES

    def reject(self, rejection: Rejection) -> Response:
        """What the HTTP server answers in place of a request that it does not pass on."""
        if rejection.reason is RejectionReason.BODY_TOO_LARGE:
            headers = dict(rejection.headers)
            request = Request(rejection.method, rejection.target, headers, b"", rejection.peer)
            for site in self._sites:
                answer = site.refuse_body(request)
                if answer is not None:
                    return answer
        return failure_response(self._refusal(rejection), str(uuid4()))

    def _refusal(self, rejection: Rejection) -> FireletError:
        if rejection.reason is not RejectionReason.BODY_TOO_LARGE:
            code, sentence = _REFUSALS[rejection.reason]
            return FireletError(sentence, code=code, status=rejection.reason.value)
        operation = self._operation_at(rejection.method, rejection.target)
        name = "requested" if operation is None else operation.name
        is_invoke = name in _INVOKE_OPERATIONS
        error = RequestTooLarge if is_invoke else RequestEntityTooLarge
        return error(
            f"Request must be smaller than {rejection.limit} bytes for the"
            f" {_INVOKE_OPERATIONS.get(name, name)} operation"
        )

    def _operation_at(self, method: bytes, target: bytes) -> Operation | None:
        """The REST operation, without headers or body; None for the other protocols."""
        path, _, query = target.partition(b"?")
        try:
            return self._routes.find_by_path(method, path, query).operation
        except FireletError:
            return None


def find_base_url(headers: Mapping[bytes, bytes]) -> str:
    """Scheme, host and port as the caller reached us; a proxy in front may say its scheme."""
    host = headers.get(b"host", b"localhost").decode("latin-1")
    scheme = headers.get(b"x-forwarded-proto", b"http").decode("latin-1")
    return f"{'https' if scheme == 'https' else 'http'}://{host}"
