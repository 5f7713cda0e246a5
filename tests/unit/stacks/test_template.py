"""Templates as text: YAML with CloudFormation's short forms, JSON, and what is refused."""

from __future__ import annotations

import json

import pytest

from firelet.stacks.errors import StackError
from firelet.stacks.references import order_resources
from firelet.stacks.template import find_transforms, load_document, parse_template

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
def test_what_a_template_cannot_have_here_is_named(document: dict[str, object], said: str) -> None:
    with pytest.raises(StackError, match=said):
        parse_template(document)


def test_other_transforms_than_these_two_are_named() -> None:
    sam, extensions = "AWS::Serverless-2016-10-31", "AWS::LanguageExtensions"
    assert find_transforms({"Transform": sam}) == {sam}
    assert find_transforms({"Transform": [extensions, sam]}) == {sam, extensions}
    assert find_transforms({}) == frozenset()
    with pytest.raises(StackError, match="AWS::Include"):
        find_transforms({"Transform": "AWS::Include"})


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"Resources": {}, "Rules": {}}, "section Rules is not supported"),
        ({"Resources": {"A": {"Type": "T", "UpdatePolicy": {}}}}, "UpdatePolicy of A"),
        ({"Resources": {"A": {"Type": "T", "DeletionPolicy": "Snapshot"}}}, "Snapshot of A"),
        ({"Resources": {"Fn::ForEach::A": []}}, "Fn::ForEach is not supported"),
        ({"Resources": {}, "Outputs": {"A": {}}}, "the output A has no Value"),
    ],
)
def test_what_is_not_supported_is_named(document: dict[str, object], said: str) -> None:
    with pytest.raises(StackError, match=said):
        parse_template(document)


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
