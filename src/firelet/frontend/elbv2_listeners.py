"""Listeners and rules: operations of the Elastic Load Balancing API.

Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from firelet.control.load_balancer_errors import BalancerValidationError, PriorityInUse
from firelet.control.load_balancer_records import Listener, LoadBalancer, Rule
from firelet.control.load_balancer_rules import complete_actions, complete_conditions
from firelet.control.load_balancers import (
    LoadBalancers,
    add_listener,
    balancer_arn_of,
    delete_rule,
    find_listener,
    find_rule,
    listener_arn_of,
    new_rule_arn,
    put_listener,
    put_rule,
    set_priorities,
)
from firelet.frontend.elbv2_shapes import (
    cut,
    format_attributes,
    format_listener,
    format_rule,
    parse_attributes,
    parse_tags,
)
from firelet.frontend.operations import Call, Operations
from firelet.model.errors import NotYetImplemented
from firelet.model.load_balancer import LISTENER_ATTRIBUTES

Output = Mapping[str, Any]

_PROTOCOLS = ("HTTP", "HTTPS")
_SETTINGS = ("SslPolicy", "Certificates", "AlpnPolicy")
_SSL_POLICY = "ELBSecurityPolicy-2016-08"


class ListenerOperations:
    """What load balancers listen to, and what they do with it."""

    def __init__(self, balancers: LoadBalancers) -> None:
        self._balancers = balancers

    def register(self, operations: Operations) -> None:
        plain = "nothing is encrypted: listeners of HTTPS are served by HTTP"
        for name, handler, lacks in (
            ("CreateListener", self.create_listener, plain),
            ("DescribeListeners", self.describe_listeners, None),
            ("ModifyListener", self.modify_listener, plain),
            ("DeleteListener", self.delete_listener, None),
            ("DescribeListenerAttributes", self.describe_listener_attributes, None),
            ("ModifyListenerAttributes", self.modify_listener_attributes, None),
            ("DescribeListenerCertificates", self.describe_listener_certificates, plain),
            ("CreateRule", self.create_rule, None),
            ("DescribeRules", self.describe_rules, None),
            ("ModifyRule", self.modify_rule, None),
            ("DeleteRule", self.delete_rule, None),
            ("SetRulePriorities", self.set_rule_priorities, None),
        ):
            operations.add("elbv2", name, handler, lacks=lacks)

    async def create_listener(self, call: Call) -> Output:
        params = call.params
        protocol, port = params.get("Protocol"), params.get("Port")
        if protocol is None or port is None:
            raise BalancerValidationError("A listener must have a protocol and a port")
        _check_protocol(protocol)
        settings = {name: params[name] for name in _SETTINGS if name in params}
        if protocol == "HTTPS":
            settings = {"SslPolicy": _SSL_POLICY, **settings}
            if not settings.get("Certificates"):
                raise BalancerValidationError("A certificate must be specified for HTTPS listeners")
        actions = complete_actions(params["DefaultActions"])
        made: list[Listener] = []

        def change(balancer: LoadBalancer) -> LoadBalancer:
            after, listener = add_listener(
                balancer, port, protocol, actions, settings, parse_tags(params.get("Tags", []))
            )
            made.append(listener)
            return after

        balancer = await self._change(call, params["LoadBalancerArn"], change)
        return {"Listeners": [format_listener(balancer, made[0])]}

    async def describe_listeners(self, call: Call) -> Output:
        params = call.params
        if params.get("ListenerArns"):
            pairs = [self._listener(call, arn) for arn in params["ListenerArns"]]
        elif params.get("LoadBalancerArn"):
            balancer = self._get(call, params["LoadBalancerArn"])
            pairs = [(balancer, listener) for listener in balancer.listeners.values()]
        else:
            raise BalancerValidationError(
                "You must specify either listener ARNs or a load balancer ARN"
            )
        pairs.sort(key=lambda pair: pair[1].arn)
        page, marker = cut(call, pairs, lambda pair: pair[1].arn)
        return {"Listeners": [format_listener(*pair) for pair in page], **marker}

    async def modify_listener(self, call: Call) -> Output:
        params, arn = call.params, call.params["ListenerArn"]
        actions = None
        if params.get("DefaultActions"):
            actions = complete_actions(params["DefaultActions"])

        def change(balancer: LoadBalancer) -> LoadBalancer:
            listener = find_listener(balancer, arn)
            protocol = params.get("Protocol", listener.protocol)
            _check_protocol(protocol)
            given = {name: params[name] for name in _SETTINGS if name in params}
            settings = {**listener.settings, **given} if protocol == "HTTPS" else {}
            rules = dict(listener.rules)
            if actions is not None:
                default = replace(listener.default_rule, actions=actions)
                rules[default.arn] = default
            return put_listener(
                balancer,
                replace(
                    listener,
                    port=params.get("Port", listener.port),
                    protocol=protocol,
                    settings=settings,
                    rules=rules,
                ),
            )

        balancer = await self._change(call, balancer_arn_of(arn), change)
        return {"Listeners": [format_listener(balancer, find_listener(balancer, arn))]}

    async def delete_listener(self, call: Call) -> None:
        arn = call.params["ListenerArn"]

        def change(balancer: LoadBalancer) -> LoadBalancer:
            find_listener(balancer, arn)
            left = {key: item for key, item in balancer.listeners.items() if key != arn}
            return replace(balancer, listeners=left)

        await self._change(call, balancer_arn_of(arn), change)

    async def describe_listener_attributes(self, call: Call) -> Output:
        _, listener = self._listener(call, call.params["ListenerArn"])
        return {"Attributes": format_attributes(LISTENER_ATTRIBUTES, listener.attributes)}

    async def modify_listener_attributes(self, call: Call) -> Output:
        given, arn = parse_attributes(call, LISTENER_ATTRIBUTES), call.params["ListenerArn"]

        def change(balancer: LoadBalancer) -> LoadBalancer:
            listener = find_listener(balancer, arn)
            attributes = {**listener.attributes, **given}
            return put_listener(balancer, replace(listener, attributes=attributes))

        balancer = await self._change(call, balancer_arn_of(arn), change)
        attributes = find_listener(balancer, arn).attributes
        return {"Attributes": format_attributes(LISTENER_ATTRIBUTES, attributes)}

    async def describe_listener_certificates(self, call: Call) -> Output:
        _, listener = self._listener(call, call.params["ListenerArn"])
        listed = listener.settings.get("Certificates", [])
        return {"Certificates": [{**item, "IsDefault": True} for item in listed]}

    async def create_rule(self, call: Call) -> Output:
        params = call.params
        if params.get("Transforms"):
            raise NotYetImplemented("firelet does not rewrite requests yet")
        listener_arn = params["ListenerArn"]
        rule = Rule(
            arn=new_rule_arn(listener_arn),
            priority=params["Priority"],
            conditions=complete_conditions(params["Conditions"]),
            actions=complete_actions(params["Actions"]),
            tags=parse_tags(params.get("Tags", [])),
        )

        def change(balancer: LoadBalancer) -> LoadBalancer:
            find_listener(balancer, listener_arn)
            return put_rule(balancer, rule)

        await self._change(call, balancer_arn_of(listener_arn), change)
        return {"Rules": [format_rule(rule)]}

    async def describe_rules(self, call: Call) -> Output:
        params = call.params
        if params.get("RuleArns"):
            rules = [
                find_rule(self._get(call, balancer_arn_of(arn)), arn) for arn in params["RuleArns"]
            ]
        elif params.get("ListenerArn"):
            rules = self._listener(call, params["ListenerArn"])[1].ordered_rules()
        else:
            raise BalancerValidationError("You must specify either listener ARN or rule ARNs")
        places = {rule.arn: f"{number:06}" for number, rule in enumerate(rules)}
        page, marker = cut(call, rules, lambda rule: places[rule.arn])
        return {"Rules": [format_rule(rule) for rule in page], **marker}

    async def modify_rule(self, call: Call) -> Output:
        params, arn = call.params, call.params["RuleArn"]
        if params.get("Transforms"):
            raise NotYetImplemented("firelet does not rewrite requests yet")

        def change(balancer: LoadBalancer) -> LoadBalancer:
            rule = find_rule(balancer, arn)
            if params.get("Conditions"):
                rule = replace(rule, conditions=complete_conditions(params["Conditions"]))
            if params.get("Actions"):
                rule = replace(rule, actions=complete_actions(params["Actions"]))
            return put_rule(balancer, rule)

        balancer = await self._change(call, balancer_arn_of(arn), change)
        return {"Rules": [format_rule(find_rule(balancer, arn))]}

    async def delete_rule(self, call: Call) -> None:
        arn = call.params["RuleArn"]
        await self._change(call, balancer_arn_of(arn), lambda b: delete_rule(b, arn))

    async def set_rule_priorities(self, call: Call) -> Output:
        given = {
            pair.get("RuleArn", ""): pair.get("Priority", 0)
            for pair in call.params["RulePriorities"]
        }
        if len(set(given.values())) < len(given):
            raise PriorityInUse("A priority was given to more than one rule")
        owners = {balancer_arn_of(arn) for arn in given}
        if len(owners) != 1 or len({listener_arn_of(arn) for arn in given}) != 1:
            raise BalancerValidationError("The rules must belong to one listener")
        balancer = await self._change(call, owners.pop(), lambda b: set_priorities(b, given))
        return {"Rules": [format_rule(find_rule(balancer, arn)) for arn in given]}

    def _get(self, call: Call, arn: str) -> LoadBalancer:
        return self._balancers.get(call.account, call.region, arn)

    def _listener(self, call: Call, arn: str) -> tuple[LoadBalancer, Listener]:
        balancer = self._get(call, balancer_arn_of(arn))
        return balancer, find_listener(balancer, arn)

    async def _change(
        self, call: Call, arn: str, change: Callable[[LoadBalancer], LoadBalancer]
    ) -> LoadBalancer:
        return await self._balancers.change(call.account, call.region, arn, change)


def _check_protocol(protocol: str) -> None:
    if protocol not in _PROTOCOLS:
        raise BalancerValidationError(
            f"Protocol '{protocol}' must be one of '{', '.join(_PROTOCOLS)}'"
        )
