"""Load balancers, their attributes and tags: operations of the Elastic Load Balancing API.

What it is: operations over ``control.load_balancers``. What it is not: Network and Gateway Load
Balancers, or networks: subnets and security groups are kept and answered.
Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from firelet.control.load_balancer_errors import BalancerValidationError, LoadBalancerNotFound
from firelet.control.load_balancer_records import LoadBalancer
from firelet.control.load_balancers import (
    ATTRIBUTES,
    LoadBalancers,
    balancer_arn_of,
    check_subnets,
    find_listener,
    find_rule,
    put_listener,
    put_rule,
)
from firelet.control.target_groups import TargetGroups
from firelet.frontend.elbv2_shapes import (
    cut,
    format_attributes,
    format_balancer,
    format_zones,
    parse_attributes,
    parse_tags,
)
from firelet.frontend.operations import Call, Operations
from firelet.model.errors import NotYetImplemented

Output = Mapping[str, Any]
Tags = Mapping[str, str]

_DESCRIBED_MAX = 20


class LoadBalancerOperations:
    """Load balancers, and the tags of everything."""

    def __init__(self, balancers: LoadBalancers, groups: TargetGroups) -> None:
        self._balancers = balancers
        self._groups = groups

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("CreateLoadBalancer", self.create_load_balancer),
            ("DescribeLoadBalancers", self.describe_load_balancers),
            ("DeleteLoadBalancer", self.delete_load_balancer),
            ("SetSubnets", self.set_subnets),
            ("SetSecurityGroups", self.set_security_groups),
            ("SetIpAddressType", self.set_ip_address_type),
            ("DescribeCapacityReservation", self.describe_capacity_reservation),
            ("AddTags", self.add_tags),
            ("RemoveTags", self.remove_tags),
            ("DescribeTags", self.describe_tags),
        ):
            operations.add("elbv2", name, handler)
        lacks = "attributes are kept and answered; those of deletion and X-Forwarded-For count"
        for name, handler in (
            ("DescribeLoadBalancerAttributes", self.describe_load_balancer_attributes),
            ("ModifyLoadBalancerAttributes", self.modify_load_balancer_attributes),
        ):
            operations.add("elbv2", name, handler, lacks=lacks)

    async def create_load_balancer(self, call: Call) -> Output:
        params = call.params
        kind = params.get("Type", "application")
        if kind != "application":
            raise NotYetImplemented(f"firelet does not serve load balancers of type {kind} yet")
        subnets = params.get("Subnets") or [
            item.get("SubnetId", "") for item in params.get("SubnetMappings", [])
        ]
        balancer = await self._balancers.create(
            call.account,
            call.region,
            params["Name"],
            params.get("Scheme", "internet-facing"),
            params.get("IpAddressType", "ipv4"),
            subnets,
            params.get("SecurityGroups", []),
            parse_tags(params.get("Tags", [])),
        )
        return {"LoadBalancers": [format_balancer(balancer)]}

    async def describe_load_balancers(self, call: Call) -> Output:
        params = call.params
        found = self._balancers.all(call.account, call.region)
        if params.get("LoadBalancerArns"):
            found = [self._get(call, arn) for arn in params["LoadBalancerArns"]]
        elif params.get("Names"):
            wanted = params["Names"]
            found = [balancer for balancer in found if balancer.name in wanted]
            missing = set(wanted) - {balancer.name for balancer in found}
            if missing:
                raise LoadBalancerNotFound(
                    f"Load balancers '[{', '.join(sorted(missing))}]' not found"
                )
        found.sort(key=lambda balancer: balancer.arn)
        page, marker = cut(call, found, lambda balancer: balancer.arn)
        return {"LoadBalancers": [format_balancer(balancer) for balancer in page], **marker}

    async def delete_load_balancer(self, call: Call) -> None:
        await self._balancers.delete(call.account, call.region, call.params["LoadBalancerArn"])

    async def describe_load_balancer_attributes(self, call: Call) -> Output:
        given = self._get(call, call.params["LoadBalancerArn"]).attributes
        return {"Attributes": format_attributes(ATTRIBUTES, given)}

    async def modify_load_balancer_attributes(self, call: Call) -> Output:
        given = parse_attributes(call, ATTRIBUTES)
        balancer = await self._change(
            call, lambda b: replace(b, attributes={**b.attributes, **given})
        )
        return {"Attributes": format_attributes(ATTRIBUTES, balancer.attributes)}

    async def set_subnets(self, call: Call) -> Output:
        params = call.params
        subnets = params.get("Subnets") or [
            item.get("SubnetId", "") for item in params.get("SubnetMappings", [])
        ]
        check_subnets(subnets)
        kind = params.get("IpAddressType")
        balancer = await self._change(
            call,
            lambda b: replace(b, subnets=tuple(subnets), ip_address_type=kind or b.ip_address_type),
        )
        return {
            "AvailabilityZones": format_zones(balancer),
            "IpAddressType": balancer.ip_address_type,
        }

    async def set_security_groups(self, call: Call) -> Output:
        given = tuple(call.params["SecurityGroups"])
        balancer = await self._change(call, lambda b: replace(b, security_groups=given))
        return {"SecurityGroupIds": list(balancer.security_groups)}

    async def set_ip_address_type(self, call: Call) -> Output:
        given = call.params["IpAddressType"]
        balancer = await self._change(call, lambda b: replace(b, ip_address_type=given))
        return {"IpAddressType": balancer.ip_address_type}

    async def describe_capacity_reservation(self, call: Call) -> Output:
        """No capacity is reserved: there is nothing that would have to grow."""
        self._get(call, call.params["LoadBalancerArn"])
        return {"CapacityReservationState": []}

    # Tags, of whatever has an ARN.

    async def describe_tags(self, call: Call) -> Output:
        arns = call.params["ResourceArns"]
        if len(arns) > _DESCRIBED_MAX:
            raise BalancerValidationError(
                f"Tags of up to {_DESCRIBED_MAX} resources can be described at once"
            )
        described = [
            {
                "ResourceArn": arn,
                "Tags": [
                    {"Key": key, "Value": text} for key, text in self._tags(call, arn).items()
                ],
            }
            for arn in arns
        ]
        return {"TagDescriptions": described}

    async def add_tags(self, call: Call) -> Output:
        added = parse_tags(call.params["Tags"])
        for arn in call.params["ResourceArns"]:
            await self._tag(call, arn, lambda tags: {**tags, **added})
        return {}

    async def remove_tags(self, call: Call) -> Output:
        gone = set(call.params["TagKeys"])
        for arn in call.params["ResourceArns"]:
            await self._tag(
                call, arn, lambda tags: {k: v for k, v in tags.items() if k not in gone}
            )
        return {}

    def _tags(self, call: Call, arn: str) -> Tags:
        match _kind(arn):
            case "targetgroup":
                return self._groups.get(call.account, call.region, arn).tags
            case "listener":
                return find_listener(self._get(call, balancer_arn_of(arn)), arn).tags
            case "listener-rule":
                return find_rule(self._get(call, balancer_arn_of(arn)), arn).tags
        return self._get(call, arn).tags

    async def _tag(self, call: Call, arn: str, change: Callable[[Tags], Tags]) -> None:
        who = (call.account, call.region)

        def tag_listener(balancer: LoadBalancer) -> LoadBalancer:
            listener = find_listener(balancer, arn)
            return put_listener(balancer, replace(listener, tags=change(listener.tags)))

        def tag_rule(balancer: LoadBalancer) -> LoadBalancer:
            rule = find_rule(balancer, arn)
            return put_rule(balancer, replace(rule, tags=change(rule.tags)))

        match _kind(arn):
            case "targetgroup":
                await self._groups.change(*who, arn, lambda g: replace(g, tags=change(g.tags)))
            case "listener":
                await self._balancers.change(*who, balancer_arn_of(arn), tag_listener)
            case "listener-rule":
                await self._balancers.change(*who, balancer_arn_of(arn), tag_rule)
            case _:
                await self._balancers.change(*who, arn, lambda b: replace(b, tags=change(b.tags)))

    def _get(self, call: Call, arn: str) -> LoadBalancer:
        return self._balancers.get(call.account, call.region, arn)

    async def _change(
        self, call: Call, change: Callable[[LoadBalancer], LoadBalancer]
    ) -> LoadBalancer:
        return await self._balancers.change(
            call.account, call.region, call.params["LoadBalancerArn"], change
        )


def _kind(arn: str) -> str:
    return arn.rpartition(":")[2].partition("/")[0]
