"""Regular expressions of filter patterns: they mean what they mean elsewhere, in linear time."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firelet.observe.log_errors import InvalidLogParameter
from firelet.observe.log_regex import Regex

ATOM = st.sampled_from(["a", "b", "c", ".", "[ab]", "[^a]", "[a-c]", r"\d", r"\W", r"\.", "-"])
REPEAT = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,2}", "{2,}"])
BRANCH = st.builds(
    lambda start, parts, end: start + "".join(atom + repeat for atom, repeat in parts) + end,
    st.sampled_from(["", "", "^"]),
    st.lists(st.tuples(ATOM, REPEAT), max_size=4),
    st.sampled_from(["", "", "$"]),
)
PATTERN = st.lists(BRANCH, min_size=1, max_size=3).map("|".join)


@given(PATTERN, st.text(alphabet="abc1.- é\t", max_size=12))
@example("a|b$", "xb")
@example("^ab|c", "cab")
def test_it_finds_what_re_finds(pattern: str, text: str) -> None:
    expected = re.search(pattern, text, re.ASCII) is not None
    assert Regex(pattern).search(text) is expected


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_an_expression_or_an_invalid_parameter(pattern: str, text: str) -> None:
    try:
        regex = Regex(pattern)
    except InvalidLogParameter:
        return
    regex.search(text)


@given(st.text(alphabet=r"ab[]{}^$\|*+?.-,19dx", max_size=15), st.text(alphabet="ab19", max_size=8))
def test_operators_in_any_order_are_an_expression_or_an_invalid_parameter(
    pattern: str, text: str
) -> None:
    try:
        regex = Regex(pattern)
    except InvalidLogParameter:
        return
    regex.search(text)


@pytest.mark.parametrize(
    ("pattern", "found", "not_found"),
    [
        ("AUTHORIZED", "[ERROR 401] UNAUTHORIZED REQUEST", "authorized"),
        ("^[hc]at", "hat trick", "a hat"),
        ("[hc]at$", "top hat\n", "hats"),
        ("colou?r", "color", "colr"),
        (r"10\.10\.0\.1", "from 10.10.0.1", "from 10a10b0c1"),
        ("gray|grey", "a grey cat", "a gry cat"),
        (r"a{3,5}", "aaa", "aa"),
        (r"\x41b", "Ab", "ab"),
        ("[a-]x", "-x", "bx"),
        (".", "é", "\n"),
        ("", "", None),
    ],
)
def test_expressions_of_the_guide(pattern: str, found: str, not_found: str | None) -> None:
    assert Regex(pattern).search(found)
    if not_found is not None:
        assert not Regex(pattern).search(not_found)


@pytest.mark.parametrize(
    "pattern",
    ["something!", "(a)", "a**", "*", "[", "[b-a]", "a{", "a{2,1}", "a{9999999}", "é", "a^", "\\"],
)
def test_what_cloudwatch_does_not_support_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidLogParameter):
        Regex(pattern)


def test_an_expression_that_would_backtrack_for_ever_is_matched_at_once() -> None:
    # With re this would take longer than the universe has been there.
    assert not Regex("a*a*a*a*a*a*a*a*a*a*a*a*b").search("a" * 100_000)


def test_a_text_with_very_many_different_characters_does_not_fill_the_memory() -> None:
    text = "".join(map(chr, range(0x100, 0xD800)))
    assert Regex("x.*y").search("x" + text + "y")
