"""Target groups and their targets: operations of the Elastic Load Balancing API.

What it is not: target groups of instances, addresses or other load balancers.
Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from firelet.control.load_balancer_errors import (
    BalancerValidationError,
    InvalidTarget,
    InvokeNotAllowed,
    TargetGroupNotFound,
)
from firelet.control.load_balancer_records import TargetGroup
from firelet.control.load_balancers import LoadBalancers, forwards_to
from firelet.control.target_groups import (
    ATTRIBUTES,
    HEALTH_DEFAULTS,
    TargetGroups,
    complete_settings,
    with_target,
)
from firelet.frontend.elbv2_shapes import (
    cut,
    format_attributes,
    format_group,
    parse_attributes,
    parse_tags,
)
from firelet.frontend.operations import Call, Operations
from firelet.model.errors import FireletError, NotYetImplemented

Output = Mapping[str, Any]

_ACCOUNT_LIMITS = {
    "application-load-balancers": 50,
    "listeners-per-application-load-balancer": 50,
    "rules-per-application-load-balancer": 100,
    "target-groups": 3000,
    "targets-per-application-load-balancer": 1000,
}


class Targets(Protocol):
    """What the load balancers know of functions."""

    def may_invoke(self, group: TargetGroup, function: str) -> bool:
        """Whether the function's policy lets the group invoke it. FireletError when ``function``
        is no name of one."""

    def health(self, group: TargetGroup) -> tuple[str, str | None, str | None]:
        """State, reason and description."""


class TargetGroupOperations:
    """Groups, their attributes and targets."""

    def __init__(self, groups: TargetGroups, balancers: LoadBalancers, targets: Targets) -> None:
        self._groups = groups
        self._balancers = balancers
        self._targets = targets

    def register(self, operations: Operations) -> None:
        kind = "target groups of type lambda only"
        operations.add("elbv2", "CreateTargetGroup", self.create_target_group, lacks=kind)
        for name, handler in (
            ("DescribeTargetGroups", self.describe_target_groups),
            ("ModifyTargetGroup", self.modify_target_group),
            ("DeleteTargetGroup", self.delete_target_group),
            ("DescribeTargetGroupAttributes", self.describe_target_group_attributes),
            ("ModifyTargetGroupAttributes", self.modify_target_group_attributes),
            ("RegisterTargets", self.register_targets),
            ("DeregisterTargets", self.deregister_targets),
            ("DescribeTargetHealth", self.describe_target_health),
            ("DescribeAccountLimits", self.describe_account_limits),
        ):
            operations.add("elbv2", name, handler)

    async def create_target_group(self, call: Call) -> Output:
        params = call.params
        kind = params.get("TargetType", "instance")
        if kind != "lambda":
            raise NotYetImplemented(f"firelet does not serve targets of type {kind} yet")
        for member in ("Port", "Protocol", "VpcId", "ProtocolVersion"):
            if member in params:
                raise BalancerValidationError(
                    f"{member} cannot be specified for target groups with target type 'lambda'"
                )
        group = await self._groups.create(
            call.account,
            call.region,
            params["Name"],
            _health_settings(params),
            parse_tags(params.get("Tags", [])),
        )
        return {"TargetGroups": [self._format(call, group)]}

    async def describe_target_groups(self, call: Call) -> Output:
        params = call.params
        found = self._groups.all(call.account, call.region)
        if params.get("TargetGroupArns"):
            found = [
                self._groups.get(call.account, call.region, arn)
                for arn in params["TargetGroupArns"]
            ]
        elif params.get("LoadBalancerArn"):
            arn = params["LoadBalancerArn"]
            balancer = self._balancers.get(call.account, call.region, arn)
            found = [group for group in found if forwards_to(balancer, group.arn)]
        elif params.get("Names"):
            found = [group for group in found if group.name in params["Names"]]
            if len(found) < len(set(params["Names"])):
                raise TargetGroupNotFound("One or more target groups not found")
        found.sort(key=lambda group: group.arn)
        page, marker = cut(call, found, lambda group: group.arn)
        return {"TargetGroups": [self._format(call, group) for group in page], **marker}

    async def modify_target_group(self, call: Call) -> Output:
        given = _health_settings(call.params)

        def change(group: TargetGroup) -> TargetGroup:
            return replace(group, settings=complete_settings({**group.settings, **given}))

        return {"TargetGroups": [self._format(call, await self._change(call, change))]}

    async def delete_target_group(self, call: Call) -> Output:
        await self._groups.delete(call.account, call.region, call.params["TargetGroupArn"])
        return {}

    async def describe_target_group_attributes(self, call: Call) -> Output:
        return {"Attributes": format_attributes(ATTRIBUTES, self._group(call).attributes)}

    async def modify_target_group_attributes(self, call: Call) -> Output:
        given = parse_attributes(call, ATTRIBUTES)
        group = await self._change(call, lambda g: replace(g, attributes={**g.attributes, **given}))
        return {"Attributes": format_attributes(ATTRIBUTES, group.attributes)}

    async def register_targets(self, call: Call) -> Output:
        """A function must let the group invoke it before it can be its target."""
        group = self._group(call)
        functions = [target["Id"] for target in call.params["Targets"]]
        for function in functions:
            self._check_function(group, function)

        def change(group: TargetGroup) -> TargetGroup:
            for function in functions:
                group = with_target(group, function)
            return group

        await self._change(call, change)
        return {}

    async def deregister_targets(self, call: Call) -> Output:
        gone = {target["Id"] for target in call.params["Targets"]}
        await self._change(
            call, lambda g: replace(g, target=None if g.target in gone else g.target)
        )
        return {}

    async def describe_target_health(self, call: Call) -> Output:
        group = self._group(call)
        wanted = [target["Id"] for target in call.params.get("Targets", [])]
        listed = wanted or ([] if group.target is None else [group.target])
        return {"TargetHealthDescriptions": [self._format_health(group, name) for name in listed]}

    async def describe_account_limits(self, call: Call) -> Output:
        limits = [{"Name": name, "Max": str(most)} for name, most in _ACCOUNT_LIMITS.items()]
        return {"Limits": limits}

    def _check_function(self, group: TargetGroup, function: str) -> None:
        if not function.startswith("arn:"):
            raise InvalidTarget(f"The target ID '{function}' is not a valid Lambda ARN")
        try:
            is_allowed = self._targets.may_invoke(group, function)
        except FireletError:
            raise InvalidTarget(f"The target ID '{function}' is not a valid Lambda ARN") from None
        if not is_allowed:
            raise InvokeNotAllowed(
                "elasticloadbalancing principal does not have permission to invoke"
                f" {function} from target group {group.arn}"
            )

    def _format_health(self, group: TargetGroup, function: str) -> dict[str, Any]:
        if function != group.target:
            state = "unused"
            reason: str | None = "Target.NotRegistered"
            text: str | None = "Target is not registered to the target group"
        elif group.arn not in self._balancers.used_groups():
            state, reason = "unused", "Target.NotInUse"
            text = "Target group is not configured to receive traffic from the load balancer"
        else:
            state, reason, text = self._targets.health(group)
        health = {"State": state, "Reason": reason, "Description": text}
        return {"Target": {"Id": function}, "TargetHealth": health}

    def _format(self, call: Call, group: TargetGroup) -> dict[str, Any]:
        return format_group(group, self._balancers.all(call.account, call.region))

    def _group(self, call: Call) -> TargetGroup:
        return self._groups.get(call.account, call.region, call.params["TargetGroupArn"])

    async def _change(
        self, call: Call, change: Callable[[TargetGroup], TargetGroup]
    ) -> TargetGroup:
        return await self._groups.change(
            call.account, call.region, call.params["TargetGroupArn"], change
        )


def _health_settings(params: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: params[name] for name in HEALTH_DEFAULTS if name in params}
    if not given.get("Matcher", True):
        del given["Matcher"]
    return given
