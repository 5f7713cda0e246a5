"""The syntax of filter patterns."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.model.filter_pattern import InvalidPattern, check_pattern

GOOD: list[dict[str, Any]] = [
    {"body": {"city": ["Ulm"]}},
    {"body": ["Ulm", 3, True, None, ""]},
    {"data": {"temperature": [{"numeric": [">", 0, "<=", 5]}]}},
    {"data": {"n": [{"numeric": ["=", 3]}]}},
    {"dynamodb": {"Keys": {"id": {"S": [{"prefix": "a"}, {"suffix": "z"}]}}}},
    {"value": {"a": [{"exists": False}]}},
    {"value": {"a": [{"anything-but": ["x", "y"]}, {"anything-but": {"prefix": "b"}}]}},
    {"value": {"a": [{"equals-ignore-case": "Straße"}]}},
    {"$or": [{"a": ["1"]}, {"b": ["2"]}]},
]
BAD: list[Any] = [
    "simple",
    [],
    {},
    {"eventSource": "aws:sqs"},
    {"eventSource": []},
    {"body": {}},
    {"body": [["nested"]]},
    {"body": [{"prefix": 1}]},
    {"body": [{"wildcard": "a*"}]},
    {"body": [{"prefix": "a", "suffix": "b"}]},
    {"body": [{"exists": "yes"}]},
    {"body": [{"numeric": []}]},
    {"body": [{"numeric": ["~", 1]}]},
    {"body": [{"numeric": [">", "0"]}]},
    {"body": [{"numeric": [">", True]}]},
    {"body": [{"numeric": ["<", 5, ">", 0]}]},
    {"body": [{"numeric": [">", 5, "<", 0]}]},
    {"body": [{"anything-but": []}]},
    {"$or": [{"a": ["1"]}]},
    {"$or": [{"a": ["1"]}, "b"]},
]


@pytest.mark.parametrize("pattern", GOOD, ids=json.dumps)
def test_a_pattern_of_the_guide_is_taken(pattern: dict[str, Any]) -> None:
    check_pattern(json.dumps(pattern))


@pytest.mark.parametrize("pattern", BAD, ids=json.dumps)
def test_anything_else_is_refused(pattern: Any) -> None:
    with pytest.raises(InvalidPattern):
        check_pattern(json.dumps(pattern))


@pytest.mark.parametrize("text", ["", "{", "{'a': ['b']}", '{"a": [NaN]}', "[" * 100_000])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidPattern):
        check_pattern(text)


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text())
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=20,
)


@given(VALUES)
def test_it_is_decided_for_every_json_text(value: Any) -> None:
    """Nothing but the refusal is ever raised."""
    with contextlib.suppress(InvalidPattern):
        check_pattern(json.dumps(value))
