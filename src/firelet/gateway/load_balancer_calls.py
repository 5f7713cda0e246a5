"""Functions called in the name of a target group.

What it is: the service's principal, and one failure for all that can go wrong. Called by
``load_balancer`` and ``load_balancer_health``; ``frontend.elbv2_groups`` asks what a function lets
a group do.
"""

from __future__ import annotations

from firelet.control.load_balancer_records import TargetGroup
from firelet.gateway.function_calls import make_request_id, make_trace_id
from firelet.gateway.service_calls import (
    LOAD_BALANCING,
    ServiceCall,
    ServiceCaller,
    ServiceCalls,
    find_function,
)
from firelet.model.errors import FireletError


class CallFailed(Exception):
    """The function did not run, or failed. The sentence is for the log."""


class BalancerCalls:
    """One ``call`` per event."""

    def __init__(self, calls: ServiceCalls) -> None:
        self._calls = calls

    async def call(
        self,
        group: TargetGroup,
        event: bytes,
        timeout_s: float,
        trace_id: str | None = None,
    ) -> bytes:
        """The result of the group's function. CallFailed, TimeoutError."""
        try:
            outcome = await self._calls.call(
                ServiceCall(
                    caller=_caller(group),
                    function=group.target or "",
                    event=event,
                    request_id=make_request_id(),
                    trace_id=trace_id or make_trace_id(None),
                    timeout_s=timeout_s,
                )
            )
        except FireletError as error:
            raise CallFailed(error.message) from None
        if outcome.function_error is not None:
            raise CallFailed(f"the function failed: {outcome.error_type}")
        return outcome.payload

    def may_invoke(self, group: TargetGroup, function: str) -> bool:
        """Whether the function's policy lets the group invoke it. InvalidParameterValue."""
        caller = _caller(group)
        return self._calls.is_allowed(find_function(function, caller), caller)


def _caller(group: TargetGroup) -> ServiceCaller:
    return ServiceCaller(
        service=LOAD_BALANCING, source_arn=group.arn, account=group.account, region=group.region
    )
