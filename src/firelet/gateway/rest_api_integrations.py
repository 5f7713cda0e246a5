"""What the methods of a REST API do: call a function with an event, with a template, or nothing.

Called by ``gateway.rest_api``. A failure is a ``Refusal``, which the API may have worded itself.

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/
api-gateway-integration-settings.html; set-up-lambda-proxy-integrations.html;
how-to-mock-integration.html; api-gateway-payload-encodings-workflow.html (the first type of Accept
decides whether base64 is decoded).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any

import orjson

from firelet.control.gateway_regex import compile_whole
from firelet.gateway.media_types import JSON, choose, first_type, matches
from firelet.gateway.proxy_event import MalformedResult, encode_value, parse_result
from firelet.gateway.rest_api_failures import (
    Refusal,
    evaluate,
    malformed_result,
    misconfigured,
)
from firelet.gateway.rest_api_request import RestRequest
from firelet.gateway.rest_api_routes import Integration, IntegrationReply
from firelet.gateway.service_calls import API_GATEWAY, ServiceCall, ServiceCaller, ServiceCalls
from firelet.model.errors import FireletError, RequestTooLarge, TooManyRequests
from firelet.model.integration_uri import fill_stage_variables
from firelet.model.invocation import Outcome
from firelet.model.mapping_template import MISSING, find_path
from firelet.wire.http1 import Response

log = logging.getLogger(__name__)

_BODY = "integration.response.body"


class RestIntegrations:
    """``run`` once for each request that may pass."""

    def __init__(self, calls: ServiceCalls) -> None:
        self._calls = calls

    async def run(self, request: RestRequest) -> Response:
        """The integration's answer. Refusal."""
        integration = request.match.method.integration
        match integration.kind:
            case "AWS_PROXY":
                return await self._proxy(request, integration)
            case "AWS":
                return await self._invoke(request, integration)
        return _mock(request, integration)

    async def _proxy(self, request: RestRequest, integration: Integration) -> Response:
        outcome = await self._call(request, integration, request.event())
        if outcome.function_error is not None:
            _warn(request, f"the function failed: {outcome.error_type or outcome.function_error}")
            raise malformed_result()
        try:
            result = parse_result(outcome.payload)
            body = result.decoded() if _wants_binary(request) else result.body
        except MalformedResult as error:
            _warn(request, str(error))
            raise malformed_result() from None
        headers = list(result.headers)
        if not any(name.lower() == b"content-type" for name, _ in headers):
            headers.append((b"Content-Type", JSON.encode()))
        return Response(result.status, body, headers)

    async def _invoke(self, request: RestRequest, integration: Integration) -> Response:
        payload = _render_request(request, integration) or b"{}"
        try:
            orjson.loads(payload)
        except orjson.JSONDecodeError:
            _warn(request, "the integration request is no JSON")
            raise misconfigured() from None
        outcome = await self._call(request, integration, payload)
        error = _error_message(outcome) if outcome.function_error is not None else ""
        reply = _choose_reply(integration.replies, error)
        return _render_reply(request, reply, outcome.payload.decode("utf-8", "replace"))

    async def _call(self, request: RestRequest, integration: Integration, event: bytes) -> Outcome:
        if integration.verb != "POST":
            _warn(request, "functions are invoked by POST only")
            raise misconfigured()
        function = fill_stage_variables(integration.function or "", request.stage_variables)
        try:
            return await self._calls.call(
                ServiceCall(
                    caller=ServiceCaller(
                        service=API_GATEWAY,
                        source_arn=request.source_arn,
                        account=request.api.account,
                        region=request.api.region,
                    ),
                    function=function,
                    event=event,
                    request_id=request.request_id,
                    trace_id=request.trace_id,
                    timeout_s=integration.timeout_s,
                    has_role=integration.has_role,
                )
            )
        except TimeoutError:
            raise Refusal("INTEGRATION_TIMEOUT", "Endpoint request timed out") from None
        except RequestTooLarge:
            raise Refusal("REQUEST_TOO_LARGE", "Request Too Long") from None
        except TooManyRequests as error:
            _warn(request, f"the function is throttled: {error.reason}")
            raise Refusal("DEFAULT_5XX", "Internal server error", 500) from None
        except FireletError as error:
            _warn(request, error.message)
            raise misconfigured() from None


def _mock(request: RestRequest, integration: Integration) -> Response:
    """The request template says which status the integration is to have had."""
    try:
        status = json.loads(_render_request(request, integration))["statusCode"]
        reply = _choose_reply(integration.replies, str(int(status)))
    except (ValueError, TypeError, KeyError):
        _warn(request, "the request template gives no statusCode")
        raise misconfigured() from None
    return _render_reply(request, reply, "")


def _render_request(request: RestRequest, integration: Integration) -> bytes:
    """The body that the integration gets: by template, or as it is."""
    content_type = request.visit.request.headers.get(b"content-type", b"").decode("latin-1")
    found = choose(integration.templates, content_type)
    if found is not None:
        return found[1].render(request.variables()).encode()
    is_refused = integration.passthrough == "NEVER" or (
        integration.passthrough == "WHEN_NO_TEMPLATES" and integration.templates
    )
    if is_refused:
        raise Refusal("UNSUPPORTED_MEDIA_TYPE", "Unsupported Media Type")
    return request.body


def _choose_reply(replies: Iterable[IntegrationReply], text: str) -> IntegrationReply:
    """The first whose pattern finds ``text`` as a whole; the default stands last."""
    for reply in replies:
        if reply.pattern is None or compile_whole(reply.pattern).search(text):
            return reply
    raise misconfigured()


def _render_reply(request: RestRequest, reply: IntegrationReply, body: str) -> Response:
    variables = request.variables(body)
    accept = request.visit.request.headers.get(b"accept", b"").decode("latin-1")
    chosen = choose(reply.templates, accept) or next(iter(reply.templates.items()), None)
    content_type = JSON if chosen is None else chosen[0]
    text = body if chosen is None else chosen[1].render(variables)
    has_type = any(name.lower() == "content-type" for name in reply.headers)
    headers = {} if has_type else {"Content-Type": content_type}
    for name, expression in reply.headers.items():
        if expression.startswith(_BODY):
            value = _find_in(body, "$" + expression.removeprefix(_BODY))
        else:
            value = evaluate(expression, variables)
        # A header that has no value is left out, unless it was written as an empty text.
        if value or expression == "''":
            headers[name] = value
    encoded = [(encode_value(name), encode_value(value)) for name, value in headers.items()]
    return Response(reply.status, text.encode(), encoded)


def _find_in(body: str, path: str) -> str:
    try:
        found = find_path(orjson.loads(body), path)
    except orjson.JSONDecodeError:
        return ""
    if found is MISSING or found is None:
        return ""
    return found if isinstance(found, str) else orjson.dumps(found).decode()


def _error_message(outcome: Outcome) -> str:
    """What selection patterns are matched with when a function has failed."""
    try:
        failure: Any = orjson.loads(outcome.payload)
    except orjson.JSONDecodeError:
        failure = None
    message = failure.get("errorMessage") if isinstance(failure, dict) else None
    return message if isinstance(message, str) else outcome.payload.decode("utf-8", "replace")


def _wants_binary(request: RestRequest) -> bool:
    types = request.definition.settings.get("binaryMediaTypes", ())
    accept = request.visit.request.headers.get(b"accept", b"").decode("latin-1")
    return matches(types, first_type(accept))


def _warn(request: RestRequest, reason: str) -> None:
    log.warning("rest api integration failed request=%s: %s", request.request_id, reason)
