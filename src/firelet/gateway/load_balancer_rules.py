"""Which rule of a listener a request meets, and where a redirect leads. Pure.

Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/
rule-condition-types.html (wildcards; paths alone are compared by case) and
rule-action-types.html#redirect-actions (placeholders).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote_plus

from firelet.control.load_balancer_records import Listener, Rule, Shape
from firelet.control.load_balancer_rules import values_of
from firelet.gateway.wildcards import matches

_PLACEHOLDER = re.compile(r"#\{(protocol|host|port|path|query)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What rules look at. ``path`` and ``query`` are undecoded, names of headers in lower case;
    ``scheme`` and ``port`` are those by which the client came."""

    method: str
    scheme: str
    host: str
    port: str
    path: str
    query: str
    headers: Mapping[str, str]
    peer: str


def find_rule(listener: Listener, facts: Facts) -> Rule:
    """The first rule, by priority, whose conditions all hold; else the default rule."""
    for rule in listener.ordered_rules():
        if all(_holds(condition, facts) for condition in rule.conditions):
            return rule
    return listener.default_rule


def redirect_target(config: Shape, facts: Facts) -> str:
    """The Location of a redirect: an absolute URL, always with its port."""
    values = {
        "protocol": facts.scheme.upper(),
        "host": facts.host,
        "port": facts.port,
        "path": facts.path.removeprefix("/"),
        "query": facts.query,
    }

    def fill(name: str) -> str:
        return _PLACEHOLDER.sub(lambda found: values[found[1]], config[name])

    query = fill("Query")
    location = f"{fill('Protocol').lower()}://{fill('Host')}:{fill('Port')}{fill('Path')}"
    return f"{location}?{query}" if query else location


def _holds(condition: Shape, facts: Facts) -> bool:
    """Whether any of its values fits."""
    return any(
        _TESTS[condition["Field"]](condition, value, facts) for value in values_of(condition)
    )


def _host(condition: Shape, value: str, facts: Facts) -> bool:
    return matches(value, facts.host, fold=True)


def _path(condition: Shape, value: str, facts: Facts) -> bool:
    return matches(value, facts.path, fold=False)


def _method(condition: Shape, value: str, facts: Facts) -> bool:
    return value == facts.method


def _header(condition: Shape, value: str, facts: Facts) -> bool:
    given = facts.headers.get(condition["HttpHeaderConfig"]["HttpHeaderName"].lower())
    return given is not None and matches(value, given, fold=True)


def _query(condition: Shape, value: Mapping[str, str], facts: Facts) -> bool:
    """A pair without a key fits any parameter of that value."""
    key, wanted = value.get("Key"), value.get("Value", "")
    return any(
        (key is None or matches(key, name, fold=True)) and matches(wanted, text, fold=True)
        for name, text in _parameters(facts.query)
    )


def _parameters(query: str) -> list[tuple[str, str]]:
    pairs = [part.partition("=") for part in query.split("&") if part]
    return [(unquote_plus(name), unquote_plus(text)) for name, _, text in pairs]


def _source(condition: Shape, value: str, facts: Facts) -> bool:
    try:
        return ipaddress.ip_address(facts.peer) in ipaddress.ip_network(value, strict=False)
    except ValueError:  # A client without an address, on a Unix socket.
        return False


_TESTS: Mapping[str, Callable[[Shape, str, Facts], bool]] = {
    "host-header": _host,
    "path-pattern": _path,
    "http-request-method": _method,
    "http-header": _header,
    "query-string": _query,  # type: ignore[dict-item]  # its values are pairs
    "source-ip": _source,
}


def choose_weighted(groups: Mapping[str, int], point: float) -> str | None:
    """The group on which ``point`` (from 0 to 1) falls; None when all weights are 0."""
    total = sum(groups.values())
    if not total:
        return None
    at = point * total
    for arn, weight in groups.items():
        at -= weight
        if at < 0:
            return arn
    # What rounding has left belongs to the last one.
    return [arn for arn, weight in groups.items() if weight][-1]
