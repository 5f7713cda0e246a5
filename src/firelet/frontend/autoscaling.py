"""The Application Auto Scaling API, for the provisioned concurrency of functions.

What it is: operations over ``control.scaling``. What it is not: scaling of anything but functions,
step scaling, or predictive scaling.
Source: https://docs.aws.amazon.com/autoscaling/application/APIReference/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from firelet.control.registry import Registry
from firelet.control.scaling import DIMENSION, PREDEFINED_METRIC, Scaling, TargetName
from firelet.control.scaling_errors import InvalidScalingToken, ScalingValidationError
from firelet.control.scaling_records import ScalableTarget
from firelet.frontend.autoscaling_shapes import (
    format_action,
    format_activity,
    format_policy,
    format_target,
)
from firelet.frontend.markers import cut_page
from firelet.frontend.operations import Call, Operations
from firelet.model.errors import InvalidParameterValue

Output = Mapping[str, Any]
T = TypeVar("T")

PAGE = 50  # source: API reference, MaxResults

_RESOURCE = re.compile(r"function:([a-zA-Z0-9_-]{1,140}):([a-zA-Z0-9$_-]{1,128})")


class AutoScalingOperations:
    """All of the Application Auto Scaling API that firelet serves."""

    def __init__(self, scaling: Scaling, registry: Registry) -> None:
        self._scaling = scaling
        self._provisioned = registry.provisioned

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("RegisterScalableTarget", self.register_scalable_target),
            ("DeregisterScalableTarget", self.deregister_scalable_target),
            ("DescribeScalableTargets", self.describe_scalable_targets),
            ("PutScalingPolicy", self.put_scaling_policy),
            ("DeleteScalingPolicy", self.delete_scaling_policy),
            ("DescribeScalingPolicies", self.describe_scaling_policies),
            ("PutScheduledAction", self.put_scheduled_action),
            ("DeleteScheduledAction", self.delete_scheduled_action),
            ("DescribeScheduledActions", self.describe_scheduled_actions),
            ("DescribeScalingActivities", self.describe_scaling_activities),
            ("ListTagsForResource", self.list_tags_for_resource),
            ("TagResource", self.tag_resource),
            ("UntagResource", self.untag_resource),
        ):
            operations.add("application-autoscaling", name, handler)

    async def register_scalable_target(self, call: Call) -> Output:
        params = call.params
        name = _parse_target(call)
        key = (name.account, name.region, name.function)
        if not self._provisioned.has_place(key, name.qualifier):
            raise ScalingValidationError(
                f"The resource {name.resource_id} does not exist: a scalable target needs a"
                " published version or an alias."
            )
        suspended = params.get("SuspendedState")
        target = await self._scaling.register(
            name,
            params.get("MinCapacity"),
            params.get("MaxCapacity"),
            None if suspended is None else frozenset(k for k, is_on in suspended.items() if is_on),
            params.get("Tags", {}),
        )
        return {"ScalableTargetARN": target.arn}

    async def deregister_scalable_target(self, call: Call) -> None:
        await self._scaling.deregister(_parse_target(call))

    async def describe_scalable_targets(self, call: Call) -> Output:
        wanted = call.params.get("ResourceIds")
        targets = [t for t in self._targets(call) if not wanted or t.resource_id in wanted]
        page, token = _cut(call, targets, lambda target: target.resource_id)
        return {"ScalableTargets": [format_target(target) for target in page], **token}

    async def put_scaling_policy(self, call: Call) -> Output:
        params = call.params
        name = _parse_target(call)
        kind = params.get("PolicyType", "StepScaling")
        if kind != "TargetTrackingScaling":
            raise ScalingValidationError(
                f"Unsupported policy type {kind} for service namespace lambda, scalable dimension"
                f" {DIMENSION}. Supported policy types: TargetTrackingScaling"
            )
        configuration = params.get("TargetTrackingScalingPolicyConfiguration")
        if configuration is None:
            raise ScalingValidationError(
                "TargetTrackingScalingPolicyConfiguration must be specified when the policy type"
                " is TargetTrackingScaling."
            )
        _check_tracking(configuration)
        policy = await self._scaling.put_policy(name, params["PolicyName"], configuration)
        return {"PolicyARN": policy.arn, "Alarms": []}

    async def delete_scaling_policy(self, call: Call) -> None:
        await self._scaling.delete_policy(_parse_target(call), call.params["PolicyName"])

    async def describe_scaling_policies(self, call: Call) -> Output:
        wanted = call.params.get("PolicyNames")
        found = [
            (target, policy)
            for target in self._targets(call)
            for policy in target.policies.values()
            if not wanted or policy.name in wanted
        ]
        page, token = _cut(call, found, lambda item: item[1].arn)
        return {"ScalingPolicies": [format_policy(*item) for item in page], **token}

    async def put_scheduled_action(self, call: Call) -> None:
        params = call.params
        changes: dict[str, Any] = {}
        for member, field in (("Schedule", "schedule"), ("Timezone", "timezone")):
            if member in params:
                changes[field] = params[member]
        for member, field in (("StartTime", "start"), ("EndTime", "end")):
            if member in params:
                changes[field] = params[member].timestamp()
        if "ScalableTargetAction" in params:
            given = params["ScalableTargetAction"]
            changes |= {"minimum": given.get("MinCapacity"), "maximum": given.get("MaxCapacity")}
        name = params["ScheduledActionName"]
        await self._scaling.put_action(_parse_target(call), name, changes)

    async def delete_scheduled_action(self, call: Call) -> None:
        await self._scaling.delete_action(_parse_target(call), call.params["ScheduledActionName"])

    async def describe_scheduled_actions(self, call: Call) -> Output:
        wanted = call.params.get("ScheduledActionNames")
        found = [
            (target, action)
            for target in self._targets(call)
            for action in target.actions.values()
            if not wanted or action.name in wanted
        ]
        page, token = _cut(call, found, lambda item: item[1].arn)
        return {"ScheduledActions": [format_action(*item) for item in page], **token}

    async def describe_scaling_activities(self, call: Call) -> Output:
        found = [(target, item) for target in self._targets(call) for item in target.activities]
        # The newest first; a page goes on by what sorts upwards.
        found.sort(key=lambda item: (-item[1].start, item[1].id))
        page, token = _cut(call, found, lambda item: f"{2**40 - item[1].start:020.6f}/{item[1].id}")
        return {"ScalingActivities": [format_activity(*item) for item in page], **token}

    async def list_tags_for_resource(self, call: Call) -> Output:
        return {"Tags": self._scaling.tags(call.params["ResourceARN"])}

    async def tag_resource(self, call: Call) -> None:
        await self._scaling.tag(call.params["ResourceARN"], call.params["Tags"])

    async def untag_resource(self, call: Call) -> None:
        await self._scaling.tag(call.params["ResourceARN"], {}, call.params["TagKeys"])

    def _targets(self, call: Call) -> list[ScalableTarget]:
        """Those of the caller that the call's filters let through."""
        params = call.params
        if params["ServiceNamespace"] != "lambda":
            return []
        if params.get("ScalableDimension", DIMENSION) != DIMENSION:
            return []
        resource = params.get("ResourceId")
        targets = self._scaling.targets(call.account, call.region)
        return [target for target in targets if resource in (None, target.resource_id)]


def _parse_target(call: Call) -> TargetName:
    params = call.params
    resource = _RESOURCE.fullmatch(params["ResourceId"])
    if (
        params["ServiceNamespace"] != "lambda"
        or params["ScalableDimension"] != DIMENSION
        or resource is None
    ):
        raise ScalingValidationError(
            "Unsupported service namespace, resource type or scalable dimension"
        )
    return TargetName(call.account, call.region, *resource.groups())


def _check_tracking(configuration: Mapping[str, Any]) -> None:
    predefined = configuration.get("PredefinedMetricSpecification")
    custom = configuration.get("CustomizedMetricSpecification")
    if (predefined is None) == (custom is None):
        raise ScalingValidationError(
            "Exactly one of PredefinedMetricSpecification and CustomizedMetricSpecification must"
            " be specified."
        )
    if configuration["TargetValue"] <= 0:
        raise ScalingValidationError("TargetValue must be greater than 0.")
    if predefined is not None:
        metric = predefined["PredefinedMetricType"]
        if metric != PREDEFINED_METRIC:
            raise ScalingValidationError(
                f"The predefined metric type {metric} is not supported by the scalable dimension"
                f" {DIMENSION}."
            )
    if custom is not None and not {"MetricName", "Namespace", "Statistic"} <= custom.keys():
        raise ScalingValidationError(
            "A customized metric must have MetricName, Namespace and Statistic."
        )


def _cut(
    call: Call, items: Iterable[T], name: Callable[[T], str]
) -> tuple[list[T], dict[str, str]]:
    """One page by this API's names of the page's members."""
    params = {"Marker": call.params.get("NextToken"), "MaxItems": call.params.get("MaxResults")}
    ordered = sorted(items, key=name)
    try:
        page, marker = cut_page(ordered, lambda item: (name(item),), params, PAGE)
    except InvalidParameterValue:
        raise InvalidScalingToken("The specified NextToken is invalid.") from None
    return page, {"NextToken": marker["NextMarker"]} if marker else {}
