"""What a REST API answers by itself: gateway responses, as an API may have changed them.

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/
supported-gateway-response-types.html (types, statuses); sentences as users have seen them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from firelet.control.rest_api_records import Settings
from firelet.gateway.proxy_event import encode_value
from firelet.model.gateway_responses import STATUSES, TEMPLATE
from firelet.model.mapping_template import Variables, parse_template
from firelet.wire.http1 import Response

_HEADER = "gatewayresponse.header."
_JSON = "application/json"
# The error type that AWS names in a header of the response.
_ERROR_TYPES = {
    "ACCESS_DENIED": "AccessDeniedException",
    "BAD_REQUEST_PARAMETERS": "BadRequestException",
    "INTEGRATION_FAILURE": "InternalServerErrorException",
    "INTEGRATION_TIMEOUT": "InternalServerErrorException",
    "API_CONFIGURATION_ERROR": "InternalServerErrorException",
    "INVALID_API_KEY": "ForbiddenException",
    "MISSING_AUTHENTICATION_TOKEN": "MissingAuthenticationTokenException",
    "QUOTA_EXCEEDED": "LimitExceededException",
    "REQUEST_TOO_LARGE": "RequestTooLargeException",
    "THROTTLED": "TooManyRequestsException",
    "UNAUTHORIZED": "UnauthorizedException",
    "UNSUPPORTED_MEDIA_TYPE": "BadRequestException",
    "AUTHORIZER_FAILURE": "AuthorizerFailureException",
    "AUTHORIZER_CONFIGURATION_ERROR": "AuthorizerConfigurationException",
}


# What APIs have worded themselves is parsed once.
_parse = lru_cache(64)(parse_template)


class Refusal(Exception):
    """The gateway answers by itself. ``status`` is another than that of the type, if there is one;
    ``message`` None is JSON's null."""

    def __init__(self, kind: str, message: str | None, status: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = status


def malformed_result() -> Refusal:
    """Of a function, or a function that failed."""
    return Refusal("DEFAULT_5XX", "Internal server error", 502)


def misconfigured() -> Refusal:
    """The integration cannot be carried out as it is set."""
    return Refusal("API_CONFIGURATION_ERROR", "Internal server error")


def answer(
    refusal: Refusal, settings: Mapping[str, Settings], context: Mapping[str, Any], stage: Variables
) -> Response:
    """The response, by the gateway response of the type, else that of its default, else AWS's.
    ``stage`` is what templates see of the request."""
    chosen = settings.get(refusal.kind)
    status = refusal.status or int(STATUSES[refusal.kind] or 500)
    if chosen is None:
        chosen = settings.get("DEFAULT_4XX" if status < 500 else "DEFAULT_5XX", {})
    if chosen.get("statusCode"):
        status = int(chosen["statusCode"])
    message = json.dumps(refusal.message)
    error = {
        "message": refusal.message or "",
        "messageString": message,
        "responseType": refusal.kind,
    }
    seen = Variables(
        params=stage.params,
        context={**context, "error": error},
        stage_variables=stage.stage_variables,
    )
    content_type, template = _choose(chosen.get("responseTemplates") or {_JSON: TEMPLATE})
    body = _parse(template).render(seen)
    headers = [(b"Content-Type", encode_value(content_type))]
    error_type = _ERROR_TYPES.get(refusal.kind)
    if error_type is not None:
        headers.append((b"x-amzn-ErrorType", error_type.encode()))
    for name, expression in chosen.get("responseParameters", {}).items():
        if name.startswith(_HEADER):
            value = evaluate(expression, seen)
            headers.append((encode_value(name.removeprefix(_HEADER)), encode_value(value)))
    return Response(status, body.encode(), headers)


def evaluate(expression: str, seen: Variables) -> str:
    """A mapping expression: ``'text'``, ``context.x``, ``stageVariables.x``,
    ``method.request.header.x``. What has no value is empty."""
    if len(expression) > 1 and expression.startswith("'") and expression.endswith("'"):
        return expression[1:-1]
    for prefix, values in (
        ("stageVariables.", seen.stage_variables),
        ("method.request.header.", seen.params.get("header", {})),
        ("method.request.querystring.", seen.params.get("querystring", {})),
        ("method.request.path.", seen.params.get("path", {})),
    ):
        if expression.startswith(prefix):
            return _look_up(values, expression.removeprefix(prefix))
    if expression.startswith("context."):
        value: Any = seen.context
        for name in expression.split(".")[1:]:
            value = value.get(name) if isinstance(value, Mapping) else None
        return "" if value is None else str(value)
    return ""


def _look_up(values: Mapping[str, str], name: str) -> str:
    """Headers are found whatever their spelling."""
    if name in values:
        return values[name]
    return next((value for key, value in values.items() if key.lower() == name.lower()), "")


def _choose(templates: Mapping[str, str]) -> tuple[str, str]:
    if _JSON in templates:
        return _JSON, templates[_JSON]
    return next(iter(templates.items()))
