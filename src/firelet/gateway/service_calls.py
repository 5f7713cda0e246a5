"""Functions called in the name of an AWS service: its right to, and its patience.

What it is: what APIs of every kind, their authorizers and load balancers have in common. The
function's resource policy must let the service invoke it for the ARN of the caller. A function that
is too slow for its caller runs on, as on AWS; ``drain`` waits for it. What it is not: what a client
is told of a failure, which each gateway words for itself.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from firelet.control.policies import ResourcePolicies
from firelet.control.qualifiers import qualified_arn
from firelet.gateway.function_calls import FunctionCalls
from firelet.gateway.function_policy import Use, Verdict, judge
from firelet.model.arn import FunctionRef, parse_function_ref
from firelet.model.errors import AccessDenied, ResourceNotFound
from firelet.model.invocation import Outcome
from firelet.wire.draining import drain

API_GATEWAY = "apigateway.amazonaws.com"
LOAD_BALANCING = "elasticloadbalancing.amazonaws.com"
_ACTION = "lambda:InvokeFunction"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceCaller:
    """Who calls: the service's principal, the ARN of what it acts for, and whose that is."""

    service: str
    source_arn: str
    account: str
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceCall:
    """One call. ``function`` is a name or an ARN; parts that it lacks are the caller's own. With a
    role of its own a caller needs no permission of the function."""

    caller: ServiceCaller
    function: str
    event: bytes
    request_id: str
    trace_id: str
    timeout_s: float
    has_role: bool = False


class ServiceCalls:
    """One ``call`` per event."""

    def __init__(self, policies: ResourcePolicies, calls: FunctionCalls) -> None:
        self._policies = policies
        self._calls = calls
        self._running: set[asyncio.Task[Outcome]] = set()

    async def call(self, call: ServiceCall) -> Outcome:
        """AccessDenied without permission, TimeoutError, and FireletError as with Invoke."""
        ref = find_function(call.function, call.caller)
        if not call.has_role and not self.is_allowed(ref, call.caller):
            raise AccessDenied(
                f"the policy of {_arn(ref)} does not let {call.caller.service} invoke it for"
                f" {call.caller.source_arn}"
            )
        task = asyncio.create_task(
            self._calls.call(ref, call.event, call.request_id, call.trace_id)
        )
        self._running.add(task)
        task.add_done_callback(self._end)
        async with asyncio.timeout(call.timeout_s):
            return await asyncio.shield(task)

    def is_allowed(self, ref: FunctionRef, caller: ServiceCaller) -> bool:
        """``ref`` has account and region."""
        assert ref.account is not None
        assert ref.region is not None
        try:
            policy = self._policies.get((ref.account, ref.region, ref.name), ref.qualifier).text
        except ResourceNotFound:
            return False
        context = {"aws:sourcearn": caller.source_arn, "aws:sourceaccount": caller.account}
        use = Use(action=_ACTION, resource=_arn(ref), service=caller.service, context=context)
        return judge(policy, use) is Verdict.ALLOW

    async def drain(self, timeout_s: float) -> None:
        """Waits for the functions that run, then gives up those that still do."""
        await drain(self._running, timeout_s)

    def _end(self, task: asyncio.Task[Outcome]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # of a call that nobody waits for any more


def find_function(name: str, caller: ServiceCaller) -> FunctionRef:
    """InvalidParameterValue when it is no name."""
    ref = parse_function_ref(name)
    return FunctionRef(
        ref.name, ref.qualifier, ref.account or caller.account, ref.region or caller.region
    )


def _arn(ref: FunctionRef) -> str:
    return qualified_arn((ref.account or "", ref.region or "", ref.name), ref.qualifier)
