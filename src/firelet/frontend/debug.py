"""``DebugPage`` answers ``firelet invoke --debug``: one invocation under a debugger.

It is no part of AWS's API. The environment is one of its own, without limits of time, and ends
with the answer, or when the client goes away.
"""

from __future__ import annotations

import base64
import time
import uuid
from typing import Annotated, Protocol

import msgspec

from firelet.control.invoke import check_active
from firelet.control.targets import Resolved
from firelet.frontend.callers import Callers
from firelet.frontend.failures import failure_response
from firelet.model.arn import FunctionRef, parse_function_ref
from firelet.model.errors import CallerError, InvalidRequestContent
from firelet.model.invocation import Invocation, Outcome
from firelet.wire.http1 import Request, Response

DEBUG_PATH = "/_firelet/debug"
_JSON = ((b"content-type", b"application/json"),)


class DebugOrder(msgspec.Struct, frozen=True):
    """``port`` is where the debugger connects to, on the host's loopback."""

    function: str
    event: msgspec.Raw
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    qualifier: str | None = None


class DebugAnswer(msgspec.Struct, frozen=True):
    """``payload`` and ``log`` are base64: a function may answer with any bytes."""

    payload: str
    log: str
    function_error: str | None = None


class Functions(Protocol):
    """What the registry knows about references to functions."""

    def resolve(self, account: str, region: str, ref: FunctionRef) -> Resolved: ...


class Debugging(Protocol):
    """Where environments are made that wait for a debugger."""

    async def debug(self, invocation: Invocation, port: int) -> Outcome:
        """Runs once the debugger lets it. CallerError when there is no debugger for the runtime,
        PlatformError when the port is in use."""


class DebugPage:
    """``POST`` of a DebugOrder. ``plane`` is None where environments are another process's."""

    def __init__(self, functions: Functions, plane: Debugging | None, callers: Callers) -> None:
        self._functions = functions
        self._plane = plane
        self._callers = callers

    async def page(self, request: Request) -> Response:
        request_id = str(uuid.uuid4())
        try:
            if request.path != DEBUG_PATH.encode() or request.method != b"POST":
                raise CallerError("There is no such page.", code="NotFoundException", status=404)
            answer = await self._debug(request, request_id)
        except Exception as error:  # told as an operation of Lambda would
            return failure_response(error, request_id)
        return Response(200, msgspec.json.encode(answer), _JSON)

    async def _debug(self, request: Request, request_id: str) -> DebugAnswer:
        if self._plane is None:
            raise CallerError(
                "Environments of worker processes cannot be debugged: start firelet without"
                " workers.",
                code="InvalidRequestContentException",
                status=400,
            )
        try:
            order = msgspec.json.decode(request.body, type=DebugOrder)
        except msgspec.DecodeError as error:
            raise InvalidRequestContent(f"The order cannot be read: {error}") from None
        caller = self._callers.identify(request)
        ref = parse_function_ref(order.function).with_qualifier(order.qualifier)
        resolved = self._functions.resolve(caller.account, caller.region, ref)
        check_active(resolved.version)
        outcome = await self._plane.debug(
            Invocation(
                request_id=request_id,
                function=resolved.version,
                invoked_arn=resolved.invoked_arn,
                payload=bytes(order.event),
                wants_tail=True,
                received=time.monotonic(),
            ),
            order.port,
        )
        return DebugAnswer(
            base64.b64encode(outcome.payload).decode(),
            base64.b64encode(outcome.log_tail).decode(),
            outcome.function_error,
        )
