"""Terraform and its AWS provider, unmodified: function URLs and HTTP and WebSocket APIs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from clients.terraform import Terraform, open_runner
from running_platform import PYTHON, REGION, Platform, pack
from web_client import fetch

pytest_plugins = ("platform_fixtures",)

CODE = "def handler(event, context):\n    return event['routeKey']\n"
CONFIGURATION = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
variable "path" { default = "one" }
provider "aws" {
  region                      = "%(region)s"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  skip_region_validation      = true
  max_retries                 = 2
  endpoints {
    lambda       = "%(url)s"
    iam          = "%(url)s"
    sts          = "%(url)s"
    apigatewayv2 = "%(url)s"
  }
}
resource "aws_iam_role" "role" {
  name               = "tf-gateway-role"
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
  function_name = "tf-gateway"
  role          = aws_iam_role.role.arn
  runtime       = "%(runtime)s"
  handler       = "app.handler"
  filename      = "${path.module}/code.zip"
}
resource "aws_lambda_function_url" "url" {
  function_name      = aws_lambda_function.function.function_name
  authorization_type = "NONE"
  cors {
    allow_origins = ["https://a.example"]
    allow_methods = ["GET"]
    max_age       = 60
  }
}
resource "aws_lambda_permission" "url" {
  statement_id           = "invoke-by-url"
  action                 = "lambda:InvokeFunctionUrl"
  function_name          = aws_lambda_function.function.function_name
  principal              = "*"
  function_url_auth_type = "NONE"
}
resource "aws_lambda_permission" "invoke" {
  statement_id  = "invoke"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.function.function_name
  principal     = "*"
}
resource "aws_apigatewayv2_api" "api" {
  name          = "tf-api"
  protocol_type = "HTTP"
  description   = "an api"
  tags          = { team = "red" }
  cors_configuration {
    allow_origins = ["*"]
    allow_methods = ["GET", "POST"]
    allow_headers = ["content-type"]
    max_age       = 300
  }
}
resource "aws_apigatewayv2_integration" "function" {
  api_id                 = aws_apigatewayv2_api.api.id
  integration_type       = "AWS_PROXY"
  integration_method     = "POST"
  integration_uri        = aws_lambda_function.function.invoke_arn
  payload_format_version = "2.0"
  timeout_milliseconds   = 10000
}
resource "aws_apigatewayv2_route" "route" {
  api_id    = aws_apigatewayv2_api.api.id
  route_key = "GET /${var.path}"
  target    = "integrations/${aws_apigatewayv2_integration.function.id}"
}
resource "aws_apigatewayv2_authorizer" "guard" {
  api_id                            = aws_apigatewayv2_api.api.id
  name                              = "guard"
  authorizer_type                   = "REQUEST"
  authorizer_uri                    = aws_lambda_function.function.invoke_arn
  authorizer_payload_format_version = "2.0"
  enable_simple_responses           = true
  identity_sources                  = ["$request.header.Authorization"]
}
resource "aws_apigatewayv2_route" "guarded" {
  api_id             = aws_apigatewayv2_api.api.id
  route_key          = "GET /guarded"
  target             = "integrations/${aws_apigatewayv2_integration.function.id}"
  authorization_type = "CUSTOM"
  authorizer_id      = aws_apigatewayv2_authorizer.guard.id
}
resource "aws_apigatewayv2_stage" "default" {
  api_id      = aws_apigatewayv2_api.api.id
  name        = "$default"
  auto_deploy = true
  stage_variables = { color = "red" }
  default_route_settings {
    throttling_burst_limit = 10
    throttling_rate_limit  = 20
  }
  tags = { team = "red" }
}
resource "aws_apigatewayv2_api" "sockets" {
  name                       = "tf-sockets"
  protocol_type              = "WEBSOCKET"
  route_selection_expression = "$request.body.action"
}
resource "aws_apigatewayv2_integration" "sockets" {
  api_id           = aws_apigatewayv2_api.sockets.id
  integration_type = "AWS_PROXY"
  integration_uri  = aws_lambda_function.function.invoke_arn
}
resource "aws_apigatewayv2_route" "sockets" {
  api_id    = aws_apigatewayv2_api.sockets.id
  route_key = "$default"
  target    = "integrations/${aws_apigatewayv2_integration.sockets.id}"
  route_response_selection_expression = "$default"
}
resource "aws_apigatewayv2_route_response" "sockets" {
  api_id             = aws_apigatewayv2_api.sockets.id
  route_id           = aws_apigatewayv2_route.sockets.id
  route_response_key = "$default"
}
resource "aws_apigatewayv2_deployment" "sockets" {
  api_id     = aws_apigatewayv2_api.sockets.id
  depends_on = [aws_apigatewayv2_route.sockets]
}
resource "aws_apigatewayv2_stage" "sockets" {
  api_id        = aws_apigatewayv2_api.sockets.id
  name          = "prod"
  deployment_id = aws_apigatewayv2_deployment.sockets.id
}
output "endpoint" { value = aws_apigatewayv2_api.api.api_endpoint }
output "sockets" { value = aws_apigatewayv2_api.sockets.api_endpoint }
output "url" { value = aws_lambda_function_url.url.function_url }
"""


@pytest.fixture
def platform(make_platform: Callable[..., Platform]) -> Platform:
    """One of its own: what functions have logged stays behind them."""
    return make_platform()


@pytest.fixture
def terraform(platform: Platform, tmp_path: Path) -> Terraform:
    """Runs ``terraform`` in a directory with the configuration, initialised."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "code.zip").write_bytes(pack({"app.py": CODE}))
    values = {"url": platform.url, "region": REGION, "runtime": PYTHON}
    return open_runner(tmp_path, CONFIGURATION % values)


@pytest.mark.timeout(400)
def test_terraform_makes_urls_and_apis_that_answer(
    terraform: Terraform, platform: Platform
) -> None:
    terraform("apply", "-auto-approve", "-input=false")
    outputs = {
        name: str(output["value"])
        for name, output in json.loads(terraform("output", "-json").stdout).items()
    }
    assert fetch(outputs["url"]).body == b"$default"
    assert fetch(outputs["endpoint"] + "/one").body == b"GET /one"
    assert fetch(outputs["endpoint"] + "/guarded").status == 401
    assert urlsplit(outputs["sockets"]).scheme == "ws"

    # Exit code 0 with -detailed-exitcode: nothing would be changed.
    terraform("plan", "-detailed-exitcode", "-input=false")

    terraform("apply", "-auto-approve", "-input=false", "-var", "path=two")
    assert fetch(outputs["endpoint"] + "/two").body == b"GET /two"
    assert fetch(outputs["endpoint"] + "/one").status == 404

    terraform("destroy", "-auto-approve", "-input=false", "-var", "path=two")
    assert platform.client("apigatewayv2").get_apis()["Items"] == []
