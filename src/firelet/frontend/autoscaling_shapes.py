"""Scalable targets and what hangs on them as members of the Application Auto Scaling API."""

from __future__ import annotations

from typing import Any

from firelet.control.scaling import DIMENSION
from firelet.control.scaling_records import (
    ScalableTarget,
    ScalingActivity,
    ScalingPolicy,
    ScheduledAction,
)

_SUSPENSIONS = (
    "DynamicScalingInSuspended",
    "DynamicScalingOutSuspended",
    "ScheduledScalingSuspended",
)
_ROLE = (
    "arn:aws:iam::{}:role/aws-service-role/lambda.application-autoscaling.amazonaws.com/"
    "AWSServiceRoleForApplicationAutoScaling_LambdaConcurrency"
)


def format_target(target: ScalableTarget) -> dict[str, Any]:
    return {
        **_format_name(target),
        "MinCapacity": target.minimum,
        "MaxCapacity": target.maximum,
        "RoleARN": _ROLE.format(target.account),
        "CreationTime": target.created,
        "SuspendedState": {name: name in target.suspended for name in _SUSPENSIONS},
        "ScalableTargetARN": target.arn,
    }


def format_policy(target: ScalableTarget, policy: ScalingPolicy) -> dict[str, Any]:
    return {
        **_format_name(target),
        "PolicyARN": policy.arn,
        "PolicyName": policy.name,
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": policy.configuration,
        "Alarms": [],
        "CreationTime": policy.created,
    }


def format_action(target: ScalableTarget, action: ScheduledAction) -> dict[str, Any]:
    bounds = {"MinCapacity": action.minimum, "MaxCapacity": action.maximum}
    return {
        **_format_name(target),
        "ScheduledActionName": action.name,
        "ScheduledActionARN": action.arn,
        "Schedule": action.schedule,
        "Timezone": action.timezone,
        "StartTime": action.start,
        "EndTime": action.end,
        "ScalableTargetAction": bounds,
        "CreationTime": action.created,
    }


def format_activity(target: ScalableTarget, activity: ScalingActivity) -> dict[str, Any]:
    return {
        **_format_name(target),
        "ActivityId": activity.id,
        "Description": activity.description,
        "Cause": activity.cause,
        "StartTime": activity.start,
        "EndTime": activity.end,
        "StatusCode": activity.status,
        "StatusMessage": activity.message,
    }


def _format_name(target: ScalableTarget) -> dict[str, str]:
    return {
        "ServiceNamespace": "lambda",
        "ResourceId": target.resource_id,
        "ScalableDimension": DIMENSION,
    }
