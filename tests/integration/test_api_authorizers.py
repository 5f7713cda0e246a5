"""Who may use the routes of HTTP and WebSocket APIs: Lambda authorizers and signatures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from running_platform import ACCOUNT, REGION, Deployer, Platform
from tokens import Issuer, Signer, running_issuer
from web_client import WebAnswer, fetch

pytest_plugins = ("platform_fixtures",)

BACKEND = """
import json
def handler(event, context):
    return {"statusCode": 200, "body": json.dumps(event)}
"""
# Says what the header tells it to; counts how often it is asked.
AUTHORIZER = """
import json
asked = 0
def handler(event, context):
    global asked
    asked += 1
    headers = {name.lower(): value for name, value in event["headers"].items()}
    told = headers["x-say"]
    arn = event.get("routeArn") or event["methodArn"]
    extra = {"asked": asked, "event": json.dumps(event)}
    if told == "raise":
        raise ValueError("on purpose")
    if told == "nonsense":
        return {"isAuthorized": "perhaps"}
    if told in ("yes", "no"):
        return {"isAuthorized": told == "yes", "context": extra}
    effect, resource = told.split(" ", 1)
    return {
        "principalId": "me",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": effect, "Action": "execute-api:Invoke",
                 "Resource": arn if resource == "this" else resource}
            ],
        },
        "context": extra,
    }
"""


class Guarded:
    """An API with one guarded route, ``GET /pets/{id}`` or ``$connect``, and ``$default``."""

    def __init__(self, platform: Platform, deploy: Deployer, protocol: str, **options: Any) -> None:
        self.platform = platform
        self.client = client = platform.client("apigatewayv2")
        made = client.create_api(Name="guarded", ProtocolType=protocol)
        self.id, self.endpoint = made["ApiId"], made["ApiEndpoint"]
        version = options.pop("PayloadFormatVersion", "2.0")
        backend, authorizer = deploy(BACKEND), deploy(AUTHORIZER)
        for name in (backend, authorizer):
            platform.client("lambda").add_permission(
                FunctionName=name,
                StatementId="api",
                Action="lambda:InvokeFunction",
                Principal="apigateway.amazonaws.com",
                SourceArn=f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{self.id}/*",
            )
        integration = client.create_integration(
            ApiId=self.id,
            IntegrationType="AWS_PROXY",
            IntegrationUri=self.uri(backend),
            **({"PayloadFormatVersion": version} if protocol == "HTTP" else {}),
        )["IntegrationId"]
        guard: dict[str, Any] = {"AuthorizationType": options.pop("AuthorizationType", "CUSTOM")}
        if guard["AuthorizationType"] in ("CUSTOM", "JWT"):
            guard["AuthorizerId"] = self.authorizer_id = client.create_authorizer(
                **{
                    "ApiId": self.id,
                    "Name": "guard",
                    "AuthorizerType": "REQUEST",
                    "IdentitySource": [],
                    **(
                        {}
                        if "JwtConfiguration" in options
                        else {"AuthorizerUri": self.uri(authorizer)}
                    ),
                    **options,
                }
            )["AuthorizerId"]
        key = "GET /pets/{id}" if protocol == "HTTP" else "$connect"
        target = f"integrations/{integration}"
        client.create_route(ApiId=self.id, RouteKey=key, Target=target, **guard)
        default = client.create_route(
            ApiId=self.id,
            RouteKey="$default",
            Target=target,
            **({} if protocol == "HTTP" else {"RouteResponseSelectionExpression": "$default"}),
        )["RouteId"]
        if protocol == "WEBSOCKET":
            client.create_route_response(
                ApiId=self.id, RouteId=default, RouteResponseKey="$default"
            )
        client.create_stage(ApiId=self.id, StageName="prod", AutoDeploy=True)

    def uri(self, name: str) -> str:
        return (
            f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/"
            f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}/invocations"
        )

    def get(self, say: str | None = None, path: str = "/pets/1", **headers: str) -> WebAnswer:
        told = {} if say is None else {"X-Say": say}
        return fetch(f"{self.endpoint}/prod{path}", headers={**told, **headers})

    @property
    def arn(self) -> str:
        return f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{self.id}/prod"


Make = Callable[..., Guarded]


@pytest.fixture
def guard(platform: Platform, deploy: Deployer) -> Iterator[Make]:
    made: list[Guarded] = []

    def make(protocol: str = "HTTP", **options: Any) -> Guarded:
        made.append(Guarded(platform, deploy, protocol, **options))
        return made[-1]

    yield make
    for api in made:
        api.client.delete_api(ApiId=api.id)


SIMPLE = {"AuthorizerPayloadFormatVersion": "2.0", "EnableSimpleResponses": True}


def test_a_simple_answer_lets_in_or_not(guard: Make) -> None:
    api = guard(**SIMPLE, IdentitySource=["$request.header.X-Say", "$context.http.method"])
    answer = api.get("yes")
    assert answer.status == 200
    told = answer.json["requestContext"]["authorizer"]["lambda"]
    event = json.loads(told["event"])
    assert event["type"] == "REQUEST"
    assert event["routeArn"] == f"{api.arn}/GET/pets/{{id}}"
    assert event["identitySource"] == ["yes", "GET"]
    assert event["routeKey"] == "GET /pets/{id}"
    assert event["pathParameters"] == {"id": "1"}
    assert not {"body", "isBase64Encoded"} & event.keys()
    refused = api.get("no")
    assert (refused.status, refused.json) == (403, {"message": "Forbidden"})


def test_without_its_identity_nobody_is_asked(guard: Make) -> None:
    api = guard(**SIMPLE, IdentitySource=["$request.header.X-Say", "$request.querystring.q"])
    for answer in (api.get("yes"), api.get(path="/pets/1?q=1")):
        assert (answer.status, answer.json) == (401, {"message": "Unauthorized"})
    assert api.get("yes", "/pets/1?q=1").status == 200


@pytest.mark.parametrize("say", ["raise", "nonsense", "Allow this"])
def test_an_authorizer_that_fails_lets_nobody_in(guard: Make, say: str) -> None:
    answer = guard(**SIMPLE).get(say)
    assert (answer.status, answer.json) == (500, {"message": "Internal Server Error"})


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_policy_says_what_may_be_called(guard: Make, version: str) -> None:
    api = guard(AuthorizerPayloadFormatVersion=version, PayloadFormatVersion=version)
    answer = api.get("Allow this")
    assert answer.status == 200
    told = answer.json["requestContext"]["authorizer"]
    assert told["lambda"]["asked"] == 1 if version == "2.0" else told["principalId"] == "me"
    for say, status in (
        (f"Allow {api.arn}/*", 200),
        (f"Allow {api.arn}/POST/*", 403),
        (f"Deny {api.arn}/*", 403),
        ("Allow arn:aws:execute-api:*:*:other/*", 403),
    ):
        assert api.get(say).status == status


def test_an_answer_is_remembered_as_long_as_configured(guard: Make) -> None:
    def count(api: Guarded, **headers: str) -> int:
        told = api.get("yes", **headers).json["requestContext"]["authorizer"]["lambda"]
        return int(told["asked"])

    source = ["$request.header.X-Who"]
    api = guard(**SIMPLE, IdentitySource=source, AuthorizerResultTtlInSeconds=60)
    assert [count(api, **{"X-Who": "a"}) for _ in range(3)] == [1] * 3
    assert count(api, **{"X-Who": "b"}) == 2
    fresh = guard(**SIMPLE, IdentitySource=source)
    assert [count(fresh, **{"X-Who": "a"}) for _ in range(3)] == [1, 2, 3]


def test_other_routes_stay_open(guard: Make) -> None:
    assert guard(**SIMPLE).get(path="/other").status == 200


def test_an_authorizer_in_use_cannot_be_deleted(guard: Make) -> None:
    api = guard(**SIMPLE)
    with pytest.raises(api.client.exceptions.ConflictException):
        api.client.delete_authorizer(ApiId=api.id, AuthorizerId=api.authorizer_id)
    found = api.client.get_authorizer(ApiId=api.id, AuthorizerId=api.authorizer_id)
    assert (found["Name"], found["EnableSimpleResponses"]) == ("guard", True)


def test_what_is_no_authorizer(guard: Make) -> None:
    api = guard(**SIMPLE)
    good = {
        "ApiId": api.id,
        "Name": "other",
        "AuthorizerType": "REQUEST",
        "AuthorizerUri": api.uri("f"),
        "IdentitySource": [],
        "AuthorizerPayloadFormatVersion": "2.0",
    }
    for wrong in (
        {"AuthorizerUri": "arn:aws:sqs:us-east-1:1:q"},
        {"AuthorizerPayloadFormatVersion": "3.0"},
        {"AuthorizerPayloadFormatVersion": "1.0", "EnableSimpleResponses": True},
        {"IdentitySource": ["$request.body.x"]},
        {"AuthorizerType": "JWT"},
        {"AuthorizerType": "JWT", "IdentitySource": ["$request.header.A"]},
        {
            "AuthorizerType": "JWT",
            "IdentitySource": ["$request.header.A"],
            "JwtConfiguration": {"Issuer": "file:///a", "Audience": ["a"]},
        },
    ):
        with pytest.raises(api.client.exceptions.BadRequestException):
            api.client.create_authorizer(**{**good, **wrong})
    with pytest.raises(api.client.exceptions.BadRequestException):
        api.client.create_route(
            ApiId=api.id, RouteKey="GET /x", AuthorizationType="CUSTOM", AuthorizerId="none"
        )


def test_signed_requests(guard: Make) -> None:
    api = guard(AuthorizationType="AWS_IAM")

    def ask(account: str, service: str = "execute-api") -> WebAnswer:
        url = f"{api.endpoint}/prod/pets/1"
        request = AWSRequest("GET", url)
        SigV4Auth(Credentials(account, "any"), service, REGION).add_auth(request)
        return fetch(url, headers=dict(request.headers))

    answer = ask(ACCOUNT)
    assert answer.status == 200
    assert answer.json["requestContext"]["authorizer"]["iam"]["accountId"] == ACCOUNT
    assert "authorization" not in answer.json["headers"]
    for refused in (api.get(), ask("111122223333"), ask(ACCOUNT, "lambda")):
        assert (refused.status, refused.json) == (403, {"message": "Forbidden"})


def test_who_may_connect(guard: Make) -> None:
    api = guard("WEBSOCKET", IdentitySource=["route.request.header.X-Say"])

    def ask(**headers: str) -> Any:
        uri = f"{api.platform.url.replace('http', 'ws')}/_firelet/api/{api.id}/prod"
        with connect(uri, proxy=None, additional_headers=headers) as client:
            client.send("hello")
            return json.loads(client.recv(30))

    event = ask(**{"X-Say": "Allow this"})
    told = event["requestContext"]["authorizer"]
    assert told["principalId"] == "me"
    assert json.loads(told["event"])["methodArn"] == f"{api.arn}/$connect"
    for headers, status in (({}, 401), ({"X-Say": "Deny this"}, 403), ({"X-Say": "raise"}, 502)):
        with pytest.raises(InvalidStatus) as caught:
            ask(**headers)
        assert caught.value.response.status_code == status


class TestTokens:
    """JWT authorizers, with an issuer of our own."""

    @pytest.fixture
    def issuer(self) -> Iterator[Issuer]:
        with running_issuer() as issuer:
            yield issuer

    @pytest.fixture
    def api(self, guard: Make, issuer: Issuer) -> Guarded:
        return guard(
            AuthorizationType="JWT",
            AuthorizerType="JWT",
            JwtConfiguration={"Issuer": issuer.url, "Audience": ["me"]},
            IdentitySource=["$request.header.Authorization"],
        )

    def claims(self, issuer: Issuer, **changed: Any) -> dict[str, Any]:
        return {"iss": issuer.url, "aud": "me", "exp": time.time() + 600, **changed}

    def test_a_good_token_is_told_to_the_function(self, api: Guarded, issuer: Issuer) -> None:
        claims = self.claims(issuer, sub="you", groups=["a", "b"], admin=True, exp=4_000_000_000)
        token = issuer.signers[0].token(claims)
        for text in (f"Bearer {token}", token):
            answer = api.get(Authorization=text)
            assert answer.status == 200
            assert answer.json["requestContext"]["authorizer"]["jwt"] == {
                "claims": {
                    "iss": issuer.url,
                    "aud": "me",
                    "sub": "you",
                    "groups": "[a b]",
                    "admin": "true",
                    "exp": "4000000000",
                },
                "scopes": None,
            }
        assert issuer.asked == 1

    def test_others_are_unauthorized(self, api: Guarded, issuer: Issuer) -> None:
        good = self.claims(issuer)
        signer = issuer.signers[0]
        for text in (
            None,
            "",
            "Bearer ",
            "Bearer a.b.c",
            signer.token({**good, "aud": "you"}),
            signer.token({**good, "exp": 1}),
            signer.token(good, alg="none"),
            signer.token(good, kid="two"),
            Signer("one").token(good),
        ):
            headers = {} if text is None else {"Authorization": text}
            answer = api.get(**headers)
            assert (answer.status, answer.json) == (401, {"message": "Unauthorized"})

    def test_scopes_of_a_route(self, api: Guarded, issuer: Issuer) -> None:
        routes = api.client.get_routes(ApiId=api.id)["Items"]
        (guarded,) = [route for route in routes if "AuthorizerId" in route]
        api.client.update_route(
            ApiId=api.id, RouteId=guarded["RouteId"], AuthorizationScopes=["read", "write"]
        )
        signer = issuer.signers[0]
        for scope, status in (("other read", 200), ("other", 403)):
            token = signer.token(self.claims(issuer, scope=scope))
            assert api.get(Authorization=token).status == status

    def test_an_issuer_that_is_gone_lets_nobody_in(self, guard: Make) -> None:
        with running_issuer() as issuer:
            token = issuer.signers[0].token(self.claims(issuer))
        api = guard(
            AuthorizationType="JWT",
            AuthorizerType="JWT",
            JwtConfiguration={"Issuer": issuer.url, "Audience": ["me"]},
            IdentitySource=["$request.header.Authorization"],
        )
        assert api.get(Authorization=token).status == 401
