"""Terraform makes Application Load Balancers: apply, plan again, change, destroy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clients.terraform import Terraform, make_runner
from running_platform import PYTHON, REGION, Platform, pack
from web_client import fetch

pytest_plugins = ("platform_fixtures",)

CONFIGURATION = """
variable "colour" { default = "red" }
resource "aws_iam_role" "role" {
  name               = "tf-lb-role"
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
  function_name    = "tf-lb"
  role             = aws_iam_role.role.arn
  handler          = "app.handler"
  runtime          = "%(runtime)s"
  filename         = "${path.module}/code.zip"
  source_code_hash = filebase64sha256("${path.module}/code.zip")
}
resource "aws_lambda_permission" "balancer" {
  statement_id  = "balancer"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.function.function_name
  principal     = "elasticloadbalancing.amazonaws.com"
  source_arn    = aws_lb_target_group.functions.arn
}
resource "aws_lb" "balancer" {
  name               = "tf-lb"
  load_balancer_type = "application"
  subnets            = ["subnet-0a", "subnet-0b"]
  security_groups    = var.colour == "red" ? ["sg-1"] : ["sg-1", "sg-2"]
  idle_timeout       = var.colour == "red" ? 60 : 120
  tags               = { team = var.colour }
}
resource "aws_lb_target_group" "functions" {
  name                               = "tf-functions"
  target_type                        = "lambda"
  lambda_multi_value_headers_enabled = var.colour == "blue"
  health_check {
    enabled  = true
    path     = "/${var.colour}"
    interval = 35
    matcher  = "200"
  }
  tags = { team = var.colour }
}
resource "aws_lb_target_group_attachment" "function" {
  target_group_arn = aws_lb_target_group.functions.arn
  target_id        = aws_lambda_function.function.arn
  depends_on       = [aws_lambda_permission.balancer]
}
resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.balancer.arn
  port              = 80
  protocol          = "HTTP"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.functions.arn
  }
  tags = { team = var.colour }
}
resource "aws_lb_listener_rule" "fixed" {
  listener_arn = aws_lb_listener.http.arn
  priority     = var.colour == "red" ? 100 : 50
  action {
    type = "fixed-response"
    fixed_response {
      content_type = "text/plain"
      message_body = var.colour
      status_code  = "200"
    }
  }
  condition {
    path_pattern { values = ["/fixed/*"] }
  }
  condition {
    http_request_method { values = ["GET", "HEAD"] }
  }
  tags = { team = var.colour }
}
resource "aws_lb_listener_rule" "redirect" {
  listener_arn = aws_lb_listener.http.arn
  priority     = 200
  action {
    type = "redirect"
    redirect {
      port        = "443"
      protocol    = "HTTPS"
      status_code = "HTTP_301"
    }
  }
  condition {
    http_header {
      http_header_name = "X-Secure"
      values           = ["yes"]
    }
  }
  condition {
    query_string {
      key   = "secure"
      value = "*"
    }
  }
}
resource "aws_lb_listener_rule" "weighted" {
  listener_arn = aws_lb_listener.http.arn
  priority     = 300
  action {
    type = "forward"
    forward {
      target_group {
        arn    = aws_lb_target_group.functions.arn
        weight = 100
      }
      target_group {
        arn    = aws_lb_target_group.empty.arn
        weight = 0
      }
    }
  }
  condition {
    host_header { values = ["*.example.com"] }
  }
  condition {
    source_ip { values = ["10.0.0.0/8", "127.0.0.1/32"] }
  }
}
resource "aws_lb_target_group" "empty" {
  name        = "tf-empty"
  target_type = "lambda"
}
data "aws_lb" "found" { arn = aws_lb.balancer.arn }
output "name" { value = data.aws_lb.found.dns_name }
"""
CODE = (
    "def handler(event, context):\n"
    "    kind = 'multi' if 'multiValueHeaders' in event else 'single'\n"
    "    return {'statusCode': 200, 'body': kind}\n"
)


@pytest.fixture
def terraform(platform: Platform, tmp_path: Path) -> Terraform:
    work = tmp_path / "work"
    work.mkdir()
    (work / "code.zip").write_bytes(pack({"app.py": CODE}))
    return make_runner(
        tmp_path,
        platform,
        CONFIGURATION % {"runtime": PYTHON},
        services=("lambda", "iam", "sts", "elbv2", "ec2"),
    )


@pytest.mark.timeout(400)
def test_terraform_makes_a_load_balancer_sees_no_drift_changes_and_destroys(
    terraform: Terraform, platform: Platform
) -> None:
    terraform("apply", "-auto-approve", "-input=false")
    name = json.loads(terraform("output", "-json").stdout)["name"]["value"]
    assert name.endswith(f".{REGION}.elb.localhost")
    address = f"{platform.url}/_firelet/elb/{name.partition('.')[0]}"

    assert fetch(f"{address}/").body == b"single"
    assert fetch(f"{address}/fixed/x").body == b"red"
    assert fetch(f"{address}/?secure=1", headers={"X-Secure": "yes"}).status == 301
    assert fetch(f"{address}/", headers={"Host": "www.example.com"}).body == b"single"

    # Exit code 0 with -detailed-exitcode: nothing would be changed.
    terraform("plan", "-detailed-exitcode", "-input=false")

    terraform("apply", "-auto-approve", "-input=false", "-var", "colour=blue")
    assert fetch(f"{address}/").body == b"multi"
    assert fetch(f"{address}/fixed/x").body == b"blue"
    terraform("plan", "-detailed-exitcode", "-input=false", "-var", "colour=blue")

    terraform("destroy", "-auto-approve", "-input=false", "-var", "colour=blue")
    client = platform.client("elbv2")
    balancers = client.describe_load_balancers()["LoadBalancers"]
    groups = client.describe_target_groups()["TargetGroups"]
    assert "tf-lb" not in [item["LoadBalancerName"] for item in balancers]
    assert not {"tf-functions", "tf-empty"} & {item["TargetGroupName"] for item in groups}
