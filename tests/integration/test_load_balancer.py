"""Application Load Balancers with boto3 and plain HTTP: rules, events, results, health."""

from __future__ import annotations

import base64
import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from load_balancers import ECHO, Balancer, arn_of, make_balancer, make_group, permit, say
from running_platform import REGION, Deployer, Platform, wait_until
from web_client import WebAnswer, fetch

pytest_plugins = ("platform_fixtures",)

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def group(platform: Platform, deploy: Deployer) -> str:
    return make_group(platform, deploy(ECHO))


@pytest.fixture
def balancer(platform: Platform, group: str) -> Balancer:
    """One that sends everything to a function that returns its event."""
    balancer = make_balancer(platform)
    balancer.forward(group)
    return balancer


def tell(balancer: Balancer, answer: Any = None, **told: Any) -> WebAnswer:
    body = json.dumps({"answer": answer, **told}).encode()
    return balancer.fetch("/as-told", "POST", body=body, headers=JSON)


def page_of(answer: WebAnswer, title: str) -> bool:
    return f"<center><h1>{title}</h1></center>" in answer.body.decode()


def test_the_event_is_the_documented_one(balancer: Balancer, group: str) -> None:
    answer = balancer.fetch(
        "/a%20b?x=1&x=%202&flag",
        "POST",
        body=b"request_body",
        headers={"Content-Type": "text/plain", "User-Agent": "test", "Cookie": "a=1; b=2"},
    )

    event = answer.json
    port = str(urlsplit(balancer.platform.url).port)
    assert event["headers"].pop("x-amzn-trace-id").startswith("Root=1-")
    assert event == {
        "requestContext": {"elb": {"targetGroupArn": group}},
        "httpMethod": "POST",
        "path": "/a%20b",
        "queryStringParameters": {"x": "%202", "flag": ""},
        "headers": {
            "accept-encoding": "identity",
            "content-length": "12",
            "content-type": "text/plain",
            "cookie": "a=1; b=2",
            "host": f"{balancer.name}:{port}",
            "user-agent": "test",
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-port": port,
            "x-forwarded-proto": "http",
        },
        "body": "request_body",
        "isBase64Encoded": False,
    }


def test_without_body_and_query_they_are_empty(balancer: Balancer) -> None:
    event = balancer.fetch("/").json

    assert (event["body"], event["isBase64Encoded"]) == ("", False)
    assert event["queryStringParameters"] == {}


def test_multi_value_lists_take_the_place_of_single_values(balancer: Balancer, group: str) -> None:
    balancer.client.modify_target_group_attributes(
        TargetGroupArn=group,
        Attributes=[{"Key": "lambda.multi_value_headers.enabled", "Value": "true"}],
    )

    event = balancer.fetch("/?x=1&x=2").json
    answer = tell(
        balancer,
        {"statusCode": 200, "headers": {"X-Not": "1"}, "multiValueHeaders": {"X-Is": ["1", "2"]}},
    )

    assert event["multiValueQueryStringParameters"] == {"x": ["1", "2"]}
    assert event["multiValueHeaders"]["x-forwarded-proto"] == ["http"]
    assert "headers" not in event
    assert "queryStringParameters" not in event
    assert "x-not" not in answer.headers
    assert answer.headers["x-is"] == "2"


@pytest.mark.parametrize(
    ("headers", "is_base64"),
    [
        ({"Content-Type": "application/json"}, False),
        ({"Content-Type": "text/csv; charset=utf-8"}, False),
        ({"Content-Type": "image/png"}, True),
        ({}, True),
        ({"Content-Type": "text/plain", "Content-Encoding": "gzip"}, True),
    ],
)
def test_what_is_no_text_goes_as_base64(
    balancer: Balancer, headers: dict[str, str], is_base64: bool
) -> None:
    event = balancer.fetch("/", "POST", body=b"hi", headers=headers).json

    assert event["isBase64Encoded"] is is_base64
    assert event["body"] == (base64.b64encode(b"hi").decode() if is_base64 else "hi")


def test_a_result_is_the_answer(balancer: Balancer) -> None:
    answer = tell(
        balancer,
        {
            "statusCode": 201,
            "statusDescription": "201 Created",
            "isBase64Encoded": True,
            "headers": {"X-One": "1", "Set-Cookie": "a=1"},
            "body": base64.b64encode(b"\xff").decode(),
        },
    )

    assert (answer.status, answer.body) == (201, b"\xff")
    assert answer.headers["x-one"] == "1"
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    "answer",
    [None, [], "text", {}, {"statusCode": "x"}, {"statusCode": 200, "body": {}}, {"body": "a"}],
)
def test_a_malformed_result_is_a_page_of_502(balancer: Balancer, answer: Any) -> None:
    got = tell(balancer, answer)

    assert got.status == 502
    assert page_of(got, "502 Bad Gateway")
    assert got.headers["server"] == "awselb/2.0"
    assert got.headers["content-type"] == "text/html"


def test_failures_large_bodies_and_large_results_have_their_pages(balancer: Balancer) -> None:
    assert page_of(tell(balancer, fail="no"), "502 Bad Gateway")
    assert page_of(tell(balancer, size=1_048_576), "502 Bad Gateway")
    assert len(tell(balancer, size=1_000_000).body) == 1_000_000
    large = balancer.fetch("/", "POST", body=b"a" * 1_048_577)
    assert large.status == 413
    assert page_of(large, "413 Request Entity Too Large")


def test_a_group_without_a_target_is_a_503(platform: Platform) -> None:
    balancer = make_balancer(platform)
    balancer.forward(make_group(platform))

    got = balancer.fetch("/")

    assert got.status == 503
    assert page_of(got, "503 Service Temporarily Unavailable")


def test_web_sockets_are_refused(balancer: Balancer) -> None:
    got = balancer.fetch(
        "/",
        headers={
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        },
    )

    assert got.status == 400
    assert page_of(got, "400 Bad Request")


def test_rules_are_tried_by_priority(platform: Platform) -> None:
    balancer = make_balancer(platform)
    balancer.rule(50, {"Field": "path-pattern", "Values": ["/img/*"]}, say("image"))
    balancer.rule(
        10,
        [
            {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/img/*.PNG", "/x?"]}},
            {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["GET"]}},
        ],
        say("png"),
    )
    balancer.rule(
        20,
        {
            "Field": "http-header",
            "HttpHeaderConfig": {"HttpHeaderName": "X-Kind", "Values": ["*CAT*"]},
        },
        say("cat"),
    )
    balancer.rule(
        30,
        {
            "Field": "query-string",
            "QueryStringConfig": {"Values": [{"Key": "v", "Value": "2*"}, {"Value": "any"}]},
        },
        say("query"),
    )
    balancer.rule(40, {"Field": "host-header", "Values": ["*.Example.com"]}, say("host"))
    balancer.rule(
        60,
        {"Field": "source-ip", "SourceIpConfig": {"Values": ["127.0.0.0/8"]}},
        say("loopback"),
    )

    def ask(path: str, method: str = "GET", **headers: str) -> str:
        return balancer.fetch(path, method, headers=headers).body.decode()

    assert ask("/img/a.PNG") == ask("/xy") == "png"
    assert ask("/img/a.png") == ask("/img/a.PNG", "POST") == "image"
    assert ask("/", **{"X-Kind": "a cat!"}) == "cat"
    assert ask("/?V=20") == ask("/?z=ANY") == "query"
    assert ask("/?v=1") == "loopback"
    path = f"{platform.url}/_firelet/elb/{balancer.name.partition('.')[0]}/"
    assert fetch(path, headers={"Host": "www.example.com"}).body == b"host"
    assert fetch(path, headers={"Host": "example.com"}).body == b"loopback"


def test_a_redirect_fills_in_what_the_client_asked_for(platform: Platform) -> None:
    balancer = make_balancer(
        platform,
        {
            "Type": "redirect",
            "RedirectConfig": {"Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301"},
        },
    )
    balancer.rule(
        1,
        {"Field": "path-pattern", "Values": ["/old/*"]},
        {
            "Type": "redirect",
            "RedirectConfig": {
                "Host": "new.#{host}",
                "Path": "/new/#{path}",
                "Query": "was=#{query}",
                "StatusCode": "HTTP_302",
            },
        },
    )
    port = urlsplit(platform.url).port

    first, second = balancer.fetch("/a/b?c=d"), balancer.fetch("/old/x?q=1")

    assert first.status == 301
    assert first.headers["location"] == f"https://{balancer.name}:443/a/b?c=d"
    assert page_of(first, "301 Moved Permanently")
    assert second.status == 302
    assert second.headers["location"] == (f"http://new.{balancer.name}:{port}/new/old/x?was=q=1")


def test_weights_send_nothing_to_a_group_of_weight_zero(
    platform: Platform, deploy: Deployer
) -> None:
    balancer, name = make_balancer(platform), deploy(ECHO)
    full, empty = make_group(platform, name), make_group(platform)
    groups = [{"TargetGroupArn": full, "Weight": 5}, {"TargetGroupArn": empty, "Weight": 0}]
    balancer.client.modify_listener(
        ListenerArn=balancer.listener,
        DefaultActions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}],
    )

    assert {balancer.fetch("/").status for _ in range(10)} == {200}


def test_a_function_must_let_the_group_invoke_it(platform: Platform, deploy: Deployer) -> None:
    name, group = deploy(ECHO), make_group(platform)
    client = platform.client("elbv2")

    with pytest.raises(ClientError, match="does not have permission to invoke") as caught:
        client.register_targets(TargetGroupArn=group, Targets=[{"Id": arn_of(name)}])
    assert caught.value.response["Error"]["Code"] == "AccessDenied"

    permit(platform, name, group)
    client.register_targets(TargetGroupArn=group, Targets=[{"Id": arn_of(name)}])
    other = deploy(ECHO)
    permit(platform, other, group)
    with pytest.raises(client.exceptions.TooManyTargetsException):
        client.register_targets(TargetGroupArn=group, Targets=[{"Id": arn_of(other)}])
    with pytest.raises(client.exceptions.InvalidTargetException):
        client.register_targets(TargetGroupArn=group, Targets=[{"Id": "i-123"}])


def health_of(platform: Platform, group: str) -> dict[str, Any]:
    found = platform.client("elbv2").describe_target_health(TargetGroupArn=group)
    health: dict[str, Any] = found["TargetHealthDescriptions"][0]["TargetHealth"]
    return health


def test_health_checks_call_the_function(platform: Platform, deploy: Deployer) -> None:
    name = deploy(
        "import json\n"
        "def handler(event, context):\n"
        "    print('checked', json.dumps(event, sort_keys=True))\n"
        "    return {'statusCode': 204 if event['path'] == '/well' else 500}\n"
    )
    group = make_group(
        platform,
        name,
        HealthCheckEnabled=True,
        HealthCheckPath="/well",
        HealthCheckIntervalSeconds=31,
        HealthCheckTimeoutSeconds=30,
        Matcher={"HttpCode": "200-299"},
    )
    assert health_of(platform, group)["Reason"] == "Target.NotInUse"

    balancer = make_balancer(platform)
    balancer.forward(group)
    wait_until(lambda: health_of(platform, group)["State"] == "healthy", "the target is healthy")

    lines = platform.log_lines(f"/aws/lambda/{name}")
    event = json.loads(next(line for line in lines if "checked" in line).partition(" ")[2])
    assert event == {
        "requestContext": {"elb": {"targetGroupArn": group}},
        "httpMethod": "GET",
        "path": "/well",
        "queryStringParameters": {},
        "headers": {"user-agent": "ELB-HealthChecker/2.0"},
        "body": "",
        "isBase64Encoded": False,
    }
    balancer.client.delete_load_balancer(LoadBalancerArn=balancer.arn)


def test_without_health_checks_a_target_is_unavailable_and_served(
    platform: Platform, balancer: Balancer, group: str
) -> None:
    assert health_of(platform, group) == {
        "State": "unavailable",
        "Reason": "Target.HealthCheckDisabled",
        "Description": "Health checks are disabled",
    }
    assert balancer.fetch("/").status == 200


def test_attributes_shape_headers(platform: Platform, balancer: Balancer) -> None:
    balancer.client.modify_load_balancer_attributes(
        LoadBalancerArn=balancer.arn,
        Attributes=[{"Key": "routing.http.xff_header_processing.mode", "Value": "remove"}],
    )
    balancer.client.modify_listener_attributes(
        ListenerArn=balancer.listener,
        Attributes=[
            {"Key": "routing.http.response.server.enabled", "Value": "false"},
            {
                "Key": "routing.http.response.strict_transport_security.header_value",
                "Value": "max-age=1",
            },
        ],
    )
    balancer.rule(1, {"Field": "path-pattern", "Values": ["/fixed"]}, say("hi"))

    answer = balancer.fetch("/", headers={"X-Forwarded-For": "10.0.0.1"})
    fixed = balancer.fetch("/fixed")

    assert "x-forwarded-for" not in answer.json["headers"]
    assert answer.headers["strict-transport-security"] == "max-age=1"
    assert fixed.body == b"hi"
    assert "server" not in fixed.headers


@pytest.mark.parametrize(
    "head",
    [
        b"GET /%00%ff/\xff?%zz&=&&a=%ff HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"PROPFIND /x HTTP/1.1\r\nCookie: \x80\r\n",
        b"GET http://elsewhere/x HTTP/1.1\r\n",
    ],
)
def test_hostile_requests_get_an_answer(balancer: Balancer, head: bytes) -> None:
    port = urlsplit(balancer.platform.url).port
    assert port is not None
    host = f"Host: {balancer.name}:{port}\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head + host + b"Connection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))

    assert int(answer.split(b" ", 2)[1]) in (200, 400)
    assert balancer.fetch("/").status == 200


def test_names_of_others_are_no_load_balancer(platform: Platform) -> None:
    port = urlsplit(platform.url).port
    assert fetch(f"http://nobody-1.{REGION}.elb.localhost:{port}/").status == 403
