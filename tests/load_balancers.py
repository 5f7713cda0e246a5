"""Application Load Balancers made through the API, for tests against a running platform."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from running_platform import ACCOUNT, REGION, Platform
from web_client import WebAnswer, fetch

_NUMBERS = itertools.count(1)

# Returns the event, or what the member ``answer`` of a JSON body says.
ECHO = """
import json
def handler(event, context):
    if event["path"] == "/as-told":
        told = json.loads(event["body"])
        if "fail" in told:
            raise ValueError(told["fail"])
        if "size" in told:
            return {"statusCode": 200, "body": "a" * told["size"]}
        return told.get("answer")
    return {
        "statusCode": 200,
        "statusDescription": "200 OK",
        "isBase64Encoded": False,
        "headers": {"Content-Type": "application/json"},
        "multiValueHeaders": {"Content-Type": ["application/json"]},
        "body": json.dumps(event),
    }
"""


@dataclass
class Balancer:
    """A load balancer with one listener of HTTP on port 80."""

    platform: Platform
    client: Any
    arn: str
    name: str
    listener: str

    def fetch(self, path: str, method: str = "GET", **options: Any) -> WebAnswer:
        """A request to the name of the load balancer."""
        port = urlsplit(self.platform.url).port
        return fetch(f"http://{self.name}:{port}{path}", method, **options)

    def forward(self, group: str) -> None:
        """The listener sends everything to the group."""
        self.client.modify_listener(
            ListenerArn=self.listener, DefaultActions=[{"Type": "forward", "TargetGroupArn": group}]
        )

    def rule(self, priority: int, condition: Any, action: Any) -> str:
        made = self.client.create_rule(
            ListenerArn=self.listener,
            Priority=priority,
            Conditions=condition if isinstance(condition, list) else [condition],
            Actions=[action],
        )
        arn: str = made["Rules"][0]["RuleArn"]
        return arn


def say(text: str, status: str = "200") -> dict[str, Any]:
    """A fixed response."""
    config = {"MessageBody": text, "StatusCode": status, "ContentType": "text/plain"}
    return {"Type": "fixed-response", "FixedResponseConfig": config}


def make_balancer(platform: Platform, action: Any = None) -> Balancer:
    client = platform.client("elbv2")
    made = client.create_load_balancer(
        Name=f"lb{next(_NUMBERS)}", Subnets=["subnet-a", "subnet-b"], SecurityGroups=["sg-1"]
    )["LoadBalancers"][0]
    listener = client.create_listener(
        LoadBalancerArn=made["LoadBalancerArn"],
        Protocol="HTTP",
        Port=80,
        DefaultActions=[action or say("default")],
    )["Listeners"][0]
    return Balancer(
        platform, client, made["LoadBalancerArn"], made["DNSName"], listener["ListenerArn"]
    )


def make_group(platform: Platform, function: str | None = None, **options: Any) -> str:
    """The ARN of a target group, with a function that it may invoke."""
    client = platform.client("elbv2")
    arn: str = client.create_target_group(
        Name=f"tg{next(_NUMBERS)}", TargetType="lambda", **options
    )["TargetGroups"][0]["TargetGroupArn"]
    if function is not None:
        permit(platform, function, arn)
        client.register_targets(TargetGroupArn=arn, Targets=[{"Id": arn_of(function)}])
    return arn


def permit(platform: Platform, function: str, group: str) -> None:
    platform.client("lambda").add_permission(
        FunctionName=function,
        StatementId=group.rpartition("/")[2],
        Action="lambda:InvokeFunction",
        Principal="elasticloadbalancing.amazonaws.com",
        SourceArn=group,
    )


def arn_of(function: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}"
