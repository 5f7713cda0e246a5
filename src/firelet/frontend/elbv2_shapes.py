"""Load balancers and what hangs on them as members of the Elastic Load Balancing API."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from firelet.control.load_balancer_errors import BalancerValidationError
from firelet.control.load_balancer_records import (
    Listener,
    LoadBalancer,
    Rule,
    TargetGroup,
)
from firelet.control.load_balancers import forwards_to
from firelet.frontend.markers import cut_page
from firelet.frontend.operations import Call
from firelet.model.errors import InvalidParameterValue

T = TypeVar("T")

PAGE_MAX = 400  # source: API reference, PageSize

# Of the hosted zone that a name would be in; there is none here.
_HOSTED_ZONE = "Z35SXDOTRQ7X7K"
_VPC = "vpc-00000000000000000"


def format_balancer(balancer: LoadBalancer) -> dict[str, Any]:
    """There are no networks here: each subnet is given a zone, and all the same VPC."""
    return {
        "LoadBalancerArn": balancer.arn,
        "DNSName": balancer.dns_name,
        "CanonicalHostedZoneId": _HOSTED_ZONE,
        "CreatedTime": balancer.created,
        "LoadBalancerName": balancer.name,
        "Scheme": balancer.scheme,
        "VpcId": _VPC,
        "State": {"Code": "active"},
        "Type": "application",
        "AvailabilityZones": format_zones(balancer),
        "SecurityGroups": list(balancer.security_groups),
        "IpAddressType": balancer.ip_address_type,
    }


def format_zones(balancer: LoadBalancer) -> list[dict[str, Any]]:
    return [
        {"ZoneName": f"{balancer.region}{chr(ord('a') + number % 26)}", "SubnetId": subnet}
        for number, subnet in enumerate(balancer.subnets)
    ]


def format_listener(balancer: LoadBalancer, listener: Listener) -> dict[str, Any]:
    return {
        "ListenerArn": listener.arn,
        "LoadBalancerArn": balancer.arn,
        "Port": listener.port,
        "Protocol": listener.protocol,
        "DefaultActions": listener.default_rule.actions,
        **listener.settings,
    }


def format_rule(rule: Rule) -> dict[str, Any]:
    return {
        "RuleArn": rule.arn,
        "Priority": "default" if rule.priority is None else str(rule.priority),
        "Conditions": rule.conditions,
        "Actions": rule.actions,
        "IsDefault": rule.priority is None,
        "Transforms": [],
    }


def format_group(group: TargetGroup, balancers: Iterable[LoadBalancer]) -> dict[str, Any]:
    return {
        "TargetGroupArn": group.arn,
        "TargetGroupName": group.name,
        "TargetType": "lambda",
        "LoadBalancerArns": [b.arn for b in balancers if forwards_to(b, group.arn)],
        "IpAddressType": "ipv4",
        **group.settings,
    }


def format_attributes(
    defaults: Mapping[str, str], given: Mapping[str, str]
) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted({**defaults, **given}.items())]


def parse_attributes(call: Call, defaults: Mapping[str, str]) -> dict[str, str]:
    """Attributes of a call, which must be known ones. BalancerValidationError."""
    given = {}
    for attribute in call.params["Attributes"]:
        key = attribute.get("Key", "")
        if key not in defaults:
            raise BalancerValidationError(f"The attribute '{key}' is not one that can be set here")
        value = attribute.get("Value", "")
        if defaults[key] in ("true", "false") and value not in ("true", "false"):
            raise BalancerValidationError(f"The value of '{key}' must be 'true' or 'false'")
        given[key] = value
    return given


def parse_tags(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in tags}


def cut(call: Call, items: Iterable[T], name: Callable[[T], str]) -> tuple[list[T], dict[str, Any]]:
    """One page of ``items``, which are in the order of ``name``, and the paging members."""
    params = {"Marker": call.params.get("Marker"), "MaxItems": call.params.get("PageSize")}
    try:
        page, marker = cut_page(items, lambda item: (name(item),), params, PAGE_MAX)
    except InvalidParameterValue:
        raise BalancerValidationError("The marker is not valid") from None
    return page, {"NextMarker": marker.get("NextMarker")}
