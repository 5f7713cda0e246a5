"""Calls the function behind a route, with the rights and within the time of the integration.

What it is: what HTTP and WebSocket APIs have in common: API Gateway's ``service_calls``, and what a
client is told when there is no result. An integration with a role of its own needs no permission of
the function; the role's rights are not evaluated on a loopback address. What it is not: the
integrations of REST APIs (``rest_api_integrations``), which word their failures differently. Called
by ``http_api``, ``websocket_session`` and ``api_authorizers``.
Source: docs.aws.amazon.com/apigateway/latest/developerguide/
http-api-develop-integrations-lambda.html
"""

from __future__ import annotations

from dataclasses import dataclass

from firelet.gateway.api_routes import Integration
from firelet.gateway.service_calls import API_GATEWAY, ServiceCall, ServiceCaller, ServiceCalls
from firelet.model.errors import (
    FireletError,
    RequestTooLarge,
    ResourceNotFound,
    TooManyRequests,
)
from firelet.model.http_api import HttpApi, execution_arn
from firelet.model.invocation import Outcome


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

    def __init__(self, calls: ServiceCalls) -> None:
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
        caller = ServiceCaller(
            service=API_GATEWAY,
            source_arn=execution_arn(api, request.stage, request.resource),
            account=api.account,
            region=api.region,
        )
        return await self._calls.call(
            ServiceCall(
                caller=caller,
                function=function_arn,
                event=event,
                request_id=request.request_id,
                trace_id=request.trace_id,
                timeout_s=integration.timeout_s,
                has_role=integration.has_role,
            )
        )
