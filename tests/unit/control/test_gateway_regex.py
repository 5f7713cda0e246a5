"""Regular expressions that match a text as a whole, against Python's own engine."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from firelet.control.gateway_regex import compile_whole
from firelet.model.errors import NotYetImplemented


@given(st.text("ab.*+?[]|\\^$d-", max_size=8), st.text("ab1|-", max_size=6))
def test_a_whole_text_is_matched_as_python_matches_it(pattern: str, text: str) -> None:
    try:
        found = compile_whole(pattern)
        expected = re.compile(pattern)
    except (NotYetImplemented, re.error):
        assume(False)
    assume("*?" not in pattern and "+?" not in pattern and "??" not in pattern)
    assume("*+" not in pattern and "++" not in pattern and "?+" not in pattern)
    assert found.search(text) == (expected.fullmatch(text) is not None)


@pytest.mark.parametrize("pattern", ["(a|b)", "a{9999}", "[", "\\", "a(?=b)", "é"])
def test_what_cannot_be_matched_in_linear_time_is_refused(pattern: str) -> None:
    with pytest.raises(NotYetImplemented):
        compile_whole(pattern)


def test_ends_are_those_of_each_alternative() -> None:
    found = compile_whole("^4\\d\\d$|error.*")

    assert found.search("404")
    assert found.search("error: x")
    assert not found.search("an error")
    assert not found.search("4040")
