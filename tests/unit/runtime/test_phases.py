"""The table of phases: whatever happens, the phase is one that the table knows."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from firelet.runtime.phases import Event, InvalidTransition, Phase, advance

LEGAL = {
    (Phase.STOPPED, Event.START): Phase.STARTED,
    (Phase.STARTED, Event.NEXT): Phase.READY,
    (Phase.STARTED, Event.INIT_ERROR): Phase.INIT_FAILED,
    (Phase.STARTED, Event.RESTORE_NEXT): Phase.SNAPSHOT,
    (Phase.READY, Event.NEXT): Phase.READY,
    (Phase.READY, Event.DISPATCH): Phase.RUNNING,
    (Phase.RUNNING, Event.RESPONSE): Phase.RESPONDED,
    (Phase.RUNNING, Event.ERROR): Phase.RESPONDED,
    (Phase.RUNNING, Event.STREAM): Phase.RESPONDING,
    (Phase.RESPONDING, Event.STREAM_END): Phase.RESPONDED,
    (Phase.RESPONDED, Event.NEXT): Phase.READY,
}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", Event)
def test_a_pair_leads_where_the_contract_says_or_is_refused(phase: Phase, event: Event) -> None:
    if event is Event.ENDED:
        assert advance(phase, event) is Phase.STOPPED
    elif (phase, event) in LEGAL:
        assert advance(phase, event) is LEGAL[phase, event]
    else:
        with pytest.raises(InvalidTransition):
            advance(phase, event)


def test_a_refusal_names_the_event_and_the_phase() -> None:
    with pytest.raises(InvalidTransition, match="not allowed: RESPONSE in READY"):
        advance(Phase.READY, Event.RESPONSE)


class PhaseMachine(RuleBasedStateMachine):
    """Any sequence of events; what is owed is kept by hand beside the table."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = Phase.STOPPED
        self.owes_response = False
        self.has_process = False

    @rule(event=st.sampled_from(Event))
    def happens(self, event: Event) -> None:
        before = self.phase
        try:
            self.phase = advance(self.phase, event)
        except InvalidTransition:
            assert self.phase is before
            return
        if event is Event.START:
            self.has_process = True
        elif event is Event.ENDED:
            self.has_process = self.owes_response = False
        elif event is Event.DISPATCH:
            self.owes_response = True
        elif event in (Event.RESPONSE, Event.ERROR, Event.STREAM_END):
            assert self.owes_response, "an answer was accepted that nobody had asked for"
            self.owes_response = False
        elif event is Event.NEXT:
            assert not self.owes_response, "the next event was given while an answer was owed"

    @precondition(lambda self: self.phase is not Phase.STOPPED)
    @rule()
    def process_ends(self) -> None:
        self.happens(Event.ENDED)
        assert self.phase is Phase.STOPPED

    @invariant()
    def the_phase_tells_what_is_owed(self) -> None:
        assert isinstance(self.phase, Phase)
        assert (self.phase in (Phase.RUNNING, Phase.RESPONDING)) == self.owes_response
        assert (self.phase is Phase.STOPPED) == (not self.has_process)


TestPhaseMachine = PhaseMachine.TestCase
