"""Application Load Balancers: their listeners and rules.

The records and how they change. What it is not: what a condition or an action may say
(``load_balancer_rules``), or the serving of requests, which asks ``find``. There are no networks
here: subnets and security groups are kept and answered.
Source: API reference of Elastic Load Balancing; sentences as recorded by users.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from firelet.control.load_balancer_errors import (
    BalancerValidationError,
    DuplicateListener,
    DuplicateLoadBalancerName,
    ListenerNotFound,
    LoadBalancerNotFound,
    OperationNotPermitted,
    PriorityInUse,
    RuleNotFound,
)
from firelet.control.load_balancer_records import (
    Listener,
    LoadBalancer,
    Rule,
    Shape,
    groups_of,
    used_groups,
)
from firelet.control.target_groups import TargetGroups
from firelet.store.documents import DocumentStore
from firelet.store.records import Records

DELETION_PROTECTION = "deletion_protection.enabled"
XFF_MODE = "routing.http.xff_header_processing.mode"
ATTRIBUTES: Mapping[str, str] = {
    "access_logs.s3.enabled": "false",
    "access_logs.s3.bucket": "",
    "access_logs.s3.prefix": "",
    "client_keep_alive.seconds": "3600",
    "connection_logs.s3.enabled": "false",
    "connection_logs.s3.bucket": "",
    "connection_logs.s3.prefix": "",
    DELETION_PROTECTION: "false",
    "idle_timeout.timeout_seconds": "60",
    "load_balancing.cross_zone.enabled": "true",
    "routing.http.desync_mitigation_mode": "defensive",
    "routing.http.drop_invalid_header_fields.enabled": "false",
    "routing.http.preserve_host_header.enabled": "false",
    "routing.http.x_amzn_tls_version_and_cipher_suite.enabled": "false",
    "routing.http.xff_client_port.enabled": "false",
    XFF_MODE: "append",
    "routing.http2.enabled": "true",
    "waf.fail_open.enabled": "false",
    "zonal_shift.config.enabled": "false",
}
_NAME = re.compile(r"(?!internal-)[a-zA-Z0-9]([a-zA-Z0-9-]{0,30}[a-zA-Z0-9])?")
_SUBNETS_MIN = 2
_NUMBER_DIGITS = 10


class LoadBalancers:
    """``load`` first. Every change is on disk when its call returns. ``clock``: epoch seconds."""

    def __init__(
        self, documents: DocumentStore, groups: TargetGroups, clock: Callable[[], float]
    ) -> None:
        self._records = Records(documents, "load-balancer", LoadBalancer)
        self._groups = groups
        self._clock = clock
        self._changing = asyncio.Lock()
        self._by_site: dict[str, str] = {}
        groups.used = self.used_groups

    def load(self) -> None:
        """Blocking: at start-up only."""
        self._records.load()
        self._by_site = {item.site_id: item.arn for item in self._records.values()}

    def find(self, site_id: str) -> LoadBalancer | None:
        """Whose name begins with that label."""
        arn = self._by_site.get(site_id)
        return None if arn is None else self._records.get(arn)

    def used_groups(self) -> set[str]:
        """ARNs of the target groups to which any rule forwards."""
        return {arn for balancer in self._records.values() for arn in used_groups(balancer)}

    def get(self, account: str, region: str, arn: str) -> LoadBalancer:
        found = self._records.get(arn)
        if found is None or (found.account, found.region) != (account, region):
            raise LoadBalancerNotFound("One or more load balancers not found")
        return found

    def all(self, account: str, region: str) -> list[LoadBalancer]:
        """By name."""
        mine = [b for b in self._records.values() if (b.account, b.region) == (account, region)]
        return sorted(mine, key=lambda balancer: balancer.name)

    async def create(
        self,
        account: str,
        region: str,
        name: str,
        scheme: str,
        ip_address_type: str,
        subnets: Sequence[str],
        security_groups: Sequence[str],
        tags: Mapping[str, str],
    ) -> LoadBalancer:
        """The load balancer of that name, if it was made with the same settings."""
        _check_name(name)
        check_subnets(subnets)
        async with self._changing:
            same = next((b for b in self.all(account, region) if b.name == name), None)
            if same is not None:
                if (same.scheme, set(same.subnets)) == (scheme, set(subnets)):
                    return same
                raise DuplicateLoadBalancerName(
                    f"A load balancer with the same name '{name}' exists, but with different"
                    " settings"
                )
            number = str(secrets.randbelow(9 * 10 ** (_NUMBER_DIGITS - 1)) + 10**9)
            prefix = f"arn:aws:elasticloadbalancing:{region}:{account}:loadbalancer/app"
            internal = "internal-" if scheme == "internal" else ""
            balancer = LoadBalancer(
                account=account,
                region=region,
                name=name,
                arn=f"{prefix}/{name}/{secrets.token_hex(8)}",
                # Names of hosts know no case.
                site_id=f"{internal}{name}-{number}".lower(),
                created=self._clock(),
                scheme=scheme,
                ip_address_type=ip_address_type,
                subnets=tuple(subnets),
                security_groups=tuple(security_groups),
                tags=tags,
            )
            await self._records.put(balancer.arn, balancer)
            self._by_site[balancer.site_id] = balancer.arn
            return balancer

    async def change(
        self, account: str, region: str, arn: str, change: Callable[[LoadBalancer], LoadBalancer]
    ) -> LoadBalancer:
        """``change`` is pure. TargetGroupNotFound when it forwards to a group that is not there."""
        async with self._changing:
            before = self.get(account, region, arn)
            after = change(before)
            for group in used_groups(after) - used_groups(before):
                self._groups.get(account, region, group)
            await self._records.put(arn, after)
            return after

    async def delete(self, account: str, region: str, arn: str) -> None:
        """With its listeners; one that is not there is no error."""
        async with self._changing:
            found = self._records.get(arn)
            if found is None or (found.account, found.region) != (account, region):
                return
            if found.attributes.get(DELETION_PROTECTION) == "true":
                raise OperationNotPermitted(
                    f"Load balancer '{arn}' cannot be deleted because deletion protection is"
                    " enabled"
                )
            await self._records.delete(arn)
            self._by_site.pop(found.site_id, None)


def balancer_arn_of(arn: str) -> str:
    """The load balancer that a listener or a rule belongs to, by its ARN."""
    head, _, rest = arn.partition(":listener")
    parts = rest.partition("/")[2].split("/")
    return f"{head}:loadbalancer/{'/'.join(parts[:3])}"


def listener_arn_of(rule_arn: str) -> str:
    """The listener that a rule belongs to."""
    return rule_arn.rpartition("/")[0].replace(":listener-rule/", ":listener/")


def find_listener(balancer: LoadBalancer, arn: str) -> Listener:
    found = balancer.listeners.get(arn)
    if found is None:
        raise ListenerNotFound("One or more listeners not found")
    return found


def find_rule(balancer: LoadBalancer, arn: str) -> Rule:
    listener = balancer.listeners.get(listener_arn_of(arn))
    found = None if listener is None else listener.rules.get(arn)
    if found is None:
        raise RuleNotFound("One or more rules not found")
    return found


def add_listener(
    balancer: LoadBalancer,
    port: int,
    protocol: str,
    actions: tuple[Shape, ...],
    settings: Shape,
    tags: Mapping[str, str],
) -> tuple[LoadBalancer, Listener]:
    """DuplicateListener when the port has one."""
    _check_port(balancer, port, None)
    arn = f"{balancer.arn.replace(':loadbalancer/', ':listener/')}/{secrets.token_hex(8)}"
    default = Rule(arn=new_rule_arn(arn), actions=actions)
    listener = Listener(
        arn=arn,
        port=port,
        protocol=protocol,
        rules={default.arn: default},
        settings=settings,
        tags=tags,
    )
    return put_listener(balancer, listener), listener


def put_listener(balancer: LoadBalancer, listener: Listener) -> LoadBalancer:
    """The load balancer with a listener set."""
    _check_port(balancer, listener.port, listener.arn)
    return replace(balancer, listeners={**balancer.listeners, listener.arn: listener})


def put_rule(balancer: LoadBalancer, rule: Rule) -> LoadBalancer:
    """The load balancer with a rule set. PriorityInUse."""
    listener = find_listener(balancer, listener_arn_of(rule.arn))
    for other in listener.rules.values():
        if other.arn != rule.arn and other.priority == rule.priority is not None:
            raise PriorityInUse(f"Priority '{rule.priority}' is currently in use")
    return put_listener(balancer, replace(listener, rules={**listener.rules, rule.arn: rule}))


def delete_rule(balancer: LoadBalancer, arn: str) -> LoadBalancer:
    """OperationNotPermitted for the default rule."""
    if find_rule(balancer, arn).priority is None:
        raise OperationNotPermitted(f"Default rule '{arn}' cannot be deleted")
    listener = find_listener(balancer, listener_arn_of(arn))
    left = {key: rule for key, rule in listener.rules.items() if key != arn}
    return put_listener(balancer, replace(listener, rules=left))


def set_priorities(balancer: LoadBalancer, priorities: Mapping[str, int]) -> LoadBalancer:
    """All at once: rules may change places. PriorityInUse."""
    for arn, priority in priorities.items():
        rule = find_rule(balancer, arn)
        if rule.priority is None:
            raise OperationNotPermitted(f"Priority of default rule '{arn}' cannot be modified")
        listener = find_listener(balancer, listener_arn_of(arn))
        changed = replace(rule, priority=priority)
        balancer = put_listener(balancer, replace(listener, rules={**listener.rules, arn: changed}))
    for listener in balancer.listeners.values():
        taken = [rule.priority for rule in listener.rules.values()]
        twice = [number for number in taken if taken.count(number) > 1]
        if twice:
            raise PriorityInUse(f"Priority '{twice[0]}' is currently in use")
    return balancer


def new_rule_arn(listener_arn: str) -> str:
    return f"{listener_arn.replace(':listener/', ':listener-rule/')}/{secrets.token_hex(8)}"


def check_subnets(subnets: Sequence[str]) -> None:
    if len(set(subnets)) < _SUBNETS_MIN:
        raise BalancerValidationError(
            "At least two subnets in two different Availability Zones must be specified"
        )


def forwards_to(balancer: LoadBalancer, group_arn: str) -> bool:
    """Whether any rule of the load balancer forwards to the group."""
    return any(
        group_arn in groups_of(action)
        for listener in balancer.listeners.values()
        for rule in listener.rules.values()
        for action in rule.actions
    )


def _check_port(balancer: LoadBalancer, port: int, arn: str | None) -> None:
    if any(item.port == port and item.arn != arn for item in balancer.listeners.values()):
        raise DuplicateListener(
            f"A listener already exists on this port for this load balancer '{balancer.arn}'"
        )


def _check_name(name: str) -> None:
    if len(name) > 32:
        raise BalancerValidationError(
            f"The load balancer name '{name}' cannot be longer than '32' characters"
        )
    if _NAME.fullmatch(name) is None:
        raise BalancerValidationError(
            f"The load balancer name '{name}' can only contain characters that are alphanumeric"
            " characters and hyphens(-), must not begin or end with a hyphen, and must not begin"
            " with 'internal-'"
        )
