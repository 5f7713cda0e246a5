"""The documents and permissions that SAM makes of ``Api`` events, as they come out of its own
translator, given to the API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from firelet.stacks.sam import transform
from rest_apis import ECHO, Api
from running_platform import ACCOUNT, REGION, Deployer, Platform

pytest_plugins = ("platform_fixtures",)

AUTHORIZER = """
def handler(event, context):
    effect = "Allow" if event["authorizationToken"] == "let me in" else "Deny"
    return {
        "principalId": "me",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {"Action": "execute-api:Invoke", "Effect": effect, "Resource": event["methodArn"]}
            ],
        },
    }
"""


def function(**properties: Any) -> dict[str, Any]:
    settings = {"Handler": "app.handler", "Runtime": "python3.12", "CodeUri": "s3://bucket/key"}
    return {"Type": "AWS::Serverless::Function", "Properties": {**settings, **properties}}


def event(path: str, method: str, **options: Any) -> dict[str, Any]:
    return {"Type": "Api", "Properties": {"Path": path, "Method": method, **options}}


def template(**api: Any) -> dict[str, Any]:
    options = {"RestApiId": {"Ref": "Api"}} if api else {}
    events = {
        "Hello": event("/hello/{name}", "get", **options),
        "All": event("/all/{proxy+}", "any", **options),
    }
    resources = {"Function": function(Events=events), "Authorizer": function()}
    if api:
        resources["Api"] = {
            "Type": "AWS::Serverless::Api",
            "Properties": {"StageName": "Prod", **api},
        }
    return {"Transform": "AWS::Serverless-2016-10-31", "Resources": resources}


class Deployment:
    """What SAM's translation of a template asks of API Gateway and Lambda, done."""

    def __init__(self, platform: Platform, deploy: Deployer, document: dict[str, Any]) -> None:
        self._names = {"Function": deploy(ECHO), "Authorizer": deploy(AUTHORIZER)}
        translated = transform(document, {}, REGION, dict)["Resources"]
        by_type: dict[str, list[dict[str, Any]]] = {}
        for resource in translated.values():
            by_type.setdefault(resource["Type"], []).append(resource.get("Properties", {}))
        (rest,) = by_type["AWS::ApiGateway::RestApi"]
        client = platform.client("apigateway")
        self._api_name = next(
            name for name, item in translated.items() if item["Type"] == "AWS::ApiGateway::RestApi"
        )
        body = json.dumps(self._resolve(rest["Body"])).encode()
        made = client.import_rest_api(body=body)
        self.api = Api(platform, client, made["id"], made["rootResourceId"])
        for permission in by_type["AWS::Lambda::Permission"]:
            self._permit(platform, permission)
        (stage,) = by_type["AWS::ApiGateway::Stage"]
        self.api.deploy(stage["StageName"])

    def _permit(self, platform: Platform, permission: dict[str, Any]) -> None:
        given = self._resolve(permission)
        client = platform.client("lambda")
        client.add_permission(StatementId=f"sam{abs(hash(str(given)))}", **given)

    def _resolve(self, value: Any) -> Any:
        """Intrinsic functions of the few kinds that SAM uses here."""
        match value:
            case {"Fn::Sub": str(text)}:
                return self._substitute(text, {})
            case {"Fn::Sub": [text, variables]}:
                return self._substitute(text, self._resolve(variables))
            case {"Fn::GetAtt": [name, "Arn"]}:
                return self._arn(name)
            case {"Ref": name}:
                return self._names.get(name) or self._reference(name)
            case dict():
                return {key: self._resolve(item) for key, item in value.items()}
            case list():
                return [self._resolve(item) for item in value]
        return value

    def _reference(self, name: str) -> str:
        pseudo = {
            "AWS::StackName": "sam-app",
            "AWS::Region": REGION,
            "AWS::AccountId": ACCOUNT,
            "AWS::Partition": "aws",
        }
        return self.api.id if name == self._api_name else pseudo[name]

    def _substitute(self, text: str, variables: dict[str, str]) -> str:
        for name, value in variables.items():
            text = text.replace(f"${{{name}}}", value)
        for name in self._names:
            text = text.replace(f"${{{name}.Arn}}", self._arn(name))
        for name in ("AWS::Region", "AWS::AccountId", "AWS::Partition"):
            text = text.replace(f"${{{name}}}", self._reference(name))
        return text

    def _arn(self, name: str) -> str:
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self._names[name]}"


@pytest.fixture
def sam() -> None:
    pytest.importorskip("samtranslator", reason="aws-sam-translator is not installed")


@pytest.mark.usefixtures("sam")
def test_the_implicit_api_of_a_template_answers(platform: Platform, deploy: Deployer) -> None:
    api = Deployment(platform, deploy, template()).api

    hello = api.fetch("/Prod/hello/me").json
    assert (hello["resource"], hello["pathParameters"]) == ("/hello/{name}", {"name": "me"})
    assert api.fetch("/Prod/all/a/b", "PUT").json["pathParameters"] == {"proxy": "a/b"}
    assert api.fetch("/Prod/hello/me", "POST").status == 403


@pytest.mark.usefixtures("sam")
def test_cors_of_a_template_is_a_mock(platform: Platform, deploy: Deployer) -> None:
    api = Deployment(
        platform,
        deploy,
        template(
            Cors={
                "AllowOrigin": "'https://example.com'",
                "AllowMethods": "'GET'",
                "AllowHeaders": "'X-Own'",
                "MaxAge": "'60'",
            },
            BinaryMediaTypes=["image~1png"],
        ),
    ).api

    preflight = api.fetch("/Prod/hello/me", "OPTIONS")

    assert preflight.status == 200
    allowed = {k: v for k, v in preflight.headers.items() if k.startswith("access-control-")}
    assert allowed == {
        "access-control-allow-headers": "X-Own",
        "access-control-allow-methods": "GET",
        "access-control-allow-origin": "https://example.com",
        "access-control-max-age": "60",
    }
    shown = api.client.get_rest_api(restApiId=api.id)
    assert shown["binaryMediaTypes"] == ["image/png"]


@pytest.mark.usefixtures("sam")
def test_an_authorizer_and_a_key_of_a_template_decide(platform: Platform, deploy: Deployer) -> None:
    auth = {
        "DefaultAuthorizer": "Lambda",
        "ApiKeyRequired": False,
        "Authorizers": {"Lambda": {"FunctionArn": {"Fn::GetAtt": ["Authorizer", "Arn"]}}},
    }
    api = Deployment(platform, deploy, template(Auth=auth)).api

    def ask(token: str) -> int:
        return api.fetch("/Prod/hello/me", headers={"Authorization": token}).status

    assert ask("let me in") == 200
    assert ask("please") == 403
    assert api.fetch("/Prod/hello/me").status == 401


@pytest.mark.usefixtures("sam")
def test_a_key_of_a_template_is_demanded(platform: Platform, deploy: Deployer) -> None:
    api = Deployment(platform, deploy, template(Auth={"ApiKeyRequired": True})).api

    assert api.fetch("/Prod/hello/me").json == {"message": "Forbidden"}
