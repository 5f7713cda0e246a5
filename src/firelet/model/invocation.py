"""One invocation and its outcome: what passes from a frontend to the sandbox and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from firelet.model.function import FunctionVersion
from firelet.model.streaming import ResponseSink


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What an invocation came to whose extensions ran on after its answer. ``duration_ms`` is that
    of the report line, and includes ``extensions_ms``: what they took after the runtime was
    done."""

    duration_ms: float
    extensions_ms: float


@dataclass(slots=True, kw_only=True)
class Invocation:
    """One request to run a function. Owned by one coroutine from admission to answer.

    ``payload`` is never decoded between client and runtime. ``invoked_arn`` is the ARN as the
    caller named the function (qualified only if the caller qualified it). ``client_context`` is
    JSON text, already out of its base64. ``tenant_id`` says for whom it runs, with a function that
    keeps its tenants apart. ``sink`` takes the response while it comes (``model.streaming``); set
    by ``Invoker.stream``. ``on_settled`` is called once, soon or late, for an outcome that
    ``is_settling``; it may be before the caller has that. Times are ``time.monotonic()`` seconds.
    """

    request_id: str
    function: FunctionVersion
    invoked_arn: str
    payload: bytes
    client_context: str | None = None
    trace_id: str | None = None
    tenant_id: str | None = None
    wants_tail: bool = False
    received: float = 0.0
    sink: ResponseSink | None = None
    on_settled: Callable[[Settled], None] | None = None


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What the caller gets. ``function_error`` is None or the value of X-Amz-Function-Error.

    ``error_type`` is the runtime's own error type (``Sandbox.Timedout``, ``ValueError`` …).
    ``duration_ms`` is that of the report line: without INIT and without waiting for a sandbox.
    With ``is_settling`` it is only that of the answer: extensions run on, and the invocation's
    ``on_settled`` is told the rest. ``is_streamed``: the sink has had the response already, and
    ``payload`` is empty or an error.
    """

    payload: bytes
    executed_version: str
    function_error: str | None = None
    error_type: str | None = None
    log_tail: bytes = b""
    duration_ms: float = 0.0
    is_streamed: bool = False
    is_settling: bool = False
