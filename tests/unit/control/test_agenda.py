"""The agenda: each key is due once, at the earliest of the times that were named."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from firelet.control.agenda import Agenda


def test_nothing_is_due_before_its_time() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.put("a", 10)
    agenda.put("b", 5)
    assert agenda.pop_due(4.9) == []
    assert agenda.pop_due(10) == ["b", "a"]
    assert agenda.pop_due(100) == []


def test_a_later_time_changes_nothing_and_an_earlier_one_does() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.put("a", 10)
    agenda.put("a", 20)
    agenda.put("a", 7)
    assert agenda.pop_due(8) == ["a"]
    assert agenda.pop_due(30) == []


def test_a_key_may_be_put_again_after_it_was_due() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.put("a", 1)
    agenda.pop_due(1)
    agenda.put("a", 2)
    assert agenda.pop_due(2) == ["a"]


def test_a_key_that_was_dropped_is_never_due() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.put("a", 1)
    agenda.drop("a")
    agenda.drop("b")
    assert agenda.pop_due(9) == []


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 50), st.booleans()), max_size=60))
def test_it_is_as_a_table_of_earliest_times(steps: list[tuple[int, int, bool]]) -> None:
    agenda: Agenda[int] = Agenda()
    table: dict[int, int] = {}
    for key, at, is_question in steps:
        if is_question:
            due = {each for each, when in table.items() if when <= at}
            assert set(agenda.pop_due(at)) == due
            table = {each: when for each, when in table.items() if each not in due}
        else:
            agenda.put(key, at)
            table[key] = min(at, table.get(key, at))
