"""What conditions and actions of a load balancer may say. Pure.

What firelet cannot do is refused when it is set. Called by ``control.load_balancers``.
Source: API reference of Elastic Load Balancing (RuleCondition, Action) and
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from firelet.control.load_balancer_errors import BalancerValidationError, InvalidConfiguration
from firelet.control.load_balancer_records import Shape, groups_of
from firelet.model.errors import NotYetImplemented

# The configuration of each kind of condition, and how many values all conditions may have.
_CONFIGS = {
    "host-header": "HostHeaderConfig",
    "path-pattern": "PathPatternConfig",
    "http-header": "HttpHeaderConfig",
    "http-request-method": "HttpRequestMethodConfig",
    "query-string": "QueryStringConfig",
    "source-ip": "SourceIpConfig",
}
_VALUES_MAX = 5
_WEIGHT_MAX = 999
_BODY_MAX_BYTES = 1_024


def complete_conditions(conditions: Sequence[Shape]) -> tuple[dict[str, Any], ...]:
    """Conditions as they are answered: with ``Values`` and configuration alike."""
    complete = tuple(_complete_condition(condition) for condition in conditions)
    if not complete:
        raise BalancerValidationError("A rule must have at least one condition")
    count = sum(len(values_of(condition)) for condition in complete)
    if count > _VALUES_MAX:
        raise BalancerValidationError(
            f"Rules cannot have more than {_VALUES_MAX} condition values; {count} were given"
        )
    return complete


def values_of(condition: Shape) -> list[Any]:
    """Values of a condition: text, or pairs of a query string."""
    values: list[Any] = condition[_CONFIGS[condition["Field"]]]["Values"]
    return values


def _complete_condition(condition: Shape) -> dict[str, Any]:
    name = condition.get("Field", "")
    member = _CONFIGS.get(name)
    if member is None:
        raise BalancerValidationError(
            f"Condition field '{name}' must be one of '[{', '.join(sorted(_CONFIGS))}]'"
        )
    config = dict(condition.get(member, {}))
    if "RegexValues" in config or "RegexValues" in condition:
        raise NotYetImplemented("firelet does not match conditions by regular expressions yet")
    if not config.get("Values"):
        config["Values"] = list(condition.get("Values", ()))
    if not config["Values"]:
        raise BalancerValidationError(f"A condition value must be specified for '{name}'")
    if name == "http-header" and not config.get("HttpHeaderName"):
        raise BalancerValidationError("A condition of 'http-header' must have a header name")
    if name == "source-ip":
        _check_networks(config["Values"])
    complete = {"Field": name, member: config}
    if name in ("host-header", "path-pattern"):
        complete["Values"] = config["Values"]
    return complete


def _check_networks(values: Sequence[str]) -> None:
    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError:
            raise BalancerValidationError(
                f"The IP address '{value}' is not in a valid CIDR format"
            ) from None


def complete_actions(actions: Sequence[Shape]) -> tuple[dict[str, Any], ...]:
    """Actions with their defaults. There is one that ends the request, and no other here:
    authentication is refused as not served."""
    complete = tuple(_complete_action(action) for action in actions)
    if len(complete) != 1:
        raise InvalidConfiguration("A rule must have exactly one action of those that firelet has")
    return complete


def _complete_action(action: Shape) -> dict[str, Any]:
    kind = action["Type"]
    if kind == "forward":
        return _complete_forward(action)
    order = {"Order": action["Order"]} if "Order" in action else {}
    if kind == "fixed-response":
        config = action.get("FixedResponseConfig")
        if config is None:
            raise BalancerValidationError("A fixed-response action needs FixedResponseConfig")
        if len(config.get("MessageBody", "").encode()) > _BODY_MAX_BYTES:
            raise BalancerValidationError("The message body cannot be longer than 1024 characters")
        return {"Type": kind, **order, "FixedResponseConfig": config}
    if kind == "redirect":
        config = action.get("RedirectConfig")
        if config is None:
            raise BalancerValidationError("A redirect action needs RedirectConfig")
        return {"Type": kind, **order, "RedirectConfig": _complete_redirect(config)}
    raise NotYetImplemented(f"firelet does not serve actions of type {kind} yet")


def _complete_forward(action: Shape) -> dict[str, Any]:
    groups = groups_of(action)
    if not groups:
        raise BalancerValidationError("A target group ARN must be specified")
    if not all(0 <= weight <= _WEIGHT_MAX for weight in groups.values()):
        raise BalancerValidationError(f"A weight must be between 0 and {_WEIGHT_MAX}")
    stickiness = action.get("ForwardConfig", {}).get("TargetGroupStickinessConfig")
    if stickiness is not None and stickiness.get("Enabled"):
        raise NotYetImplemented("firelet does not keep clients at a target group yet")
    complete: dict[str, Any] = {"Type": "forward"}
    if len(groups) == 1:
        complete["TargetGroupArn"] = next(iter(groups))
    if "Order" in action:
        complete["Order"] = action["Order"]
    complete["ForwardConfig"] = {
        "TargetGroups": [
            {"TargetGroupArn": arn, "Weight": weight} for arn, weight in groups.items()
        ],
        "TargetGroupStickinessConfig": {"Enabled": False},
    }
    return complete


def _complete_redirect(config: Shape) -> dict[str, Any]:
    complete: dict[str, Any] = {
        "Protocol": "#{protocol}",
        "Port": "#{port}",
        "Host": "#{host}",
        "Path": "/#{path}",
        "Query": "#{query}",
        **config,
    }
    if complete["Protocol"] not in ("HTTP", "HTTPS", "#{protocol}"):
        raise BalancerValidationError("Protocol must be one of 'HTTP, HTTPS, #{protocol}'")
    if not complete["Path"].startswith("/"):
        raise BalancerValidationError("The path of a redirect must begin with '/'")
    defaults: Mapping[str, str] = {"Protocol": "#{protocol}", "Host": "#{host}"}
    is_same = all(complete[name] == default for name, default in defaults.items())
    if is_same and complete["Port"] == "#{port}" and complete["Path"] == "/#{path}":
        raise InvalidConfiguration(
            "The redirect would be to itself: modify one of protocol, port, hostname or path"
        )
    return complete
