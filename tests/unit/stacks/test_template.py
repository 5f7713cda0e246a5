"""Templates as text: YAML with CloudFormation's short forms, JSON, and what is refused."""

from __future__ import annotations

import json

import pytest

from firelet.stacks.errors import StackError
from firelet.stacks.references import order_resources
from firelet.stacks.template import load_document, parse_template, uses_sam

pytest.importorskip("yaml", reason="the extra `sam` is missing")

RESOURCE = {"Type": "AWS::Logs::LogGroup"}


def test_short_forms_are_the_long_ones() -> None:
    document = load_document(
        """
        Resources:
          A:
            Type: T
            Properties:
              ref: !Ref B
              att: !GetAtt B.Arn.Part
              sub: !Sub "x-${B}"
              join: !Join [",", [a, !Ref B]]
              if: !If [C, 1, !Ref AWS::NoValue]
              tested: !Condition C
        """
    )
    assert document["Resources"]["A"]["Properties"] == {
        "ref": {"Ref": "B"},
        "att": {"Fn::GetAtt": ["B", "Arn.Part"]},
        "sub": {"Fn::Sub": "x-${B}"},
        "join": {"Fn::Join": [",", ["a", {"Ref": "B"}]]},
        "if": {"Fn::If": ["C", 1, {"Ref": "AWS::NoValue"}]},
        "tested": {"Condition": "C"},
    }


def test_json_is_read_too_and_dates_stay_texts() -> None:
    text = json.dumps({"Resources": {"A": RESOURCE}})
    assert load_document(text) == {"Resources": {"A": RESOURCE}}
    assert load_document("Resources: {A: {Type: T, Version: 2012-10-17}}")["Resources"]["A"] == {
        "Type": "T",
        "Version": "2012-10-17",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not YAML or JSON"),
        ("- a", "no Resources"),
        ("Resources: []", "no Resources"),
        ("Resources: {A: {Type: T}, A: {Type: T}}", "A is there twice"),
    ],
)
def test_other_texts_are_refused(text: str, said: str) -> None:
    with pytest.raises(StackError, match=said):
        load_document(text)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"Rules": {}, "Resources": {}}, "section Rules"),
        ({"Resources": {"A": {}}}, "the resource A has no Type"),
        ({"Resources": {"A": {**RESOURCE, "UpdatePolicy": {}}}}, "attribute UpdatePolicy of A"),
    ],
)
def test_what_is_not_supported_is_named(document: dict[str, object], said: str) -> None:
    with pytest.raises(StackError, match=said):
        parse_template(document)


def test_only_the_transform_of_sam_is_known() -> None:
    assert uses_sam({"Transform": "AWS::Serverless-2016-10-31"})
    assert uses_sam({"Transform": ["AWS::Serverless-2016-10-31"]})
    assert not uses_sam({})
    with pytest.raises(StackError, match="AWS::Include"):
        uses_sam({"Transform": "AWS::Include"})


def resource(*, depends_on: object = None, **properties: object) -> dict[str, object]:
    return {"Type": "T", "Properties": properties, "DependsOn": depends_on}


def test_what_is_referred_to_comes_first() -> None:
    template = parse_template(
        {
            "Resources": {
                "A": resource(x={"Fn::Sub": "${B.Arn} ${!C} ${P}"}),
                "B": resource(x=[{"Fn::GetAtt": ["C", "Arn"]}]),
                "C": resource(depends_on="D"),
                "D": resource(x={"Ref": "AWS::Region"}),
                "E": resource(x={"Fn::Sub": ["${v}", {"v": {"Ref": "A"}}]}),
            }
        }
    )
    assert order_resources(template) == ["D", "C", "B", "A", "E"]


def test_circles_and_dependencies_on_nothing_are_refused() -> None:
    circle = {"A": resource(x={"Ref": "B"}), "B": resource(x={"Ref": "A"})}
    with pytest.raises(StackError, match="circle"):
        order_resources(parse_template({"Resources": circle}))
    nothing = {"A": resource(depends_on=["Z"])}
    with pytest.raises(StackError, match="A depends on Z"):
        order_resources(parse_template({"Resources": nothing}))
