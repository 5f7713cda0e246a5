"""How loops are found out by the trace header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.model import limits
from firelet.model.errors import RecursiveInvocation
from firelet.model.lineage import lineage_id, pass_function

ROOT = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0"


def walk(header: str, *names: str, is_loop_allowed: bool = False) -> str:
    for name in names:
        header = pass_function(header, name, is_loop_allowed=is_loop_allowed)
    return header


def test_the_first_function_begins_the_lineage() -> None:
    assert walk(ROOT, "a87bd80c") == f"{ROOT};Lineage=a87bd80c:0"


def test_each_function_counts_for_itself_and_the_last_stands_at_the_end() -> None:
    assert walk(ROOT, "a", "b", "a", "a") == f"{ROOT};Lineage=b:0|a:2"


def test_what_follows_the_lineage_stays() -> None:
    assert walk("Lineage=a:1;Parent=9", "b") == "Lineage=a:1|b:0;Parent=9"


def test_a_function_is_stopped_after_sixteen_invocations_in_one_chain() -> None:
    header = walk(ROOT, *["a", "b"] * limits.RECURSION_MAX)
    for name in "ab":
        with pytest.raises(RecursiveInvocation, match=r"in a recursive loop .* stopped"):
            walk(header, name)
    assert walk(header, "c").endswith("|c:0"), "another function is no part of the loop"


def test_a_function_that_may_loop_is_counted_and_not_stopped() -> None:
    header = walk(ROOT, *["a"] * 40, is_loop_allowed=True)
    assert header.endswith("Lineage=a:39")


def test_the_header_does_not_grow_without_end() -> None:
    header = walk(ROOT, *(f"{n:08x}" for n in range(200)))
    assert header.count("|") == 31


def test_the_version_in_front_of_an_entry_is_understood() -> None:
    assert walk("Lineage=25:a87bd80c:1", "a87bd80c") == "Lineage=a87bd80c:2"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255)))
def test_any_header_from_a_caller_is_survived(text: str) -> None:
    walk(f"Lineage={text}", "a")
    walk(text, "a")


def test_the_id_of_a_function_is_always_the_same() -> None:
    assert lineage_id("arn:a") == lineage_id("arn:a") != lineage_id("arn:b")
    assert len(lineage_id("arn:a")) == 8
