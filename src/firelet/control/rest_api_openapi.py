"""The parts of an OpenAPI document as those of a REST API: parameters, responses, integrations.

Pure. What it is not: the walk through a document (``rest_api_import``).

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/
api-gateway-swagger-extensions.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from firelet.control.api_errors import BadRequest
from firelet.control.rest_api_checks import (
    TTL_DEFAULT_S,
    check_authorizer,
    check_gateway_response,
)
from firelet.control.rest_api_integrations import complete_integration, complete_response

EXTENSION = "x-amazon-apigateway-"
_VERBS = ("get", "put", "post", "delete", "options", "head", "patch")
_ANY = EXTENSION + "any-method"
_PLACES = {"query": "querystring", "header": "header", "path": "path"}
_INTEGRATION_TEXTS = (
    "uri",
    "credentials",
    "cacheNamespace",
    "connectionId",
    "connectionType",
    "contentHandling",
)
_AUTHORIZER_TEXTS = (
    "authorizerUri",
    "authorizerCredentials",
    "identitySource",
    "identityValidationExpression",
)


def read_operations(path: str, item: object) -> Iterator[tuple[str, Mapping[str, Any], list[Any]]]:
    """Methods of a path: the HTTP method, what the document says of it, shared parameters."""
    members = to_mapping(item, path)
    shared = to_list(members.get("parameters", []), "parameters")
    for name, operation in members.items():
        if name.lower() in _VERBS:
            yield name.upper(), to_mapping(operation, f"{path} {name}"), shared
        elif name == _ANY:
            yield "ANY", to_mapping(operation, f"{path} {name}"), shared


def read_parameter(given: object) -> tuple[str, bool] | None:
    parameter = to_mapping(given, "parameters")
    place = _PLACES.get(str(parameter.get("in")))
    if place is None or "name" not in parameter:
        return None
    return f"method.request.{place}.{parameter['name']}", bool(parameter.get("required", False))


def read_responses(responses: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for status, given in responses.items():
        if not status.isdigit():
            continue  # `default` is a word of OpenAPI that REST APIs have no place for
        response: dict[str, Any] = {"statusCode": status}
        headers = to_mapping(to_mapping(given, status).get("headers", {}), "headers")
        if headers:
            response["responseParameters"] = {
                f"method.response.header.{name}": False for name in headers
            }
        yield status, response


def read_integration(given: Mapping[str, Any], resource_id: str) -> dict[str, Any]:
    """With its defaults and responses. BadRequest, NotYetImplemented."""
    integration: dict[str, Any] = _pick_texts(given, _INTEGRATION_TEXTS)
    integration["type"] = str(given.get("type", "")).upper()
    for name in ("httpMethod", "passthroughBehavior"):
        if name in given:
            integration[name] = str(given[name]).upper()
    for name in ("requestParameters", "requestTemplates"):
        if name in given:
            integration[name] = _texts(given[name], name)
    if "cacheKeyParameters" in given:
        listed = to_list(given["cacheKeyParameters"], "cacheKeyParameters")
        integration["cacheKeyParameters"] = [str(item) for item in listed]
    if "timeoutInMillis" in given:
        integration["timeoutInMillis"] = given["timeoutInMillis"]
    responses = to_mapping(given.get("responses", {}), "responses")
    replies = [_read_reply(pattern, reply) for pattern, reply in responses.items()]
    return {
        **complete_integration(integration, resource_id),
        "integrationResponses": {reply["statusCode"]: reply for reply in replies},
    }


def _read_reply(pattern: str, given: object) -> dict[str, Any]:
    reply = to_mapping(given, "responses")
    read: dict[str, Any] = {"statusCode": str(reply.get("statusCode", "200"))}
    for name in ("responseParameters", "responseTemplates"):
        if name in reply:
            read[name] = _texts(reply[name], name)
    if "contentHandling" in reply:
        read["contentHandling"] = str(reply["contentHandling"])
    if pattern != "default":
        read["selectionPattern"] = pattern
    return complete_response(read)


def read_authorizer(
    name: str, scheme: Mapping[str, Any], extension: Mapping[str, Any]
) -> dict[str, Any]:
    """BadRequest, NotYetImplemented."""
    kind = str(extension.get("type", "token")).upper()
    authorizer: dict[str, Any] = {
        "name": name,
        "type": kind,
        "authType": str(scheme.get(EXTENSION + "authtype", "custom")),
        "authorizerResultTtlInSeconds": extension.get(
            "authorizerResultTtlInSeconds", TTL_DEFAULT_S
        ),
        **_pick_texts(extension, _AUTHORIZER_TEXTS),
    }
    if "identitySource" not in authorizer and kind != "REQUEST":
        # The scheme says in which header the token is.
        header = scheme.get("name", "Authorization")
        authorizer["identitySource"] = f"method.request.header.{header}"
    check_authorizer(authorizer)
    return authorizer


def read_gateway_response(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "responseType": kind,
        "responseParameters": _texts(given.get("responseParameters", {}), kind),
        "responseTemplates": _texts(given.get("responseTemplates", {}), kind),
        "defaultResponse": False,
    }
    if "statusCode" in given:
        response["statusCode"] = str(given["statusCode"])
    check_gateway_response(response)
    return response


def _pick_texts(given: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    return {name: str(given[name]) for name in names if name in given}


def _texts(given: object, where: str) -> dict[str, str]:
    return {name: str(value) for name, value in to_mapping(given, where).items()}


def to_mapping(given: object, where: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise BadRequest(f"Invalid OpenAPI input: {where[:100]} is no object")
    return given


def to_list(given: object, where: str) -> list[Any]:
    if not isinstance(given, list):
        raise BadRequest(f"Invalid OpenAPI input: {where[:100]} is no list")
    return given
