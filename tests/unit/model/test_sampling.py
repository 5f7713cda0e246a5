"""The decision in a trace header: read, made, and given on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.model.sampling import find_decision, with_decision, with_parent

ROOT = "Root=1-5759e988-bd862e3fe1be46a994272793"


@pytest.mark.parametrize(
    ("header", "decision"),
    [
        (ROOT, None),
        (f"{ROOT};Sampled=?", None),
        (f"{ROOT};Sampled=1", True),
        (f"{ROOT};Sampled=0;Lineage=a:1", False),
        (f"{ROOT};Parent=53995c3f42cd8ad8;Sampled=1 ;Lineage=a:1", True),
        ("", None),
    ],
)
def test_a_decision_is_one_or_zero(header: str, decision: bool | None) -> None:
    assert find_decision(header) is decision


@pytest.mark.parametrize(
    ("header", "decided"),
    [
        (ROOT, f"{ROOT};Sampled=1"),
        (f"{ROOT};Sampled=?;Lineage=a:1", f"{ROOT};Sampled=1;Lineage=a:1"),
        (f"{ROOT};Lineage=a:1", f"{ROOT};Sampled=1;Lineage=a:1"),
    ],
)
def test_a_decision_takes_its_place(header: str, decided: str) -> None:
    assert with_decision(header, is_sampled=True) == decided


def test_the_parent_follows_the_root_and_is_replaced() -> None:
    first = with_parent(f"{ROOT};Sampled=1", "53995c3f42cd8ad8")
    assert first == f"{ROOT};Parent=53995c3f42cd8ad8;Sampled=1"
    assert with_parent(first, "0" * 16) == f"{ROOT};Parent={'0' * 16};Sampled=1"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255)), st.booleans())
def test_any_header_from_a_caller_gets_a_decision(header: str, is_sampled: bool) -> None:
    decided = with_decision(header, is_sampled=is_sampled)
    assert find_decision(decided) is is_sampled
