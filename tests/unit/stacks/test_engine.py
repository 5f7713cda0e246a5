"""Stacks by difference: what is made, changed, replaced and deleted, and what a failure leaves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.stacks.engine import Action, Change, Engine, decide
from firelet.stacks.errors import StackError
from firelet.stacks.resource_types import Made, Properties
from firelet.stacks.state import ResourceState, StackState, StateFile
from firelet.stacks.template import parse_template


class Refused(Exception):
    """What an API raises, with botocore's response."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}}


class FakeType:
    """Things by their id. ``Fixed`` cannot be changed; ``Fail`` makes it fail."""

    immutable = frozenset({"Fixed"})

    def __init__(self) -> None:
        self.things: dict[str, Properties] = {}

    def create(self, name: str, properties: Properties) -> Made:
        if "Fail" in properties:
            raise Refused("InvalidParameterValueException")
        self.things[name] = properties
        return Made(name, {"Arn": f"arn:{name}"})

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        if physical_id not in self.things:
            raise Refused("ResourceNotFoundException")
        self.things[physical_id] = after
        return Made(physical_id, {"Arn": f"arn:{physical_id}"})

    def delete(self, physical_id: str, properties: Properties) -> None:
        if physical_id not in self.things:
            raise Refused("ResourceNotFoundException")
        del self.things[physical_id]


class Stack:
    """A stack of fake things, with its state on disk."""

    def __init__(self, folder: Path) -> None:
        self.things = FakeType()
        self.file = StateFile(folder, "s")
        self.changes: list[Change] = []

    def engine(self) -> Engine:
        self.changes.clear()
        return Engine({"Thing": self.things}, self.file.save, self.changes.append)

    def state(self) -> StackState:
        return self.file.load() or StackState(name="s")

    def deploy(self, resources: Mapping[str, Any], **sections: Any) -> list[str]:
        """What was done, as ``action LogicalId``."""
        template = parse_template({"Resources": resources, **sections})
        self.engine().deploy(template, {"Stage": "dev"}, self.state())
        return self.said()

    def delete(self) -> list[str]:
        self.engine().delete(self.state())
        return self.said()

    def said(self) -> list[str]:
        return [f"{change.action} {change.logical_id}" for change in self.changes]


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path / "states")


def thing(**attributes: Any) -> dict[str, Any]:
    properties = {name: attributes.pop(name) for name in list(attributes) if name[0].islower()}
    return {"Type": "Thing", "Properties": properties | attributes.pop("Properties", {})} | (
        attributes
    )


def test_things_are_made_in_order_and_deleted_in_reverse(stack: Stack) -> None:
    resources = {"B": thing(of={"Fn::GetAtt": ["A", "Arn"]}), "A": thing()}
    assert stack.deploy(resources) == ["create A", "create B"]
    made = stack.state().resources
    assert made["B"].properties == {"of": f"arn:{made['A'].physical_id}"}
    assert made["A"].physical_id.startswith("s-A-")
    assert stack.delete() == ["delete B", "delete A"]
    assert stack.things.things == {}


def test_the_same_template_changes_nothing(stack: Stack) -> None:
    resources = {"A": thing(x=1), "B": thing(of={"Ref": "A"})}
    stack.deploy(resources)
    before = dict(stack.things.things)
    assert stack.deploy(resources) == ["keep A", "keep B"]
    assert stack.things.things == before


def test_a_change_updates_and_a_fixed_one_replaces(stack: Stack) -> None:
    stack.deploy({"A": thing(x=1), "B": thing(of={"Ref": "A"})})
    first = stack.state().resources["A"].physical_id
    assert stack.deploy({"A": thing(x=2), "B": thing(of={"Ref": "A"})}) == ["update A", "keep B"]
    changed = {"A": thing(Properties={"Fixed": 1}), "B": thing(of={"Ref": "A"})}
    assert stack.deploy(changed) == ["replace A", "update B", "delete (replaced)"]
    assert first not in stack.things.things
    assert len(stack.things.things) == 2


def test_what_the_template_no_longer_has_is_deleted_or_kept(stack: Stack) -> None:
    stack.deploy({"A": thing(), "B": thing(DeletionPolicy="Retain"), "C": thing()})
    assert stack.deploy({"C": thing()}) == ["keep C", "retain B", "delete A"]
    assert len(stack.things.things) == 2
    assert list(stack.state().resources) == ["C"]


def test_what_is_replaced_may_be_kept(stack: Stack) -> None:
    kept = {"UpdateReplacePolicy": "Retain"}
    stack.deploy({"A": thing(Properties={"Fixed": 1}, **kept)})
    assert stack.deploy({"A": thing(Properties={"Fixed": 2}, **kept)}) == ["replace A"]
    assert list(stack.things.things.values()) == [{"Fixed": 1}, {"Fixed": 2}]


def test_conditions_and_outputs_follow_the_parameters(stack: Stack) -> None:
    conditions = {
        "Dev": {"Fn::Equals": [{"Ref": "Stage"}, "dev"]},
        "Prod": {"Fn::Equals": [{"Ref": "Stage"}, "prod"]},
    }
    outputs = {
        "Here": {"Value": {"Ref": "A"}, "Condition": "Dev"},
        "There": {"Value": {"Ref": "B"}, "Condition": "Prod"},
    }
    resources = {"A": thing(Condition="Dev"), "B": thing(Condition="Prod")}
    assert stack.deploy(resources, Conditions=conditions, Outputs=outputs) == ["create A"]
    assert list(stack.state().outputs) == ["Here"]


def test_an_unknown_type_fails_before_anything_is_changed(stack: Stack) -> None:
    resources = {"A": thing(), "T": {"Type": "AWS::DynamoDB::Table"}}
    with pytest.raises(StackError, match=r"T \(AWS::DynamoDB::Table\)"):
        stack.deploy(resources)
    assert stack.things.things == {}


def test_deletion_follows_the_last_template(stack: Stack) -> None:
    """``A`` was made first, and refers to ``B`` since."""
    stack.deploy({"A": thing(), "B": thing()})
    stack.deploy({"A": thing(of={"Ref": "B"}), "B": thing()})
    assert stack.delete() == ["delete A", "delete B"]


def test_a_failure_leaves_what_was_made_and_the_next_goes_on(stack: Stack) -> None:
    failing = {"A": thing(), "B": thing(of={"Ref": "A"}, Properties={"Fail": True})}
    with pytest.raises(Refused):
        stack.deploy(failing)
    assert stack.deploy({"A": thing(), "B": thing(of={"Ref": "A"})}) == ["keep A", "create B"]


def test_what_somebody_deleted_is_made_anew_or_not_missed(stack: Stack) -> None:
    stack.deploy({"A": thing(x=1), "B": thing()})
    stack.things.things.clear()
    assert stack.deploy({"A": thing(x=2)}) == ["update A", "delete B"]
    assert list(stack.things.things.values()) == [{"x": 2}]


def test_a_file_that_is_no_state_is_named(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "states").mkdir()
    (tmp_path / "states" / "s.json").write_text("[]")
    with pytest.raises(StackError, match=r"s\.json is not a stack's state"):
        stack.file.load()


PROPERTIES = st.dictionaries(st.sampled_from(["Fixed", "x", "y"]), st.integers(0, 2))


@given(PROPERTIES, PROPERTIES)
def test_equal_properties_are_kept_and_others_never(
    before: dict[str, int], after: dict[str, int]
) -> None:
    old = ResourceState(type="Thing", physical_id="a", properties=before)
    action = decide(old, "Thing", after, frozenset({"Fixed"}))
    assert (action is Action.KEEP) is (before == after)
    assert (action is Action.REPLACE) is (before.get("Fixed") != after.get("Fixed"))
    assert decide(old, "Other", after, frozenset()) is Action.REPLACE
    assert decide(None, "Thing", after, frozenset()) is Action.CREATE
