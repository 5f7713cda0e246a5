"""Patterns with wildcards, against their definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from firelet.gateway.wildcards import matches


def fits(pattern: str, text: str) -> bool:
    """The definition of wildcards, by dynamic programming."""
    reached = {0}
    for sign in pattern:
        if sign == "*":
            reached = {at for start in reached for at in range(start, len(text) + 1)}
        else:
            reached = {at + 1 for at in reached if at < len(text) and sign in ("?", text[at])}
    return len(text) in reached


@given(st.text("ab*?.[\n", max_size=8), st.text("ab.[\n", max_size=10))
def test_wildcards_mean_what_they_are_said_to_mean(pattern: str, text: str) -> None:
    assert matches(pattern, text, fold=False) == fits(pattern, text)
    assert matches(pattern.upper(), text, fold=True) == fits(pattern, text)


def test_a_pattern_of_many_wildcards_does_not_search_without_end() -> None:
    # Going back would take longer than the age of the universe.
    assert not matches("*a" * 60 + "b", "a" * 4_000)
