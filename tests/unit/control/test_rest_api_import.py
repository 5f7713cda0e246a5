"""OpenAPI documents, well-formed and not, as definitions of REST APIs."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from firelet.control.rest_api_import import import_definition
from firelet.control.rest_api_records import RestApi
from firelet.control.rest_apis import check_deployable, make_definition
from firelet.gateway.rest_api_routes import Routes
from firelet.model.errors import CallerError, NotYetImplemented
from firelet.wire.aws.model import load_services
from firelet.wire.aws.serialize import find_unknown, format_json

[SERVICE] = load_services(["apigateway"])
URI = (
    "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/"
    "arn:aws:lambda:us-east-1:000000000000:function:f/invocations"
)
DOCUMENT: dict[str, Any] = {
    "swagger": "2.0",
    "info": {"title": "t", "version": "1", "description": "d"},
    "basePath": "/a/b",
    "definitions": {"Pet": {"type": "object"}},
    "securityDefinitions": {
        "key": {"type": "apiKey", "name": "x-api-key", "in": "header"},
        "auth": {
            "type": "apiKey",
            "name": "X-Auth",
            "in": "header",
            "x-amazon-apigateway-authtype": "custom",
            "x-amazon-apigateway-authorizer": {
                "type": "request",
                "authorizerUri": URI,
                "identitySource": "method.request.header.X-Auth",
                "authorizerResultTtlInSeconds": 60,
            },
        },
    },
    "x-amazon-apigateway-request-validators": {"all": {"validateRequestParameters": True}},
    "x-amazon-apigateway-binary-media-types": ["image/png"],
    "x-amazon-apigateway-minimum-compression-size": 10,
    "x-amazon-apigateway-api-key-source": "header",
    "x-amazon-apigateway-policy": {"Statement": []},
    "x-amazon-apigateway-endpoint-configuration": {"disableExecuteApiEndpoint": False},
    "x-amazon-apigateway-tags": {"team": "red"},
    "x-amazon-apigateway-gateway-responses": {
        "DEFAULT_4XX": {
            "statusCode": 418,
            "responseParameters": {"gatewayresponse.header.A": "'b'"},
            "responseTemplates": {"application/json": "{}"},
        }
    },
    "paths": {
        "/pets/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True}],
            "get": {
                "operationId": "pet",
                "parameters": [{"name": "q", "in": "query", "required": True}],
                "security": [{"auth": ["scope"], "key": []}],
                "x-amazon-apigateway-request-validator": "all",
                "responses": {"200": {"headers": {"A": {}}}, "default": {}},
                "x-amazon-apigateway-integration": {
                    "type": "aws",
                    "httpMethod": "post",
                    "uri": URI,
                    "credentials": "role",
                    "timeoutInMillis": 1000,
                    "passthroughBehavior": "never",
                    "cacheKeyParameters": ["a"],
                    "requestParameters": {"integration.request.header.A": "'b'"},
                    "requestTemplates": {"application/json": "$input.body"},
                    "responses": {
                        "default": {"statusCode": 200},
                        "4\\d\\d": {
                            "statusCode": "400",
                            "contentHandling": "CONVERT_TO_TEXT",
                            "responseParameters": {"method.response.header.A": "'b'"},
                            "responseTemplates": {"application/json": "{}"},
                        },
                    },
                },
            },
        }
    },
}

values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 999) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something could stand in place of what does."""
    found = [path]
    if isinstance(value, dict):
        found += [place for key, item in value.items() for place in places(item, (*path, key))]
    if isinstance(value, list):
        found += [p for at, item in enumerate(value) for p in places(item, (*path, at))]
    return found


def with_value(path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    document = copy.deepcopy(DOCUMENT)
    at: Any = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return document


def make_api() -> RestApi:
    return RestApi(
        account="0", region="r", id="i", created=0.0, definition=make_definition({"name": ""})
    )


def import_document(document: Any) -> RestApi:
    body = json.dumps(document).encode()
    return import_definition(make_api(), body, {"basepath": "prepend"}, is_merge=False)


def test_all_of_a_document_is_read() -> None:
    api = import_document(DOCUMENT)

    definition = api.definition
    (resource,) = [item for item in definition.resources.values() if item.methods]
    (authorizer,) = definition.authorizers
    (validator,) = definition.validators
    method = dict(resource.methods["GET"])
    integration = method.pop("methodIntegration")
    assert resource.path == "/a/b/pets/{id}"
    assert method == {
        "httpMethod": "GET",
        "apiKeyRequired": True,
        "authorizationType": "CUSTOM",
        "authorizerId": authorizer,
        "authorizationScopes": ["scope"],
        "operationName": "pet",
        "requestParameters": {
            "method.request.path.id": True,
            "method.request.querystring.q": True,
        },
        "requestValidatorId": validator,
        "methodResponses": {
            "200": {
                "statusCode": "200",
                "responseParameters": {"method.response.header.A": False},
            }
        },
    }
    assert integration["integrationResponses"].keys() == {"200", "400"}
    assert integration["integrationResponses"]["400"]["selectionPattern"] == "4\\d\\d"
    assert integration["timeoutInMillis"] == 1000
    assert definition.gateway_responses["DEFAULT_4XX"]["statusCode"] == "418"
    assert "Pet" in definition.models
    assert definition.settings == {
        "name": "t",
        "version": "1",
        "description": "d",
        "binaryMediaTypes": ["image/png"],
        "minimumCompressionSize": 10,
        "apiKeySource": "HEADER",
        "policy": '{"Statement": []}',
        "disableExecuteApiEndpoint": False,
    }
    assert api.tags == {"team": "red"}


@given(st.sampled_from(places(DOCUMENT)), values)
def test_a_document_is_refused_or_can_be_kept_shown_and_served(
    path: tuple[Any, ...], value: Any
) -> None:
    try:
        api = import_document(with_value(path, value))
        check_deployable(api.definition)
    except (CallerError, NotYetImplemented):
        return
    kept = msgspec.json.decode(msgspec.json.encode(api), type=RestApi)
    Routes(kept.definition)
    for name, parts in (
        ("Method", [m for r in kept.definition.resources.values() for m in r.methods.values()]),
        ("Authorizer", kept.definition.authorizers.values()),
        ("GatewayResponse", kept.definition.gateway_responses.values()),
        ("RestApi", [kept.definition.settings]),
    ):
        shape = SERVICE.shape(name)
        for part in parts:
            assert list(find_unknown(shape, part)) == []
            format_json(shape, part, [])
