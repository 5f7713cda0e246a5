"""Rules, weights and redirects of load balancers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firelet.control.load_balancer_records import Listener, Rule
from firelet.control.load_balancer_rules import complete_conditions
from firelet.gateway.load_balancer_rules import (
    Facts,
    choose_weighted,
    find_rule,
    redirect_target,
)
from firelet.model.errors import CallerError

FACTS: dict[str, Any] = {
    "method": "GET",
    "scheme": "http",
    "host": "example.com",
    "port": "80",
    "path": "/",
    "query": "",
    "headers": {},
    "peer": "127.0.0.1",
}
ACTION = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}


def make_listener(*rules: tuple[int, list[dict[str, Any]]]) -> Listener:
    made = [
        Rule(
            arn=f"rule{priority}",
            priority=priority,
            conditions=complete_conditions(conditions),
            actions=(ACTION,),
        )
        for priority, conditions in rules
    ]
    default = Rule(arn="default", actions=(ACTION,))
    return Listener(arn="l", port=80, protocol="HTTP", rules={r.arn: r for r in (default, *made)})


def test_the_first_rule_by_priority_is_met() -> None:
    anything = [{"Field": "path-pattern", "Values": ["*"]}]
    listener = make_listener((20, anything), (3, anything), (100, anything))

    assert find_rule(listener, Facts(**FACTS)).arn == "rule3"


def test_all_conditions_must_hold_and_one_value_of_each() -> None:
    listener = make_listener(
        (
            1,
            [
                {"Field": "host-header", "Values": ["a.com", "*.B.com"]},
                {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["PUT"]}},
            ],
        )
    )

    def met(**facts: str) -> bool:
        return find_rule(listener, Facts(**{**FACTS, **facts})).arn == "rule1"

    assert met(host="x.b.com", method="PUT")
    assert met(host="a.com", method="PUT")
    assert not met(host="a.com", method="put")
    assert not met(host="b.com", method="PUT")


@pytest.mark.parametrize(
    ("query", "is_met"),
    [
        ("version=v1", True),
        ("x=1&VERSION=V1", True),
        ("version=v%31", True),
        ("version=v2", False),
        ("version", False),
        ("", False),
        ("=&&%zz", False),
    ],
)
def test_query_strings_are_compared_decoded_and_whatever_their_case(
    query: str, is_met: bool
) -> None:
    pairs = [{"Key": "version", "Value": "v1"}]
    listener = make_listener(
        (1, [{"Field": "query-string", "QueryStringConfig": {"Values": pairs}}])
    )

    assert (find_rule(listener, Facts(**{**FACTS, "query": query})).arn == "rule1") is is_met


@pytest.mark.parametrize(
    ("peer", "is_met"), [("10.1.2.3", True), ("11.0.0.1", False), ("::1", True), ("", False)]
)
def test_sources_are_networks(peer: str, is_met: bool) -> None:
    listener = make_listener(
        (1, [{"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.0/8", "::1/128"]}}])
    )

    assert (find_rule(listener, Facts(**{**FACTS, "peer": peer})).arn == "rule1") is is_met


@given(
    st.dictionaries(st.text(max_size=3), st.integers(0, 999), max_size=5),
    st.floats(0, 1, exclude_max=True),
)
def test_a_group_of_weight_zero_is_never_chosen(groups: dict[str, int], point: float) -> None:
    chosen = choose_weighted(groups, point)

    if chosen is None:
        assert not any(groups.values())
    else:
        assert groups[chosen] > 0


def test_weights_divide_the_points() -> None:
    groups = {"a": 1, "b": 3}

    assert [choose_weighted(groups, n / 8) for n in range(8)] == ["a"] * 2 + ["b"] * 6


def test_a_redirect_is_an_absolute_url() -> None:
    config = {
        "Protocol": "#{protocol}",
        "Host": "new.#{host}",
        "Port": "#{port}",
        "Path": "/new/#{path}",
        "Query": "#{query}&a=#{nothing}",
    }
    facts = Facts(**{**FACTS, "path": "/a/b", "query": "x=#{host}"})

    assert redirect_target(config, facts) == (
        "http://new.example.com:80/new/a/b?x=#{host}&a=#{nothing}"
    )


TEXTS = st.text(max_size=12) | st.text("*?\\\\ab/.", max_size=40)
CONDITIONS = st.one_of(
    st.fixed_dictionaries(
        {
            "Field": st.sampled_from(["path-pattern", "host-header", "source-ip", "none"]),
            "Values": st.lists(TEXTS | st.sampled_from(["10.0.0.0/8", "::/0", "1.2.3.4/33"])),
        }
    ),
    st.fixed_dictionaries(
        {
            "Field": st.just("http-header"),
            "HttpHeaderConfig": st.fixed_dictionaries(
                {}, optional={"HttpHeaderName": TEXTS, "Values": st.lists(TEXTS)}
            ),
        }
    ),
    st.fixed_dictionaries(
        {
            "Field": st.just("query-string"),
            "QueryStringConfig": st.fixed_dictionaries(
                {
                    "Values": st.lists(
                        st.fixed_dictionaries({}, optional={"Key": TEXTS, "Value": TEXTS})
                    )
                }
            ),
        }
    ),
)


@settings(max_examples=300)
@given(
    conditions=st.lists(CONDITIONS, min_size=1, max_size=3),
    path=TEXTS,
    query=st.text("ab=&%*?+", max_size=30) | TEXTS,
    host=TEXTS,
    header=TEXTS,
    peer=st.sampled_from(["", "10.1.2.3", "::1", "fe80::1%eth0", "none"]),
)
def test_any_condition_is_refused_or_decides_any_request(
    conditions: list[dict[str, Any]], path: str, query: str, host: str, header: str, peer: str
) -> None:
    try:
        listener = make_listener((1, conditions))
    except CallerError:
        return
    facts = FACTS | {"path": path, "query": query, "host": host, "peer": peer}
    names = [c.get("HttpHeaderConfig", {}).get("HttpHeaderName", "x").lower() for c in conditions]
    facts["headers"] = dict.fromkeys(names, header)
    assert find_rule(listener, Facts(**facts)).arn in ("rule1", "default")


def test_a_pattern_of_wildcards_takes_no_long_time() -> None:
    pattern = "*a" * 60
    listener = make_listener((1, [{"Field": "path-pattern", "Values": [pattern]}]))
    # With backtracking this would not end within the age of the universe.
    assert find_rule(listener, Facts(**FACTS | {"path": "a" * 8_000 + "b"})).arn == "default"
