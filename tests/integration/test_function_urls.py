"""Function URLs with real HTTP clients: event, result, who may call, and hostile shapes."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from running_platform import ACCOUNT, REGION, Deployer, Platform, wait_until
from web_client import WebAnswer, fetch

pytest_plugins = ("platform_fixtures",)

# Returns the event, or the member ``answer`` of a JSON body.
FUNCTION = """
import json
def handler(event, context):
    path = event["rawPath"]
    if path == "/fail":
        raise ValueError("on purpose")
    if path == "/as-told":
        return json.loads(event["body"])["answer"]
    return {"statusCode": 200, "body": json.dumps({"event": event, "id": context.aws_request_id})}
"""
FORBIDDEN = {
    "Message": "Forbidden. For troubleshooting Function URL authorization issues, see:"
    " https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
}
JSON = {"Content-Type": "application/json"}


def allow_everybody(client: Any, name: str, **qualifier: str) -> None:
    client.add_permission(
        FunctionName=name,
        StatementId="url",
        Action="lambda:InvokeFunctionUrl",
        Principal="*",
        FunctionUrlAuthType="NONE",
        **qualifier,
    )
    client.add_permission(
        FunctionName=name,
        StatementId="invoke",
        Action="lambda:InvokeFunction",
        Principal="*",
        InvokedViaFunctionUrl=True,
        **qualifier,
    )


@pytest.fixture
def public(deploy: Deployer, lambda_client: Any) -> tuple[str, str]:
    """A function that everybody may call, and its URL."""
    name = deploy(FUNCTION)
    url = lambda_client.create_function_url_config(FunctionName=name, AuthType="NONE")
    allow_everybody(lambda_client, name)
    return name, url["FunctionUrl"]


@pytest.fixture
def tell(public: tuple[str, str]) -> Callable[[Any], WebAnswer]:
    """The answer of the URL when its function returns that."""

    def ask(answer: Any) -> WebAnswer:
        body = json.dumps({"answer": answer}).encode()
        return fetch(public[1] + "as-told", "POST", body=body, headers=JSON)

    return ask


def test_the_event_has_the_members_of_payload_two(public: tuple[str, str]) -> None:
    _, url = public
    answer = fetch(
        f"{url}pa%2Fth/a+b?a=1&a=2&b=x%20y&c",
        "POST",
        body=b'{"key": "value"}',
        headers={**JSON, "Cookie": "c=1; d=2", "User-Agent": "tester", "X-Many": "1, 2"},
    )
    event = answer.json["event"]
    url_id, host = urlsplit(url).netloc.partition(".")[0], urlsplit(url).netloc
    context = event.pop("requestContext")
    headers = event.pop("headers")
    assert event == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/pa%2Fth/a+b",
        "rawQueryString": "a=1&a=2&b=x%20y&c",
        "cookies": ["c=1", "d=2"],
        "queryStringParameters": {"a": "1,2", "b": "x y", "c": ""},
        "body": '{"key": "value"}',
        "isBase64Encoded": False,
    }
    assert context.pop("time").endswith(" +0000")
    assert abs(context.pop("timeEpoch") / 1000 - time.time()) < 60
    assert context == {
        "accountId": "anonymous",
        "apiId": url_id,
        "domainName": host.partition(":")[0],
        "domainPrefix": url_id,
        "http": {
            "method": "POST",
            "path": "/pa%2Fth/a+b",
            "protocol": "HTTP/1.1",
            "sourceIp": "127.0.0.1",
            "userAgent": "tester",
        },
        "requestId": answer.json["id"],
        "routeKey": "$default",
        "stage": "$default",
    }
    assert headers.pop("x-amzn-trace-id").startswith("Root=1-")
    assert headers == {
        "host": host,
        "accept-encoding": "identity",
        "content-length": "16",
        "content-type": "application/json",
        "user-agent": "tester",
        "x-many": "1, 2",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-port": host.partition(":")[2],
        "x-forwarded-proto": "http",
    }
    assert answer.headers["x-amzn-requestid"] == answer.json["id"]


@pytest.mark.parametrize(
    ("content_type", "body", "is_base64"),
    [
        ("text/plain; charset=utf-8", "grün".encode(), False),
        ("application/vnd.api+json", b"{}", False),
        ("application/x-www-form-urlencoded", b"a=1", True),
        ("application/octet-stream", b"\x00\xff", True),
        ("multipart/form-data; boundary=x", b"--x--", True),
        ("text/plain", b"\xff\xfe", True),
    ],
)
def test_bodies_are_text_or_base64_by_their_type(
    public: tuple[str, str], content_type: str, body: bytes, is_base64: bool
) -> None:
    event = fetch(public[1], "PUT", body=body, headers={"Content-Type": content_type}).json["event"]
    assert event["isBase64Encoded"] is is_base64
    assert event["body"] == (base64.b64encode(body).decode() if is_base64 else body.decode())


@pytest.mark.parametrize(
    ("result", "body"),
    [("plain", b"plain"), ({"a": [1, 2]}, b'{"a":[1,2]}'), (7, b"7"), (None, b"null")],
)
def test_a_result_without_status_is_a_body_of_json(
    tell: Callable[[Any], WebAnswer], result: Any, body: bytes
) -> None:
    answer = tell(result)
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["content-type"] == "application/json"


def test_a_result_sets_status_headers_cookies_and_binary_bodies(
    tell: Callable[[Any], WebAnswer],
) -> None:
    answer = tell(
        {
            "statusCode": "201",
            "headers": {"Content-Type": "image/png", "X-Count": 3, "Connection": "close"},
            "cookies": ["a=1; Path=/", "b=2"],
            "body": base64.b64encode(b"\x89PNG\x00").decode(),
            "isBase64Encoded": True,
        }
    )
    assert (answer.status, answer.body) == (201, b"\x89PNG\x00")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-count"] == "3"
    assert answer.headers["x-amzn-remapped-connection"] == "close"
    assert answer.cookies == ("a=1; Path=/", "b=2")


@pytest.mark.parametrize(
    "result",
    [
        {"statusCode": "many"},
        {"statusCode": 101},
        {"statusCode": 200, "headers": ["a"]},
        {"statusCode": 200, "headers": {"a b": "c"}},
        {"statusCode": 200, "cookies": "a=1"},
        {"statusCode": 200, "body": "%%%", "isBase64Encoded": True},
    ],
)
def test_a_result_that_is_no_answer_is_a_bad_gateway(
    tell: Callable[[Any], WebAnswer], result: Any
) -> None:
    answer = tell(result)
    assert (answer.status, answer.body) == (502, b"Internal Server Error")


def test_line_breaks_in_headers_do_not_split_the_answer(tell: Callable[[Any], WebAnswer]) -> None:
    answer = tell({"statusCode": 200, "headers": {"X-A": "a\r\nX-Evil: 1"}, "cookies": ["a\r\nb"]})
    assert answer.status == 200
    assert "x-evil" not in answer.headers
    assert answer.cookies == ("a b",)


def test_a_failing_function_is_a_bad_gateway(public: tuple[str, str]) -> None:
    answer = fetch(public[1] + "fail")
    assert (answer.status, answer.body) == (502, b"Internal Server Error")


def test_head_has_the_headers_of_get_and_no_body(public: tuple[str, str]) -> None:
    answer = fetch(public[1], "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


def test_the_path_form_reaches_the_same_function(
    public: tuple[str, str], platform: Platform
) -> None:
    url_id = urlsplit(public[1]).netloc.partition(".")[0]
    event = fetch(f"{platform.url}/_firelet/url/{url_id}/a/b?c=d").json["event"]
    assert (event["rawPath"], event["rawQueryString"]) == ("/a/b", "c=d")
    assert event["requestContext"]["domainPrefix"] == url_id
    assert fetch(f"{platform.url}/_firelet/url/{url_id}").json["event"]["rawPath"] == "/"


def test_paths_of_the_aws_api_belong_to_the_function(public: tuple[str, str]) -> None:
    for path in ("2015-03-31/functions/", "2015-03-31/functions/x/invocations", "_firelet/status"):
        answer = fetch(public[1] + path, "POST")
        assert answer.json["event"]["rawPath"] == f"/{path}"


def test_nobody_may_call_without_both_permissions(deploy: Deployer, lambda_client: Any) -> None:
    name = deploy(FUNCTION)
    url = lambda_client.create_function_url_config(FunctionName=name, AuthType="NONE")
    for statement, action, condition in (
        ("url", "lambda:InvokeFunctionUrl", {"FunctionUrlAuthType": "NONE"}),
        ("invoke", "lambda:InvokeFunction", {"InvokedViaFunctionUrl": True}),
    ):
        answer = fetch(url["FunctionUrl"])
        assert (answer.status, answer.json) == (403, FORBIDDEN)
        assert answer.headers["x-amzn-errortype"] == "AccessDeniedException"
        lambda_client.add_permission(
            FunctionName=name, StatementId=statement, Action=action, Principal="*", **condition
        )
    assert fetch(url["FunctionUrl"]).status == 200


def test_the_url_of_an_alias_runs_its_version_and_ends_with_it(
    deploy: Deployer, lambda_client: Any
) -> None:
    name = deploy("def handler(e, c): return c.function_version", Publish=True)
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    url = lambda_client.create_function_url_config(
        FunctionName=name, AuthType="NONE", Qualifier="live"
    )["FunctionUrl"]
    assert fetch(url).status == 403  # the policy of the function is not that of the alias
    allow_everybody(lambda_client, name, Qualifier="live")
    assert fetch(url).body == b"1"
    lambda_client.delete_alias(FunctionName=name, Name="live")
    answer = fetch(url)
    assert (answer.status, answer.json) == (403, FORBIDDEN)


def test_an_address_of_nobody_is_forbidden(public: tuple[str, str]) -> None:
    assert fetch(public[1].replace("//", "//a", 1)).status == 403
    assert fetch(public[1].replace(REGION, "eu-west-1")).status == 403


def test_no_reserved_concurrency_is_too_many_requests(
    public: tuple[str, str], lambda_client: Any
) -> None:
    lambda_client.put_function_concurrency(FunctionName=public[0], ReservedConcurrentExecutions=0)
    answer = fetch(public[1])
    assert answer.status == 429
    assert answer.headers["x-amzn-errortype"] == "TooManyRequestsException"
    assert answer.json["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"


def test_events_of_more_than_six_megabytes_are_too_large(public: tuple[str, str]) -> None:
    text = {"Content-Type": "text/plain"}
    assert fetch(public[1], "POST", body=b"a" * 6_291_456, headers=text).status == 413
    assert fetch(public[1], "POST", body=b"a" * 4_000_000, headers=text).status == 200


def test_preflights_are_answered_without_the_function(
    public: tuple[str, str], lambda_client: Any
) -> None:
    name, url = public
    lambda_client.update_function_url_config(
        FunctionName=name,
        Cors={
            "AllowOrigins": ["https://a.example"],
            "AllowMethods": ["POST"],
            "AllowHeaders": ["x-one", "x-two"],
            "ExposeHeaders": ["x-three"],
            "AllowCredentials": True,
            "MaxAge": 60,
        },
    )
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    answer = fetch(url, "OPTIONS", headers=asked)
    assert answer.status == 200
    allowed = {key: value for key, value in answer.headers.items() if key.startswith("access-")}
    assert allowed == {
        "access-control-allow-origin": "https://a.example",
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "x-one,x-two",
        "access-control-expose-headers": "x-three",
        "access-control-allow-credentials": "true",
        "access-control-max-age": "60",
    }
    for other in ({"Origin": "https://b.example"}, {"Access-Control-Request-Method": "DELETE"}):
        refused = fetch(url, "OPTIONS", headers=asked | other)
        assert not any(key.startswith("access-") for key in refused.headers)


def test_configured_headers_replace_those_of_the_function(
    public: tuple[str, str], lambda_client: Any, tell: Callable[[Any], WebAnswer]
) -> None:
    lambda_client.update_function_url_config(FunctionName=public[0], Cors={"AllowOrigins": ["*"]})
    body = json.dumps(
        {"answer": {"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "x"}}}
    ).encode()
    answer = fetch(
        public[1] + "as-told", "POST", body=body, headers={**JSON, "Origin": "https://a.example"}
    )
    assert answer.headers["access-control-allow-origin"] == "*"


class TestIam:
    """URLs with AuthType AWS_IAM."""

    @pytest.fixture
    def url(self, deploy: Deployer, lambda_client: Any) -> str:
        name = deploy(FUNCTION)
        config = lambda_client.create_function_url_config(FunctionName=name, AuthType="AWS_IAM")
        return str(config["FunctionUrl"])

    def ask(
        self, url: str, credentials: Credentials, *, region: str = REGION, body: bytes = b"{}"
    ) -> WebAnswer:
        request = AWSRequest("POST", url, data=body, headers=dict(JSON))
        SigV4Auth(credentials, "lambda", region).add_auth(request)
        return fetch(url, "POST", body=body, headers=dict(request.headers))

    def session(self, platform: Platform) -> Credentials:
        sts = platform.client("sts")
        given = sts.assume_role(RoleArn=platform.make_role("caller"), RoleSessionName="me")
        keys = given["Credentials"]
        return Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])

    def test_who_has_not_signed_may_not_call(self, url: str) -> None:
        answer = fetch(url)
        assert (answer.status, answer.json) == (403, FORBIDDEN)

    def test_a_role_session_is_named_in_the_event(self, url: str, platform: Platform) -> None:
        credentials = self.session(platform)
        answer = self.ask(f"{url}a%20b/c?z=1&a=x%2Fy&a=", credentials)
        assert answer.status == 200, answer.body
        event = answer.json["event"]
        context = event["requestContext"]
        assert context["accountId"] == ACCOUNT
        iam = context["authorizer"]["iam"]
        assert iam["accessKey"] == credentials.access_key
        assert iam["userArn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/caller/me"
        assert iam["userId"] == iam["callerId"]
        assert iam["userId"].endswith(":me")
        assert (iam["accountId"], iam["cognitoIdentity"], iam["principalOrgId"]) == (
            ACCOUNT,
            None,
            None,
        )
        assert "authorization" not in event["headers"]

    def test_a_wrong_secret_or_token_is_refused(self, url: str, platform: Platform) -> None:
        right = self.session(platform)
        wrong_secret = Credentials(right.access_key, "guess", right.token)
        wrong_token = Credentials(right.access_key, right.secret_key, "guess")
        for credentials in (wrong_secret, wrong_token):
            answer = self.ask(url, credentials)
            assert answer.status == 403
            assert answer.headers["x-amzn-errortype"] == "InvalidSignatureException"

    def test_a_body_other_than_the_signed_one_is_refused(
        self, url: str, platform: Platform
    ) -> None:
        request = AWSRequest("POST", url, data=b"signed", headers=dict(JSON))
        SigV4Auth(self.session(platform), "lambda", REGION).add_auth(request)
        answer = fetch(url, "POST", body=b"other!", headers=dict(request.headers))
        assert answer.headers["x-amzn-errortype"] == "InvalidSignatureException"

    def test_another_region_or_account_may_not_call(self, url: str) -> None:
        own = Credentials(ACCOUNT, "any")
        assert self.ask(url, own).status == 200
        assert self.ask(url, own, region="eu-west-1").status == 403
        assert self.ask(url, Credentials("111122223333", "any")).status == 403

    def test_another_account_may_call_when_the_policy_says_so(
        self, url: str, platform: Platform, lambda_client: Any
    ) -> None:
        name = fetch_function_name(url, lambda_client)
        for statement, action in (
            ("a", "lambda:InvokeFunctionUrl"),
            ("b", "lambda:InvokeFunction"),
        ):
            lambda_client.add_permission(
                FunctionName=name, StatementId=statement, Action=action, Principal="111122223333"
            )
        assert self.ask(url, Credentials("111122223333", "any")).status == 200
        assert self.ask(url, Credentials("444455556666", "any")).status == 403


def fetch_function_name(url: str, lambda_client: Any) -> str:
    """Whose URL it is."""
    for function in lambda_client.list_functions()["Functions"]:
        name = function["FunctionName"]
        configs = lambda_client.list_function_url_configs(FunctionName=name)
        if any(config["FunctionUrl"] == url for config in configs["FunctionUrlConfigs"]):
            return str(name)
    raise AssertionError(url)


class TestHostile:
    """Raw bytes to a function's address."""

    def send(self, url: str, data: bytes) -> bytes:
        host, port = urlsplit(url).netloc.rsplit(":", 1)
        with socket.create_connection(("127.0.0.1", int(port)), timeout=30) as connection:
            connection.sendall(data.replace(b"HOST", f"{host}:{port}".encode()))
            received = b""
            while chunk := connection.recv(65_536):
                received += chunk
        return received

    @pytest.mark.parametrize(
        "framing",
        [
            b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
            b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            b"Host: other\r\n\r\n",
        ],
    )
    def test_ambiguous_framing_is_refused_and_the_connection_closed(
        self, public: tuple[str, str], framing: bytes
    ) -> None:
        smuggled = b"GET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n"
        received = self.send(public[1], b"POST / HTTP/1.1\r\nHost: HOST\r\n" + framing + smuggled)
        assert received.startswith(b"HTTP/1.1 400 ")
        assert received.count(b"HTTP/1.1 ") == 1

    def test_heads_without_end_are_refused(self, public: tuple[str, str]) -> None:
        head = b"GET / HTTP/1.1\r\nHost: HOST\r\nX-A: " + b"a" * 1_100_000 + b"\r\n\r\n"
        assert self.send(public[1], head).startswith(b"HTTP/1.1 431 ")

    @pytest.mark.parametrize("target", [b"*", b"http://HOST/", b"HOST:80"])
    def test_targets_that_are_no_path_are_bad_requests(
        self, public: tuple[str, str], target: bytes
    ) -> None:
        head = b"OPTIONS " + target + b" HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"
        assert self.send(public[1], head).startswith(b"HTTP/1.1 400 ")

    def test_a_chunked_body_has_its_length_in_the_event(self, public: tuple[str, str]) -> None:
        received = self.send(
            public[1],
            b"POST / HTTP/1.1\r\nHost: HOST\r\nContent-Type: text/plain\r\nConnection: close\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n",
        )
        event = json.loads(received.partition(b"\r\n\r\n")[2])["event"]
        assert event["body"] == "abc"
        assert event["headers"]["content-length"] == "3"
        assert not {"transfer-encoding", "x-trailer", "connection"} & event["headers"].keys()


def test_a_client_that_goes_away_does_not_stop_its_function(
    deploy: Deployer, lambda_client: Any, platform: Platform
) -> None:
    name = deploy("import time\ndef handler(e, c):\n    time.sleep(1)\n    print('reached')\n")
    url = lambda_client.create_function_url_config(FunctionName=name, AuthType="NONE")[
        "FunctionUrl"
    ]
    allow_everybody(lambda_client, name)
    netloc = urlsplit(url).netloc
    with socket.create_connection(("127.0.0.1", platform.port)) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {netloc}\r\n\r\n".encode())
        wait_until(
            lambda: any("START" in line for line in platform.log_lines(f"/aws/lambda/{name}")),
            "the function has started",
        )
    wait_until(
        lambda: "reached\n" in platform.log_lines(f"/aws/lambda/{name}"), "the function has ended"
    )
