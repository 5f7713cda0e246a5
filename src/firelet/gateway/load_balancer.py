"""Application Load Balancers: requests to their names, by listener and rule to a function.

What it is: a site of ``hosts``. What it is not: the records (``control.load_balancers``). All
listeners are served by the platform's own port: that whose port the client named, else the one of
its scheme, else the one with the lowest port.

Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/
load-balancer-listeners.html, lambda-functions.html. A load balancer without listeners would not
answer at all on AWS; here it says 503.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from firelet.control.load_balancer_records import (
    Listener,
    LoadBalancer,
    TargetGroup,
    groups_of,
)
from firelet.control.load_balancers import XFF_MODE, LoadBalancers
from firelet.control.target_groups import MULTI_VALUE, TargetGroups
from firelet.gateway.function_calls import make_trace_id
from firelet.gateway.hosts import Answering, Visit
from firelet.gateway.http_event import find_port, find_scheme
from firelet.gateway.load_balancer_answers import finish, fixed_response, page, redirect
from firelet.gateway.load_balancer_calls import BalancerCalls, CallFailed
from firelet.gateway.load_balancer_event import (
    Forwarding,
    format_event,
    parse_result,
)
from firelet.gateway.load_balancer_rules import Facts, choose_weighted, find_rule
from firelet.gateway.proxy_event import MalformedResult, decode_value
from firelet.gateway.serving import Serving
from firelet.wire.http1 import Request, Response

log = logging.getLogger(__name__)

# A load balancer waits as long as the function may run. Source: "Function timeout".
_TIMEOUT_S = 900.0


class LoadBalancerSite:
    """``visit`` is given to ``HostRoutes``. ``draw`` gives numbers from 0 to 1."""

    def __init__(
        self,
        balancers: LoadBalancers,
        groups: TargetGroups,
        calls: BalancerCalls,
        serving: Serving,
        draw: Callable[[], float],
    ) -> None:
        self._balancers = balancers
        self._groups = groups
        self._calls = calls
        self._serving = serving
        self._draw = draw

    def visit(self, visit: Visit) -> Answering | None:
        """The answer to one request; None when the id is no load balancer's."""
        balancer = self._balancers.find(visit.site_id)
        if balancer is None or visit.region not in (None, balancer.region):
            return None
        facts = _facts(visit)
        listener = choose_listener(balancer, facts)
        if listener is None:
            return page(503)
        if b"sec-websocket-key" in visit.request.headers:
            return finish(listener, page(400))
        rule = find_rule(listener, facts)
        config = rule.actions[0]
        match config["Type"]:
            case "fixed-response":
                return finish(listener, fixed_response(config["FixedResponseConfig"]))
            case "redirect":
                return finish(listener, redirect(config["RedirectConfig"], facts))
        arn = choose_weighted(groups_of(config), self._draw())
        group = None if arn is None else self._groups.find(arn)
        if group is None or group.target is None:
            return finish(listener, page(503))
        if visit.is_body_too_large:
            return finish(listener, page(413))
        return self._serving.start(self._forward(balancer, listener, group, visit.request, facts))

    async def _forward(
        self,
        balancer: LoadBalancer,
        listener: Listener,
        group: TargetGroup,
        request: Request,
        facts: Facts,
    ) -> Response:
        is_multi_value = group.attributes.get(MULTI_VALUE) == "true"
        trace = make_trace_id(request.headers.get(b"x-amzn-trace-id"))
        event = format_event(
            request,
            facts.path,
            facts.query,
            Forwarding(
                group_arn=group.arn,
                scheme=facts.scheme,
                port=facts.port,
                trace_id=trace,
                xff_mode=balancer.attributes.get(XFF_MODE, "append"),
                is_multi_value=is_multi_value,
            ),
        )
        try:
            payload = await self._calls.call(group, event, _TIMEOUT_S, trace)
            response = parse_result(payload, is_multi_value=is_multi_value)
        except TimeoutError:
            response = page(504)
        except (CallFailed, MalformedResult) as error:
            log.warning("load balancer target failed group=%s: %s", group.name, error)
            response = page(502)
        return finish(listener, response)


def choose_listener(balancer: LoadBalancer, facts: Facts) -> Listener | None:
    """The listener that serves a request; None when there is none."""
    listeners = sorted(balancer.listeners.values(), key=lambda listener: listener.port)
    for listener in listeners:
        if str(listener.port) == facts.port:
            return listener
    for listener in listeners:
        if listener.protocol == facts.scheme.upper():
            return listener
    return listeners[0] if listeners else None


def _facts(visit: Visit) -> Facts:
    request = visit.request
    host = request.headers.get(b"host", b"").decode("latin-1")
    scheme = find_scheme(request.headers)
    path, _, query = visit.target.partition(b"?")
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    return Facts(
        method=request.method.decode("latin-1"),
        scheme=scheme,
        host=name.lower(),
        port=find_port(host, scheme),
        path=path.decode("latin-1"),
        query=query.decode("latin-1"),
        headers={n.decode("latin-1"): decode_value(v) for n, v in request.headers.items()},
        peer=request.peer,
    )
