"""The table of a machine's states."""

from __future__ import annotations

import pytest

from firelet.sandbox.microvm.vmm import TRANSITIONS, VmEvent, VmState, WrongState, advance


def test_what_the_table_lists_is_allowed_and_nothing_else() -> None:
    for state in VmState:
        for event in VmEvent:
            if (state, event) in TRANSITIONS:
                assert advance(state, event) is TRANSITIONS[state, event]
            else:
                with pytest.raises(WrongState, match=state.value):
                    advance(state, event)


def test_a_stopped_machine_stays_stopped() -> None:
    assert {TRANSITIONS.get((VmState.STOPPED, event)) for event in VmEvent} == {
        None,
        VmState.STOPPED,
    }


def test_a_machine_can_be_stopped_whatever_it_does() -> None:
    assert {advance(state, VmEvent.STOP) for state in VmState} == {VmState.STOPPED}
