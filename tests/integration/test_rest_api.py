"""REST APIs with boto3 and plain HTTP: routes, events, results, deployments and refusals."""

from __future__ import annotations

import base64
import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from rest_apis import ECHO, Api, lambda_uri, make_api, permit, proxy
from running_platform import ACCOUNT, REGION, Deployer, Platform, wait_until
from web_client import fetch

pytest_plugins = ("platform_fixtures",)

MISSING = {"message": "Missing Authentication Token"}
INTERNAL = {"message": "Internal server error"}
FORBIDDEN = {"message": "Forbidden"}


@pytest.fixture
def echo(platform: Platform, deploy: Deployer) -> str:
    """A function that API Gateway may invoke."""
    name = deploy(ECHO)
    permit(platform, name)
    return name


@pytest.fixture
def api(platform: Platform, echo: str) -> Api:
    """An API that sends everything to the function, deployed at ``prod``."""
    api = make_api(platform)
    api.method("/{proxy+}", "ANY", proxy(echo))
    api.deploy(variables={"colour": "red"})
    return api


def test_the_event_is_that_of_a_proxy_integration(api: Api) -> None:
    answer = api.fetch(
        "/prod/a%2Bb/c/?x=1&x=2%20&flag",
        "POST",
        body=b"hello",
        headers={"Content-Type": "text/plain", "X-Own": "mine", "User-Agent": "test"},
    )

    event = answer.json
    context = event.pop("requestContext")
    host = f"{api.id}.execute-api.{REGION}.localhost"
    port = str(urlsplit(api.platform.url).port)
    trace = event["headers"].pop("X-Amzn-Trace-Id")
    assert event["multiValueHeaders"].pop("X-Amzn-Trace-Id") == [trace]
    assert event == {
        "resource": "/{proxy+}",
        "path": "/a%2Bb/c/",
        "httpMethod": "POST",
        "headers": {
            "Accept-Encoding": "identity",
            "Content-Type": "text/plain",
            "Host": f"{host}:{port}",
            "User-Agent": "test",
            "X-Forwarded-For": "127.0.0.1",
            "X-Forwarded-Port": port,
            "X-Forwarded-Proto": "http",
            "X-Own": "mine",
        },
        "multiValueHeaders": {
            "Accept-Encoding": ["identity"],
            "Content-Type": ["text/plain"],
            "Host": [f"{host}:{port}"],
            "User-Agent": ["test"],
            "X-Forwarded-For": ["127.0.0.1"],
            "X-Forwarded-Port": [port],
            "X-Forwarded-Proto": ["http"],
            "X-Own": ["mine"],
        },
        "queryStringParameters": {"x": "2 ", "flag": ""},
        "multiValueQueryStringParameters": {"x": ["1", "2 "], "flag": [""]},
        "pathParameters": {"proxy": "a%2Bb/c"},
        "stageVariables": {"colour": "red"},
        "body": "hello",
        "isBase64Encoded": False,
    }
    time, epoch = context.pop("requestTime"), context.pop("requestTimeEpoch")
    assert time.endswith(" +0000")
    assert isinstance(epoch, int)
    assert context.pop("extendedRequestId") == answer.headers["x-amz-apigw-id"]
    resources = api.client.get_resources(restApiId=api.id)["items"]
    assert context == {
        "accountId": ACCOUNT,
        "apiId": api.id,
        "deploymentId": api.client.get_deployments(restApiId=api.id)["items"][0]["id"],
        "domainName": host,
        "domainPrefix": api.id,
        "httpMethod": "POST",
        "identity": {
            "accessKey": None,
            "accountId": None,
            "caller": None,
            "cognitoAuthenticationProvider": None,
            "cognitoAuthenticationType": None,
            "cognitoIdentityId": None,
            "cognitoIdentityPoolId": None,
            "principalOrgId": None,
            "sourceIp": "127.0.0.1",
            "user": None,
            "userAgent": "test",
            "userArn": None,
        },
        "path": "/prod/a%2Bb/c/",
        "protocol": "HTTP/1.1",
        "requestId": answer.headers["x-amzn-requestid"],
        "resourceId": next(item["id"] for item in resources if item["path"] == "/{proxy+}"),
        "resourcePath": "/{proxy+}",
        "stage": "prod",
    }


def test_an_api_has_addresses_by_path(api: Api) -> None:
    url = api.platform.url
    for address in (
        f"/_firelet/api/{api.id}/prod",
        f"/restapis/{api.id}/prod/_user_request_",
        f"/_aws/execute-api/{api.id}/prod",
    ):
        event = fetch(f"{url}{address}/x?q=1").json
        assert event["path"] == "/x"
        assert event["queryStringParameters"] == {"q": "1"}
        assert event["requestContext"]["domainPrefix"] == api.id
        assert fetch(f"{url}{address}").status == 403  # nothing is at the root
    for address in ("/restapis/none/prod/_user_request_/x", "/_aws/execute-api/none/prod/x"):
        assert fetch(f"{url}{address}").json == FORBIDDEN


def test_a_result_is_the_answer(api: Api) -> None:
    answer = api.tell(
        {
            "statusCode": 201,
            "headers": {"Content-Type": "text/html", "X-One": "1"},
            "multiValueHeaders": {"Set-Cookie": ["a=1", "b=2"]},
            "body": "<p>",
        }
    )

    assert (answer.status, answer.body) == (201, b"<p>")
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers["x-one"] == "1"
    assert answer.cookies == ("a=1", "b=2")


@pytest.mark.parametrize(
    "answer",
    [None, "text", [], {"statusCode": "x"}, {"body": {}}, {"foo": 1}, {"headers": {"a": 1}}],
)
def test_a_malformed_result_is_a_502(api: Api, answer: Any) -> None:
    got = api.tell(answer)

    assert (got.status, got.json) == (502, INTERNAL)


def test_a_function_that_fails_is_a_502(api: Api) -> None:
    got = api.tell(fail="no")

    assert (got.status, got.json) == (502, INTERNAL)


def test_a_function_that_is_too_slow_is_a_504_and_runs_on(platform: Platform, echo: str) -> None:
    api = make_api(platform)
    api.method("/{proxy+}", "ANY", proxy(echo, timeoutInMillis=50))
    api.deploy()

    got = api.tell({}, sleep=0.4)

    assert (got.status, got.json) == (504, {"message": "Endpoint request timed out"})
    assert got.headers["x-amzn-errortype"] == "InternalServerErrorException"
    group = f"/aws/lambda/{echo}"
    wait_until(
        lambda: any("slept" in line for line in platform.log_lines(group)), "the function has slept"
    )


def test_binary_types_decide_what_is_base64(platform: Platform, echo: str) -> None:
    api = make_api(platform, binaryMediaTypes=["image/png"])
    api.method("/{proxy+}", "ANY", proxy(echo))
    api.deploy()
    png = {"Content-Type": "image/png"}
    told = {"answer": {"body": base64.b64encode(b"\xff\x01").decode(), "isBase64Encoded": True}}
    body = json.dumps(told).encode()

    event = api.fetch("/prod/x", "POST", body=b"\xff\x01", headers=png).json
    as_bytes = api.fetch("/prod/as-told", "POST", body=body, headers={"Accept": "image/png"})
    as_text = api.fetch("/prod/as-told", "POST", body=body)

    assert (event["body"], event["isBase64Encoded"]) == ("/wE=", True)
    assert as_bytes.body == b"\xff\x01"
    assert as_text.body == b"/wE="


def test_the_best_resource_answers(platform: Platform, echo: str) -> None:
    api = make_api(platform)
    for path, verb in (
        ("/", "GET"),
        ("/pets", "GET"),
        ("/pets/{id}", "ANY"),
        ("/pets/new", "GET"),
        ("/pets/{id}/toys/{proxy+}", "GET"),
    ):
        api.method(path, verb, proxy(echo))
    api.deploy()

    def ask(path: str, method: str = "GET") -> tuple[str, Any]:
        event = api.fetch(f"/prod{path}", method).json
        return event["resource"], event["pathParameters"]

    assert ask("") == ask("/") == ("/", None)
    assert ask("/pets/") == ("/pets", None)
    assert ask("/pets/new") == ("/pets/new", None)
    assert ask("/pets/new", "PUT") == ("/pets/{id}", {"id": "new"})
    assert ask("/pets/7/toys/a/b") == ("/pets/{id}/toys/{proxy+}", {"id": "7", "proxy": "a/b"})
    for path, method in (("/pets", "POST"), ("/cats", "GET"), ("/pets/7/toys", "GET")):
        got = api.fetch(f"/prod{path}", method)
        assert (got.status, got.json) == (403, MISSING)
        assert got.headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"


def test_what_is_no_stage_is_forbidden(api: Api) -> None:
    for path in ("/", "/beta/x", "//prod"):
        got = api.fetch(path)
        assert (got.status, got.json) == (403, FORBIDDEN)


def test_changes_show_after_the_next_deployment(api: Api, echo: str) -> None:
    api.method("/new", "GET", proxy(echo))
    assert api.fetch("/prod/new").json["resource"] == "/{proxy+}"

    first = api.client.get_stage(restApiId=api.id, stageName="prod")["deploymentId"]
    api.deploy()
    assert api.fetch("/prod/new").json["resource"] == "/new"

    api.client.update_stage(
        restApiId=api.id,
        stageName="prod",
        patchOperations=[{"op": "replace", "path": "/deploymentId", "value": first}],
    )
    assert api.fetch("/prod/new").json["resource"] == "/{proxy+}"


def test_without_permission_a_function_is_not_invoked(platform: Platform, deploy: Deployer) -> None:
    name = deploy(ECHO)
    api = make_api(platform)
    api.method("/a", "GET", proxy(name))
    api.method("/b", "GET", proxy(name))
    api.deploy()
    permit(
        platform,
        name,
        SourceArn=f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api.id}/*/GET/a",
    )

    assert api.fetch("/prod/a").status == 200
    got = api.fetch("/prod/b")
    assert (got.status, got.json) == (500, INTERNAL)


def test_stage_variables_name_the_function(platform: Platform, echo: str) -> None:
    api = make_api(platform)
    api.method("/x", "GET", proxy("${stageVariables.target}"))
    api.deploy(variables={"target": echo})
    api.deploy("beta", variables={"target": "nobody"})

    assert api.fetch("/prod/x").json["stageVariables"] == {"target": echo}
    assert api.fetch("/beta/x").json == INTERNAL


def test_functions_are_invoked_by_post_only(platform: Platform, echo: str) -> None:
    api = make_api(platform)
    api.method("/x", "GET", {**proxy(echo), "integrationHttpMethod": "GET"})
    api.deploy()

    assert (api.fetch("/prod/x").status, api.fetch("/prod/x").json) == (500, INTERNAL)


def make_preflight(api: Api, path: str) -> None:
    """CORS as Terraform modules make it."""
    resource = api.method(
        path,
        "OPTIONS",
        {"type": "MOCK", "requestTemplates": {"application/json": '{"statusCode": 200}'}},
    )
    place = {"restApiId": api.id, "resourceId": resource, "httpMethod": "OPTIONS"}
    header = "method.response.header.Access-Control-Allow-Origin"
    api.client.put_method_response(**place, statusCode="200", responseParameters={header: True})
    api.client.put_integration_response(
        **place, statusCode="200", responseParameters={header: "'*'"}
    )


def test_a_mock_integration_answers_a_preflight(platform: Platform) -> None:
    api = make_api(platform)
    make_preflight(api, "/x")
    api.deploy()

    got = api.fetch("/prod/x", "OPTIONS")

    assert (got.status, got.body) == (200, b"")
    assert got.headers["access-control-allow-origin"] == "*"
    refused = api.fetch("/prod/x", "OPTIONS", headers={"Content-Type": "text/plain"})
    assert (refused.status, refused.json) == (500, INTERNAL)


def test_templates_shape_what_a_function_gets_and_answers(
    platform: Platform, deploy: Deployer
) -> None:
    name = deploy(
        "def handler(event, context):\n"
        "    if event.get('fail'):\n        raise ValueError('teapot: ' + event['fail'])\n"
        "    return {'got': event}\n"
    )
    permit(platform, name)
    api = make_api(platform)
    template = (
        '{"name": $input.json(\'$.name\'), "id": "$input.params(\'id\')",'
        ' "fail": "$input.params(\'fail\')", "stage": "$context.stage"}'
    )
    resource = api.method(
        "/x/{id}",
        "POST",
        {
            "type": "AWS",
            "integrationHttpMethod": "POST",
            "uri": lambda_uri(name),
            "requestTemplates": {"application/json": template},
        },
    )
    place = {"restApiId": api.id, "resourceId": resource, "httpMethod": "POST"}
    header = "method.response.header.X-Name"
    for status, pattern, response in (
        ("200", None, "$input.json('$.got')"),
        ("418", "teapot: .*", '{"sorry": "$util.escapeJavaScript($input.path(\'$.errorType\'))"}'),
    ):
        api.client.put_method_response(
            **place, statusCode=status, responseParameters={header: False}
        )
        options: dict[str, Any] = {} if pattern is None else {"selectionPattern": pattern}
        api.client.put_integration_response(
            **place,
            statusCode=status,
            responseTemplates={"application/json": response},
            responseParameters={header: "integration.response.body.got.name"},
            **options,
        )
    api.deploy()

    good = api.fetch("/prod/x/7", "POST", body=b'{"name": "a"}')
    bad = api.fetch("/prod/x/7?fail=hot", "POST", body=b'{"name": "a"}')

    assert good.json == {"name": "a", "id": "7", "fail": "", "stage": "prod"}
    assert good.headers["x-name"] == "a"
    assert (bad.status, bad.json) == (418, {"sorry": "ValueError"})
    assert "x-name" not in bad.headers


def test_a_body_that_is_too_large_is_refused(api: Api) -> None:
    for size in (10_485_761, 7_000_000):
        got = api.fetch("/prod/x", "POST", body=b"a" * size)
        assert (got.status, got.json) == (413, {"message": "Request Too Long"})


def test_gateway_responses_are_worded_by_the_api(platform: Platform, echo: str) -> None:
    api = make_api(platform)
    api.method("/x", "GET", proxy(echo))
    api.client.put_gateway_response(
        restApiId=api.id,
        responseType="MISSING_AUTHENTICATION_TOKEN",
        statusCode="404",
        responseParameters={"gatewayresponse.header.X-Why": "'no such page'"},
        responseTemplates={"application/json": '{"error": $context.error.messageString}'},
    )
    api.deploy()

    got = api.fetch("/prod/y")

    assert (got.status, got.json) == (404, {"error": "Missing Authentication Token"})
    assert got.headers["x-why"] == "no such page"


def test_required_parameters_are_demanded(platform: Platform, echo: str) -> None:
    api = make_api(platform)
    validator = api.client.create_request_validator(
        restApiId=api.id, name="v", validateRequestParameters=True
    )
    api.method(
        "/x",
        "GET",
        proxy(echo),
        requestValidatorId=validator["id"],
        requestParameters={
            "method.request.querystring.q": True,
            "method.request.header.X-Must": True,
            "method.request.querystring.may": False,
        },
    )
    api.deploy()

    got = api.fetch("/prod/x")
    assert got.status == 400
    assert got.json == {"message": "Missing required request parameters: [X-Must, q]"}
    assert api.fetch("/prod/x?q=1", headers={"x-must": "1"}).status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /prod/%00%ff/\xff HTTP/1.1\r\n",
        b"GET /prod/../x?%zz&=&&a=%ff HTTP/1.1\r\n",
        b"PROPFIND /prod/x HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"GET /prod/x HTTP/1.1\r\nAuthorization: \xff\xfe\r\nCookie: \x80\r\n",
        b"GET http://elsewhere/prod/x HTTP/1.1\r\n",
    ],
)
def test_hostile_requests_get_an_answer(api: Api, head: bytes) -> None:
    port = urlsplit(api.platform.url).port
    assert port is not None
    host = f"Host: {api.id}.execute-api.{REGION}.localhost:{port}\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head + host + b"Connection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))

    status = int(answer.split(b" ", 2)[1])
    assert status in (200, 400, 403)
    assert api.fetch("/prod/x").status == 200


def test_a_repeated_header_is_a_list(api: Api) -> None:
    port = urlsplit(api.platform.url).port
    assert port is not None
    head = (
        f"GET /prod/x HTTP/1.1\r\nHost: {api.id}.execute-api.{REGION}.localhost:{port}\r\n"
        "X-A: 1\r\nX-A: 2, 3\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))

    event = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert event["multiValueHeaders"]["X-A"] == ["1", "2, 3"]
    assert event["headers"]["X-A"] == "2, 3"


def test_names_of_others_are_no_api(api: Api) -> None:
    port = urlsplit(api.platform.url).port
    for host in (f"nobody.execute-api.{REGION}.localhost", f"{api.id}.execute-api.eu-west-1.x"):
        assert fetch(f"http://{host}:{port}/prod/x").status == 403
