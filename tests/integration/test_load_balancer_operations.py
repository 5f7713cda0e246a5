"""The Elastic Load Balancing API with boto3: what is made, changed, listed and refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from load_balancers import ECHO, Balancer, make_balancer, make_group, say
from running_platform import ACCOUNT, REGION, Deployer, Platform

pytest_plugins = ("platform_fixtures",)


@pytest.fixture
def client(platform: Platform) -> Any:
    return platform.client("elbv2")


@pytest.fixture
def balancer(platform: Platform) -> Balancer:
    return make_balancer(platform)


def refused(call: Any, **params: Any) -> tuple[str, str]:
    """Code and sentence of the error."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_a_load_balancer_is_described(client: Any, balancer: Balancer) -> None:
    (shown,) = client.describe_load_balancers(LoadBalancerArns=[balancer.arn])["LoadBalancers"]

    prefix = f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:loadbalancer/app/"
    name = shown["LoadBalancerName"]
    assert shown["LoadBalancerArn"].startswith(f"{prefix}{name}/")
    assert shown["DNSName"].startswith(f"{name}-")
    assert shown["DNSName"].endswith(f".{REGION}.elb.localhost")
    assert shown["State"] == {"Code": "active"}
    assert (shown["Scheme"], shown["Type"]) == ("internet-facing", "application")
    assert [zone["SubnetId"] for zone in shown["AvailabilityZones"]] == ["subnet-a", "subnet-b"]
    assert shown["SecurityGroups"] == ["sg-1"]
    assert client.describe_load_balancers(Names=[name])["LoadBalancers"] == [shown]


def test_a_name_is_taken_once(client: Any, balancer: Balancer) -> None:
    name = balancer.arn.split("/")[2]
    same = client.create_load_balancer(Name=name, Subnets=["subnet-b", "subnet-a"])
    assert same["LoadBalancers"][0]["LoadBalancerArn"] == balancer.arn

    code, message = refused(client.create_load_balancer, Name=name, Subnets=["s1", "s2"])
    assert code == "DuplicateLoadBalancerName"
    assert name in message


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"Name": "a" * 33}, "ValidationError"),
        ({"Name": "-a"}, "ValidationError"),
        ({"Name": "internal-a"}, "ValidationError"),
        ({"Name": "a_b"}, "ValidationError"),
        ({"Name": "a", "Subnets": ["one"]}, "ValidationError"),
        ({"Name": "a", "Subnets": []}, "ValidationError"),
        ({"Name": "a", "Type": "network"}, "NotImplementedException"),
        ({"Name": "a", "Type": "nothing"}, "ValidationError"),
        ({}, "ValidationError"),
    ],
)
def test_what_is_no_load_balancer_is_refused(
    platform: Platform, params: dict[str, Any], code: str
) -> None:
    client = platform.client("elbv2", is_strict=False)
    given = {"Subnets": ["s1", "s2"], **params}

    assert refused(client.create_load_balancer, **given)[0] == code


def test_deletion_protection_holds(client: Any, balancer: Balancer) -> None:
    def protect(value: str) -> None:
        client.modify_load_balancer_attributes(
            LoadBalancerArn=balancer.arn,
            Attributes=[{"Key": "deletion_protection.enabled", "Value": value}],
        )

    protect("true")
    assert refused(client.delete_load_balancer, LoadBalancerArn=balancer.arn)[0] == (
        "OperationNotPermitted"
    )
    protect("false")
    client.delete_load_balancer(LoadBalancerArn=balancer.arn)
    client.delete_load_balancer(LoadBalancerArn=balancer.arn)
    assert refused(client.describe_load_balancers, LoadBalancerArns=[balancer.arn]) == (
        "LoadBalancerNotFound",
        "One or more load balancers not found",
    )
    assert balancer.fetch("/").status == 403


def test_load_balancers_of_others_are_not_there(platform: Platform, balancer: Balancer) -> None:
    for other in (
        platform.client("elbv2", account="111122223333"),
        platform.client("elbv2", region="eu-west-1"),
    ):
        assert refused(other.describe_listeners, LoadBalancerArn=balancer.arn)[0] == (
            "LoadBalancerNotFound"
        )
        assert refused(other.describe_rules, ListenerArn=balancer.listener)[0] == (
            "LoadBalancerNotFound"
        )


def test_a_port_has_one_listener(client: Any, balancer: Balancer) -> None:
    def add(**params: Any) -> Any:
        return client.create_listener(
            LoadBalancerArn=balancer.arn, **{"DefaultActions": [say("x")], **params}
        )

    assert refused(add, Protocol="HTTP", Port=80)[0] == "DuplicateListener"
    assert refused(add, Protocol="HTTPS", Port=443)[0] == "ValidationError"
    assert refused(add, Protocol="TCP", Port=81)[0] == "ValidationError"
    assert refused(add)[0] == "ValidationError"
    certificate = f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/1"
    secure = add(Protocol="HTTPS", Port=443, Certificates=[{"CertificateArn": certificate}])
    assert secure["Listeners"][0]["SslPolicy"] == "ELBSecurityPolicy-2016-08"
    shown = client.describe_listeners(LoadBalancerArn=balancer.arn)["Listeners"]
    assert sorted(item["Port"] for item in shown) == [80, 443]

    # A proxy in front that speaks TLS comes to the listener of HTTPS.
    assert balancer.fetch("/", headers={"X-Forwarded-Proto": "https"}).body == b"x"
    assert balancer.fetch("/").body == b"default"
    client.delete_listener(ListenerArn=balancer.listener)
    assert balancer.fetch("/").body == b"x"


def test_rules_are_changed_and_change_places(client: Any, balancer: Balancer) -> None:
    path = {"Field": "path-pattern", "Values": ["/*"]}
    first = balancer.rule(1, path, say("one"))
    second = balancer.rule(2, path, say("two"))
    assert balancer.fetch("/").body == b"one"

    client.set_rule_priorities(
        RulePriorities=[
            {"RuleArn": first, "Priority": 2},
            {"RuleArn": second, "Priority": 1},
        ]
    )
    assert balancer.fetch("/").body == b"two"
    client.modify_rule(RuleArn=second, Actions=[say("changed")])
    assert balancer.fetch("/").body == b"changed"
    rules = client.describe_rules(ListenerArn=balancer.listener)["Rules"]
    assert [rule["Priority"] for rule in rules] == ["1", "2", "default"]
    assert rules[0]["Conditions"] == [
        {
            "Field": "path-pattern",
            "Values": ["/*"],
            "PathPatternConfig": {"Values": ["/*"]},
        }
    ]

    assert refused(
        client.create_rule,
        ListenerArn=balancer.listener,
        Priority=1,
        Conditions=[path],
        Actions=[say("x")],
    ) == ("PriorityInUse", "Priority '1' is currently in use")
    priorities = [{"RuleArn": first, "Priority": 1}]
    assert refused(client.set_rule_priorities, RulePriorities=priorities)[0] == "PriorityInUse"
    assert refused(client.delete_rule, RuleArn=rules[2]["RuleArn"])[0] == "OperationNotPermitted"
    client.delete_rule(RuleArn=second)
    assert refused(client.delete_rule, RuleArn=second) == (
        "RuleNotFound",
        "One or more rules not found",
    )
    assert balancer.fetch("/").body == b"one"


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ({"Field": "nothing", "Values": ["x"]}, "ValidationError"),
        ({"Field": "path-pattern"}, "ValidationError"),
        ({"Field": "http-header", "HttpHeaderConfig": {"Values": ["x"]}}, "ValidationError"),
        ({"Field": "source-ip", "SourceIpConfig": {"Values": ["here"]}}, "ValidationError"),
        (
            {"Field": "path-pattern", "Values": [f"/{n}" for n in range(6)]},
            "ValidationError",
        ),
        ({"Field": "path-pattern", "RegexValues": ["a+"]}, "NotImplementedException"),
    ],
)
def test_a_condition_that_means_nothing_is_refused(
    client: Any, balancer: Balancer, condition: dict[str, Any], code: str
) -> None:
    assert (
        refused(
            client.create_rule,
            ListenerArn=balancer.listener,
            Priority=9,
            Conditions=[condition],
            Actions=[say("x")],
        )[0]
        == code
    )


@pytest.mark.parametrize(
    ("action", "code"),
    [
        ({"Type": "forward"}, "ValidationError"),
        ({"Type": "forward", "TargetGroupArn": "arn:nobody"}, "TargetGroupNotFound"),
        ({"Type": "fixed-response"}, "ValidationError"),
        ({"Type": "redirect"}, "ValidationError"),
        (
            {"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_301"}},
            "InvalidConfigurationRequest",
        ),
        (
            {"Type": "authenticate-cognito", "Order": 1},
            "NotImplementedException",
        ),
    ],
)
def test_an_action_that_cannot_be_done_is_refused(
    client: Any, balancer: Balancer, action: dict[str, Any], code: str
) -> None:
    assert (
        refused(client.modify_listener, ListenerArn=balancer.listener, DefaultActions=[action])[0]
        == code
    )
    assert balancer.fetch("/").body == b"default"


def test_a_group_in_use_is_kept(platform: Platform, client: Any, balancer: Balancer) -> None:
    group = make_group(platform)
    balancer.forward(group)
    (shown,) = client.describe_target_groups(TargetGroupArns=[group])["TargetGroups"]
    assert shown["LoadBalancerArns"] == [balancer.arn]
    assert shown["TargetType"] == "lambda"
    assert shown["HealthCheckEnabled"] is False
    assert shown["HealthCheckIntervalSeconds"] == 35
    assert shown["Matcher"] == {"HttpCode": "200"}
    assert "Port" not in shown

    assert refused(client.delete_target_group, TargetGroupArn=group)[0] == "ResourceInUse"
    client.modify_listener(ListenerArn=balancer.listener, DefaultActions=[say("x")])
    client.delete_target_group(TargetGroupArn=group)
    assert refused(client.describe_target_groups, TargetGroupArns=[group]) == (
        "TargetGroupNotFound",
        "One or more target groups not found",
    )


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"TargetType": "instance"}, "NotImplementedException"),
        ({"TargetType": "lambda", "Port": 80}, "ValidationError"),
        ({"TargetType": "lambda", "Name": "a_b"}, "ValidationError"),
        (
            {
                "TargetType": "lambda",
                "HealthCheckIntervalSeconds": 5,
                "HealthCheckTimeoutSeconds": 5,
            },
            "ValidationError",
        ),
        ({"TargetType": "lambda", "Matcher": {"HttpCode": "ok"}}, "ValidationError"),
    ],
)
def test_what_is_no_group_is_refused(client: Any, params: dict[str, Any], code: str) -> None:
    assert refused(client.create_target_group, **{"Name": "g", **params})[0] == code


def test_attributes_are_known_ones(platform: Platform, client: Any) -> None:
    group = make_group(platform)

    def modify(key: str, value: str) -> Any:
        return client.modify_target_group_attributes(
            TargetGroupArn=group, Attributes=[{"Key": key, "Value": value}]
        )

    assert refused(modify, key="stickiness.enabled", value="true")[0] == "ValidationError"
    name = "lambda.multi_value_headers.enabled"
    assert refused(modify, key=name, value="maybe")[0] == "ValidationError"
    modify(name, "true")
    shown = client.describe_target_group_attributes(TargetGroupArn=group)["Attributes"]
    assert {"Key": name, "Value": "true"} in shown


def test_tags_hang_on_everything(platform: Platform, client: Any, balancer: Balancer) -> None:
    rule = balancer.rule(1, {"Field": "path-pattern", "Values": ["/"]}, say("x"))
    arns = [balancer.arn, balancer.listener, rule, make_group(platform)]

    client.add_tags(ResourceArns=arns, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b"}])
    client.remove_tags(ResourceArns=arns, TagKeys=["a"])

    shown = client.describe_tags(ResourceArns=arns)["TagDescriptions"]
    assert [item["ResourceArn"] for item in shown] == arns
    assert [item["Tags"] for item in shown] == [[{"Key": "b", "Value": ""}]] * 4


def test_lists_have_pages(platform: Platform) -> None:
    client = platform.client("elbv2", account="333344445555")
    for number in range(3):
        client.create_target_group(Name=f"g{number}", TargetType="lambda")

    pages = client.get_paginator("describe_target_groups").paginate(
        PaginationConfig={"PageSize": 2}
    )

    assert [len(page["TargetGroups"]) for page in pages] == [2, 1]
    assert refused(client.describe_target_groups, Marker="nonsense")[0] == "ValidationError"


def test_a_load_balancer_outlives_the_platform(make_platform: Callable[..., Platform]) -> None:
    platform = make_platform()
    group = make_group(platform, Deployer(platform)(ECHO))
    balancer = make_balancer(platform)
    balancer.forward(group)
    assert balancer.fetch("/x").json["path"] == "/x"

    platform.stop()
    platform.start()

    assert balancer.fetch("/x").json["path"] == "/x"
