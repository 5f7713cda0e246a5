"""OpenAPI 2.0 and 3.0 documents with API Gateway's extensions, as the definition of a REST API.

What it is: pure, from a document to an API. What it is not: a validator of OpenAPI: only what says
how requests are answered is read. Called by ``frontend.apigateway_apis`` for ImportRestApi and
PutRestApi, with which SAM and Terraform make APIs from a ``body``.

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/
api-gateway-swagger-extensions.html and api-gateway-import-api.html (basepath, modes).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import orjson

from firelet.control.api_errors import BadRequest
from firelet.control.rest_api_openapi import (
    EXTENSION,
    read_authorizer,
    read_gateway_response,
    read_integration,
    read_operations,
    read_parameter,
    read_responses,
    to_list,
    to_mapping,
)
from firelet.control.rest_api_records import Definition, RestApi, RestResource, Settings
from firelet.control.rest_api_tree import add_resource
from firelet.control.rest_apis import make_definition, new_id

_NOT_DEFINED = ("name", "endpointConfiguration")
_SPLITS_PATH, _PREPENDS_PATH = "split", "prepend"


def import_definition(
    api: RestApi, body: bytes, options: Mapping[str, str], *, is_merge: bool
) -> RestApi:
    """The API with what ``body`` defines: added to what it has (``is_merge``), or in place of it.
    BadRequest says what cannot be read."""
    document = _parse(body)
    before = api.definition
    settings = _read_settings(document, before.settings, is_merge=is_merge)
    base = replace(before if is_merge else make_definition({}), settings=settings)
    if not is_merge:
        # The root keeps its id: clients have seen it.
        root = replace(base.root, id=before.root.id)
        base = replace(base, resources={root.id: root})
    reader = _Reader(document)
    definition = reader.read(base, _base_path(document, options))
    tags = {**api.tags, **reader.tags()}
    return replace(api, definition=definition, tags=tags)


class _Reader:
    """One document. ``authorizers`` are ids by the names of their security schemes."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        components = to_mapping(document.get("components", {}), "components")
        self._schemes = to_mapping(
            document.get("securityDefinitions") or components.get("securitySchemes") or {},
            "securityDefinitions",
        )
        self._schemas = to_mapping(
            document.get("definitions") or components.get("schemas") or {}, "definitions"
        )
        self._authorizers: dict[str, str] = {}

    def read(self, base: Definition, prefix: str) -> Definition:
        authorizers = dict(base.authorizers)
        for authorizer in self._read_authorizers(base.authorizers):
            authorizers[authorizer["id"]] = authorizer
        validators, by_name = self._read_validators(base.validators)
        definition = replace(
            base,
            authorizers=authorizers,
            validators=validators,
            models={**base.models, **self._read_models()},
            gateway_responses={**base.gateway_responses, **self._read_gateway_responses()},
        )
        for path, item in to_mapping(self._document.get("paths", {}), "paths").items():
            if path.startswith("x-"):
                continue
            definition, resource = _ensure_path(definition, prefix + path)
            methods = dict(resource.methods)
            for verb, operation, shared in read_operations(path, item):
                methods[verb] = self._read_method(verb, operation, shared, by_name, resource.id)
            resource = replace(resource, methods=methods)
            definition = replace(
                definition, resources={**definition.resources, resource.id: resource}
            )
        return definition

    def tags(self) -> dict[str, str]:
        """The extension for tags is a map; OpenAPI's own tags are something else."""
        given = self._document.get(EXTENSION + "tags", {})
        return {str(k): str(v) for k, v in given.items()} if isinstance(given, Mapping) else {}

    def _read_method(
        self,
        verb: str,
        operation: Mapping[str, Any],
        shared: list[Any],
        validators: Mapping[str, str],
        resource_id: str,
    ) -> Settings:
        method: dict[str, Any] = {
            "httpMethod": verb,
            "apiKeyRequired": False,
            "authorizationType": "NONE",
            **self._read_security(operation),
        }
        if isinstance(operation.get("operationId"), str):
            method["operationName"] = operation["operationId"]
        parameters = [*shared, *to_list(operation.get("parameters", []), "parameters")]
        required = dict(filter(None, (read_parameter(item) for item in parameters)))
        if required:
            method["requestParameters"] = required
        name = operation.get(
            EXTENSION + "request-validator", self._document.get(EXTENSION + "request-validator")
        )
        if name is not None:
            if not isinstance(name, str) or name not in validators:
                raise BadRequest(f"Invalid request validator: {str(name)[:100]}")
            method["requestValidatorId"] = validators[name]
        responses = to_mapping(operation.get("responses", {}), "responses")
        method["methodResponses"] = dict(read_responses(responses))
        integration = operation.get(EXTENSION + "integration")
        if integration is not None:
            given = to_mapping(integration, EXTENSION + "integration")
            method["methodIntegration"] = read_integration(given, resource_id)
        return method

    def _read_security(self, operation: Mapping[str, Any]) -> dict[str, Any]:
        """Of the method, else of the document. An empty list takes it away."""
        found: dict[str, Any] = {}
        security = operation.get("security", self._document.get("security", []))
        for requirement in to_list(security, "security"):
            for name, scopes in to_mapping(requirement, "security").items():
                scheme = to_mapping(self._schemes.get(name, {}), name)
                if name in self._authorizers:
                    kind = scheme.get(EXTENSION + "authtype")
                    is_cognito = kind == "cognito_user_pools"
                    found["authorizationType"] = "COGNITO_USER_POOLS" if is_cognito else "CUSTOM"
                    found["authorizerId"] = self._authorizers[name]
                    if scopes:
                        listed = to_list(scopes, "security")
                        found["authorizationScopes"] = [str(item) for item in listed]
                elif scheme.get(EXTENSION + "authtype") == "awsSigv4":
                    found["authorizationType"] = "AWS_IAM"
                elif scheme.get("type") == "apiKey":
                    found["apiKeyRequired"] = True
        return found

    def _read_authorizers(self, before: Mapping[str, Settings]) -> Iterator[dict[str, Any]]:
        ids = {item["name"]: identity for identity, item in before.items()}
        for name, given in self._schemes.items():
            scheme = to_mapping(given, name)
            extension = scheme.get(EXTENSION + "authorizer")
            if extension is None:
                continue
            authorizer = read_authorizer(name, scheme, to_mapping(extension, name))
            authorizer["id"] = self._authorizers[name] = ids.get(name) or new_id()
            yield authorizer

    def _read_validators(
        self, before: Mapping[str, Settings]
    ) -> tuple[dict[str, Settings], dict[str, str]]:
        """Validators by id, and their ids by name."""
        by_name = {item["name"]: identity for identity, item in before.items()}
        validators = dict(before)
        extension = EXTENSION + "request-validators"
        for name, given in to_mapping(self._document.get(extension, {}), extension).items():
            flags = to_mapping(given, name)
            identity = by_name.setdefault(name, new_id())
            validators[identity] = {
                "id": identity,
                "name": name,
                "validateRequestBody": bool(flags.get("validateRequestBody", False)),
                "validateRequestParameters": bool(flags.get("validateRequestParameters", False)),
            }
        return validators, by_name

    def _read_models(self) -> dict[str, Settings]:
        return {
            name: {
                "id": new_id(),
                "name": name,
                "contentType": "application/json",
                "schema": json.dumps(schema),
            }
            for name, schema in self._schemas.items()
        }

    def _read_gateway_responses(self) -> dict[str, Settings]:
        extension = EXTENSION + "gateway-responses"
        return {
            kind: read_gateway_response(kind, to_mapping(given, kind))
            for kind, given in to_mapping(self._document.get(extension, {}), extension).items()
        }


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(
            f"Unable to parse API definition because of a malformed integration at path /: {error}."
            " firelet reads JSON."
        ) from None
    if not isinstance(document, dict) or not ("swagger" in document or "openapi" in document):
        raise BadRequest("Invalid OpenAPI input: neither swagger nor openapi names a version")
    return document


def _read_settings(
    document: Mapping[str, Any], before: Settings, *, is_merge: bool
) -> dict[str, Any]:
    info = to_mapping(document.get("info", {}), "info")
    # Where an API is reached is no part of what a document defines.
    kept = {name: before[name] for name in _NOT_DEFINED if name in before}
    settings = dict(before) if is_merge else kept
    title = info.get("title")
    if title and (not is_merge or not settings["name"]):
        settings["name"] = str(title)
    if not settings["name"]:
        raise BadRequest("Invalid OpenAPI input: info.title is missing")
    for member in ("description", "version"):
        if isinstance(info.get(member), str):
            settings[member] = info[member]
    types = document.get(EXTENSION + "binary-media-types")
    if types is not None:
        settings["binaryMediaTypes"] = [str(item) for item in to_list(types, "binary-media-types")]
    source = document.get(EXTENSION + "api-key-source")
    if source is not None:
        settings["apiKeySource"] = str(source).upper()
    size = document.get(EXTENSION + "minimum-compression-size")
    if isinstance(size, int) and not isinstance(size, bool):
        settings["minimumCompressionSize"] = size
    policy = document.get(EXTENSION + "policy")
    if policy is not None:
        settings["policy"] = json.dumps(policy)
    endpoints = document.get(EXTENSION + "endpoint-configuration")
    if isinstance(endpoints, Mapping) and "disableExecuteApiEndpoint" in endpoints:
        settings["disableExecuteApiEndpoint"] = bool(endpoints["disableExecuteApiEndpoint"])
    return settings


def _base_path(document: Mapping[str, Any], options: Mapping[str, str]) -> str:
    """What the option ``basepath`` puts before each path: nothing (ignore), all of the document's
    base path (prepend), or all but its first part, which is the stage's name (split)."""
    wanted = options.get("basepath", "ignore").lower()
    if wanted not in (_PREPENDS_PATH, _SPLITS_PATH):
        return ""
    path = document.get("basePath")
    servers = document.get("servers")
    if path is None and isinstance(servers, list) and servers:
        server = to_mapping(servers[0], "servers")
        variables = to_mapping(server.get("variables", {}), "variables")
        default = to_mapping(variables.get("basePath", {}), "basePath").get("default")
        path = default if default is not None else _path_of(str(server.get("url", "")))
    parts = [part for part in str(path or "").split("/") if part]
    if wanted == _SPLITS_PATH:
        parts = parts[1:]
    return "".join(f"/{part}" for part in parts)


def _path_of(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError as error:
        raise BadRequest(f"Invalid URL of a server: {error}") from None


def _ensure_path(definition: Definition, path: str) -> tuple[Definition, RestResource]:
    """The resource of a path; those that are missing on the way are made."""
    at = definition.root
    for part in filter(None, path.split("/")):
        child = next(
            (
                item
                for item in definition.resources.values()
                if item.parent_id == at.id and item.path_part == part
            ),
            None,
        )
        if child is None:
            definition, child = add_resource(definition, at, part)
        at = child
    return definition, at
