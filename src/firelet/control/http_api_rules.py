"""What API Gateway refuses when HTTP and WebSocket APIs are written. Pure.

Only functions can be behind a route, and only functions, signatures and tokens can guard it. What
would need more is refused as not implemented: an API that is stored and not kept would mislead.
Sentences about route keys, identifiers and stages are AWS's as users quote them; the others are
firelet's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from firelet.control.api_errors import BadRequest, Conflict, NotFound
from firelet.model import integration_uri
from firelet.model.errors import NotYetImplemented
from firelet.model.http_api import (
    AUTHORIZER,
    DEFAULT_ROUTE,
    HTTP,
    INTEGRATION,
    ROUTE,
    HttpApi,
)

ROUTES_MAX = 300  # quotas of API Gateway, per API
INTEGRATIONS_MAX = 300
STAGES_MAX = 10

_METHODS = ("ANY", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
_SEGMENT = re.compile(r"\{[A-Za-z0-9._:-]+\+?\}|[^{}\s?#]*")
_STAGE = re.compile(r"\$default|[A-Za-z0-9_-]{1,128}")
_TARGET = "integrations/"
_BY_AUTHORIZER = {"CUSTOM": "REQUEST", "JWT": "JWT"}  # types of authorization and of authorizers
_SOURCE = re.compile(
    r"(\$request|route\.request)\.(header|querystring)\.[A-Za-z0-9_.-]+"
    r"|\$?(context|stageVariables)\.[A-Za-z0-9_.-]+"
)


def check_route(api: HttpApi, settings: Mapping[str, Any], route_id: str | None) -> None:
    """BadRequest, Conflict or NotYetImplemented unless the API may have such a route."""
    key: str = settings["RouteKey"]
    if api.protocol == HTTP:
        _check_route_key(key)
    for other_id, other in api.of_kind(ROUTE).items():
        if other_id != route_id and other.settings["RouteKey"] == key:
            raise Conflict(f"Route with key {key} already exists for this API")
    _check_authorization(api, settings)
    if settings.get("ApiKeyRequired"):
        raise NotYetImplemented("firelet does not check API keys of routes yet")
    target = settings.get("Target")
    if target is not None and find_target_id(settings) not in api.of_kind(INTEGRATION):
        raise BadRequest(f"Unable to find integration of target {target}")


def check_authorizer(api: HttpApi, settings: Mapping[str, Any]) -> None:
    """BadRequest unless it is a function that can be asked, or says whose tokens are taken."""
    for source in settings.get("IdentitySource") or ():
        if _SOURCE.fullmatch(source) is None:
            raise BadRequest(f"Invalid identity source specified: {source}")
    if settings["AuthorizerType"] == "JWT":
        _check_jwt(api, settings)
        return
    if find_function(settings.get("AuthorizerUri") or "") is None:
        raise BadRequest(f"Invalid authorizer URI specified: {settings.get('AuthorizerUri')}")
    version = settings.get("AuthorizerPayloadFormatVersion")
    if api.protocol == HTTP and version not in ("1.0", "2.0"):
        raise BadRequest("AuthorizerPayloadFormatVersion must be 1.0 or 2.0")
    if settings.get("EnableSimpleResponses") and version != "2.0":
        raise BadRequest("EnableSimpleResponses needs AuthorizerPayloadFormatVersion 2.0")


def _check_jwt(api: HttpApi, settings: Mapping[str, Any]) -> None:
    if api.protocol != HTTP:
        raise BadRequest("Only HTTP APIs can have JWT authorizers")
    if len(settings.get("IdentitySource") or ()) != 1:
        raise BadRequest("A JWT authorizer has one identity source")
    jwt = settings.get("JwtConfiguration") or {}
    if not _is_url(jwt.get("Issuer") or ""):
        raise BadRequest(f"Invalid issuer: {jwt.get('Issuer')}. Issuer must have a valid URL")
    if not jwt.get("Audience"):
        raise BadRequest("Audience of the JWT authorizer must not be empty")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _check_authorization(api: HttpApi, settings: Mapping[str, Any]) -> None:
    kind = settings.get("AuthorizationType", "NONE")
    if kind in _BY_AUTHORIZER:
        guard = api.of_kind(AUTHORIZER).get(settings.get("AuthorizerId") or "")
        if guard is None or guard.settings["AuthorizerType"] != _BY_AUTHORIZER[kind]:
            raise BadRequest("Invalid Authorizer identifier specified")
    if kind != "NONE" and api.protocol != HTTP and settings["RouteKey"] != "$connect":
        raise BadRequest("Only the route $connect can have an authorizer")


def find_target_id(settings: Mapping[str, Any]) -> str:
    """The id of the integration that a route names; empty without one."""
    target: str = settings.get("Target") or ""
    return target.removeprefix(_TARGET) if target.startswith(_TARGET) else ""


def check_integration(api: HttpApi, settings: Mapping[str, Any]) -> None:
    """BadRequest or NotYetImplemented unless there is a function behind it, or a mock of a
    WebSocket API."""
    kind = settings["IntegrationType"]
    if kind == "MOCK" and api.protocol != HTTP:
        return
    if kind != "AWS_PROXY":
        raise NotYetImplemented(f"firelet has no integrations of type {kind} yet")
    if settings.get("IntegrationSubtype"):
        raise NotYetImplemented("firelet has no integrations with AWS services but Lambda yet")
    if settings.get("ConnectionType", "INTERNET") != "INTERNET":
        raise NotYetImplemented("firelet has no VPC links")
    if settings.get("RequestParameters") or settings.get("ResponseParameters"):
        raise NotYetImplemented("firelet does not map parameters of integrations yet")
    if find_function(settings.get("IntegrationUri") or "") is None:
        raise BadRequest(f"Invalid integration URI specified: {settings.get('IntegrationUri')}")
    if settings.get("PayloadFormatVersion", "1.0") not in ("1.0", "2.0"):
        raise BadRequest("PayloadFormatVersion must be 1.0 or 2.0")


def find_function(uri: str) -> str | None:
    """The ARN of the function in the URI of an integration, which, unlike one of a REST API, may be
    that ARN itself; None when it names none."""
    if uri.startswith("arn:") and uri.split(":", 3)[2:3] == ["lambda"]:
        return uri
    return integration_uri.find_function(uri)


def check_stage_name(name: str) -> None:
    """BadRequest unless a stage may be called so."""
    if _STAGE.fullmatch(name) is None:
        raise BadRequest(
            "Stage name only allows a-zA-Z0-9_- or $default, with a length of 1 to 128 characters"
        )


def no_api(account: str, api_id: str) -> NotFound:
    """AWS's sentence for an API that is not there."""
    return NotFound(f"Invalid API identifier specified {account}:{api_id}")


def no_part(kind: str) -> NotFound:
    """AWS's sentence for a part that is not there."""
    return NotFound(f"Invalid {kind} identifier specified")


def _check_route_key(key: str) -> None:
    if key == DEFAULT_ROUTE:
        return
    method, _, path = key.partition(" ")
    segments = path.split("/")
    if (
        method not in _METHODS
        or segments[0] != ""
        or len(segments) < 2
        or not all(_SEGMENT.fullmatch(segment) for segment in segments[1:])
    ):
        raise BadRequest(
            "The provided route key is not formatted properly for HTTP protocol. Format should be"
            ' "<HTTP METHOD> /<RESOURCE PATH>" or "$default"'
        )
    if any(segment.endswith("+}") for segment in segments[1:-1]):
        raise BadRequest("A greedy path variable can only be the last part of a route key")
