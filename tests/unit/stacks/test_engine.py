"""Stacks by difference: what is made, changed, replaced and deleted, and how a failure or a kill is
taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.stacks.engine import Engine
from firelet.stacks.errors import StackError
from firelet.stacks.plan import Action, Change, decide, make_plan
from firelet.stacks.resource_types import Made, Properties
from firelet.stacks.schemas import Schema
from firelet.stacks.state import ResourceState, StackState, StateFile, Status
from firelet.stacks.template import parse_template

SCHEMA = Schema(
    optional=frozenset({"Fixed", "Fail", "Given", "Name", "x", "y", "of"}),
    fixed=frozenset({"Fixed"}),
    given=frozenset({"Given"}),
    attributes=frozenset({"Arn"}),
    named_by="Name",
)


class Refused(Exception):
    """What an API raises, with botocore's response."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code, "Message": "refused"}}


class Killed(BaseException):
    """The process ends here."""


class FakeType:
    """Things by their id. ``Fixed`` cannot be changed; ``Fail`` makes it fail half-way.
    ``kill_at`` counts moments: before and after each change of a thing, and each save."""

    schema = SCHEMA

    def __init__(self) -> None:
        self.things: dict[str, Properties] = {}
        self.stubborn: set[str] = set()  # ids of those that cannot be deleted
        self.kill_at: int | None = None
        self.moments = 0

    def moment(self) -> None:
        self.moments += 1
        if self.moments == self.kill_at:
            raise Killed

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        named = properties.get("Name", name)
        return [named] if named in self.things else []

    def create(self, name: str, properties: Properties) -> Made:
        name = properties.get("Name", name)
        if name in self.things:
            raise Refused("ResourceConflictException")
        self.moment()
        self.things[name] = properties
        self.moment()
        if "Fail" in properties:
            raise Refused("InvalidParameterValueException")
        return Made(name, {"Arn": f"arn:{name}"})

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        if physical_id not in self.things:
            raise Refused("ResourceNotFoundException")
        self.moment()
        # By difference, like the real ones: what is equal in both is not touched.
        now = dict(self.things[physical_id])
        for name in before.keys() | after.keys():
            if before.get(name) != after.get(name):
                now.pop(name, None)
                now |= {name: after[name]} if name in after else {}
        self.things[physical_id] = now
        self.moment()
        if "Fail" in after:
            raise Refused("InvalidParameterValueException")
        return Made(physical_id, {"Arn": f"arn:{physical_id}"})

    def delete(self, physical_id: str, properties: Properties) -> None:
        if physical_id in self.stubborn:
            raise Refused("ResourceConflictException")
        self.moment()
        self.things.pop(physical_id, None)
        self.moment()


class MemoryFile:
    """A state's file for thousands of deployments: what is loaded is what was saved."""

    def __init__(self) -> None:
        self._content = b""

    def load(self) -> StackState | None:
        return msgspec.json.decode(self._content, type=StackState) if self._content else None

    def save(self, state: StackState) -> None:
        self._content = msgspec.json.encode(state)

    def delete(self) -> None:
        self._content = b""


class Stack:
    """A stack of fake things, with its state on disk or in memory."""

    def __init__(self, file: StateFile | MemoryFile) -> None:
        self.things = FakeType()
        self.file = file
        self.changes: list[Change] = []

    def engine(self) -> Engine:
        self.changes.clear()
        return Engine({"Thing": self.things}, self._save, self.changes.append)

    def _save(self, state: StackState) -> None:
        self.file.save(state)
        self.things.moment()

    def state(self) -> StackState:
        return self.file.load() or StackState(name="s")

    def deploy(self, resources: Mapping[str, Any], **sections: Any) -> list[str]:
        """What was done, as ``action LogicalId``."""
        template = parse_template({"Resources": resources, **sections})
        engine, state = self.engine(), self.state()
        engine.recover(state)
        make_plan(template, {"Stage": "dev"}, {}, state, {"Thing": SCHEMA})
        engine.deploy(template, {"Stage": "dev"}, state)
        return self.said()

    def delete(self) -> list[str]:
        self.engine().delete(self.state())
        self.file.delete()
        return self.said()

    def said(self) -> list[str]:
        return [f"{change.action} {change.logical_id}" for change in self.changes]

    def values(self) -> list[Properties]:
        """What each thing of the state really is; and that there are no others."""
        resources = self.state().resources
        assert self.things.things.keys() == {item.physical_id for item in resources.values()}
        for item in resources.values():
            assert self.things.things[item.physical_id] == item.properties
        return [item.properties for item in resources.values()]


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(StateFile(tmp_path / "states", "s"))


def thing(**attributes: Any) -> dict[str, Any]:
    names = ("DeletionPolicy", "UpdateReplacePolicy", "Condition", "DependsOn")
    others = {name: attributes.pop(name) for name in names if name in attributes}
    return {"Type": "Thing", "Properties": attributes, **others}


def test_things_are_made_in_order_and_deleted_in_reverse(stack: Stack) -> None:
    resources = {"B": thing(of={"Fn::GetAtt": ["A", "Arn"]}), "A": thing()}
    assert stack.deploy(resources) == ["create A", "create B"]
    assert stack.state().status is Status.CREATE_COMPLETE
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
    assert stack.state().status is Status.UPDATE_COMPLETE


def test_a_change_updates_and_a_fixed_one_replaces(stack: Stack) -> None:
    stack.deploy({"A": thing(x=1), "B": thing(of={"Ref": "A"})})
    first = stack.state().resources["A"].physical_id
    assert stack.deploy({"A": thing(x=2), "B": thing(of={"Ref": "A"})}) == ["update A", "keep B"]
    changed = {"A": thing(Fixed=1), "B": thing(of={"Ref": "A"})}
    assert stack.deploy(changed) == ["replace A", "update B", "delete A"]
    assert first not in stack.things.things
    assert len(stack.values()) == 2


def test_a_property_may_take_a_new_resource_when_it_comes_or_goes(stack: Stack) -> None:
    stack.deploy({"A": thing(Given=1)})
    assert stack.deploy({"A": thing(Given=2)}) == ["update A"]
    assert stack.deploy({"A": thing()}) == ["replace A", "delete A"]


def test_what_the_template_no_longer_has_is_deleted_or_kept(stack: Stack) -> None:
    stack.deploy({"A": thing(), "B": thing(DeletionPolicy="Retain"), "C": thing()})
    assert stack.deploy({"C": thing()}) == ["keep C", "retain B", "delete A"]
    assert len(stack.things.things) == 2
    assert list(stack.state().resources) == ["C"]


def test_what_is_replaced_may_be_kept(stack: Stack) -> None:
    kept = {"UpdateReplacePolicy": "Retain"}
    stack.deploy({"A": thing(Fixed=1, **kept)})
    assert stack.deploy({"A": thing(Fixed=2, **kept)}) == ["replace A"]
    assert list(stack.things.things.values()) == [{"Fixed": 1}, {"Fixed": 2}]


def test_a_deletion_policy_is_not_for_what_is_replaced(stack: Stack) -> None:
    stack.deploy({"A": thing(Fixed=1, DeletionPolicy="Retain")})
    stack.deploy({"A": thing(Fixed=2, DeletionPolicy="Retain")})
    assert stack.values() == [{"Fixed": 2}]


def test_a_thing_with_a_name_of_its_own_is_not_replaced(stack: Stack) -> None:
    stack.deploy({"A": thing(Name="mine", Fixed=1)})
    with pytest.raises(StackError, match="custom-named resource requires replacing"):
        stack.deploy({"A": thing(Name="mine", Fixed=2)})
    stack.deploy({"A": thing(Name="other", Fixed=2)})
    assert list(stack.things.things) == ["other"]


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


def test_deletion_follows_the_last_template(stack: Stack) -> None:
    """``A`` was made first, and refers to ``B`` since."""
    stack.deploy({"A": thing(), "B": thing()})
    stack.deploy({"A": thing(of={"Ref": "B"}), "B": thing()})
    assert stack.delete() == ["delete A", "delete B"]


def test_a_first_deployment_that_fails_leaves_nothing(stack: Stack) -> None:
    failing = {"A": thing(DeletionPolicy="Retain"), "B": thing(of={"Ref": "A"}, Fail=True)}
    with pytest.raises(StackError, match=r"B \(Thing\) could not be created: refused .*ROLLBACK"):
        stack.deploy(failing)
    assert stack.said() == ["create A", "delete B", "delete A"]
    assert stack.things.things == {}
    assert stack.state().status is Status.ROLLBACK_COMPLETE
    assert "could not be created" in stack.state().reason
    assert stack.deploy({"A": thing()}) == ["create A"]
    assert stack.state().status is Status.CREATE_COMPLETE


BEFORE = {
    "A": thing(x=1),
    "B": thing(Fixed=1, of={"Ref": "A"}),
    "C": thing(y=1),
    "D": thing(of={"Ref": "B"}),
}
# Updated, replaced, left out, kept but for its reference, and new.
AFTER = {
    "A": thing(x=2, y=3),
    "B": thing(Fixed=2, of={"Ref": "A"}),
    "D": thing(of={"Ref": "B"}),
    "E": thing(of={"Ref": "D"}),
}
FAILING = {**AFTER, "E": thing(of={"Ref": "D"}, Fail=True)}


def test_an_update_that_fails_is_taken_back(stack: Stack) -> None:
    stack.deploy(BEFORE, Outputs={"A": {"Value": {"Ref": "A"}}})
    before, things = stack.state(), dict(stack.things.things)
    with pytest.raises(StackError, match="UPDATE_ROLLBACK_COMPLETE"):
        stack.deploy(FAILING)
    assert stack.things.things == things
    after = stack.state()
    assert after.status is Status.UPDATE_ROLLBACK_COMPLETE
    assert list(after.resources.items()) == list(before.resources.items())
    assert after.outputs == before.outputs
    assert stack.said() == [
        "update A",
        "replace B",
        "update D",
        "delete E",
        "revert D",
        "delete B",
        "revert A",
    ]


def test_an_update_that_fails_half_way_is_taken_back(stack: Stack) -> None:
    stack.deploy({"A": thing(x=1)})
    with pytest.raises(StackError, match=r"A \(Thing\) could not be updated"):
        stack.deploy({"A": thing(y=2, Fail=True)})
    assert stack.values() == [{"x": 1}]


def test_an_output_that_fails_takes_all_back(stack: Stack) -> None:
    outputs = {"Length": {"Value": {"Fn::Select": [1, {"Fn::Split": ["-", {"Ref": "A"}]}]}}}
    stack.deploy({"A": thing()}, Outputs=outputs)
    broken = {"Other": {"Value": {"Fn::Select": [9, {"Fn::Split": ["-", {"Ref": "B"}]}]}}}
    with pytest.raises(StackError, match="there is no item 9"):
        stack.deploy({"A": thing(), "B": thing()}, Outputs=broken)
    assert stack.values() == [{}]


def count_moments(second: Mapping[str, Any], *, fails: bool) -> int:
    stack = Stack(MemoryFile())
    stack.deploy(BEFORE)
    stack.things.moments = 0
    if fails:
        with pytest.raises(StackError):
            stack.deploy(second)
    else:
        stack.deploy(second)
    return stack.things.moments


@pytest.mark.parametrize("second", [AFTER, FAILING], ids=["changes", "failure"])
def test_a_deployment_killed_at_any_moment_can_be_repeated_or_deleted(
    second: Mapping[str, Any],
) -> None:
    """Nothing is left that the state does not know, and what it knows is so."""
    moments = count_moments(second, fails=second is FAILING)
    assert moments > 20
    for moment in range(1, moments + 1):
        for last in ("the same", "the first", "deletion"):
            stack = Stack(MemoryFile())
            stack.deploy(BEFORE)
            stack.things.moments, stack.things.kill_at = 0, moment
            with pytest.raises(Killed):
                stack.deploy(second)
            stack.things.kill_at = None
            if last == "deletion":
                stack.delete()
                assert stack.things.things == {}
                continue
            stack.deploy(AFTER if last == "the same" else BEFORE)
            values = stack.values()
            assert len(values) == 4
            assert ({"x": 2, "y": 3} in values) is (last == "the same")


def test_a_way_back_that_is_killed_too_is_gone_on_with() -> None:
    moments = count_moments(FAILING, fails=True)
    for first in range(1, moments + 1, 5):
        for second in range(1, moments + 1, 3):
            stack = Stack(MemoryFile())
            stack.deploy(BEFORE)
            for moment in (first, second):
                stack.things.moments, stack.things.kill_at = 0, moment
                with pytest.raises((Killed, StackError)):
                    stack.deploy(FAILING)
            stack.things.kill_at = None
            with pytest.raises(StackError, match="UPDATE_ROLLBACK_COMPLETE"):
                stack.deploy(FAILING)
            assert stack.values()[0] == {"x": 1}


def test_a_way_back_that_fails_is_gone_by_the_next_deployment(stack: Stack) -> None:
    stack.deploy(BEFORE)
    failing = {**FAILING, "B": thing(Fixed=2, Name="stuck", of={"Ref": "A"})}
    stack.things.stubborn.add("stuck")
    with pytest.raises(StackError, match="the way back failed at B: refused"):
        stack.deploy(failing)
    assert stack.state().status is Status.UPDATE_ROLLBACK_FAILED
    stack.things.stubborn.clear()
    stack.deploy(BEFORE)
    assert stack.values()[0] == {"x": 1}


def test_what_cannot_be_deleted_is_tried_again(stack: Stack) -> None:
    stack.deploy({"A": thing(Name="a"), "B": thing(Name="b")})
    stack.things.stubborn.add("b")
    assert stack.deploy({"A": thing(Name="a")}) == ["keep A"]
    assert "B (Thing) could not be deleted: refused" in stack.state().reason
    assert stack.state().status is Status.UPDATE_COMPLETE
    stack.things.stubborn.clear()
    assert stack.deploy({"A": thing(Name="a")}) == ["delete B", "keep A"]
    assert stack.state().reason == ""


def test_what_should_have_been_deleted_is_not_in_the_way(stack: Stack) -> None:
    """The second deployment is killed when all but the deletion is done."""
    stack.deploy({"A": thing(Name="a"), "B": thing(Name="b")})
    stack.things.moments, stack.things.kill_at = 0, 3
    with pytest.raises(Killed):
        stack.deploy({"A": thing(Name="a")})
    assert stack.state().status is Status.UPDATE_CLEANUP
    stack.things.kill_at = None
    assert stack.deploy({"A": thing(Name="a"), "B": thing(Name="b", x=1)}) == [
        "delete B",
        "keep A",
        "create B",
    ]
    assert stack.values() == [{"Name": "a"}, {"Name": "b", "x": 1}]


def test_a_deletion_that_fails_goes_on_later(stack: Stack) -> None:
    stack.deploy({"A": thing(Name="a"), "B": thing(Name="b")})
    stack.things.stubborn.add("a")
    with pytest.raises(StackError, match=r"A \(Thing\) could not be deleted.*DELETE_FAILED"):
        stack.delete()
    assert list(stack.things.things) == ["a"]
    stack.things.stubborn.clear()
    assert stack.delete() == ["delete A"]


def test_what_somebody_deleted_is_made_anew_or_not_missed(stack: Stack) -> None:
    stack.deploy({"A": thing(x=1), "B": thing()})
    stack.things.things.clear()
    assert stack.deploy({"A": thing(x=2)}) == ["update A", "delete B"]
    assert list(stack.things.things.values()) == [{"x": 2}]


def test_what_is_there_already_is_not_touched_by_the_way_back(stack: Stack) -> None:
    stack.things.things["mine"] = {"x": 1}
    with pytest.raises(StackError, match="ResourceConflictException"):
        stack.deploy({"A": thing(Name="mine")})
    assert stack.things.things == {"mine": {"x": 1}}


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
    action = decide(old, "Thing", after, SCHEMA)
    assert (action is Action.KEEP) is (before == after)
    assert (action is Action.REPLACE) is (before.get("Fixed") != after.get("Fixed"))
    assert decide(old, "Other", after, Schema()) is Action.REPLACE
    assert decide(None, "Thing", after, Schema()) is Action.CREATE
