"""OpenAPI 3 definitions of HTTP APIs: what ImportApi and ReimportApi read. Pure.

JSON only: SAM, CloudFormation and ``jsonencode`` write that. What a definition says beyond routes,
integrations, authorizers, CORS and tags is documentation, and is not kept.
Source: docs.aws.amazon.com/apigateway/latest/developerguide/http-api-open-api.html and
api-gateway-swagger-extensions.html. The sentences are firelet's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import orjson

from firelet.control.api_errors import BadRequest
from firelet.control.http_api_parts import PART_ID_LENGTH, check_part, new_id, with_part
from firelet.control.http_api_shapes import AuthorizerShape, CorsShape, IntegrationShape
from firelet.model.http_api import AUTHORIZER, DEFAULT_ROUTE, INTEGRATION, ROUTE, ApiPart, HttpApi

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
_ANY = "x-amazon-apigateway-any-method"
_INTEGRATION = "x-amazon-apigateway-integration"
_INTEGRATIONS = "x-amazon-apigateway-integrations"
_CORS = "x-amazon-apigateway-cors"
_TAG_VALUE = "x-amazon-apigateway-tag-value"
_AUTHORIZER = "x-amazon-apigateway-authorizer"
_AUTH_TYPE = "x-amazon-apigateway-authtype"
_IAM = "AWS_IAM"
_AUTHORIZER_MEMBERS = {
    "authorizerCredentials": "AuthorizerCredentialsArn",
    "authorizerPayloadFormatVersion": "AuthorizerPayloadFormatVersion",
    "authorizerResultTtlInSeconds": "AuthorizerResultTtlInSeconds",
    "authorizerUri": "AuthorizerUri",
    "enableSimpleResponses": "EnableSimpleResponses",
}
_CORS_MEMBERS = {
    "allowCredentials": "AllowCredentials",
    "allowHeaders": "AllowHeaders",
    "allowMethods": "AllowMethods",
    "allowOrigins": "AllowOrigins",
    "exposeHeaders": "ExposeHeaders",
    "maxAge": "MaxAge",
}
_INTEGRATION_MEMBERS = {
    "connectionType": "ConnectionType",
    "credentials": "CredentialsArn",
    "httpMethod": "IntegrationMethod",
    "payloadFormatVersion": "PayloadFormatVersion",
    "requestParameters": "RequestParameters",
    "responseParameters": "ResponseParameters",
    "subtype": "IntegrationSubtype",
    "timeoutInMillis": "TimeoutInMillis",
    "uri": "IntegrationUri",
}


@dataclass(frozen=True, slots=True)
class RouteDefinition:
    """A route: settings of its integration, if it has one, and who guards it: nobody (None),
    ``AWS_IAM`` or an authorizer by its name."""

    integration: Mapping[str, Any] | None
    guard: str | None
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a definition says of an API: routes by their keys, settings of authorizers by name."""

    settings: Mapping[str, Any]
    tags: Mapping[str, str]
    routes: Mapping[str, RouteDefinition]
    authorizers: Mapping[str, Mapping[str, Any]]


def parse_definition(text: str) -> Definition:
    """BadRequest, NotYetImplemented."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The definition is not JSON: {error}") from None
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3."):
        raise BadRequest("The definition is not one of OpenAPI 3")
    try:
        return Definition(
            settings=_read_settings(document),
            tags=_read_tags(document),
            routes=dict(_read_routes(document)),
            authorizers=dict(_read_authorizers(document)),
        )
    except (AttributeError, KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise BadRequest(f"The definition is malformed: {error!r}") from None


def define(api: HttpApi, definition: Definition) -> HttpApi:
    """The API with the routes and integrations of a definition in place of its own. BadRequest,
    Conflict, NotYetImplemented."""
    api = replace(
        api,
        settings={**api.settings, **definition.settings},
        parts={},
    )
    guards = {}
    for name, stated in definition.authorizers.items():
        guards[name] = _make(api, AUTHORIZER, stated)
        api = with_part(api, AUTHORIZER, guards[name])
    for key, route in definition.routes.items():
        settings: dict[str, Any] = {"RouteKey": key}
        if route.integration is not None:
            made = _make(api, INTEGRATION, route.integration)
            api = with_part(api, INTEGRATION, made)
            settings["Target"] = f"integrations/{made.part_id}"
        if route.guard == _IAM:
            settings["AuthorizationType"] = _IAM
        elif route.guard is not None:
            if route.guard not in guards:
                raise BadRequest(f"The definition has no authorizer {route.guard}")
            is_jwt = guards[route.guard].settings["AuthorizerType"] == "JWT"
            settings["AuthorizationType"] = "JWT" if is_jwt else "CUSTOM"
            settings["AuthorizationScopes"] = list(route.scopes)
            settings["AuthorizerId"] = guards[route.guard].part_id
        api = with_part(api, ROUTE, _make(api, ROUTE, settings))
    return api


def _make(api: HttpApi, kind: str, settings: Mapping[str, Any]) -> ApiPart:
    check_part(api, kind, settings, None)
    return ApiPart(part_id=new_id(PART_ID_LENGTH, api.of_kind(kind)), settings=settings)


def _read_settings(document: Mapping[str, Any]) -> dict[str, Any]:
    info = document["info"]
    settings = {"Name": str(info["title"])}
    if info.get("version"):
        settings["Version"] = str(info["version"])
    if info.get("description"):
        settings["Description"] = str(info["description"])
    cors = document.get(_CORS)
    return settings if cors is None else {**settings, "CorsConfiguration": _rename(cors)}


def _rename(cors: Mapping[str, Any]) -> dict[str, Any]:
    """A list of one may be written without its brackets."""
    renamed: dict[str, Any] = {}
    for name, value in cors.items():
        member = _CORS_MEMBERS[name]
        is_list = member not in ("AllowCredentials", "MaxAge")
        renamed[member] = [value] if is_list and isinstance(value, str) else value
    return _checked(renamed, CorsShape)


def _read_tags(document: Mapping[str, Any]) -> dict[str, str]:
    return {
        tag["name"]: str(tag[_TAG_VALUE]) for tag in document.get("tags", []) if _TAG_VALUE in tag
    }


def _read_authorizers(
    document: Mapping[str, Any],
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, scheme in (document.get("components") or {}).get("securitySchemes", {}).items():
        stated = scheme.get(_AUTHORIZER)
        if stated is not None:
            sources = stated.get("identitySource") or []
            jwt = stated.get("jwtConfiguration")
            settings = {
                member: stated[given]
                for given, member in _AUTHORIZER_MEMBERS.items()
                if given in stated
            }
            if jwt is not None:
                settings["JwtConfiguration"] = {
                    "Issuer": jwt["issuer"],
                    "Audience": list(jwt["audience"]),
                }
            yield (
                name,
                _checked(
                    {
                        **settings,
                        "Name": name,
                        "AuthorizerType": str(stated["type"]).upper(),
                        "IdentitySource": (
                            [one.strip() for one in sources.split(",")]
                            if isinstance(sources, str)
                            else sources
                        ),
                    },
                    AuthorizerShape,
                ),
            )


def _find_guard(
    document: Mapping[str, Any], operation: Mapping[str, Any]
) -> tuple[str | None, tuple[str, ...]]:
    """The first security scheme that is required, as API Gateway takes one only, and scopes."""
    required = operation.get("security", document.get("security")) or []
    named = [pair for requirement in required for pair in requirement.items()]
    if not named or named[0][0] == "NONE":
        return None, ()
    name, scopes = named[0]
    schemes = (document.get("components") or {}).get("securitySchemes", {})
    if schemes.get(name, {}).get(_AUTH_TYPE) == "awsSigv4":
        return _IAM, ()
    return str(name), tuple(map(str, scopes))


def _read_routes(
    document: Mapping[str, Any],
) -> Iterator[tuple[str, RouteDefinition]]:
    for path, item in document.get("paths", {}).items():
        for method, operation in item.items():
            if method == _ANY:
                name = "ANY"
            elif method in _METHODS:
                name = method.upper()
            else:
                continue  # parameters, descriptions …
            # SAM writes the path without its slash.
            is_default = path.removeprefix("/") == DEFAULT_ROUTE and name == "ANY"
            key = DEFAULT_ROUTE if is_default else f"{name} {path}"
            integration = _read_integration(document, operation.get(_INTEGRATION))
            yield key, RouteDefinition(integration, *_find_guard(document, operation))


def _read_integration(
    document: Mapping[str, Any], stated: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    if stated is None:
        return None
    reference = stated.get("$ref")
    if reference is not None:
        name = reference.rpartition("/")[2]
        stated = document["components"][_INTEGRATIONS][name]
        assert stated is not None
    settings = {
        member: stated[name] for name, member in _INTEGRATION_MEMBERS.items() if name in stated
    }
    if "TimeoutInMillis" in settings:
        settings["TimeoutInMillis"] = int(settings["TimeoutInMillis"])
    settings["IntegrationType"] = str(stated["type"]).upper()
    return _checked(settings, IntegrationShape)


def _checked(settings: dict[str, Any], shape: type) -> dict[str, Any]:
    """The same, with numbers and truth values that are written as text. ValidationError."""
    checked: dict[str, Any] = msgspec.convert(settings, shape, strict=False)
    return checked
