"""The table of a machine's states."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from firelet.sandbox.microvm.vmm import (
    TRANSITIONS,
    HeldSnapshot,
    VmEvent,
    VmmEnded,
    VmSnapshot,
    VmState,
    WrongState,
    advance,
)


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


def test_a_snapshot_that_was_given_back_is_of_no_use_any_more(tmp_path: Path) -> None:
    """Its descriptors may be those of another's memory by then."""
    held = HeldSnapshot(*(os.open(os.devnull, os.O_RDONLY) for _ in range(2)))
    snapshot = VmSnapshot(tmp_path / "state", tmp_path / "memory", held)
    again = held.duplicate()
    numbers = (held.state, held.memory)
    snapshot.close()
    snapshot.close()
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
    snapshot.close()
    assert sorted(taken) == sorted(numbers)
    for fd in taken:
        os.close(fd)  # not by the snapshot
    with pytest.raises(VmmEnded, match="given back"):
        held.duplicate()
    with pytest.raises(VmmEnded, match="given back"):
        _ = held.memory
    os.fstat(again.state)
    os.fstat(again.memory)
    again.close()
