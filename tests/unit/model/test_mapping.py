"""The states of an event source mapping."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.model.mapping import (
    MappingEvent,
    MappingState,
    NoTransition,
    advance,
    format_mapping_arn,
    is_settled,
)


def test_a_mapping_goes_the_way_that_aws_draws() -> None:
    state = MappingState.CREATING
    for event, after in (
        (MappingEvent.POLLING, "Enabled"),
        (MappingEvent.UPDATE, "Updating"),
        (MappingEvent.POLLING, "Enabled"),
        (MappingEvent.DISABLE, "Disabling"),
        (MappingEvent.RESTING, "Disabled"),
        (MappingEvent.ENABLE, "Enabling"),
        (MappingEvent.POLLING, "Enabled"),
        (MappingEvent.DELETE, "Deleting"),
    ):
        state = advance(state, event)
        assert state.value == after


@given(st.sampled_from(MappingState), st.sampled_from(MappingEvent))
def test_wishes_are_for_settled_mappings_and_lead_to_unsettled_ones(
    state: MappingState, event: MappingEvent
) -> None:
    is_wish = event not in (MappingEvent.POLLING, MappingEvent.RESTING)
    try:
        after = advance(state, event)
    except NoTransition:
        return
    assert is_settled(state) is is_wish
    assert is_settled(after) is not is_wish


def test_nothing_happens_to_a_mapping_that_goes() -> None:
    for event in MappingEvent:
        with pytest.raises(NoTransition):
            advance(MappingState.DELETING, event)


def test_its_arn() -> None:
    assert format_mapping_arn(("123456789012", "eu-central-1", "u")) == (
        "arn:aws:lambda:eu-central-1:123456789012:event-source-mapping:u"
    )
