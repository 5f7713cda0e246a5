"""Parameters of templates."""

from __future__ import annotations

from typing import Any

import pytest

from firelet.stacks.errors import StackError
from firelet.stacks.parameters import resolve_parameters


def test_what_is_given_wins_over_the_default() -> None:
    declared = {"A": {"Type": "String", "Default": "x"}, "B": {"Type": "Number", "Default": 5}}
    assert resolve_parameters(declared, {"A": "y"}) == {"A": "y", "B": "5"}


def test_lists_are_lists() -> None:
    declared = {"A": {"Type": "CommaDelimitedList"}, "B": {"Type": "List<Number>", "Default": ""}}
    assert resolve_parameters(declared, {"A": "x, y"}) == {"A": ["x", "y"], "B": []}


@pytest.mark.parametrize(
    ("rules", "given", "said"),
    [
        ({"Type": "String"}, None, "has no value: give one with --parameter P="),
        ({"Type": "AWS::SSM::Parameter::Value<String>"}, "x", "the type AWS::SSM"),
        ({"Type": "Number"}, "x", "which is no number"),
        ({"Type": "Number", "MinValue": 2}, "1", "less than 2"),
        ({"Type": "Number", "MaxValue": 2}, "3", "more than 2"),
        ({"Type": "List<Number>"}, "1,b", "which is no number"),
        ({"Type": "String", "AllowedValues": ["a", "b"]}, "c", "may be a, b"),
        ({"Type": "String", "AllowedPattern": "[a-z]+"}, "C", "does not match"),
        ({"Type": "String", "MinLength": 2}, "a", "shorter than 2"),
        ({"Type": "String", "MaxLength": 2}, "abc", "longer than 2"),
    ],
)
def test_what_is_not_allowed_is_named(rules: dict[str, Any], given: str | None, said: str) -> None:
    with pytest.raises(StackError, match=said):
        resolve_parameters({"P": rules}, {} if given is None else {"P": given})


def test_a_parameter_that_the_template_has_not_is_refused() -> None:
    with pytest.raises(StackError, match="no parameter Q"):
        resolve_parameters({}, {"Q": "1"})
