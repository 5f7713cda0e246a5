"""The AWS managed policies that functions' roles use: a table, not the whole catalogue.

What it is: names, paths and documents of ``arn:aws:iam::aws:policy/...``. Every account has them;
nobody can change them. What it is not: customer managed policies (``iam.policies``).

Source: https://docs.aws.amazon.com/aws-managed-policy/latest/reference/policy-list.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson


@dataclass(frozen=True, slots=True)
class ManagedPolicy:
    """One AWS managed policy. ``actions`` are allowed on all resources."""

    name: str
    path: str
    actions: Sequence[str]

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::aws:policy{self.path}{self.name}"

    @property
    def document(self) -> str:
        statement = {"Effect": "Allow", "Action": list(self.actions), "Resource": "*"}
        return orjson.dumps({"Version": "2012-10-17", "Statement": [statement]}).decode()


_LOGS = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
_NETWORK_INTERFACES = (
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
)

_TRACES = (
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
    "xray:GetSamplingStatisticSummaries",
)

_SERVICE_ROLE = "/service-role/"

_TABLE = (
    ManagedPolicy("AWSLambdaBasicExecutionRole", _SERVICE_ROLE, _LOGS),
    ManagedPolicy("AWSLambdaVPCAccessExecutionRole", _SERVICE_ROLE, (*_LOGS, *_NETWORK_INTERFACES)),
    ManagedPolicy("AWSLambdaENIManagementAccess", _SERVICE_ROLE, _NETWORK_INTERFACES),
    ManagedPolicy(
        "AWSLambdaSQSQueueExecutionRole",
        _SERVICE_ROLE,
        ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", *_LOGS),
    ),
    ManagedPolicy(
        "AWSLambdaDynamoDBExecutionRole",
        _SERVICE_ROLE,
        (
            "dynamodb:DescribeStream",
            "dynamodb:GetRecords",
            "dynamodb:GetShardIterator",
            "dynamodb:ListStreams",
            *_LOGS,
        ),
    ),
    ManagedPolicy(
        "AWSLambdaKinesisExecutionRole",
        _SERVICE_ROLE,
        (
            "kinesis:DescribeStream",
            "kinesis:DescribeStreamSummary",
            "kinesis:GetRecords",
            "kinesis:GetShardIterator",
            "kinesis:ListShards",
            "kinesis:ListStreams",
            "kinesis:SubscribeToShard",
            *_LOGS,
        ),
    ),
    ManagedPolicy(
        "AWSLambdaMSKExecutionRole",
        _SERVICE_ROLE,
        (
            "kafka:DescribeCluster",
            "kafka:DescribeClusterV2",
            "kafka:GetBootstrapBrokers",
            *_NETWORK_INTERFACES[:4],
            "ec2:DescribeVpcs",
            "ec2:DescribeSecurityGroups",
            *_LOGS,
        ),
    ),
    ManagedPolicy(
        "AWSLambdaBasicDurableExecutionRolePolicy",
        _SERVICE_ROLE,
        ("lambda:CheckpointDurableExecution", "lambda:GetDurableExecutionState", *_LOGS),
    ),
    ManagedPolicy("AWSLambdaRole", _SERVICE_ROLE, ("lambda:InvokeFunction",)),
    ManagedPolicy("AWSXRayDaemonWriteAccess", "/", _TRACES),
    # The older name, which SAM gives to a function with traces.
    ManagedPolicy("AWSXrayWriteOnlyAccess", "/", _TRACES),
    ManagedPolicy("CloudWatchLambdaInsightsExecutionRolePolicy", "/", _LOGS),
    ManagedPolicy("AWSLambdaExecute", "/", ("logs:*", "s3:GetObject", "s3:PutObject")),
    ManagedPolicy(
        "AWSLambda_ReadOnlyAccess", "/", ("lambda:Get*", "lambda:List*", "iam:GetRole", "logs:Get*")
    ),
    ManagedPolicy(
        "AWSLambda_FullAccess",
        "/",
        ("lambda:*", "logs:*", "iam:GetRole", "iam:ListRoles", "iam:PassRole"),
    ),
    ManagedPolicy("CloudWatchLogsFullAccess", "/", ("logs:*", "cloudwatch:GenerateQuery")),
    ManagedPolicy("CloudWatchFullAccess", "/", ("cloudwatch:*", "logs:*", "sns:*")),
    ManagedPolicy("AmazonS3ReadOnlyAccess", "/", ("s3:Get*", "s3:List*", "s3:Describe*")),
    ManagedPolicy("AmazonS3FullAccess", "/", ("s3:*", "s3-object-lambda:*")),
    ManagedPolicy("AmazonSQSFullAccess", "/", ("sqs:*",)),
    ManagedPolicy("AmazonSNSFullAccess", "/", ("sns:*",)),
    ManagedPolicy("AmazonDynamoDBFullAccess", "/", ("dynamodb:*",)),
    ManagedPolicy("AmazonKinesisFullAccess", "/", ("kinesis:*",)),
    ManagedPolicy("SecretsManagerReadWrite", "/", ("secretsmanager:*",)),
    ManagedPolicy("AmazonSSMReadOnlyAccess", "/", ("ssm:Describe*", "ssm:Get*", "ssm:List*")),
    ManagedPolicy("AdministratorAccess", "/", ("*",)),
)

MANAGED_POLICIES = {policy.arn: policy for policy in _TABLE}
