"""Target groups of functions: which function a load balancer's rule forwards to.

The rules and the records. What it is not: health checks (``gateway.load_balancer_health``). Called
by ``frontend.elbv2_groups`` and by ``control.load_balancers``.
Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from firelet.control.load_balancer_errors import (
    BalancerResourceInUse,
    BalancerValidationError,
    DuplicateTargetGroupName,
    TargetGroupNotFound,
    TooManyTargets,
)
from firelet.control.load_balancer_records import Shape, TargetGroup
from firelet.store.documents import DocumentStore
from firelet.store.records import Records

MULTI_VALUE = "lambda.multi_value_headers.enabled"
ATTRIBUTES: Mapping[str, str] = {
    MULTI_VALUE: "false",
    "target_group_health.dns_failover.minimum_healthy_targets.count": "1",
    "target_group_health.dns_failover.minimum_healthy_targets.percentage": "off",
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count": "1",
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": "off",
}
# Source: health check settings of lambda target groups; off unless asked for.
HEALTH_DEFAULTS: Shape = {
    "HealthCheckEnabled": False,
    "HealthCheckPath": "/",
    "HealthCheckIntervalSeconds": 35,
    "HealthCheckTimeoutSeconds": 30,
    "HealthyThresholdCount": 5,
    "UnhealthyThresholdCount": 2,
    "Matcher": {"HttpCode": "200"},
}
_NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,30}[a-zA-Z0-9])?")
_CODES = re.compile(r"\d{3}([,-]\d{3})*")


class TargetGroups:
    """``load`` first. Every change is on disk when its call returns. ``used`` are the ARNs of the
    groups to which rules forward."""

    def __init__(self, documents: DocumentStore) -> None:
        self._records = Records(documents, "target-group", TargetGroup)
        self._changing = asyncio.Lock()
        self.used: Callable[[], Collection[str]] = tuple

    def load(self) -> None:
        """Blocking: at start-up only."""
        self._records.load()

    def everything(self) -> list[TargetGroup]:
        return list(self._records.values())

    def find(self, arn: str) -> TargetGroup | None:
        return self._records.get(arn)

    def get(self, account: str, region: str, arn: str) -> TargetGroup:
        found = self._records.get(arn)
        if found is None or (found.account, found.region) != (account, region):
            raise TargetGroupNotFound("One or more target groups not found")
        return found

    def all(self, account: str, region: str) -> list[TargetGroup]:
        """By name."""
        mine = [g for g in self._records.values() if (g.account, g.region) == (account, region)]
        return sorted(mine, key=lambda group: group.name)

    async def create(
        self,
        account: str,
        region: str,
        name: str,
        settings: Shape,
        tags: Mapping[str, str],
    ) -> TargetGroup:
        """The group of that name, if it was made with the same settings."""
        if _NAME.fullmatch(name) is None:
            raise BalancerValidationError(
                f"Target group name '{name}' can only contain characters that are alphanumeric"
                " characters and hyphens(-), up to 32 of them, and must not begin or end with a"
                " hyphen"
            )
        complete = complete_settings(settings)
        async with self._changing:
            same = [group for group in self.all(account, region) if group.name == name]
            if same and same[0].settings == complete:
                return same[0]
            if same:
                raise DuplicateTargetGroupName(
                    f"A target group with the same name '{name}' exists, but with different"
                    " settings"
                )
            prefix = f"arn:aws:elasticloadbalancing:{region}:{account}:targetgroup"
            group = TargetGroup(
                account=account,
                region=region,
                name=name,
                arn=f"{prefix}/{name}/{secrets.token_hex(8)}",
                settings=complete,
                tags=tags,
            )
            await self._records.put(group.arn, group)
            return group

    async def change(
        self, account: str, region: str, arn: str, change: Callable[[TargetGroup], TargetGroup]
    ) -> TargetGroup:
        async with self._changing:
            after = change(self.get(account, region, arn))
            await self._records.put(arn, after)
            return after

    async def delete(self, account: str, region: str, arn: str) -> None:
        """One that is not there is no error. ResourceInUse while a rule forwards to it."""
        async with self._changing:
            found = self._records.get(arn)
            if found is None or (found.account, found.region) != (account, region):
                return
            if arn in self.used():
                raise BalancerResourceInUse(
                    f"Target group '{arn}' is currently in use by a listener or a rule"
                )
            await self._records.delete(arn)


def with_target(group: TargetGroup, function_arn: str) -> TargetGroup:
    """TooManyTargets when there is another function: a group has one."""
    if group.target not in (None, function_arn):
        raise TooManyTargets(
            f"The target group '{group.arn}' has a Lambda function already; it can have only one"
        )
    return replace(group, target=function_arn)


def complete_settings(settings: Shape) -> dict[str, Any]:
    """Settings of a health check with their defaults. BalancerValidationError."""
    complete = {**HEALTH_DEFAULTS, **settings}
    timeout, interval = (complete[f"HealthCheck{n}Seconds"] for n in ("Timeout", "Interval"))
    if timeout >= interval:
        raise BalancerValidationError(
            f"Health check interval must be greater than the timeout: {interval} is not greater"
            f" than {timeout}"
        )
    if not complete["HealthCheckPath"].startswith("/"):
        raise BalancerValidationError("Health check path must begin with a '/' character")
    if _CODES.fullmatch(complete["Matcher"].get("HttpCode", "")) is None:
        raise BalancerValidationError(
            "Health check matcher HTTP code must be a number, a list or a range of numbers"
        )
    return complete
