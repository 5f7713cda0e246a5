"""The operation InvokeAsync, which AWS has deprecated: an Event invocation by another name.

The answer is the status, 202, and no body, as in the API reference's sample response of 2014; the
member Status that SDKs show is that status.
"""

from __future__ import annotations

from firelet.control.registry import Registry
from firelet.frontend.invoke import AsyncInvocation, AsyncSink, check_payload, make_trace_id
from firelet.frontend.operations import Call, Operations, Reply
from firelet.model import limits
from firelet.model.arn import parse_function_ref

_ACCEPTED = 202


class InvokeAsyncOperations:
    """The family of that one operation."""

    def __init__(self, registry: Registry, events: AsyncSink) -> None:
        self._registry = registry
        self._events = events

    def register(self, operations: Operations) -> None:
        operations.add("lambda", "InvokeAsync", self.invoke_async)

    async def invoke_async(self, call: Call) -> Reply:
        """202 once the event is on disk. The caller's trace does not go on, as on AWS."""
        ref = parse_function_ref(call.params["FunctionName"])
        resolved = self._registry.resolve(call.account, call.region, ref)
        payload: bytes = call.params["InvokeArgs"]
        check_payload(payload, limits.PAYLOAD_INVOKE_ASYNC_MAX_BYTES, call.operation)
        await self._events.put(
            AsyncInvocation(
                account=call.account,
                region=call.region,
                ref=ref,
                invoked_arn=resolved.invoked_arn,
                request_id=call.request_id,
                payload=payload,
                client_context=None,
                trace_id=make_trace_id(),
            )
        )
        return Reply(output={"Status": _ACCEPTED}, status=_ACCEPTED)
