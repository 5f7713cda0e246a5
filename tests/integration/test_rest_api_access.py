"""Who may call REST APIs, and how often: keys, usage plans, throttles, authorizers, signatures."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from rest_apis import ECHO, Api, lambda_uri, make_api, permit, proxy
from running_platform import ACCOUNT, REGION, Deployer, Platform
from web_client import WebAnswer

pytest_plugins = ("platform_fixtures",)

FORBIDDEN = {"message": "Forbidden"}
UNAUTHORIZED = {"message": "Unauthorized"}
TOO_MANY = {"message": "Too Many Requests"}

# Allows or denies by the token; fails when told so.
AUTHORIZER = """
import json
def handler(event, context):
    print("asked", json.dumps(event))
    token = event.get("authorizationToken") or event["headers"]["X-Token"]
    if token == "unauthorized":
        raise Exception("Unauthorized")
    if token == "broken":
        raise ValueError("on purpose")
    if token == "malformed":
        return {"principalId": "me"}
    effect = "Deny" if token == "deny" else "Allow"
    resource = event["methodArn"] if token != "elsewhere" else "arn:aws:execute-api:*:*:*/beta/*"
    return {
        "principalId": "me",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {"Action": "execute-api:Invoke", "Effect": effect, "Resource": resource}
            ],
        },
        "context": {"colour": "red", "number": 1, "flag": True},
        "usageIdentifierKey": token,
    }
"""


@pytest.fixture
def echo(platform: Platform, deploy: Deployer) -> str:
    name = deploy(ECHO)
    permit(platform, name)
    return name


def make_plan(api: Api, value: str, **settings: Any) -> tuple[str, str]:
    """A usage plan of the stage with one key; the ids of both."""
    key = api.client.create_api_key(name="key", value=value, enabled=True)["id"]
    plan = api.client.create_usage_plan(
        name="plan", apiStages=[{"apiId": api.id, "stage": "prod"}], **settings
    )["id"]
    api.client.create_usage_plan_key(usagePlanId=plan, keyId=key, keyType="API_KEY")
    return plan, key


def ask(api: Api, value: str | None = None, path: str = "/prod/x") -> WebAnswer:
    return api.fetch(path, headers={} if value is None else {"X-Api-Key": value})


def test_a_method_may_need_a_key(platform: Platform, echo: str) -> None:
    api = make_api(platform)
    api.method("/x", "GET", proxy(echo), apiKeyRequired=True)
    api.deploy()
    value = "key-of-at-least-twenty-characters"
    plan, key = make_plan(api, value)

    event = ask(api, value).json
    assert event["requestContext"]["identity"]["apiKey"] == value
    assert event["requestContext"]["identity"]["apiKeyId"] == key
    for wrong in (None, "", "another-key-of-twenty-characters"):
        got = ask(api, wrong)
        assert (got.status, got.json) == (403, FORBIDDEN)
        assert got.headers["x-amzn-errortype"] == "ForbiddenException"

    api.client.update_api_key(
        apiKey=key, patchOperations=[{"op": "replace", "path": "/enabled", "value": "false"}]
    )
    assert ask(api, value).status == 403
    api.client.update_api_key(
        apiKey=key, patchOperations=[{"op": "replace", "path": "/enabled", "value": "true"}]
    )
    api.client.delete_usage_plan_key(usagePlanId=plan, keyId=key)
    assert ask(api, value).status == 403


def test_a_quota_is_used_up(platform: Platform, echo: str) -> None:
    api = make_api(platform)
    api.method("/x", "GET", proxy(echo), apiKeyRequired=True)
    api.deploy()
    value = "quota-key-of-twenty-characters"
    plan, key = make_plan(api, value, quota={"limit": 2, "period": "MONTH"})

    answers = [ask(api, value) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].json == {"message": "Limit Exceeded"}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    usage = api.client.get_usage(usagePlanId=plan, startDate=today, endDate=today)
    assert usage["items"] == {key: [[2, 0]]}


def test_a_plan_throttles_its_keys(platform: Platform, echo: str) -> None:
    api = make_api(platform)
    api.method("/x", "GET", proxy(echo), apiKeyRequired=True)
    api.method("/y", "GET", proxy(echo), apiKeyRequired=True)
    api.deploy()
    value = "throttle-key-of-twenty-characters"
    plan, _ = make_plan(api, value, throttle={"rateLimit": 0.001, "burstLimit": 3})
    api.client.update_usage_plan(
        usagePlanId=plan,
        patchOperations=[
            {
                "op": "replace",
                "path": f"/apiStages/{api.id}:prod/throttle/~1y~1GET/{name}",
                "value": limit,
            }
            for name, limit in (("rateLimit", "0.001"), ("burstLimit", "1"))
        ],
    )

    assert [ask(api, value, "/prod/y").status for _ in range(2)] == [200, 429]
    answers = [ask(api, value) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].json == TOO_MANY
    assert answers[2].headers["x-amzn-errortype"] == "TooManyRequestsException"


def test_a_stage_throttles_its_methods(platform: Platform, echo: str) -> None:
    api = make_api(platform)
    api.method("/x", "GET", proxy(echo))
    api.method("/y", "GET", proxy(echo))
    api.deploy()
    api.client.update_stage(
        restApiId=api.id,
        stageName="prod",
        patchOperations=[
            {"op": "replace", "path": "/x/GET/throttling/rateLimit", "value": "0.001"},
            {"op": "replace", "path": "/x/GET/throttling/burstLimit", "value": "1"},
        ],
    )

    assert [ask(api).status for _ in range(2)] == [200, 429]
    assert [ask(api, path="/prod/y").status for _ in range(3)] == [200, 200, 200]


def make_authorizer(
    platform: Platform, deploy: Deployer, api: Api, kind: str, source: str, **options: Any
) -> tuple[str, str]:
    """Its function's name, and its id."""
    name = deploy(AUTHORIZER)
    permit(platform, name)
    made = api.client.create_authorizer(
        restApiId=api.id,
        name="auth",
        type=kind,
        authorizerUri=lambda_uri(name),
        identitySource=source,
        **options,
    )
    return name, made["id"]


def test_a_token_authorizer_decides(platform: Platform, deploy: Deployer, echo: str) -> None:
    api = make_api(platform)
    name, identity = make_authorizer(
        platform,
        deploy,
        api,
        "TOKEN",
        "method.request.header.Authorization",
        identityValidationExpression="[a-z]+",
    )
    api.method("/x", "GET", proxy(echo), authorizationType="CUSTOM", authorizerId=identity)
    api.deploy()

    def ask(token: str | None) -> WebAnswer:
        return api.fetch("/prod/x", headers={} if token is None else {"Authorization": token})

    allowed = ask("allow").json
    assert allowed["requestContext"]["authorizer"] == {
        "principalId": "me",
        "colour": "red",
        "number": "1",
        "flag": "true",
        "integrationLatency": 0,
    }
    for token, status, message in (
        (None, 401, "Unauthorized"),
        ("WRONG", 401, "Unauthorized"),
        ("unauthorized", 401, "Unauthorized"),
        ("deny", 403, "User is not authorized to access this resource with an explicit deny"),
        ("elsewhere", 403, "User is not authorized to access this resource"),
        ("broken", 500, None),
        ("malformed", 500, None),
    ):
        got = ask(token)
        assert (got.status, got.json) == (status, {"message": message}), token

    # What it said of a token is remembered.
    ask("allow")
    asked = [line for line in platform.log_lines(f"/aws/lambda/{name}") if "asked" in line]
    assert sum('"allow"' in line for line in asked) == 1
    event = json.loads(asked[0].partition(" ")[2])
    assert event == {
        "type": "TOKEN",
        "methodArn": f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api.id}/prod/GET/x",
        "authorizationToken": "allow",
    }


def test_a_request_authorizer_sees_the_request_and_names_the_key(
    platform: Platform, deploy: Deployer, echo: str
) -> None:
    api = make_api(platform, apiKeySource="AUTHORIZER")
    name, identity = make_authorizer(
        platform,
        deploy,
        api,
        "REQUEST",
        "method.request.header.X-Token,method.request.querystring.q",
        authorizerResultTtlInSeconds=0,
    )
    api.method(
        "/x",
        "POST",
        proxy(echo),
        authorizationType="CUSTOM",
        authorizerId=identity,
        apiKeyRequired=True,
    )
    api.deploy()
    value = "named-key-of-twenty-characters"
    make_plan(api, value)

    good = api.fetch("/prod/x?q=1", "POST", body=b"secret", headers={"X-Token": value})
    missing = api.fetch("/prod/x", "POST", headers={"X-Token": value})
    other = api.fetch("/prod/x?q=1", "POST", headers={"X-Token": "nobody"})

    assert good.json["requestContext"]["identity"]["apiKey"] == value
    assert (missing.status, missing.json) == (401, UNAUTHORIZED)
    assert (other.status, other.json) == (403, FORBIDDEN)
    asked = [line for line in platform.log_lines(f"/aws/lambda/{name}") if "asked" in line]
    event = json.loads(asked[0].partition(" ")[2])
    assert (event["type"], event["httpMethod"], event["resource"]) == ("REQUEST", "POST", "/x")
    assert event["queryStringParameters"] == {"q": "1"}
    assert event["requestContext"]["stage"] == "prod"
    assert "body" not in event


def test_a_method_may_need_a_signature(platform: Platform, echo: str) -> None:
    api = make_api(platform)
    api.method("/x", "GET", proxy(echo), authorizationType="AWS_IAM")
    api.deploy()
    request = AWSRequest("GET", f"http://{api.id}.execute-api.{REGION}.localhost/prod/x")
    SigV4Auth(Credentials("111122223333", "any"), "execute-api", REGION).add_auth(request)

    signed = api.fetch("/prod/x", headers=dict(request.headers.items()))
    unsigned = api.fetch("/prod/x")

    assert signed.json["requestContext"]["identity"]["accountId"] == "111122223333"
    assert signed.json["requestContext"]["identity"]["accessKey"] == "111122223333"
    assert unsigned.status == 403
    assert unsigned.json == {"message": "Missing Authentication Token"}
