"""Patch operations on the settings of APIs."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from firelet.control.api_errors import BadRequest
from firelet.control.rest_api_patch import (
    Entries,
    Items,
    Schema,
    apply_patch,
    flag,
    integer,
    number,
    text,
)

SCHEMA: Schema = {
    "name": text,
    "on": flag,
    "size": integer,
    "rate": number,
    "variables": Entries(),
    "types": Items(),
    "inner": {"deep": text, "types": Items()},
}
SETTINGS: dict[str, Any] = {
    "name": "a",
    "variables": {"x": "1"},
    "types": ["a", "b"],
    "inner": {"deep": "d"},
}


def apply(*operations: tuple[str, ...]) -> dict[str, Any]:
    named = [dict(zip(("op", "path", "value"), given, strict=False)) for given in operations]
    return apply_patch(SCHEMA, SETTINGS, named)


def test_scalars_are_parsed_and_removed() -> None:
    after = apply(
        ("replace", "/on", "TRUE"),
        ("add", "/size", "7"),
        ("add", "/rate", ".5"),
        ("remove", "/name"),
    )

    assert (after["on"], after["size"], after["rate"]) == (True, 7, 0.5)
    assert "name" not in after


def test_entries_are_changed_one_by_one() -> None:
    after = apply(
        ("add", "/variables/a~1b~0c", "2"),
        ("replace", "/variables/x", ""),
        ("remove", "/variables/y"),
    )

    assert after["variables"] == {"x": "", "a/b~c": "2"}
    assert apply(("remove", "/variables"))["variables"] == {}


def test_items_are_named_by_value_or_number() -> None:
    assert apply(("add", "/types/c~1d"))["types"] == ["a", "b", "c/d"]
    assert apply(("add", "/types", "c"), ("add", "/types", "c"))["types"] == ["a", "b", "c"]
    assert apply(("replace", "/types/a", "z"))["types"] == ["z", "b"]
    assert apply(("replace", "/types/1", "z"))["types"] == ["a", "z"]
    assert apply(("remove", "/types/0"), ("remove", "/types/b"))["types"] == []
    assert apply(("replace", "/types", "z"))["types"] == ["z"]


def test_structures_are_changed_within_or_removed() -> None:
    assert apply(("replace", "/inner/deep", "e"))["inner"] == {"deep": "e"}
    assert apply(("add", "/inner/types/x"))["inner"] == {"deep": "d", "types": ["x"]}
    assert "inner" not in apply(("remove", "/inner"))


words = st.sampled_from(
    ("name", "on", "size", "variables", "types", "inner", "deep", "0", "", "~1")
)
operations = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(("add", "remove", "replace", "move", "")),
        "path": st.lists(words, max_size=4).map("/".join).map("/{}".format) | st.text(),
        "value": st.text(),
    },
)


@given(st.lists(operations, max_size=4))
def test_any_patch_is_refused_or_applied_and_changes_nothing_in_place(
    given: list[dict[str, str]],
) -> None:
    before = copy.deepcopy(SETTINGS)
    with contextlib.suppress(BadRequest):
        after = apply_patch(SCHEMA, SETTINGS, given)
        assert after.keys() <= SCHEMA.keys()
    assert before == SETTINGS
