"""Owns an invocation from admission to answer: version, lease, environment, outcome."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Protocol

from firelet.control.counting import Counting, FunctionKey
from firelet.control.latencies import Latencies
from firelet.control.manager import Manager
from firelet.control.shaping import ShapedSink
from firelet.control.tenants import Tenant, environments_max
from firelet.model import limits
from firelet.model.errors import (
    InvalidParameterValue,
    InvalidRuntime,
    ResourceConflict,
    SandboxEnded,
    SnapStartNotReady,
)
from firelet.model.function import FunctionVersion, State
from firelet.model.invocation import Invocation, Outcome
from firelet.model.streaming import ResponseSink, StreamHead, WholeResponse
from firelet.wire.rpc import Undelivered

log = logging.getLogger(__name__)

_WHOLE = StreamHead(content_type="application/json", is_streamed=False)


class Reservations(Protocol):
    """What the registry knows about reserved concurrency."""

    def reserved_total(self, account: str, region: str) -> int:
        """What an account in a region has set aside for some of its functions."""


class Invoker:
    """One call per invocation; see ``invoke``. ``stream_bytes_per_s`` limits what is streamed
    beyond the first 6 MiB of a response."""

    def __init__(
        self,
        manager: Manager,
        counting: Counting,
        reservations: Reservations,
        latencies: Latencies,
        stream_bytes_per_s: float | None = None,
    ) -> None:
        self._stream_bytes_per_s = stream_bytes_per_s
        self._manager = manager
        self._counting = counting
        self._reservations = reservations
        self._latencies = latencies

    async def invoke(
        self, invocation: Invocation, function_key: FunctionKey, reserved: int | None
    ) -> Outcome:
        """Runs it. ResourceConflict unless the version is active, TooManyRequests when no
        concurrency is left, PlatformError when no environment can be had."""
        version = invocation.function
        check_active(version)
        check_tenant(version, invocation.tenant_id)
        total = self._reservations.reserved_total(version.account, version.region)
        with self._counting.acquire(function_key, reserved, total, version.version):
            try:
                return await self._invoke(invocation, self._tenant(invocation, reserved))
            finally:
                self._latencies.note(function_key, monotonic() - invocation.received)

    async def stream(
        self,
        invocation: Invocation,
        function_key: FunctionKey,
        reserved: int | None,
        sink: ResponseSink,
    ) -> Outcome:
        """As ``invoke``, with the response going to ``sink`` while it comes; ``model.streaming``
        says how."""
        outcome = await self._invoke_into(sink, invocation, function_key, reserved)
        if outcome.function_error is None and not outcome.is_streamed:
            sink.begin(_WHOLE, WholeResponse())
            if outcome.payload:
                sink.write(outcome.payload)
        return outcome

    async def _invoke_into(
        self,
        sink: ResponseSink,
        invocation: Invocation,
        function_key: FunctionKey,
        reserved: int | None,
    ) -> Outcome:
        if self._stream_bytes_per_s is None:
            invocation.sink = sink
            return await self.invoke(invocation, function_key, reserved)
        shaped = invocation.sink = ShapedSink(sink, self._stream_bytes_per_s)
        try:
            return await self.invoke(invocation, function_key, reserved)
        finally:
            shaped.close()

    def _tenant(self, invocation: Invocation, reserved: int | None) -> Tenant | None:
        tenant_id = invocation.tenant_id
        if tenant_id is None:
            return None
        return Tenant(tenant_id, environments_max(self._counting.concurrency_of(reserved)))

    async def _invoke(self, invocation: Invocation, tenant: Tenant | None) -> Outcome:
        for _ in range(limits.SANDBOXES_TRIED):
            environment = await self._manager.acquire(invocation.function, tenant)
            try:
                return await environment.invoke(invocation)
            except (SandboxEnded, Undelivered):
                # The function has not seen the event: it is no failure of its own.
                log.warning("sandbox had ended request=%s", invocation.request_id)
            finally:
                self._manager.release(environment)
        raise SandboxEnded


def check_tenant(version: FunctionVersion, tenant_id: str | None) -> None:
    """A tenant is named where tenants are kept apart, and only there. Source: the sentence that
    AWS shows where it introduces tenant isolation; that of the other case is modelled on it."""
    if version.is_per_tenant and tenant_id is None:
        raise InvalidParameterValue(
            "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in"
            " your request and try again."
        )
    if tenant_id is not None and not version.is_per_tenant:
        raise InvalidParameterValue(
            "The invoked function is not enabled with tenancy configuration. Remove the tenant ID"
            " from your request and try again."
        )


def check_active(version: FunctionVersion) -> None:
    """ResourceConflict, SnapStartNotReady or InvalidRuntime unless the version can run."""
    if version.state is State.ACTIVE:
        return
    if version.state is State.FAILED and version.state_reason_code == "InvalidRuntime":
        raise InvalidRuntime(version.state_reason or "The runtime is not available.")
    if version.state is State.PENDING and version.has_snap_start:
        raise SnapStartNotReady(
            "Lambda is initializing your function. It will be ready to invoke once your function"
            " state becomes ACTIVE."
        )
    raise ResourceConflict(
        "The operation cannot be performed at this time. The function is currently in the"
        f" following state: {version.state}"
    )
