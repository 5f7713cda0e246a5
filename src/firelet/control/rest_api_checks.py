"""What authorizers, gateway responses and templates of REST APIs may say. Pure.

What firelet cannot serve is refused when it is set, not when a request comes. Called by the
``frontend.apigateway*`` families and by ``rest_api_openapi``.
Source: API reference of API Gateway; sentences as recorded by users.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from firelet.control.api_errors import BadRequest
from firelet.control.gateway_regex import compile_whole
from firelet.control.rest_api_records import Settings
from firelet.model.errors import NotYetImplemented
from firelet.model.gateway_responses import STATUSES
from firelet.model.integration_uri import find_function
from firelet.model.mapping_template import UnsupportedTemplate, parse_template

TTL_MAX_S = 3_600
TTL_DEFAULT_S = 300

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_STATUS = re.compile(r"[1-5][0-9]{2}")


def check_authorizer(authorizer: Settings) -> None:
    """BadRequest, or NotYetImplemented for types that firelet does not serve."""
    kind = authorizer["type"]
    if kind not in ("TOKEN", "REQUEST"):
        raise NotYetImplemented(f"firelet does not serve authorizers of type {kind} yet")
    uri = authorizer.get("authorizerUri")
    if not uri:
        raise BadRequest("Authorizer URI must be specified for custom authorizers")
    if find_function(str(uri)) is None:
        raise BadRequest(f"Invalid Authorizer URI: {str(uri)[:200]}")
    if kind == "TOKEN" and not authorizer.get("identitySource"):
        raise BadRequest("Invalid identity source: a TOKEN authorizer needs one")
    if authorizer.get("identityValidationExpression"):
        compile_whole(authorizer["identityValidationExpression"])
    ttl = authorizer["authorizerResultTtlInSeconds"]
    if not isinstance(ttl, int) or not 0 <= ttl <= TTL_MAX_S:
        raise BadRequest("Authorizer result TTL must be between 0 and 3600 seconds")
    if kind == "REQUEST" and ttl and not authorizer.get("identitySource"):
        raise BadRequest("Identity source is required when the authorizer caches its results")


def check_gateway_response(response: Mapping[str, Any]) -> None:
    """BadRequest, or NotYetImplemented for templates that firelet does not evaluate."""
    if response["responseType"] not in STATUSES:
        raise BadRequest(f"Invalid gateway response type: {response['responseType'][:100]}")
    if response.get("statusCode") is not None:
        check_status(response["statusCode"])
    check_headers("gatewayresponse.header.", response["responseParameters"])
    check_templates(response["responseTemplates"])


def check_headers(prefix: str, parameters: Mapping[str, Any]) -> None:
    """Parameters of a response are headers, and their names are such (RFC 9110, section 5.6.2)."""
    for parameter in parameters:
        if not parameter.startswith(prefix) or not _TOKEN.fullmatch(parameter[len(prefix) :]):
            raise BadRequest(
                "Invalid mapping expression specified: Validation Result: warnings : [], errors :"
                f" [Invalid mapping expression parameter specified: {parameter[:200]}]"
            )


def check_status(status: str) -> None:
    if _STATUS.fullmatch(status) is None:
        raise BadRequest(f"Invalid status code specified: {status[:20]}")


def check_templates(templates: object) -> None:
    """Templates by content type."""
    if templates is None:
        return
    if not isinstance(templates, Mapping):
        raise BadRequest("Invalid templates specified")
    for text in templates.values():
        try:
            parse_template(str(text))
        except UnsupportedTemplate as error:
            raise NotYetImplemented(f"firelet does not evaluate this template: {error}") from None
