"""Calls the function behind a route, with the rights and within the time of the integration.

What it is: what HTTP and WebSocket APIs have in common. The function's resource policy must let
``apigateway.amazonaws.com`` invoke it for the request's ARN, unless the integration has a role of
its own (whose rights are not evaluated on a loopback address). A function that is too slow for its
integration runs on.
Source: docs.aws.amazon.com/apigateway/latest/developerguide/
http-api-develop-integrations-lambda.html
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from firelet.control.policies import ResourcePolicies
from firelet.control.qualifiers import qualified_arn
from firelet.gateway.api_routes import Integration
from firelet.gateway.function_calls import FunctionCalls
from firelet.gateway.function_policy import Use, Verdict, judge
from firelet.model.arn import FunctionRef, parse_function_ref
from firelet.model.errors import (
    FireletError,
    RequestTooLarge,
    ResourceNotFound,
    TooManyRequests,
)
from firelet.model.http_api import HttpApi, execution_arn
from firelet.model.invocation import Outcome

log = logging.getLogger(__name__)

SERVICE = "apigateway.amazonaws.com"
_ACTION = "lambda:InvokeFunction"


class IntegrationFailed(Exception):
    """There is no result. ``status`` and the message are what a client of an HTTP API is told; the
    sentence is for the log."""

    def __init__(self, status: int, message: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrationRequest:
    """One request as its integration sees it. ``resource`` is the end of its execution ARN."""

    api: HttpApi
    stage: str
    resource: str
    request_id: str
    trace_id: str


class IntegrationCalls:
    """One call per request; see ``call``."""

    def __init__(self, policies: ResourcePolicies, calls: FunctionCalls) -> None:
        self._policies = policies
        self._calls = calls

    async def call(
        self,
        request: IntegrationRequest,
        integration: Integration,
        function_arn: str | None,
        event: bytes,
    ) -> bytes:
        """The function's result. IntegrationFailed for everything else."""
        try:
            outcome = await self._call(request, integration, function_arn, event)
        except TimeoutError:
            raise IntegrationFailed(
                503, "Service Unavailable", f"no result within {integration.timeout_s:g} s"
            ) from None
        except RequestTooLarge as error:
            raise IntegrationFailed(413, "Request Entity Too Large", error.message) from None
        except TooManyRequests as error:
            raise IntegrationFailed(503, "Service Unavailable", error.reason) from None
        except FireletError as error:
            raise IntegrationFailed(500, "Internal Server Error", error.message) from None
        if outcome.function_error is not None:
            reason = f"the function failed: {outcome.error_type or outcome.function_error}"
            raise IntegrationFailed(500, "Internal Server Error", reason)
        return outcome.payload

    async def _call(
        self,
        request: IntegrationRequest,
        integration: Integration,
        function_arn: str | None,
        event: bytes,
    ) -> Outcome:
        api = request.api
        if function_arn is None:
            raise ResourceNotFound("the integration names no function")
        ref = _locate(function_arn, api)
        if not integration.has_role:
            self._check_policy(request, ref)
        async with asyncio.timeout(integration.timeout_s):
            work = asyncio.ensure_future(
                self._calls.call(ref, event, request.request_id, request.trace_id)
            )
            work.add_done_callback(_take_exception)
            return await asyncio.shield(work)

    def _check_policy(self, request: IntegrationRequest, ref: FunctionRef) -> None:
        api = request.api
        assert ref.account is not None
        assert ref.region is not None
        key = (ref.account, ref.region, ref.name)
        source = execution_arn(api, request.stage, request.resource)
        try:
            policy = self._policies.get(key, ref.qualifier).text
        except ResourceNotFound:
            policy = None
        use = Use(
            action=_ACTION,
            resource=qualified_arn(key, ref.qualifier),
            service=SERVICE,
            context={"aws:sourcearn": source, "aws:sourceaccount": api.account},
        )
        if judge(policy, use) is not Verdict.ALLOW:
            raise FireletError(
                f"the policy of {use.resource} does not let {SERVICE} invoke it for {source}"
            )


def _locate(function_arn: str, api: HttpApi) -> FunctionRef:
    """The function that is called; parts that its ARN lacks are the API's own."""
    ref = parse_function_ref(function_arn)
    return FunctionRef(
        ref.name, ref.qualifier, ref.account or api.account, ref.region or api.region
    )


def _take_exception(work: asyncio.Future[Outcome]) -> None:
    """Of a call that nobody waits for any more: its failure is in the function's log."""
    if not work.cancelled():
        work.exception()
