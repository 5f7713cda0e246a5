"""Application Load Balancers and target groups as they are kept.

Values only. Conditions, actions and settings of health checks have the members of the service
model's shapes, which has checked them; ``gateway.load_balancer_rules`` compiles them. Times are
epoch seconds; attributes are text, as the API has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Shape = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """``priority`` is None for the default rule, which has no conditions."""

    arn: str
    priority: int | None = None
    conditions: tuple[Shape, ...] = ()
    actions: tuple[Shape, ...]
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """``rules`` are by ARN, the default rule among them. ``settings`` are ``SslPolicy``,
    ``Certificates`` and the like, kept and answered: nothing is encrypted here."""

    arn: str
    port: int
    protocol: str
    rules: Mapping[str, Rule]
    settings: Shape = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def default_rule(self) -> Rule:
        return next(rule for rule in self.rules.values() if rule.priority is None)

    def ordered_rules(self) -> list[Rule]:
        """In the order in which they are tried: the default rule is the last."""
        return sorted(
            self.rules.values(), key=lambda rule: (rule.priority is None, rule.priority or 0)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancer:
    """``site_id`` is the first label of its name: the load balancer's own and a number."""

    account: str
    region: str
    name: str
    arn: str
    site_id: str
    created: float
    scheme: str
    ip_address_type: str
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    listeners: Mapping[str, Listener] = field(default_factory=dict)

    @property
    def dns_name(self) -> str:
        return f"{self.site_id}.{self.region}.elb.localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetGroup:
    """Functions only, and one at most: ``target`` is its ARN. ``settings`` are those of the health
    check."""

    account: str
    region: str
    name: str
    arn: str
    settings: Shape
    attributes: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def used_groups(balancer: LoadBalancer) -> set[str]:
    """ARNs of the target groups to which its rules forward."""
    return {
        arn
        for listener in balancer.listeners.values()
        for rule in listener.rules.values()
        for action in rule.actions
        for arn in groups_of(action)
    }


def groups_of(action: Shape) -> dict[str, int]:
    """Target groups of a forward action with their weights."""
    if action["Type"] != "forward":
        return {}
    listed = action.get("ForwardConfig", {}).get("TargetGroups")
    if listed:
        return {item["TargetGroupArn"]: item.get("Weight", 1) for item in listed}
    return {action["TargetGroupArn"]: 1} if "TargetGroupArn" in action else {}
