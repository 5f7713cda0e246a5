"""What a method is integrated with: the rules of the shape ``Integration``, and its defaults.

Pure. An integration that firelet cannot serve is refused when it is set, not when it is called:
firelet serves Lambda functions (AWS_PROXY, AWS) and MOCK. Called by ``control.rest_api_import`` and
``frontend.apigateway_methods``.
Source: API reference of PutIntegration; sentences as recorded by users.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from firelet.control.api_errors import BadRequest
from firelet.control.gateway_regex import compile_whole
from firelet.control.rest_api_checks import (
    check_headers,
    check_status,
    check_templates,
)
from firelet.model.errors import NotYetImplemented
from firelet.model.integration_uri import find_function

TIMEOUT_MIN_MS, TIMEOUT_MAX_MS = 50, 29_000

_TYPES = ("AWS", "AWS_PROXY", "MOCK", "HTTP", "HTTP_PROXY")
_PASSTHROUGH = ("WHEN_NO_MATCH", "WHEN_NO_TEMPLATES", "NEVER")
_ARN = re.compile(r"arn:aws[a-z-]*:apigateway:[a-z0-9-]+:[a-z0-9.-]+:(path|action)/.+")


def complete_integration(given: Mapping[str, Any], resource_id: str) -> dict[str, Any]:
    """The integration with its defaults. BadRequest, or NotYetImplemented for what firelet does
    not serve."""
    kind = given.get("type")
    if kind not in _TYPES:
        raise BadRequest(f"Invalid integration type: {str(kind)[:50]}")
    if kind in ("HTTP", "HTTP_PROXY"):
        raise NotYetImplemented(f"firelet does not serve integrations of type {kind} yet")
    if kind != "MOCK":
        _check_function(given)
    check_templates(given.get("requestTemplates"))
    passthrough = given.get("passthroughBehavior") or "WHEN_NO_MATCH"
    if passthrough not in _PASSTHROUGH:
        raise BadRequest("Invalid passthrough behavior specified")
    timeout = given.get("timeoutInMillis")
    if timeout is None:
        timeout = TIMEOUT_MAX_MS
    if not isinstance(timeout, int) or not TIMEOUT_MIN_MS <= timeout <= TIMEOUT_MAX_MS:
        raise BadRequest(f"Timeout should be between {TIMEOUT_MIN_MS} ms and {TIMEOUT_MAX_MS} ms")
    return {
        "cacheNamespace": resource_id,
        "cacheKeyParameters": [],
        **given,
        "passthroughBehavior": passthrough,
        "timeoutInMillis": timeout,
    }


def complete_response(given: Mapping[str, Any]) -> dict[str, Any]:
    """An integration response. BadRequest, or NotYetImplemented for templates that firelet does
    not evaluate."""
    check_templates(given.get("responseTemplates"))
    check_status(given["statusCode"])
    check_headers("method.response.header.", given.get("responseParameters", {}))
    pattern = given.get("selectionPattern")
    if pattern:
        compile_whole(pattern)
    return dict(given)


def _check_function(given: Mapping[str, Any]) -> None:
    if not given.get("httpMethod"):
        raise BadRequest("Enumeration value for HttpMethod must be non-empty")
    uri = given.get("uri")
    if not isinstance(uri, str) or _ARN.fullmatch(uri) is None:
        raise BadRequest("Invalid ARN specified in the request")
    if find_function(uri) is None:
        raise NotYetImplemented("firelet serves integrations with Lambda functions only")
    if "integration.request.header.X-Amz-Invocation-Type" in given.get("requestParameters", {}):
        raise NotYetImplemented("firelet does not invoke asynchronously for REST APIs yet")
    if given.get("responseTransferMode") == "STREAM":
        raise NotYetImplemented("firelet does not stream the responses of REST APIs yet")
