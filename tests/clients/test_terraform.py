"""Terraform and its AWS provider, unmodified: apply, plan again, change, destroy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clients.terraform import Terraform, open_runner
from running_platform import PYTHON, REGION, Platform, pack

pytest_plugins = ("platform_fixtures",)

CONFIGURATION = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
variable "memory" { default = 128 }
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
    lambda = "%(url)s"
    iam    = "%(url)s"
    sts    = "%(url)s"
    logs   = "%(url)s"
    appautoscaling = "%(url)s"
  }
}
data "aws_caller_identity" "me" {}
resource "aws_iam_role" "role" {
  name               = "tf-role"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })
  tags = { team = "red" }
}
resource "aws_iam_role_policy_attachment" "logs" {
  role       = aws_iam_role.role.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
}
resource "aws_iam_policy" "read" {
  name        = "tf-read"
  description = "reads a bucket"
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = var.memory == 128 ? "s3:GetObject" : "s3:GetObjectVersion"
      Resource = "arn:aws:s3:::bucket/*"
    }]
  })
  tags = { team = "red" }
}
resource "aws_iam_role_policy_attachment" "read" {
  role       = aws_iam_role.role.name
  policy_arn = aws_iam_policy.read.arn
}
resource "aws_iam_role_policy" "own" {
  name = "own"
  role = aws_iam_role.role.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sqs:SendMessage", Resource = "*" }]
  })
}
resource "aws_cloudwatch_log_group" "logs" {
  name              = "/aws/lambda/tf-function"
  retention_in_days = 14
}
resource "aws_lambda_layer_version" "tools" {
  layer_name               = "tf-tools"
  description              = "tools"
  license_info             = "MIT"
  filename                 = "${path.module}/layer.zip"
  source_code_hash         = filebase64sha256("${path.module}/layer.zip")
  compatible_runtimes      = ["python3.12", "python3.13"]
  compatible_architectures = ["x86_64"]
}
resource "aws_lambda_layer_version_permission" "everyone" {
  layer_name     = aws_lambda_layer_version.tools.layer_name
  version_number = aws_lambda_layer_version.tools.version
  statement_id   = "everyone"
  action         = "lambda:GetLayerVersion"
  principal      = "*"
}
resource "aws_lambda_function" "function" {
  function_name    = "tf-function"
  role             = aws_iam_role.role.arn
  handler          = "app.handler"
  runtime          = "%(runtime)s"
  filename         = "${path.module}/code.zip"
  source_code_hash = filebase64sha256("${path.module}/code.zip")
  memory_size      = var.memory
  timeout          = 5
  layers           = [aws_lambda_layer_version.tools.arn]
  publish          = true

  code_signing_config_arn = aws_lambda_code_signing_config.ours.arn
  # What the changed configuration no longer has is as it was at the beginning.
  description                    = var.memory == 128 ? "full" : null
  reserved_concurrent_executions = var.memory == 128 ? 5 : -1
  dead_letter_config { target_arn = "arn:aws:sqs:%(region)s:000000000000:dead" }
  logging_config {
    log_format            = "JSON"
    application_log_level = var.memory == 128 ? "WARN" : "ERROR"
    system_log_level      = "WARN"
  }
  tracing_config { mode = var.memory == 128 ? "Active" : "PassThrough" }
  ephemeral_storage { size = var.memory == 128 ? 1024 : 512 }
  environment {
    variables = { COLOUR = "red" }
  }
  tags       = { team = "red" }
  depends_on = [aws_cloudwatch_log_group.logs]
}
resource "aws_lambda_alias" "live" {
  name             = "live"
  function_name    = aws_lambda_function.function.function_name
  function_version = aws_lambda_function.function.version
}
resource "aws_lambda_alias" "mixed" {
  name             = "mixed"
  description      = "the new version for all, and then a part for the old one"
  function_name    = aws_lambda_function.function.function_name
  function_version = aws_lambda_function.function.version
  dynamic "routing_config" {
    for_each = var.memory == 128 ? [] : [1]
    content { additional_version_weights = { "1" = 0.25 } }
  }
}
resource "aws_lambda_provisioned_concurrency_config" "warm" {
  function_name                     = aws_lambda_function.function.function_name
  qualifier                         = aws_lambda_function.function.version
  provisioned_concurrent_executions = 1
}
resource "aws_lambda_function_recursion_config" "function" {
  function_name  = aws_lambda_function.function.function_name
  recursive_loop = var.memory == 128 ? "Allow" : "Terminate"
}
resource "aws_lambda_runtime_management_config" "function" {
  function_name     = aws_lambda_function.function.function_name
  update_runtime_on = "FunctionUpdate"
}
resource "aws_lambda_event_source_mapping" "queue" {
  event_source_arn                   = "arn:aws:sqs:%(region)s:000000000000:jobs"
  function_name                      = aws_lambda_alias.live.arn
  batch_size                         = var.memory / 4
  maximum_batching_window_in_seconds = 2
  function_response_types            = ["ReportBatchItemFailures"]
  scaling_config { maximum_concurrency = 5 }
  filter_criteria {
    filter { pattern = jsonencode({ body = { kind = ["a"] } }) }
  }
  tags = { team = "red" }
}
resource "aws_lambda_event_source_mapping" "stream" {
  event_source_arn               = "arn:aws:kinesis:%(region)s:000000000000:stream/clicks"
  function_name                  = aws_lambda_function.function.arn
  starting_position              = "LATEST"
  bisect_batch_on_function_error = true
  maximum_retry_attempts         = 3
  enabled                        = var.memory == 128
  destination_config {
    on_failure { destination_arn = "arn:aws:sqs:%(region)s:000000000000:dead" }
  }
}
resource "aws_lambda_event_source_mapping" "kafka" {
  function_name     = aws_lambda_function.function.arn
  topics            = ["orders"]
  starting_position = "TRIM_HORIZON"
  self_managed_event_source {
    endpoints = { KAFKA_BOOTSTRAP_SERVERS = "kafka.example.com:9092" }
  }
  source_access_configuration {
    type = "SASL_SCRAM_512_AUTH"
    uri  = "arn:aws:secretsmanager:%(region)s:000000000000:secret:kafka"
  }
}
resource "aws_lambda_code_signing_config" "ours" {
  description = "ours"
  allowed_publishers {
    signing_profile_version_arns = [
      "arn:aws:signer:%(region)s:000000000000:/signing-profiles/release/abcdefghij"
    ]
  }
  policies { untrusted_artifact_on_deployment = "Warn" }
}
resource "aws_lambda_permission" "bucket" {
  statement_id   = "bucket"
  action         = "lambda:InvokeFunction"
  function_name  = aws_lambda_function.function.function_name
  qualifier      = aws_lambda_alias.live.name
  principal      = "s3.amazonaws.com"
  source_arn     = "arn:aws:s3:::bucket"
  source_account = "000000000000"
}
resource "aws_lambda_function_url" "live" {
  function_name      = aws_lambda_function.function.function_name
  qualifier          = aws_lambda_alias.live.name
  authorization_type = "AWS_IAM"
  cors {
    allow_origins = ["https://example.com"]
    allow_methods = ["GET"]
    max_age       = 60
  }
}
resource "aws_lambda_function_event_invoke_config" "live" {
  function_name                = aws_lambda_function.function.function_name
  qualifier                    = aws_lambda_alias.live.name
  maximum_event_age_in_seconds = 60
  maximum_retry_attempts       = 0
}
resource "aws_appautoscaling_target" "floor" {
  service_namespace  = "lambda"
  resource_id        = "function:${aws_lambda_alias.live.function_name}:live"
  scalable_dimension = "lambda:function:ProvisionedConcurrency"
  min_capacity       = 0
  max_capacity       = 2
  tags               = { team = "red" }
}
resource "aws_appautoscaling_policy" "follow" {
  name               = "follow"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.floor.service_namespace
  resource_id        = aws_appautoscaling_target.floor.resource_id
  scalable_dimension = aws_appautoscaling_target.floor.scalable_dimension
  target_tracking_scaling_policy_configuration {
    target_value      = 0.7
    scale_in_cooldown = 60
    predefined_metric_specification {
      predefined_metric_type = "LambdaProvisionedConcurrencyUtilization"
    }
  }
}
resource "aws_appautoscaling_scheduled_action" "night" {
  name               = "night"
  service_namespace  = aws_appautoscaling_target.floor.service_namespace
  resource_id        = aws_appautoscaling_target.floor.resource_id
  scalable_dimension = aws_appautoscaling_target.floor.scalable_dimension
  schedule           = "cron(0 3 1 1 ? *)"
  timezone           = "Europe/Berlin"
  scalable_target_action {
    min_capacity = 0
    max_capacity = 1
  }
}
output "arn" { value = aws_lambda_function.function.arn }
output "account" { value = data.aws_caller_identity.me.account_id }
"""
CODE = (
    "import os, tool\ndef handler(event, context):\n"
    "    return [os.environ['COLOUR'], context.memory_limit_in_mb, tool.WORD]\n"
)


@pytest.fixture
def terraform(platform: Platform, tmp_path: Path) -> Terraform:
    """Runs ``terraform`` in a directory with the configuration, initialised."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "code.zip").write_bytes(pack({"app.py": CODE}))
    (work / "layer.zip").write_bytes(pack({"python/tool.py": "WORD = 'layer'\n"}))
    values = {"url": platform.url, "region": REGION, "runtime": PYTHON}
    return open_runner(tmp_path, CONFIGURATION % values)


@pytest.mark.timeout(400)
def test_terraform_applies_sees_no_drift_changes_and_destroys(
    terraform: Terraform, platform: Platform
) -> None:
    terraform("apply", "-auto-approve", "-input=false")
    outputs = json.loads(terraform("output", "-json").stdout)
    arn = outputs["arn"]["value"]

    assert platform.invoke(arn).json == ["red", "128", "layer"]
    assert outputs["account"]["value"] == arn.split(":")[4]

    # Exit code 0 with -detailed-exitcode: nothing would be changed.
    terraform("plan", "-detailed-exitcode", "-input=false")

    terraform("apply", "-auto-approve", "-input=false", "-var", "memory=256")
    answer = platform.invoke(arn, Qualifier="live")
    assert answer.json == ["red", "256", "layer"]
    assert answer.version == "2"
    # After the change too: what is read is what was written.
    terraform("plan", "-detailed-exitcode", "-input=false", "-var", "memory=256")
    client, iam = platform.client("lambda"), platform.client("iam")
    mixed = client.get_alias(FunctionName=arn, Name="mixed")
    assert mixed["RoutingConfig"] == {"AdditionalVersionWeights": {"1": 0.25}}
    provided = client.list_provisioned_concurrency_configs(FunctionName=arn)
    (warm,) = provided["ProvisionedConcurrencyConfigs"]
    assert (warm["FunctionArn"], warm["Status"]) == (f"{arn}:2", "READY")
    mappings = platform.client("lambda").list_event_source_mappings()["EventSourceMappings"]
    assert sorted((item["BatchSize"], item["State"]) for item in mappings) == [
        (64, "Enabled"),
        (100, "Disabled"),
        (100, "Enabled"),
    ]

    terraform("destroy", "-auto-approve", "-input=false", "-var", "memory=256")
    scaling = platform.client("application-autoscaling")
    left = scaling.describe_scalable_targets(ServiceNamespace="lambda")
    assert left["ScalableTargets"] == []
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function(FunctionName=arn)
    assert client.list_event_source_mappings()["EventSourceMappings"] == []
    assert client.list_layer_versions(LayerName="tf-tools")["LayerVersions"] == []
    assert client.list_code_signing_configs()["CodeSigningConfigs"] == []
    assert iam.list_policies(Scope="Local")["Policies"] == []
    groups = platform.client("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/tf-")
    assert groups["logGroups"] == []
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_role(RoleName="tf-role")
