"""REST APIs of templates: SAM's Api, and CloudFormation's own types."""

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
  Api:
    Type: AWS::Serverless::Api
    Properties:
      StageName: prod
      Cors: "'*'"
      Variables: {{colour: red}}
      MethodSettings:
        - ResourcePath: "/*"
          HttpMethod: "*"
          ThrottlingRateLimit: 100
          ThrottlingBurstLimit: 50
      Auth:
        ApiKeyRequired: true
        AddApiKeyRequiredToCorsPreflight: false
        UsagePlan: {{CreateUsagePlan: PER_API, UsagePlanName: pets-plan}}
  Pets:
    Type: AWS::Serverless::Function
    Properties:
      InlineCode: |
        def handler(event, context):
            body = event["resource"] + " " + event["stageVariables"]["colour"]
            return {{"statusCode": 200, "body": body}}
      Handler: index.handler
      Runtime: {PYTHON}
      Events:
        One:
          Type: Api
          Properties: {{Path: "/pets/{{id}}", Method: get, RestApiId: !Ref Api}}
Outputs:
  Api: {{Value: !Ref Api}}
"""


def existing(client: Any) -> set[str]:
    """Ids of what other tests may have made in the account."""
    operations = ("get_rest_apis", "get_api_keys", "get_usage_plans")
    return {i["id"] for name in operations for i in getattr(client, name)(limit=500)["items"]}


@pytest.fixture
def stacks(platform: Platform, tmp_path: Path) -> Iterator[Stacks]:
    client = platform.client("apigateway")
    before = existing(client)
    yield Stacks(platform, tmp_path)
    assert existing(client) == before


def test_a_rest_api_of_sam(stacks: Stacks, platform: Platform) -> None:
    client = platform.client("apigateway")
    template = stacks.write(SAM)
    outputs, changes = stacks.deploy(template, "pets")
    assert "create AWS::ApiGateway::RestApi Api" in changes
    api = outputs["Api"]
    address = f"{platform.url}/_firelet/api/{api}/prod"
    plans = client.get_usage_plans(limit=500)["items"]
    plan = next(item["id"] for item in plans if item["name"] == "pets-plan")
    (key,) = client.get_usage_plan_keys(usagePlanId=plan)["items"]
    headers = {"X-Api-Key": key["value"]}
    assert fetch(f"{address}/pets/1").status == 403
    assert fetch(f"{address}/pets/1", headers=headers).body == b"/pets/{id} red"
    assert fetch(f"{address}/pets/1", "OPTIONS").headers["access-control-allow-origin"] == "*"
    settings = client.get_stage(restApiId=api, stageName="prod")["methodSettings"]
    assert settings["*/*"]["throttlingRateLimit"] == 100
    assert not [line for line in stacks.deploy(template, "pets")[1] if "keep" not in line]

    changed = SAM.replace("/pets/{id}", "/cats/{id}").replace("colour: red", "colour: blue")
    again, changes = stacks.deploy(stacks.write(changed), "pets")
    assert again["Api"] == api
    assert "update AWS::ApiGateway::RestApi Api" in changes
    assert fetch(f"{address}/cats/1", headers=headers).body == b"/cats/{id} blue"
    assert fetch(f"{address}/pets/1", headers=headers).status == 403
    stacks.delete("pets")
    assert fetch(f"{address}/cats/1").status == 403


def resources(**method: Any) -> dict[str, Any]:
    """An API part by part."""

    def part(kind: str, **properties: Any) -> dict[str, Any]:
        return {"Type": f"AWS::ApiGateway::{kind}", "Properties": properties}

    api = {"Ref": "Api"}
    uri = {
        "Fn::Sub": "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/"
        "${Function.Arn}/invocations"
    }
    code = "def handler(e, c): return {'statusCode': 200, 'body': e['path']}\n"
    return {
        "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": TRUST}},
        "Function": {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "Runtime": PYTHON,
                "Handler": "index.handler",
                "Role": {"Fn::GetAtt": ["Role", "Arn"]},
                "Code": {"ZipFile": code},
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
        "Api": part("RestApi", Name="parts", Tags=[{"Key": "a", "Value": "1"}]),
        "Resource": part(
            "Resource",
            RestApiId=api,
            ParentId={"Fn::GetAtt": ["Api", "RootResourceId"]},
            PathPart="a",
        ),
        "Guard": part(
            "Authorizer",
            RestApiId=api,
            Name="guard",
            Type="TOKEN",
            AuthorizerUri=uri,
            IdentitySource="method.request.header.Authorization",
        ),
        "Method": part(
            "Method",
            RestApiId=api,
            ResourceId={"Ref": "Resource"},
            HttpMethod="GET",
            AuthorizationType="NONE",
            Integration={"Type": "AWS_PROXY", "IntegrationHttpMethod": "POST", "Uri": uri},
            MethodResponses=[{"StatusCode": "200"}],
            **method,
        ),
        "Deployment": {**part("Deployment", RestApiId=api), "DependsOn": ["Method"]},
        "Stage": part("Stage", RestApiId=api, StageName="prod", DeploymentId={"Ref": "Deployment"}),
    }


def test_the_types_of_cloudformation(stacks: Stacks, platform: Platform) -> None:
    output = {"Api": {"Value": {"Ref": "Api"}}}

    def deploy(**method: Any) -> tuple[str, list[str]]:
        template = {"Resources": resources(**method), "Outputs": output}
        outputs, changes = stacks.deploy(stacks.write(json.dumps(template)), "parts")
        return outputs["Api"], [line for line in changes if not line.startswith("keep")]

    api, changes = deploy()
    assert len(changes) == 9
    assert fetch(f"{platform.url}/_firelet/api/{api}/prod/a").body == b"/a"
    assert deploy() == (api, [])
    assert deploy(ApiKeyRequired=True) == (api, ["update AWS::ApiGateway::Method Method"])
    client = platform.client("apigateway")
    items = client.get_resources(restApiId=api, embed=["methods"])["items"]
    (method,) = [m for i in items for m in i.get("resourceMethods", {}).values()]
    assert method["apiKeyRequired"] is True
    assert method["methodResponses"] == {"200": {"statusCode": "200"}}
    stacks.delete("parts")
