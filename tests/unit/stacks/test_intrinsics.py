"""Intrinsic functions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from firelet.stacks.errors import StackError
from firelet.stacks.intrinsics import Evaluator, NotYetKnown
from firelet.stacks.state import ResourceState
from firelet.stacks.template import parse_template

TEMPLATE = parse_template(
    {
        "Mappings": {"Sizes": {"eu": {"small": 1, "names": ["a", "b"]}}},
        "Conditions": {
            "Yes": {"Fn::Equals": [{"Ref": "Stage"}, "dev"]},
            "No": {"Fn::Not": [{"Condition": "Yes"}]},
            "Both": {"Fn::And": [{"Condition": "Yes"}, {"Condition": "No"}]},
            "Either": {"Fn::Or": [{"Condition": "Yes"}, {"Condition": "No"}]},
            "Round": {"Condition": "About"},
            "About": {"Fn::Not": [{"Condition": "Round"}]},
        },
        "Resources": {
            "Queue": {"Type": "T"},
            "Later": {"Type": "T"},
            "Never": {"Type": "T", "Condition": "No"},
        },
    }
)
QUEUE = ResourceState(
    type="T", physical_id="queue-1", properties={}, attributes={"Arn": "arn:q", "Url.Path": "/q"}
)


@pytest.fixture
def evaluator() -> Evaluator:
    known = {"Stage": "dev", "Count": "3", "List": ["x", "y"], "AWS::Region": "eu"}
    return Evaluator(
        TEMPLATE, known, {"Queue": QUEUE, "Gone": QUEUE, "Never": QUEUE}, {"shared": "s"}
    )


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ({"Ref": "Stage"}, "dev"),
        ({"Ref": "List"}, ["x", "y"]),
        ({"Ref": "Queue"}, "queue-1"),
        ({"Fn::GetAtt": ["Queue", "Arn"]}, "arn:q"),
        ({"Fn::GetAtt": "Queue.Url.Path"}, "/q"),
        ({"Fn::Sub": "${Stage}-${Queue}-${Queue.Arn}-${!Stage}"}, "dev-queue-1-arn:q-${Stage}"),
        ({"Fn::Sub": ["${a}${Stage}", {"a": {"Ref": "Count"}}]}, "3dev"),
        ({"Fn::Join": ["-", ["a", {"Ref": "Stage"}, 1, True]]}, "a-dev-1-true"),
        ({"Fn::Join": [",", {"Ref": "List"}]}, "x,y"),
        ({"Fn::Split": ["-", "a-b"]}, ["a", "b"]),
        ({"Fn::Select": ["1", {"Fn::Split": ["-", "a-b"]}]}, "b"),
        ({"Fn::FindInMap": ["Sizes", {"Ref": "AWS::Region"}, "small"]}, 1),
        ({"Fn::If": ["Yes", "then", {"Fn::NoSuch": 1}]}, "then"),
        ({"Fn::If": ["No", "then", "else"]}, "else"),
        ({"Fn::Base64": "a"}, "YQ=="),
        ([1, {"Fn::If": ["No", 2, {"Ref": "AWS::NoValue"}]}], [1]),
        ({"a": {"Ref": "AWS::NoValue"}, "b": {"Ref": "Count"}}, {"b": "3"}),
        ({"Condition": {"StringEquals": {"a": "b"}}}, {"Condition": {"StringEquals": {"a": "b"}}}),
    ],
)
def test_an_expression_has_its_value(evaluator: Evaluator, expression: Any, value: Any) -> None:
    assert evaluator.value(expression) == value


def test_what_another_stack_exports_is_imported(evaluator: Evaluator) -> None:
    expression = {"Fn::ImportValue": {"Fn::Sub": "share${a}"}}
    assert evaluator.value({"Fn::ImportValue": {"Fn::Join": ["", ["sha", "red"]]}}) == "s"
    assert evaluator.imported == {"shared"}
    with pytest.raises(StackError):
        evaluator.value(expression)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ({"Fn::Length": {"Ref": "List"}}, 2),
        ({"Fn::ToJsonString": {"a": {"Ref": "Stage"}}}, '{"a": "dev"}'),
        ({"Fn::FindInMap": ["Sizes", "eu", "small", {"DefaultValue": 7}]}, 1),
        ({"Fn::FindInMap": ["Sizes", "us", "small", {"DefaultValue": {"Ref": "Count"}}]}, "3"),
    ],
)
def test_the_language_extensions_are_there_when_asked_for(expression: Any, value: Any) -> None:
    template = replace(TEMPLATE, has_extensions=True)
    known = {"Stage": "dev", "Count": "3", "List": ["x", "y"]}
    assert Evaluator(template, known, {}).value(expression) == value


def test_what_is_to_be_made_is_promised_with_its_attributes() -> None:
    evaluator = Evaluator(TEMPLATE, {}, {}, {}, {"Later": frozenset({"Arn"})})
    for expression in ({"Ref": "Later"}, {"Fn::Sub": "${Later.Arn}"}):
        with pytest.raises(NotYetKnown):
            evaluator.value(expression)
    with pytest.raises(StackError, match="Later has no attribute Name"):
        evaluator.value({"Fn::GetAtt": "Later.Name"})


def test_conditions_stand_on_each_other(evaluator: Evaluator) -> None:
    names = ("Yes", "No", "Both", "Either")
    assert [evaluator.condition(name) for name in names] == [True, False, False, True]


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ({"Ref": "Nobody"}, "Nobody is neither a parameter nor a resource"),
        ({"Ref": "Gone"}, "Gone is neither a parameter nor a resource"),
        ({"Ref": "Later"}, "Later is not there yet"),
        ({"Ref": "Never"}, "Never is neither a parameter nor a resource"),
        ({"Ref": ["a"]}, "Ref takes a name"),
        ({"Fn::If": ["Round", 1, 2]}, "in a circle: Round -> About -> Round"),
        ({"Fn::Length": ["a"]}, "Fn::Length needs Transform: AWS::LanguageExtensions"),
        ({"Fn::Select": ["x", ["a"]]}, "x is no index"),
        ({"Fn::Sub": ["a"]}, "Fn::Sub takes a list of 2"),
        ({"Fn::Not": [True, False]}, "Fn::Not takes a list of 1"),
        ({"Fn::Cidr": []}, "Fn::Cidr is not supported"),
        ({"Fn::GetAtt": ["Queue", "Name"]}, "Queue has no attribute Name"),
        ({"Fn::ImportValue": "x"}, "No export named x found"),
        ({"Fn::Transform": {}}, "Fn::Transform is not supported"),
        ({"Fn::FindInMap": ["Sizes", "us", "small"]}, "Sizes / us / small is not in the mappings"),
        ({"Fn::Select": [5, ["a"]]}, "there is no item 5"),
        ({"Fn::Join": ["-"]}, "Fn::Join takes a list of 2"),
        ({"Fn::Join": ["-", [["a"]]]}, "a text was expected"),
        ({"Fn::If": ["Maybe", 1, 2]}, "the condition Maybe is not in the template"),
        ({"Fn::And": []}, "Fn::And takes a list of conditions"),
    ],
)
def test_what_cannot_be_evaluated_is_named(
    evaluator: Evaluator, expression: Any, said: str
) -> None:
    with pytest.raises(StackError, match=said):
        evaluator.value(expression)
