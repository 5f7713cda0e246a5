"""Runs a function for a gateway: from reference and event to outcome.

What it is: the gateways' way into ``control``; the caller builds the event and reads the result.
"""

from __future__ import annotations

import os
import time
import uuid
from typing import Protocol

from firelet.control.registry import Registry, Resolved
from firelet.model import limits
from firelet.model.arn import FunctionRef
from firelet.model.errors import RequestTooLarge
from firelet.model.function import FunctionKey
from firelet.model.invocation import Invocation, Outcome
from firelet.model.streaming import ResponseSink


class Invoker(Protocol):
    """Owns an invocation from admission to answer (``control.invoke``)."""

    async def invoke(
        self, invocation: Invocation, function_key: FunctionKey, reserved: int | None
    ) -> Outcome: ...

    async def stream(
        self,
        invocation: Invocation,
        function_key: FunctionKey,
        reserved: int | None,
        sink: ResponseSink,
    ) -> Outcome: ...


class FunctionCalls:
    """Synchronous invocations by gateways."""

    def __init__(self, registry: Registry, invoker: Invoker) -> None:
        self._registry = registry
        self._invoker = invoker

    async def call(self, ref: FunctionRef, payload: bytes, request_id: str, trace: str) -> Outcome:
        """``ref`` has account and region. FireletError as with Invoke; RequestTooLarge for an
        event of more than 6 MB."""
        resolved, invocation = self._prepare(ref, payload, request_id, trace)
        return await self._invoker.invoke(
            invocation, resolved.function_key, resolved.reserved_concurrency
        )

    async def stream(
        self, ref: FunctionRef, payload: bytes, request_id: str, trace: str, sink: ResponseSink
    ) -> Outcome:
        """The same, with the response going to ``sink`` while it comes."""
        resolved, invocation = self._prepare(ref, payload, request_id, trace)
        return await self._invoker.stream(
            invocation, resolved.function_key, resolved.reserved_concurrency, sink
        )

    def _prepare(
        self, ref: FunctionRef, payload: bytes, request_id: str, trace: str
    ) -> tuple[Resolved, Invocation]:
        if len(payload) > limits.PAYLOAD_SYNC_MAX_BYTES:
            raise payload_too_large()
        assert ref.account is not None
        assert ref.region is not None
        resolved = self._registry.resolve(ref.account, ref.region, ref)
        invocation = Invocation(
            request_id=request_id,
            function=resolved.version,
            invoked_arn=resolved.invoked_arn,
            payload=payload,
            trace_id=resolved.trace(trace),
            received=time.monotonic(),
        )
        return resolved, invocation


def payload_too_large() -> RequestTooLarge:
    """The refusal of a payload above the limit of invocations."""
    return RequestTooLarge(
        f"Request must be smaller than {limits.PAYLOAD_SYNC_MAX_BYTES} bytes for the"
        " InvokeFunction operation"
    )


def make_request_id() -> str:
    """A random UUID, as invocations have."""
    return str(uuid.uuid4())


def make_trace_id(header: bytes | None) -> str:
    """The client's trace header, else a new root; whether it is traced is not yet decided."""
    if header is not None:
        return header.decode("latin-1")
    return f"Root=1-{int(time.time()):08x}-{os.urandom(12).hex()}"
