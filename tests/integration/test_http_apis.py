"""HTTP APIs: made through boto3, called with real HTTP clients."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from running_platform import ACCOUNT, REGION, Deployer, Platform, wait_until
from web_client import WebAnswer, fetch

pytest_plugins = ("platform_fixtures",)

FUNCTION = """
import json, time
def handler(event, context):
    body = event.get("body") or ""
    asked = json.loads(body) if body.startswith("{") else {}
    if "sleep" in asked:
        time.sleep(asked["sleep"])
        print("woke up")
    if "fail" in asked:
        raise ValueError(asked["fail"])
    if "answer" in asked:
        return asked["answer"]
    return {"statusCode": 200, "body": json.dumps({"event": event, "id": context.aws_request_id})}
"""
JSON = {"Content-Type": "application/json"}


class Api:
    """One API and what is made of it."""

    def __init__(self, client: Any, lambda_client: Any, **options: Any) -> None:
        self._client = client
        self._lambda = lambda_client
        made = client.create_api(**{"Name": "api", "ProtocolType": "HTTP", **options})
        self.id = made["ApiId"]
        self.endpoint = made["ApiEndpoint"]
        self._statements = itertools.count()

    def allow(self, name: str, source: str = "*/*") -> None:
        self._lambda.add_permission(
            FunctionName=name,
            StatementId=f"{self.id}-{next(self._statements)}",
            Action="lambda:InvokeFunction",
            Principal="apigateway.amazonaws.com",
            SourceArn=f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{self.id}/{source}",
        )

    def integrate(self, name: str, **options: Any) -> str:
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
        made = self._client.create_integration(
            **{
                "ApiId": self.id,
                "IntegrationType": "AWS_PROXY",
                "IntegrationUri": arn,
                "PayloadFormatVersion": "2.0",
                **options,
            }
        )
        return str(made["IntegrationId"])

    def route(self, key: str, integration_id: str) -> str:
        target = f"integrations/{integration_id}"
        made = self._client.create_route(ApiId=self.id, RouteKey=key, Target=target)
        return str(made["RouteId"])

    def stage(self, name: str = "$default", **options: Any) -> None:
        self._client.create_stage(
            **{"ApiId": self.id, "StageName": name, "AutoDeploy": True, **options}
        )

    def get(self, path: str, **options: Any) -> WebAnswer:
        return fetch(self.endpoint + path, **options)

    def post(self, path: str, value: Any) -> WebAnswer:
        return fetch(self.endpoint + path, "POST", body=json.dumps(value).encode(), headers=JSON)


@pytest.fixture
def client(platform: Platform) -> Any:
    return platform.client("apigatewayv2")


@pytest.fixture
def api(client: Any, lambda_client: Any) -> Iterator[Api]:
    """An API without routes."""
    made = Api(client, lambda_client)
    yield made
    client.delete_api(ApiId=made.id)


@pytest.fixture
def name(deploy: Deployer) -> str:
    return deploy(FUNCTION)


@pytest.fixture
def served(api: Api, name: str) -> Api:
    """An API whose only route leads to a function."""
    api.allow(name)
    api.route("$default", api.integrate(name))
    api.stage()
    return api


def test_the_event_of_payload_two(api: Api, name: str) -> None:
    api.allow(name)
    api.route("POST /my/{kind}/{proxy+}", api.integrate(name))
    api.stage("dev", StageVariables={"color": "red"})
    answer = api.get(
        "/dev/my/pa%20th/a/b?a=1&a=2",
        method="POST",
        body=b'{"k": 1}',
        headers={**JSON, "Cookie": "c=1; d=2", "User-Agent": "tester"},
    )
    event = answer.json["event"]
    context, headers = event.pop("requestContext"), event.pop("headers")
    host, _, port = urlsplit(api.endpoint).netloc.partition(":")
    assert event == {
        "version": "2.0",
        "routeKey": "POST /my/{kind}/{proxy+}",
        "rawPath": "/dev/my/pa%20th/a/b",
        "rawQueryString": "a=1&a=2",
        "cookies": ["c=1", "d=2"],
        "queryStringParameters": {"a": "1,2"},
        "pathParameters": {"kind": "pa th", "proxy": "a/b"},
        "stageVariables": {"color": "red"},
        "body": '{"k": 1}',
        "isBase64Encoded": False,
    }
    assert context.pop("time").endswith(" +0000")
    assert isinstance(context.pop("timeEpoch"), int)
    assert context == {
        "accountId": ACCOUNT,
        "apiId": api.id,
        "domainName": host,
        "domainPrefix": api.id,
        "http": {
            "method": "POST",
            "path": "/dev/my/pa%20th/a/b",
            "protocol": "HTTP/1.1",
            "sourceIp": "127.0.0.1",
            "userAgent": "tester",
        },
        "requestId": answer.json["id"],
        "routeKey": "POST /my/{kind}/{proxy+}",
        "stage": "dev",
    }
    assert headers["x-forwarded-port"] == port
    assert answer.headers["apigw-requestid"] == answer.json["id"]


def test_the_event_of_payload_one(api: Api, name: str) -> None:
    api.allow(name)
    api.route("ANY /my/{id}", api.integrate(name, PayloadFormatVersion="1.0"))
    api.stage()
    answer = api.get("/my/7?a=1&a=2", method="PUT", body=b"\x00", headers={"X-One": "1"})
    event = answer.json["event"]
    assert event["version"] == "1.0"
    assert (event["resource"], event["path"], event["httpMethod"]) == ("/my/{id}", "/my/7", "PUT")
    assert event["headers"]["X-One"] == "1"
    assert event["multiValueHeaders"]["X-One"] == ["1"]
    assert event["queryStringParameters"] == {"a": "2"}
    assert event["multiValueQueryStringParameters"] == {"a": ["1", "2"]}
    assert event["pathParameters"] == {"id": "7"}
    assert event["stageVariables"] is None
    assert (event["body"], event["isBase64Encoded"]) == (base64.b64encode(b"\0").decode(), True)
    context = event["requestContext"]
    assert context["resourcePath"] == "/my/{id}"
    assert context["identity"]["sourceIp"] == "127.0.0.1"
    assert context["requestId"] == answer.json["id"]
    assert (context["stage"], context["accountId"]) == ("$default", ACCOUNT)


def test_results_of_payload_one(api: Api, name: str) -> None:
    api.allow(name)
    api.route("$default", api.integrate(name, PayloadFormatVersion="1.0"))
    api.stage()
    answer = api.post(
        "/",
        {
            "answer": {
                "statusCode": 202,
                "multiValueHeaders": {"Set-Cookie": ["a=1", "b=2"]},
                "body": "hello",
            }
        },
    )
    assert (answer.status, answer.body, answer.cookies) == (202, b"hello", ("a=1", "b=2"))
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    refused = api.post("/", {"answer": "no object"})
    assert (refused.status, refused.json) == (500, {"message": "Internal Server Error"})


def test_quick_create_makes_a_whole_api(client: Any, lambda_client: Any, name: str) -> None:
    target = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
    api = Api(client, lambda_client, Target=target, RouteKey="GET /only")
    api.allow(name)
    assert api.get("/only").json["event"]["routeKey"] == "GET /only"
    assert (api.get("/other").status, api.get("/other").json) == (404, {"message": "Not Found"})
    (stage,) = client.get_stages(ApiId=api.id)["Items"]
    assert (stage["StageName"], stage["AutoDeploy"]) == ("$default", True)
    assert stage["ApiGatewayManaged"]
    (integration,) = client.get_integrations(ApiId=api.id)["Items"]
    assert integration["PayloadFormatVersion"] == "2.0"
    client.delete_api(ApiId=api.id)
    assert api.get("/only").status == 403


def test_a_stage_serves_what_was_deployed_and_not_what_came_later(
    api: Api, name: str, client: Any
) -> None:
    api.allow(name)
    integration = api.integrate(name)
    api.route("GET /one", integration)
    api.stage("prod", AutoDeploy=False)
    assert api.get("/prod/one").status == 404
    first = client.create_deployment(ApiId=api.id, StageName="prod")["DeploymentId"]
    assert api.get("/prod/one").status == 200
    api.route("GET /two", integration)
    assert api.get("/prod/two").status == 404
    second = client.create_deployment(ApiId=api.id)["DeploymentId"]
    client.update_stage(ApiId=api.id, StageName="prod", DeploymentId=second)
    assert api.get("/prod/two").status == 200
    client.delete_deployment(ApiId=api.id, DeploymentId=first)
    with pytest.raises(client.exceptions.ConflictException):
        client.delete_deployment(ApiId=api.id, DeploymentId=second)


def test_a_stage_that_deploys_itself_follows_every_change(
    served: Api, name: str, client: Any
) -> None:
    assert served.get("/x").json["event"]["routeKey"] == "$default"
    (integration,) = client.get_integrations(ApiId=served.id)["Items"]
    route_id = served.route("GET /x", integration["IntegrationId"])
    assert served.get("/x").json["event"]["routeKey"] == "GET /x"
    client.update_route(ApiId=served.id, RouteId=route_id, RouteKey="GET /y")
    assert served.get("/y").json["event"]["routeKey"] == "GET /y"
    client.delete_route(ApiId=served.id, RouteId=route_id)
    assert served.get("/y").json["event"]["routeKey"] == "$default"
    assert len(client.get_deployments(ApiId=served.id)["Items"]) == 1


def test_failures_of_the_function(served: Api) -> None:
    failed = {"message": "Internal Server Error"}
    for asked in ({"fail": "x"}, {"answer": {"statusCode": "x"}}):
        answer = served.post("/", asked)
        assert (answer.status, answer.json) == (500, failed)


def test_an_integration_that_takes_too_long_and_its_function_runs_on(
    api: Api, deploy: Deployer, platform: Platform
) -> None:
    name = deploy(FUNCTION, Timeout=10)
    api.allow(name)
    api.route("$default", api.integrate(name, TimeoutInMillis=200))
    api.stage()
    answer = api.post("/", {"sleep": 1})
    assert (answer.status, answer.json) == (503, {"message": "Service Unavailable"})
    wait_until(
        lambda: "woke up\n" in platform.log_lines(f"/aws/lambda/{name}"), "the function ran on"
    )


def test_no_concurrency_left_is_unavailable(served: Api, name: str, lambda_client: Any) -> None:
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    answer = served.get("/")
    assert (answer.status, answer.json) == (503, {"message": "Service Unavailable"})


def test_bodies_above_the_limits(served: Api) -> None:
    for size in (6_300_000, 10_500_000):
        answer = served.get("/", method="POST", body=b" " * size, headers=JSON)
        assert (answer.status, answer.json) == (413, {"message": "Request Entity Too Large"})


@pytest.mark.parametrize(
    ("source", "status"),
    [
        (None, 500),
        ("*/*", 200),
        ("*/GET/pets/{id}", 200),
        ("dev/GET/pets/{id}", 200),
        ("prod/GET/pets/{id}", 500),
        ("*/POST/pets/{id}", 500),
    ],
)
def test_the_policy_of_the_function_says_which_requests_may_call_it(
    api: Api, name: str, source: str | None, status: int
) -> None:
    if source is not None:
        api.allow(name, source)
    api.route("ANY /pets/{id}", api.integrate(name))
    api.stage("dev")
    assert api.get("/dev/pets/1").status == status


def test_a_stage_and_a_route_take_so_many_requests_and_no_more(
    api: Api, name: str, client: Any
) -> None:
    api.allow(name)
    integration = api.integrate(name)
    api.route("GET /slow", integration)
    api.route("$default", integration)
    api.stage(
        "dev",
        DefaultRouteSettings={"ThrottlingRateLimit": 0.001, "ThrottlingBurstLimit": 2},
        RouteSettings={"GET /slow": {"ThrottlingRateLimit": 0}},
    )
    assert [api.get("/dev/x").status for _ in range(3)] == [200, 200, 429]
    answer = api.get("/dev/slow")
    assert (answer.status, answer.json) == (429, {"message": "Too Many Requests"})
    client.update_stage(ApiId=api.id, StageName="dev", DefaultRouteSettings={})
    assert api.get("/dev/slow").status == 429
    client.delete_route_settings(ApiId=api.id, StageName="dev", RouteKey="GET /slow")
    assert api.get("/dev/slow").status == 200
    assert client.get_stage(ApiId=api.id, StageName="dev")["RouteSettings"] == {}


def test_cors_of_an_api(served: Api, client: Any) -> None:
    client.update_api(
        ApiId=served.id,
        CorsConfiguration={"AllowOrigins": ["https://*"], "AllowMethods": ["*"], "MaxAge": 5},
    )
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "PUT"}
    answer = served.get("/", method="OPTIONS", headers=asked)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert answer.headers["access-control-allow-methods"] == "*"
    plain = served.get("/", headers={"Origin": "https://a.example"})
    assert plain.headers["access-control-allow-origin"] == "https://a.example"
    client.delete_cors_configuration(ApiId=served.id)
    assert "CorsConfiguration" not in client.get_api(ApiId=served.id)
    assert served.get("/", method="OPTIONS", headers=asked).json["event"]["routeKey"] == "$default"


def test_the_path_form_reaches_the_same_api(served: Api, platform: Platform) -> None:
    event = fetch(f"{platform.url}/_firelet/api/{served.id}/a?b=c").json["event"]
    assert (event["rawPath"], event["rawQueryString"]) == ("/a", "b=c")


def test_what_is_wrong_with_routes_integrations_and_stages(
    api: Api, name: str, client: Any
) -> None:
    bad, conflict = client.exceptions.BadRequestException, client.exceptions.ConflictException
    missing = client.exceptions.NotFoundException
    integration = api.integrate(name)
    route = api.route("GET /a", integration)
    api.stage()
    for key in ("GET", "get /a", "GET a", "FETCH /a", "GET /a{b}", "GET /{a+}/b", "GET /a b"):
        with pytest.raises(bad):
            client.create_route(ApiId=api.id, RouteKey=key)
    with pytest.raises(conflict, match="Route with key GET /a already exists for this API"):
        client.create_route(ApiId=api.id, RouteKey="GET /a")
    with pytest.raises(bad):
        client.create_route(ApiId=api.id, RouteKey="GET /b", Target="integrations/none")
    with pytest.raises(conflict):
        client.delete_integration(ApiId=api.id, IntegrationId=integration)
    with pytest.raises(bad):
        api.integrate(name, IntegrationUri="arn:aws:sqs:us-east-1:1:q")
    with pytest.raises(conflict):
        api.stage()
    with pytest.raises(bad):
        client.create_stage(ApiId=api.id, StageName="a b")
    with pytest.raises(missing, match=f"Invalid API identifier specified {ACCOUNT}:nothing"):
        client.get_api(ApiId="nothing")
    for call in (
        lambda: client.get_route(ApiId=api.id, RouteId="none"),
        lambda: client.get_stage(ApiId=api.id, StageName="none"),
        lambda: client.get_deployment(ApiId=api.id, DeploymentId="none"),
        lambda: client.delete_integration(ApiId=api.id, IntegrationId="none"),
        lambda: client.get_tags(ResourceArn=f"arn:aws:apigateway:{REGION}::/apis/none"),
    ):
        with pytest.raises(missing):
            call()
    client.delete_route(ApiId=api.id, RouteId=route)
    client.delete_integration(ApiId=api.id, IntegrationId=integration)


def test_what_firelet_would_not_keep_it_refuses(api: Api, name: str, client: Any) -> None:
    for refused in (
        lambda: client.create_route(ApiId=api.id, RouteKey="GET /a", ApiKeyRequired=True),
        lambda: api.integrate(name, IntegrationType="HTTP_PROXY"),
        lambda: api.integrate(name, RequestParameters={"append:header.a": "b"}),
    ):
        with pytest.raises(client.exceptions.ClientError) as caught:
            refused()
        assert caught.value.response["Error"]["Code"] == "NotImplementedException"


def test_other_accounts_do_not_see_an_api(api: Api, platform: Platform) -> None:
    other = platform.client("apigatewayv2", account="111122223333")
    assert other.get_apis()["Items"] == []
    with pytest.raises(other.exceptions.NotFoundException):
        other.delete_api(ApiId=api.id)


def test_tags_of_apis_and_stages(api: Api, client: Any) -> None:
    api.stage("dev", Tags={"a": "1"})
    root = f"arn:aws:apigateway:{REGION}::/apis/{api.id}"
    for arn in (root, f"{root}/stages/dev"):
        client.tag_resource(ResourceArn=arn, Tags={"b": "2", "c": "3"})
        client.untag_resource(ResourceArn=arn, TagKeys=["c"])
    assert client.get_tags(ResourceArn=root)["Tags"] == {"b": "2"}
    assert client.get_stage(ApiId=api.id, StageName="dev")["Tags"] == {"a": "1", "b": "2"}


def test_lists_come_in_pages(api: Api, client: Any) -> None:
    for number in range(5):
        client.create_route(ApiId=api.id, RouteKey=f"GET /{number}")
    seen, token = [], {}
    while True:
        page = client.get_routes(ApiId=api.id, MaxResults="2", **token)
        seen += [route["RouteKey"] for route in page["Items"]]
        assert len(page["Items"]) <= 2
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert sorted(seen) == [f"GET /{number}" for number in range(5)]
    for wrong in ({"NextToken": "x"}, {"MaxResults": "none"}):
        with pytest.raises(client.exceptions.BadRequestException):
            client.get_routes(ApiId=api.id, **wrong)


def test_apis_survive_a_crash(make_platform: Callable[..., Platform]) -> None:
    platform = make_platform()
    deployer = Deployer(platform)
    name = deployer(FUNCTION)
    api = Api(platform.client("apigatewayv2"), platform.client("lambda"))
    api.allow(name)
    api.route("GET /a", api.integrate(name))
    api.stage()
    platform.kill()
    platform.start()
    host = urlsplit(api.endpoint).hostname
    answer = fetch(f"http://{host}:{platform.port}/a")
    assert answer.json["event"]["routeKey"] == "GET /a"


DEFINITION: dict[str, Any] = {
    "openapi": "3.0.1",
    "info": {"title": "imported", "version": "1.0"},
    "tags": [{"name": "httpapi:createdBy", "x-amazon-apigateway-tag-value": "SAM"}],
    "x-amazon-apigateway-cors": {"allowOrigins": ["https://a.example"], "maxAge": 5},
    "components": {"x-amazon-apigateway-integrations": {}},
    "paths": {
        "/pets/{id}": {
            "parameters": [{"name": "id", "in": "path"}],
            "get": {
                "x-amazon-apigateway-integration": {"$ref": "#/components/x/shared"},
                "responses": {},
            },
        },
        "/$default": {
            "x-amazon-apigateway-any-method": {
                "isDefaultRoute": True,
                "x-amazon-apigateway-integration": {
                    "$ref": "#/components/x-amazon-apigateway-integrations/shared"
                },
            }
        },
    },
}


def definition_of(name: str, **changed: Any) -> str:
    """As SAM writes one for a function."""
    document = json.loads(json.dumps({**DEFINITION, **changed}))
    document["components"]["x-amazon-apigateway-integrations"]["shared"] = {
        "type": "aws_proxy",
        "httpMethod": "POST",
        "uri": f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/"
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}/invocations",
        "payloadFormatVersion": "2.0",
    }
    return json.dumps(document)


def test_an_api_is_imported_and_imported_again(client: Any, lambda_client: Any, name: str) -> None:
    made = client.import_api(Body=definition_of(name))
    api_id, url = made["ApiId"], made["ApiEndpoint"]
    assert (made["Name"], made["Version"]) == ("imported", "1.0")
    assert made["Tags"] == {"httpapi:createdBy": "SAM"}
    assert made["CorsConfiguration"] == {"AllowOrigins": ["https://a.example"], "MaxAge": 5}
    client.create_stage(ApiId=api_id, StageName="$default", AutoDeploy=True)
    lambda_client.add_permission(
        FunctionName=name,
        StatementId="api",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
        SourceArn=f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api_id}/*",
    )
    assert fetch(f"{url}/pets/1").json["event"]["pathParameters"] == {"id": "1"}
    assert fetch(f"{url}/other").json["event"]["routeKey"] == "$default"
    paths = {"/cats": {"x-amazon-apigateway-any-method": DEFINITION["paths"]["/pets/{id}"]["get"]}}
    client.reimport_api(ApiId=api_id, Body=definition_of(name, paths=paths))
    assert fetch(f"{url}/cats").json["event"]["routeKey"] == "ANY /cats"
    assert fetch(f"{url}/pets/1").status == 404
    client.delete_api(ApiId=api_id)


def test_an_imported_api_is_guarded_as_it_says(client: Any, name: str) -> None:
    authorizer = {
        "type": "request",
        "authorizerUri": f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/"
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}/invocations",
        "authorizerPayloadFormatVersion": "2.0",
        "enableSimpleResponses": True,
        "identitySource": "$request.header.A, $request.header.B",
    }
    key = {"type": "apiKey", "name": "Authorization", "in": "header"}
    schemes = {
        "Mine": {**key, "x-amazon-apigateway-authorizer": authorizer},
        "AWS_IAM": {**key, "x-amazon-apigateway-authtype": "awsSigv4"},
    }
    paths = {
        "/mine": {"get": {}},
        "/signed": {"get": {"security": [{"AWS_IAM": []}]}},
        "/open": {"get": {"security": [{"NONE": []}]}},
    }
    body = definition_of(
        name, paths=paths, components=_components(schemes), security=[{"Mine": []}]
    )
    api_id = client.import_api(Body=body)["ApiId"]
    routes = {route["RouteKey"]: route for route in client.get_routes(ApiId=api_id)["Items"]}
    (made,) = client.get_authorizers(ApiId=api_id)["Items"]
    assert made["IdentitySource"] == ["$request.header.A", "$request.header.B"]
    assert routes["GET /mine"]["AuthorizerId"] == made["AuthorizerId"]
    assert routes["GET /signed"]["AuthorizationType"] == "AWS_IAM"
    assert routes["GET /open"]["AuthorizationType"] == "NONE"
    client.delete_api(ApiId=api_id)


def _components(schemes: Any) -> dict[str, Any]:
    return {"securitySchemes": schemes, "x-amazon-apigateway-integrations": {}}


@pytest.mark.parametrize(
    "body",
    [
        "no json",
        "[]",
        '{"swagger": "2.0"}',
        '{"openapi": "3.0.1"}',
        '{"openapi": "3.0.1", "info": {"title": "t"}, "paths": {"/a": {"get": 7}}}',
        '{"openapi": "3.0.1", "info": {"title": "t"}, "security": [{"none": []}],'
        ' "paths": {"/a": {"get": {}}}}',
        '{"openapi": "3.0.1", "info": {"title": "t"}, "paths": {"a": {"get": {}}}}',
        '{"openapi": "3.0.1", "info": {"title": "t"}, "paths": {"/a": {"get":'
        ' {"x-amazon-apigateway-integration": {"$ref": "#/none"}}}}}',
    ],
)
def test_definitions_that_are_none(client: Any, body: str) -> None:
    before = len(client.get_apis()["Items"])
    with pytest.raises(client.exceptions.BadRequestException):
        client.import_api(Body=body)
    assert len(client.get_apis()["Items"]) == before


def test_the_last_route_of_a_stage_that_deploys_itself_can_go(served: Api, client: Any) -> None:
    (route,) = client.get_routes(ApiId=served.id)["Items"]
    client.delete_route(ApiId=served.id, RouteId=route["RouteId"])
    assert served.get("/").status == 404
    assert client.get_deployments(ApiId=served.id)["Items"] == []
