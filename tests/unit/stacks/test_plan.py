"""Plans: what is going to be done, and what is refused before anything is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from firelet.stacks.errors import StackError
from firelet.stacks.exports import check_exports
from firelet.stacks.plan import make_plan
from firelet.stacks.schemas import Schema
from firelet.stacks.state import ResourceState, StackState
from firelet.stacks.template import parse_template

THING = Schema(
    required=frozenset({"a"}),
    optional=frozenset({"b", "Fixed"}),
    fixed=frozenset({"Fixed"}),
    attributes=frozenset({"Arn"}),
)


def plan(
    resources: Mapping[str, Any], state: StackState | None = None, **sections: Any
) -> list[str]:
    template = parse_template({"Resources": resources, **sections})
    known = {"Stage": "dev"}
    changes = make_plan(template, known, {}, state or StackState(name="s"), {"T": THING})
    return [" ".join([change.action, change.logical_id, *change.properties]) for change in changes]


def made(**properties: Any) -> ResourceState:
    return ResourceState(type="T", physical_id="id", properties=properties)


def test_a_plan_says_what_changes_and_why() -> None:
    state = StackState(
        name="s",
        resources={
            "Same": made(a="dev"),
            "Other": made(a=1, b=2),
            "Moved": made(a=1, Fixed=1),
            "Follows": made(a="id"),
            "Gone": made(a=1),
        },
    )
    resources = {
        "Same": {"Type": "T", "Properties": {"a": {"Ref": "Stage"}}},
        "Other": {"Type": "T", "Properties": {"a": 2}},
        "Moved": {"Type": "T", "Properties": {"a": 1, "Fixed": 2}},
        "Follows": {"Type": "T", "Properties": {"a": {"Ref": "Moved"}}},
        "New": {"Type": "T", "Properties": {"a": {"Fn::GetAtt": ["Moved", "Arn"]}}},
    }
    assert sorted(plan(resources, state)) == [
        "create New",
        "delete Gone",
        "keep Same",
        "replace Moved Fixed",
        "update Follows a",
        "update Other a b",
    ]


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"a": 1, "c": 1}, r"A \(T\): the property c is not supported"),
        ({"b": 1}, r"A \(T\): the property a is required"),
        ({"a": {"Ref": "AWS::NoValue"}}, r"A \(T\): the property a is required"),
        ({"a": {"Ref": "Nobody"}}, "A refers to Nobody, which is neither"),
        ({"a": {"Fn::Sub": "${New}${Nobody.Arn}"}}, "A refers to Nobody, which is neither"),
        ({"a": {"Fn::GetAtt": ["New", "Name"]}}, r"A \(T\): New has no attribute Name"),
        ({"a": {"Fn::NoSuch": 1}}, r"A \(T\): the function Fn::NoSuch is not supported"),
        ({"a": {"Ref": "Off"}}, r"A \(T\): Off is neither a parameter nor a resource"),
    ],
)
def test_what_cannot_work_is_refused(properties: dict[str, Any], said: str) -> None:
    resources = {
        "New": {"Type": "T", "Properties": {"a": 1}},
        "Off": {"Type": "T", "Properties": {"a": 1}, "Condition": "No"},
        "A": {"Type": "T", "Properties": properties},
    }
    with pytest.raises(StackError, match=said):
        plan(resources, Conditions={"No": {"Fn::Equals": [1, 2]}})


def test_names_of_a_sub_are_its_own() -> None:
    sub = {"Fn::Sub": ["${mine}-${Stage}", {"mine": 1}]}
    assert plan({"A": {"Type": "T", "Properties": {"a": sub}}}) == ["create A"]


def test_every_type_that_is_not_supported_is_named() -> None:
    resources = {"A": {"Type": "AWS::SQS::Queue"}, "B": {"Type": "AWS::SNS::Topic"}}
    with pytest.raises(StackError, match=r"A \(AWS::SQS::Queue\), B \(AWS::SNS::Topic\)"):
        plan(resources)


def test_exports_are_there_once_and_stay_while_they_are_used() -> None:
    user = StackState(name="user", imports=["one"])
    check_exports({"one": "1", "two": "2"}, {"one": "1"}, [user])
    with pytest.raises(StackError, match="Export one cannot be deleted as it is in use by user"):
        check_exports({"one": "1"}, {}, [user])
    with pytest.raises(StackError, match="Export one cannot be updated as it is in use by user"):
        check_exports({"one": "1"}, {"one": "2"}, [user])
    with pytest.raises(StackError, match="one is already exported by stack other"):
        check_exports({}, {"one": "1"}, [StackState(name="other", exports={"one": "x"})])
