"""Terraform makes REST APIs: apply, plan again, change, destroy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.terraform import Terraform, make_runner
from running_platform import PYTHON, REGION, Platform, pack
from web_client import fetch

pytest_plugins = ("platform_fixtures",)

CONFIGURATION = """
variable "colour" { default = "red" }
resource "aws_iam_role" "role" {
  name               = "tf-rest-role"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })
}
resource "aws_lambda_function" "function" {
  function_name    = "tf-rest"
  role             = aws_iam_role.role.arn
  handler          = "app.handler"
  runtime          = "%(runtime)s"
  filename         = "${path.module}/code.zip"
  source_code_hash = filebase64sha256("${path.module}/code.zip")
}
resource "aws_lambda_permission" "gateway" {
  statement_id  = "gateway"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.function.function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_api_gateway_rest_api.api.execution_arn}/*/*"
}
resource "aws_api_gateway_rest_api" "api" {
  name               = "tf-api"
  description        = var.colour
  binary_media_types = ["image/png", "application/octet-stream"]
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = "*"
      Action    = "execute-api:Invoke"
      Resource  = "*"
    }]
  })
  endpoint_configuration { types = ["REGIONAL"] }
  tags = { team = var.colour }
}
resource "aws_api_gateway_resource" "proxy" {
  rest_api_id = aws_api_gateway_rest_api.api.id
  parent_id   = aws_api_gateway_rest_api.api.root_resource_id
  path_part   = "{proxy+}"
}
resource "aws_api_gateway_request_validator" "parameters" {
  name                        = "parameters"
  rest_api_id                 = aws_api_gateway_rest_api.api.id
  validate_request_parameters = true
}
resource "aws_api_gateway_method" "proxy" {
  rest_api_id          = aws_api_gateway_rest_api.api.id
  resource_id          = aws_api_gateway_resource.proxy.id
  http_method          = "ANY"
  authorization        = "NONE"
  api_key_required     = true
  request_validator_id = aws_api_gateway_request_validator.parameters.id
  request_parameters = {
    "method.request.path.proxy"       = true
    "method.request.querystring.mode" = var.colour == "blue"
  }
}
resource "aws_api_gateway_integration" "proxy" {
  rest_api_id             = aws_api_gateway_rest_api.api.id
  resource_id             = aws_api_gateway_resource.proxy.id
  http_method             = aws_api_gateway_method.proxy.http_method
  integration_http_method = "POST"
  type                    = "AWS_PROXY"
  uri                     = aws_lambda_function.function.invoke_arn
  timeout_milliseconds    = var.colour == "red" ? 10000 : 20000
}
resource "aws_api_gateway_resource" "cors" {
  rest_api_id = aws_api_gateway_rest_api.api.id
  parent_id   = aws_api_gateway_rest_api.api.root_resource_id
  path_part   = "cors"
}
resource "aws_api_gateway_method" "cors" {
  rest_api_id   = aws_api_gateway_rest_api.api.id
  resource_id   = aws_api_gateway_resource.cors.id
  http_method   = "OPTIONS"
  authorization = "NONE"
}
resource "aws_api_gateway_integration" "cors" {
  rest_api_id       = aws_api_gateway_rest_api.api.id
  resource_id       = aws_api_gateway_resource.cors.id
  http_method       = aws_api_gateway_method.cors.http_method
  type              = "MOCK"
  request_templates = { "application/json" = jsonencode({ statusCode = 200 }) }
}
resource "aws_api_gateway_method_response" "cors" {
  rest_api_id     = aws_api_gateway_rest_api.api.id
  resource_id     = aws_api_gateway_resource.cors.id
  http_method     = aws_api_gateway_method.cors.http_method
  status_code     = "200"
  response_models = { "application/json" = "Empty" }
  response_parameters = {
    "method.response.header.Access-Control-Allow-Origin" = true
  }
}
resource "aws_api_gateway_integration_response" "cors" {
  rest_api_id = aws_api_gateway_rest_api.api.id
  resource_id = aws_api_gateway_resource.cors.id
  http_method = aws_api_gateway_method.cors.http_method
  status_code = aws_api_gateway_method_response.cors.status_code
  response_parameters = {
    "method.response.header.Access-Control-Allow-Origin" = "'https://${var.colour}.example'"
  }
  depends_on = [aws_api_gateway_integration.cors]
}
resource "aws_api_gateway_authorizer" "token" {
  name                             = "token"
  rest_api_id                      = aws_api_gateway_rest_api.api.id
  authorizer_uri                   = aws_lambda_function.function.invoke_arn
  authorizer_result_ttl_in_seconds = var.colour == "red" ? 0 : 60
}
resource "aws_api_gateway_model" "pet" {
  rest_api_id  = aws_api_gateway_rest_api.api.id
  name         = "Pet"
  content_type = "application/json"
  schema       = jsonencode({ type = "object" })
}
resource "aws_api_gateway_gateway_response" "missing" {
  rest_api_id         = aws_api_gateway_rest_api.api.id
  response_type       = "MISSING_AUTHENTICATION_TOKEN"
  status_code         = "404"
  response_templates  = { "application/json" = "{\\"message\\":$context.error.messageString}" }
  response_parameters = { "gatewayresponse.header.X-Colour" = "'${var.colour}'" }
}
resource "aws_api_gateway_deployment" "deployment" {
  rest_api_id = aws_api_gateway_rest_api.api.id
  triggers    = { colour = var.colour }
  depends_on = [
    aws_api_gateway_integration.proxy,
    aws_api_gateway_integration_response.cors,
    aws_api_gateway_gateway_response.missing,
  ]
  lifecycle { create_before_destroy = true }
}
resource "aws_api_gateway_stage" "prod" {
  rest_api_id   = aws_api_gateway_rest_api.api.id
  deployment_id = aws_api_gateway_deployment.deployment.id
  stage_name    = "prod"
  variables     = { colour = var.colour }
  tags          = { team = var.colour }
}
resource "aws_api_gateway_method_settings" "all" {
  rest_api_id = aws_api_gateway_rest_api.api.id
  stage_name  = aws_api_gateway_stage.prod.stage_name
  method_path = "*/*"
  settings {
    metrics_enabled        = true
    throttling_rate_limit  = var.colour == "red" ? 1000 : 500
    throttling_burst_limit = 500
  }
}
resource "aws_api_gateway_api_key" "key" {
  name        = "tf-key"
  description = var.colour
  tags        = { team = var.colour }
}
resource "aws_api_gateway_usage_plan" "plan" {
  name        = "tf-plan"
  description = var.colour
  api_stages {
    api_id = aws_api_gateway_rest_api.api.id
    stage  = aws_api_gateway_stage.prod.stage_name
    throttle {
      path        = "/{proxy+}/ANY"
      burst_limit = 200
      rate_limit  = 100
    }
  }
  throttle_settings {
    burst_limit = var.colour == "red" ? 100 : 50
    rate_limit  = 100
  }
  quota_settings {
    limit  = 1000
    offset = 2
    period = "WEEK"
  }
}
resource "aws_api_gateway_usage_plan_key" "key" {
  key_id        = aws_api_gateway_api_key.key.id
  key_type      = "API_KEY"
  usage_plan_id = aws_api_gateway_usage_plan.plan.id
}
resource "aws_api_gateway_rest_api" "described" {
  name = "tf-described"
  body = jsonencode({
    openapi = "3.0.1"
    info    = { title = "tf-described", version = "1.0" }
    paths = {
      "/hello" = {
        get = {
          x-amazon-apigateway-integration = {
            type       = "AWS_PROXY"
            httpMethod = "POST"
            uri        = aws_lambda_function.function.invoke_arn
          }
        }
      }
    }
  })
}
resource "aws_api_gateway_account" "account" {
  cloudwatch_role_arn = aws_iam_role.role.arn
}
output "api" { value = aws_api_gateway_rest_api.api.id }
output "key" {
  value     = aws_api_gateway_api_key.key.value
  sensitive = true
}
output "url" { value = aws_api_gateway_stage.prod.invoke_url }
"""
CODE = (
    "def handler(event, context):\n"
    "    return {'statusCode': 200, 'body': event['stageVariables']['colour']}\n"
)


@pytest.fixture
def terraform(platform: Platform, tmp_path: Path) -> Iterator[Terraform]:
    work = tmp_path / "work"
    work.mkdir()
    (work / "code.zip").write_bytes(pack({"app.py": CODE}))
    run = make_runner(
        tmp_path,
        platform,
        CONFIGURATION % {"runtime": PYTHON},
        services=("lambda", "iam", "sts", "apigateway", "ec2"),
    )
    yield run
    run("destroy", "-auto-approve", "-input=false", "-var", "colour=blue")


@pytest.mark.timeout(400)
def test_terraform_makes_a_rest_api_sees_no_drift_changes_and_destroys(
    terraform: Terraform, platform: Platform
) -> None:
    terraform("apply", "-auto-approve", "-input=false")
    outputs = json.loads(terraform("output", "-json").stdout)
    api, key = outputs["api"]["value"], outputs["key"]["value"]
    assert outputs["url"]["value"].startswith(f"https://{api}.execute-api.{REGION}.")
    address = f"{platform.url}/_firelet/api/{api}/prod"

    assert fetch(f"{address}/x").json == {"message": "Forbidden"}
    assert fetch(f"{address}/x", headers={"x-api-key": key}).body == b"red"
    preflight = fetch(f"{address}/cors", "OPTIONS")
    assert preflight.headers["access-control-allow-origin"] == "https://red.example"

    # Exit code 0 with -detailed-exitcode: nothing would be changed.
    terraform("plan", "-detailed-exitcode", "-input=false")

    terraform("apply", "-auto-approve", "-input=false", "-var", "colour=blue")
    assert fetch(f"{address}/x", headers={"x-api-key": key}).status == 400
    assert fetch(f"{address}/x?mode=a", headers={"x-api-key": key}).body == b"blue"
    missing = fetch(f"{address}/")
    assert (missing.status, missing.headers["x-colour"]) == (404, "blue")
    terraform("plan", "-detailed-exitcode", "-input=false", "-var", "colour=blue")

    terraform("destroy", "-auto-approve", "-input=false", "-var", "colour=blue")
    client = platform.client("apigateway")
    names = [item["name"] for item in client.get_rest_apis(limit=500)["items"]]
    assert not {"tf-api", "tf-described"} & set(names)
    plans = [item["name"] for item in client.get_usage_plans(limit=500)["items"]]
    keys = [item["name"] for item in client.get_api_keys(limit=500)["items"]]
    assert not {"tf-plan", "tf-key"} & {*plans, *keys}
