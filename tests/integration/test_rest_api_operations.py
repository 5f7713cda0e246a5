"""The API Gateway API with boto3: parts of an API, patches, lists, imports, tags, restarts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rest_apis import ECHO, Api, lambda_uri, make_api, permit, proxy
from running_platform import REGION, Deployer, Platform

pytest_plugins = ("platform_fixtures",)


@pytest.fixture
def api(platform: Platform) -> Api:
    return make_api(platform, "own", description="first", tags={"team": "red"})


def refused(call: Any, **params: Any) -> tuple[str, str]:
    """Code and sentence of the error."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def patch(op: str, path: str, value: str | None = None) -> dict[str, str]:
    return {"op": op, "path": path, **({} if value is None else {"value": value})}


def test_an_api_is_made_patched_and_deleted(api: Api) -> None:
    made = api.client.get_rest_api(restApiId=api.id)
    assert made["name"] == "own"
    assert made["apiKeySource"] == "HEADER"
    assert made["endpointConfiguration"] == {"types": ["EDGE"], "ipAddressType": "ipv4"}
    assert made["tags"] == {"team": "red"}

    policy = '{"Version": "2012-10-17", "Statement": []}'
    after = api.client.update_rest_api(
        restApiId=api.id,
        patchOperations=[
            patch("replace", "/name", "new"),
            patch("add", "/binaryMediaTypes/image~1png"),
            patch("add", "/binaryMediaTypes/*~1*"),
            patch("remove", "/binaryMediaTypes/image~1png"),
            patch("replace", "/endpointConfiguration/types/0", "REGIONAL"),
            patch("replace", "/minimumCompressionSize", "100"),
            patch("replace", "/disableExecuteApiEndpoint", "true"),
            patch("replace", "/policy", policy),
            patch("remove", "/description"),
        ],
    )
    assert after["name"] == "new"
    assert after["binaryMediaTypes"] == ["*/*"]
    assert after["endpointConfiguration"]["types"] == ["REGIONAL"]
    assert after["minimumCompressionSize"] == 100
    assert after["disableExecuteApiEndpoint"] is True
    assert json.loads(f'"{after["policy"]}"') == policy
    assert "description" not in after

    api.client.delete_rest_api(restApiId=api.id)
    assert refused(api.client.get_rest_api, restApiId=api.id) == (
        "NotFoundException",
        f"Invalid API identifier specified 000000000000:{api.id}",
    )


def test_a_tag_chooses_the_id_of_an_api(platform: Platform) -> None:
    client = platform.client("apigateway")

    def make(api_id: str) -> Any:
        return client.create_rest_api(name="own", tags={"_custom_id_": api_id})

    assert make("my-api")["id"] == "my-api"
    assert "taken" in refused(make, api_id="my-api")[1]
    for wrong in ("", "a/b", "A", "a.b", "-"):
        assert refused(make, api_id=wrong)[0] == "BadRequestException"


def test_an_api_of_others_is_not_there(platform: Platform, api: Api) -> None:
    for client in (
        platform.client("apigateway", account="111122223333"),
        platform.client("apigateway", region="eu-west-1"),
    ):
        assert refused(client.get_rest_api, restApiId=api.id)[0] == "NotFoundException"
        assert api.id not in [item["id"] for item in client.get_rest_apis()["items"]]


@pytest.mark.parametrize(
    ("operation", "sentence"),
    [
        (patch("replace", "/nothing", "1"), "Invalid patch path '/nothing'"),
        (patch("replace", "name", "1"), "Invalid patch path 'name'"),
        (patch("copy", "/name", "1"), "is not supported"),
        (patch("replace", "/minimumCompressionSize", "many"), "Invalid value specified"),
        (patch("replace", "/disableExecuteApiEndpoint", "maybe"), "Invalid value specified"),
        (patch("replace", "/name", ""), "Name cannot be blank"),
        (patch("replace", "/name"), "needs a value"),
        (patch("replace", "/policy", "{"), "Invalid policy document"),
        (patch("replace", "/endpointConfiguration/types/7", "x"), "there is no such item"),
    ],
)
def test_a_wrong_patch_changes_nothing(api: Api, operation: dict[str, str], sentence: str) -> None:
    first = patch("replace", "/description", "changed")
    code, message = refused(
        api.client.update_rest_api, restApiId=api.id, patchOperations=[first, operation]
    )

    assert code == "BadRequestException"
    assert sentence in message
    assert api.client.get_rest_api(restApiId=api.id)["description"] == "first"


def test_resources_are_a_tree(api: Api) -> None:
    pets = api.resource("/pets")
    pet = api.resource("/pets/{id}")
    toys = api.resource("/pets/{id}/toys")
    client = api.client

    def add(parent: str, part: str) -> tuple[str, str]:
        return refused(client.create_resource, restApiId=api.id, parentId=parent, pathPart=part)

    assert add(api.root, "pets")[0] == "ConflictException"
    assert "sibling ({id})" in add(pets, "{other}")[1]
    assert "path part only allow" in add(pets, "a/b")[1]
    greedy = api.resource("/all/{proxy+}")
    assert "greedy" in add(greedy, "below")[1]
    assert add("nothing", "x")[0] == "NotFoundException"

    moved = client.update_resource(
        restApiId=api.id, resourceId=pets, patchOperations=[patch("replace", "/pathPart", "cats")]
    )
    assert moved["path"] == "/cats"
    assert client.get_resource(restApiId=api.id, resourceId=toys)["path"] == "/cats/{id}/toys"
    assert (
        "below"
        in refused(
            client.update_resource,
            restApiId=api.id,
            resourceId=pets,
            patchOperations=[patch("replace", "/parentId", toys)],
        )[1]
    )

    client.delete_resource(restApiId=api.id, resourceId=pets)
    left = [item["path"] for item in client.get_resources(restApiId=api.id)["items"]]
    assert sorted(left) == ["/", "/all", "/all/{proxy+}"]
    assert refused(client.get_resource, restApiId=api.id, resourceId=pet)[0] == "NotFoundException"
    assert "root" in refused(client.delete_resource, restApiId=api.id, resourceId=api.root)[1]


def test_methods_and_integrations_have_responses(api: Api) -> None:
    client = api.client
    place = {"restApiId": api.id, "resourceId": api.root, "httpMethod": "GET"}
    assert refused(client.get_method, **place)[1] == "Invalid Method identifier specified"
    client.put_method(**place, authorizationType="NONE")
    assert refused(client.put_method, **place, authorizationType="NONE") == (
        "ConflictException",
        "Method already exists for this resource",
    )
    assert refused(client.get_integration, **place)[1] == "Invalid Integration identifier specified"
    made = client.put_integration(**place, **proxy("f"))
    assert made["passthroughBehavior"] == "WHEN_NO_MATCH"
    assert made["timeoutInMillis"] == 29_000
    assert made["cacheNamespace"] == api.root
    assert made["cacheKeyParameters"] == []

    header = "method.response.header.X-A"
    client.put_method_response(**place, statusCode="200", responseParameters={header: True})
    assert (
        "Invalid mapping expression"
        in refused(
            client.put_integration_response,
            **place,
            statusCode="200",
            responseParameters={"method.response.header.X-B": "'1'"},
        )[1]
    )
    client.put_integration_response(**place, statusCode="200", responseParameters={header: "'1'"})
    client.update_integration_response(
        **place,
        statusCode="200",
        patchOperations=[patch("replace", f"/responseParameters/{header}", "'2'")],
    )
    client.update_integration(
        **place,
        patchOperations=[
            patch("replace", "/timeoutInMillis", "100"),
            patch("add", "/requestTemplates/application~1json", "{}"),
        ],
    )
    client.update_method(**place, patchOperations=[patch("replace", "/apiKeyRequired", "true")])

    method = client.get_method(**place)
    assert method["apiKeyRequired"] is True
    integration = method["methodIntegration"]
    assert integration["timeoutInMillis"] == 100
    assert integration["requestTemplates"] == {"application/json": "{}"}
    assert integration["integrationResponses"]["200"]["responseParameters"] == {header: "'2'"}
    embedded = client.get_resources(restApiId=api.id, embed=["methods"])["items"][0]
    assert embedded["resourceMethods"]["GET"]["methodIntegration"]["type"] == "AWS_PROXY"

    client.delete_integration_response(**place, statusCode="200")
    assert refused(client.get_integration_response, **place, statusCode="200") == (
        "NotFoundException",
        "Invalid Response status code specified",
    )
    client.delete_integration(**place)
    assert "No integration defined" in refused(client.create_deployment, restApiId=api.id)[1]
    client.delete_method(**place)
    assert "doesn't contain any methods" in refused(client.create_deployment, restApiId=api.id)[1]


@pytest.mark.parametrize(
    ("integration", "code"),
    [
        ({"type": "HTTP_PROXY", "uri": "http://example.com"}, "NotImplementedException"),
        ({"type": "AWS_PROXY", "uri": lambda_uri("f")}, "BadRequestException"),
        ({**proxy("f"), "uri": "nonsense"}, "BadRequestException"),
        (
            {**proxy("f"), "uri": f"arn:aws:apigateway:{REGION}:sqs:path/queue"},
            "NotImplementedException",
        ),
        ({**proxy("f"), "timeoutInMillis": 30_000}, "BadRequestException"),
        ({**proxy("f"), "passthroughBehavior": "MAYBE"}, "BadRequestException"),
        (
            {"type": "MOCK", "requestTemplates": {"application/json": "#set($a = 1)"}},
            "NotImplementedException",
        ),
    ],
)
def test_an_integration_that_cannot_be_served_is_refused(
    api: Api, integration: dict[str, Any], code: str
) -> None:
    place = {"restApiId": api.id, "resourceId": api.root, "httpMethod": "GET"}
    api.client.put_method(**place, authorizationType="NONE")

    assert refused(api.client.put_integration, **place, **integration)[0] == code


def test_a_deployment_in_use_is_kept(api: Api) -> None:
    api.method("/", "GET", {"type": "MOCK"})
    first = api.deploy("prod")
    second = api.client.create_deployment(restApiId=api.id, description="two")["id"]
    api.client.create_stage(restApiId=api.id, stageName="beta", deploymentId=second)

    def delete(deployment: str) -> tuple[str, str]:
        return refused(api.client.delete_deployment, restApiId=api.id, deploymentId=deployment)

    assert "Active stages" in delete(first)[1]
    assert refused(
        api.client.create_stage, restApiId=api.id, stageName="beta", deploymentId=second
    ) == ("ConflictException", "Stage already exists")
    shown = api.client.get_deployment(restApiId=api.id, deploymentId=first, embed=["apisummary"])
    assert shown["apiSummary"] == {
        "/": {"GET": {"authorizationType": "NONE", "apiKeyRequired": False}}
    }
    api.client.delete_stage(restApiId=api.id, stageName="beta")
    api.client.delete_deployment(restApiId=api.id, deploymentId=second)
    assert delete(second)[0] == "NotFoundException"
    assert [s["stageName"] for s in api.client.get_stages(restApiId=api.id)["item"]] == ["prod"]


def test_settings_of_methods_are_patched_by_path(api: Api) -> None:
    api.method("/pets/{id}", "GET", {"type": "MOCK"})
    api.deploy()

    def update(*operations: dict[str, str]) -> Any:
        return api.client.update_stage(
            restApiId=api.id, stageName="prod", patchOperations=list(operations)
        )["methodSettings"]

    settings = update(
        patch("replace", "/*/*/throttling/rateLimit", "5.5"),
        patch("replace", "/~1pets~1{id}/GET/logging/loglevel", "INFO"),
        patch("replace", "/pets/{id}/GET/metrics/enabled", "true"),
    )
    assert settings["*/*"]["throttlingRateLimit"] == 5.5
    assert settings["*/*"]["throttlingBurstLimit"] == 5000
    assert settings["pets/{id}/GET"]["loggingLevel"] == "INFO"
    assert settings["pets/{id}/GET"]["metricsEnabled"] is True
    assert set(update(patch("remove", "/pets/{id}/GET"))) == {"*/*"}
    code, message = refused(
        api.client.update_stage,
        restApiId=api.id,
        stageName="prod",
        patchOperations=[patch("replace", "/x/GET/nothing/here", "1")],
    )
    assert (code, message.split(":")[0]) == ("BadRequestException", "Invalid method setting path")


def test_lists_have_pages(platform: Platform) -> None:
    client = platform.client("apigateway", account="222233334444")
    for number in range(3):
        client.create_rest_api(name=f"api{number}")

    first = client.get_rest_apis(limit=2)
    second = client.get_rest_apis(limit=2, position=first["position"])

    assert (len(first["items"]), len(second["items"])) == (2, 1)
    assert "position" not in second
    assert refused(client.get_rest_apis, position="nonsense")[0] == "BadRequestException"


def test_tags_hang_on_apis_stages_keys_and_plans(api: Api) -> None:
    client = api.client
    api.method("/", "GET", {"type": "MOCK"})
    api.deploy()
    key = client.create_api_key(name="tagged")["id"]
    plan = client.create_usage_plan(name="tagged")["id"]
    prefix = f"arn:aws:apigateway:{REGION}::"
    for arn in (
        f"{prefix}/restapis/{api.id}",
        f"{prefix}/restapis/{api.id}/stages/prod",
        f"{prefix}/apikeys/{key}",
        f"{prefix}/usageplans/{plan}",
    ):
        client.tag_resource(resourceArn=arn, tags={"a": "1", "b": "2"})
        client.untag_resource(resourceArn=arn, tagKeys=["a", "team"])
        assert client.get_tags(resourceArn=arn)["tags"] == {"b": "2"}
    assert refused(client.get_tags, resourceArn=f"{prefix}/vpclinks/x")[0] == "NotFoundException"
    client.delete_api_key(apiKey=key)
    client.delete_usage_plan(usagePlanId=plan)


def test_parts_in_use_are_kept(api: Api) -> None:
    client = api.client
    authorizer = client.create_authorizer(
        restApiId=api.id,
        name="a",
        type="TOKEN",
        authorizerUri=lambda_uri("f"),
        identitySource="method.request.header.Authorization",
    )["id"]
    api.method("/", "GET", {"type": "MOCK"}, authorizationType="CUSTOM", authorizerId=authorizer)

    code, message = refused(client.delete_authorizer, restApiId=api.id, authorizerId=authorizer)
    assert code == "ConflictException"
    assert "GET of /" in message
    after = client.update_authorizer(
        restApiId=api.id,
        authorizerId=authorizer,
        patchOperations=[patch("replace", "/authorizerResultTtlInSeconds", "10")],
    )
    assert after["authorizerResultTtlInSeconds"] == 10
    place = {"restApiId": api.id, "resourceId": api.root, "httpMethod": "PUT"}
    assert (
        "Invalid authorizer ID"
        in refused(client.put_method, **place, authorizationType="CUSTOM", authorizerId="nobody")[1]
    )
    models = [item["name"] for item in client.get_models(restApiId=api.id)["items"]]
    assert models == ["Empty", "Error"]
    assert (
        "Invalid model"
        in refused(
            client.put_method,
            **place,
            authorizationType="NONE",
            requestModels={"application/json": "Nope"},
        )[1]
    )
    responses = client.get_gateway_responses(restApiId=api.id, limit=500)["items"]
    assert {item["defaultResponse"] for item in responses} == {True}
    assert len(responses) == 21
    for parameters in ({"gatewayresponse.header.a b": "'1'"}, {"header.A": "'1'"}):
        assert (
            "Invalid mapping expression"
            in refused(
                client.put_gateway_response,
                restApiId=api.id,
                responseType="UNAUTHORIZED",
                responseParameters=parameters,
            )[1]
        )


def test_a_usage_plan_has_existing_stages_and_sane_limits(api: Api) -> None:
    client = api.client

    def make(**settings: Any) -> str:
        return refused(client.create_usage_plan, name="p", **settings)[1]

    assert "Invalid API identifier" in make(apiStages=[{"apiId": "none", "stage": "x"}])
    assert "Invalid Stage" in make(apiStages=[{"apiId": api.id, "stage": "x"}])
    assert "greater than 0" in make(quota={"limit": 0, "period": "DAY"})
    assert make(quota={"limit": 1, "period": "DAY", "offset": 1}) == (
        "Usage Plan quota offset must be zero in the DAY period"
    )


# The document that SAM makes of a function with two Api events and CORS, shortened.
def swagger(function: str) -> dict[str, Any]:
    integration = {"type": "aws_proxy", "httpMethod": "POST", "uri": lambda_uri(function)}
    return {
        "swagger": "2.0",
        "info": {"version": "1.0", "title": "sam-app"},
        "securityDefinitions": {
            "api_key": {"type": "apiKey", "name": "x-api-key", "in": "header"},
            "Lambda": {
                "type": "apiKey",
                "name": "X-Auth",
                "in": "header",
                "x-amazon-apigateway-authtype": "custom",
                "x-amazon-apigateway-authorizer": {
                    "type": "token",
                    "authorizerUri": lambda_uri(function),
                },
            },
        },
        "paths": {
            "/hello/{name}": {
                "get": {
                    "x-amazon-apigateway-integration": integration,
                    "responses": {},
                    "parameters": [{"name": "name", "in": "path", "required": True}],
                },
                "x-amazon-apigateway-any-method": {
                    "x-amazon-apigateway-integration": integration,
                    "security": [{"api_key": []}],
                },
                "options": {
                    "x-amazon-apigateway-integration": {
                        "type": "mock",
                        "requestTemplates": {"application/json": '{\n  "statusCode" : 200\n}\n'},
                        "responses": {
                            "default": {
                                "statusCode": "200",
                                "responseParameters": {
                                    "method.response.header.Access-Control-Allow-Origin": "'*'"
                                },
                                "responseTemplates": {"application/json": "{}\n"},
                            }
                        },
                    },
                    "responses": {
                        "200": {"headers": {"Access-Control-Allow-Origin": {"type": "string"}}}
                    },
                },
            },
            "/private": {
                "get": {
                    "x-amazon-apigateway-integration": integration,
                    "security": [{"Lambda": []}],
                }
            },
        },
        "x-amazon-apigateway-binary-media-types": ["image/png"],
        "x-amazon-apigateway-gateway-responses": {
            "DEFAULT_4XX": {
                "responseParameters": {"gatewayresponse.header.Access-Control-Allow-Origin": "'*'"}
            }
        },
    }


def test_an_openapi_document_becomes_an_api(platform: Platform, deploy: Deployer) -> None:
    name = deploy(ECHO)
    permit(platform, name)
    client = platform.client("apigateway")
    made = client.import_rest_api(body=json.dumps(swagger(name)).encode())
    api = Api(platform, client, made["id"], made["rootResourceId"])
    api.deploy("Prod")

    assert (made["name"], made["version"]) == ("sam-app", "1.0")
    assert made["binaryMediaTypes"] == ["image/png"]
    hello = api.fetch("/Prod/hello/me").json
    assert hello["pathParameters"] == {"name": "me"}
    assert hello["resource"] == "/hello/{name}"
    refused_answer = api.fetch("/Prod/hello/me", "POST")
    assert refused_answer.status == 403
    assert refused_answer.headers["access-control-allow-origin"] == "*"
    preflight = api.fetch("/Prod/hello/me", "OPTIONS")
    assert (preflight.status, preflight.body) == (200, b"{}\n")
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert api.fetch("/Prod/private").status == 401
    (authorizer,) = client.get_authorizers(restApiId=api.id)["items"]
    assert authorizer["identitySource"] == "method.request.header.X-Auth"


def test_a_document_is_merged_or_takes_the_place_of_all(platform: Platform) -> None:
    api = make_api(platform, "kept")
    api.method("/old", "GET", {"type": "MOCK"})
    document = {
        "openapi": "3.0.1",
        "info": {"title": "described"},
        "servers": [{"url": "/{basePath}", "variables": {"basePath": {"default": "/prod/v1"}}}],
        "paths": {"/new": {"get": {"x-amazon-apigateway-integration": {"type": "MOCK"}}}},
    }
    body = json.dumps(document).encode()

    def paths(mode: str, **parameters: str) -> list[str]:
        api.client.put_rest_api(restApiId=api.id, mode=mode, body=body, parameters=parameters)
        items = api.client.get_resources(restApiId=api.id)["items"]
        return sorted(item["path"] for item in items)

    assert paths("merge") == ["/", "/new", "/old"]
    assert api.client.get_rest_api(restApiId=api.id)["name"] == "kept"
    assert paths("overwrite") == ["/", "/new"]
    after = api.client.get_rest_api(restApiId=api.id)
    assert (after["name"], after["rootResourceId"]) == ("described", api.root)
    assert paths("overwrite", basepath="prepend")[-1] == "/prod/v1/new"
    assert paths("overwrite", basepath="split") == ["/", "/v1", "/v1/new"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"openapi: 3.0.1\n",
        b'{"swagger":"2.0","info":{}}',
        b'{"swagger":"2.0","info":{"title":"t"},"paths":[]}',
        b'{"swagger":"2.0","info":{"title":"t"},"paths":{"/a":{"get":1}}}',
        b'{"swagger":"2.0","info":{"title":"t"},"paths":{"/a b":{"get":{}}}}',
        b'{"swagger":"2.0","info":{"title":"t"},"paths":{"/a":{"get":{"security":1}}}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_document_is_refused(platform: Platform, body: bytes) -> None:
    client = platform.client("apigateway", is_strict=False)

    assert refused(client.import_rest_api, body=body)[0] in (
        "BadRequestException",
        "ValidationException",
    )


def test_an_api_outlives_the_platform(make_platform: Callable[..., Platform]) -> None:
    platform = make_platform()
    deployer = Deployer(platform)
    name = deployer(ECHO)
    permit(platform, name)
    api = make_api(platform)
    api.method("/x", "GET", proxy(name), apiKeyRequired=True)
    api.deploy()
    value = "durable-key-of-twenty-characters"
    key = api.client.create_api_key(name="k", value=value, enabled=True)["id"]
    plan = api.client.create_usage_plan(
        name="p",
        apiStages=[{"apiId": api.id, "stage": "prod"}],
        quota={"limit": 2, "period": "MONTH"},
    )["id"]
    api.client.create_usage_plan_key(usagePlanId=plan, keyId=key, keyType="API_KEY")
    assert api.fetch("/prod/x", headers={"X-Api-Key": value}).status == 200

    platform.stop()
    platform.start()

    # The quota goes on where it was.
    statuses = [api.fetch("/prod/x", headers={"X-Api-Key": value}).status for _ in range(2)]
    assert statuses == [200, 429]
