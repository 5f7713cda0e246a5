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
        ({"Type": "String"}, None, "no value for the parameter P: give it with --parameter P="),
        ({"Type": "AWS::SSM::Parameter::Value<String>"}, "x", "the type AWS::SSM"),
        ({"Type": "Number"}, "x", "which is no number"),
        ({"Type": "Number", "MinValue": 2}, "1", "less than 2"),
        ({"Type": "Number", "MaxValue": 2}, "3", "more than 2"),
        ({"Type": "List<Number>"}, "1,b", "which is no number"),
        ({"Type": "String", "AllowedValues": ["a", "b"]}, "c", "is c, which is none of a, b"),
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


def test_all_that_is_missing_is_named_at_once() -> None:
    declared = {"A": {"Type": "String"}, "B": {"Type": "String", "Default": "b"}, "C": {}}
    with pytest.raises(StackError, match="no value for the parameters A, C"):
        resolve_parameters(declared, {})


def test_a_secret_is_not_told() -> None:
    rules = {"Type": "String", "NoEcho": True, "MinLength": 8, "ConstraintDescription": "8 or more"}
    with pytest.raises(StackError) as raised:
        resolve_parameters({"P": rules}, {"P": "hidden"})
    assert str(raised.value) == "the parameter P is shorter than 8 (8 or more)"


def test_an_identifier_of_the_cloud_is_a_text() -> None:
    declared = {"A": {"Type": "AWS::EC2::VPC::Id"}, "B": {"Type": "List<AWS::EC2::Subnet::Id>"}}
    given = {"A": "vpc-1", "B": "a,b"}
    assert resolve_parameters(declared, given) == {"A": "vpc-1", "B": ["a", "b"]}
