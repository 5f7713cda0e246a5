"""HTTP and WebSocket APIs of templates: SAM's HttpApi, and CloudFormation's own types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from running_platform import PYTHON, TRUST, Platform
from stack_runs import Stacks
from web_client import fetch

pytest_plugins = ("platform_fixtures",)
pytest.importorskip("samtranslator", reason="the extra `sam` is missing")

SAM = f"""
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Resources:
  Pets:
    Type: AWS::Serverless::Function
    Properties:
      InlineCode: |
        def handler(event, context):
            return event["routeKey"]
      Handler: index.handler
      Runtime: {PYTHON}
      Events:
        One:
          Type: HttpApi
          Properties: {{Path: "/pets/{{id}}", Method: get}}
        Rest:
          Type: HttpApi
Outputs:
  Endpoint: {{Value: !GetAtt ServerlessHttpApi.ApiEndpoint}}
"""


@pytest.fixture
def stacks(platform: Platform, tmp_path: Path) -> Iterator[Stacks]:
    made = Stacks(platform, tmp_path)
    yield made
    made.check_nothing_left()
    assert platform.client("apigatewayv2").get_apis()["Items"] == []


def test_an_http_api_of_sam(stacks: Stacks) -> None:
    template = stacks.write(SAM)
    outputs, changes = stacks.deploy(template, "pets")
    assert "create AWS::ApiGatewayV2::Api ServerlessHttpApi" in changes
    endpoint = outputs["Endpoint"]
    assert fetch(f"{endpoint}/pets/1").body == b"GET /pets/{id}"
    assert fetch(f"{endpoint}/other").body == b"$default"
    assert not [line for line in stacks.deploy(template, "pets")[1] if "keep" not in line]

    changed = stacks.write(SAM.replace("/pets/{id}", "/cats/{id}"))
    again, changes = stacks.deploy(changed, "pets")
    assert again["Endpoint"] == endpoint
    assert "update AWS::ApiGatewayV2::Api ServerlessHttpApi" in changes
    assert fetch(f"{endpoint}/cats/1").body == b"GET /cats/{id}"
    assert fetch(f"{endpoint}/pets/1").body == b"$default"
    stacks.delete("pets")
    assert fetch(f"{endpoint}/cats/1").status == 403


def resources(**route: Any) -> dict[str, Any]:
    """A WebSocket API and an HTTP API with an authorizer, part by part."""

    def part(kind: str, **properties: Any) -> dict[str, Any]:
        return {"Type": f"AWS::ApiGatewayV2::{kind}", "Properties": properties}

    arn = {"Fn::GetAtt": ["Function", "Arn"]}
    target = {"Fn::Sub": "integrations/${Integration}"}
    return {
        "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": TRUST}},
        "Function": {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "Runtime": PYTHON,
                "Handler": "index.handler",
                "Role": {"Fn::GetAtt": ["Role", "Arn"]},
                "Code": {"ZipFile": "def handler(e, c): return {'isAuthorized': True}\n"},
            },
        },
        "Allow": {
            "Type": "AWS::Lambda::Permission",
            "Properties": {
                "FunctionName": {"Ref": "Function"},
                "Action": "lambda:InvokeFunction",
                "Principal": "apigateway.amazonaws.com",
            },
        },
        "Api": part("Api", Name="parts", ProtocolType="HTTP", Tags={"a": "1"}),
        "Integration": part(
            "Integration",
            ApiId={"Ref": "Api"},
            IntegrationType="AWS_PROXY",
            IntegrationUri=arn,
            PayloadFormatVersion="2.0",
            TimeoutInMillis="5000",
        ),
        "Guard": part(
            "Authorizer",
            ApiId={"Ref": "Api"},
            AuthorizerType="REQUEST",
            Name="guard",
            AuthorizerUri={
                "Fn::Sub": "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/"
                "${Function.Arn}/invocations"
            },
            AuthorizerPayloadFormatVersion="2.0",
            EnableSimpleResponses=True,
            IdentitySource=["$request.header.X-Key"],
        ),
        "Route": part("Route", ApiId={"Ref": "Api"}, RouteKey="GET /a", Target=target, **route),
        "Stage": part("Stage", ApiId={"Ref": "Api"}, StageName="$default", AutoDeploy=True),
        "Sockets": part(
            "Api",
            Name="sockets",
            ProtocolType="WEBSOCKET",
            RouteSelectionExpression="$request.body.action",
        ),
        "Connect": part("Route", ApiId={"Ref": "Sockets"}, RouteKey="$connect"),
        "Answer": part(
            "RouteResponse",
            ApiId={"Ref": "Sockets"},
            RouteId={"Ref": "Connect"},
            RouteResponseKey="$default",
        ),
        "Deployment": {
            **part("Deployment", ApiId={"Ref": "Sockets"}, Description="first"),
            "DependsOn": ["Connect"],
        },
        "Prod": part(
            "Stage",
            ApiId={"Ref": "Sockets"},
            StageName="prod",
            DeploymentId={"Ref": "Deployment"},
        ),
    }


def test_the_types_of_cloudformation(stacks: Stacks) -> None:
    output = {"Endpoint": {"Value": {"Fn::GetAtt": ["Api", "ApiEndpoint"]}}}

    def deploy(**route: Any) -> tuple[str, list[str]]:
        template = {"Resources": resources(**route), "Outputs": output}
        outputs, changes = stacks.deploy(stacks.write(json.dumps(template)), "parts")
        return outputs["Endpoint"], [line for line in changes if not line.startswith("keep")]

    endpoint, changes = deploy()
    assert len(changes) == 13
    assert fetch(f"{endpoint}/a").json == {"isAuthorized": True}
    assert deploy() == (endpoint, [])

    guarded = {"AuthorizationType": "CUSTOM", "AuthorizerId": {"Ref": "Guard"}}
    assert deploy(**guarded) == (endpoint, ["update AWS::ApiGatewayV2::Route Route"])
    assert fetch(f"{endpoint}/a").status == 401
    assert fetch(f"{endpoint}/a", headers={"X-Key": "x"}).status == 200
    stacks.delete("parts")
