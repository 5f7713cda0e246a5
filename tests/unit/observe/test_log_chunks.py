"""Chunks: nothing is lost, reordered or cut in the middle of a character."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from firelet.observe.log_chunks import (
    CHUNK_MAX_CHARS,
    CHUNK_MAX_EVENTS,
    CHUNK_SPAN_MS,
    EVENT_MAX_BYTES,
    Event,
    make_chunks,
    split_message,
    unpack,
)

EVENTS = st.lists(st.tuples(st.integers(0, 10 * CHUNK_SPAN_MS), st.text(max_size=50)), max_size=40)


def all_events(events: list[Event]) -> list[Event]:
    return [event for chunk in make_chunks(events, 0) for event in unpack(chunk.body)]


@given(EVENTS)
def test_events_come_back_in_order_and_unchanged(events: list[Event]) -> None:
    clean = [(at, text.encode("utf-8", "replace").decode()) for at, text in events]
    assert all_events(events) == clean


@given(EVENTS)
def test_a_chunk_tells_its_time_and_spans_little_of_it(events: list[Event]) -> None:
    for chunk in make_chunks(events, 7):
        timestamps = [timestamp for timestamp, _ in unpack(chunk.body)]
        assert chunk.count == len(timestamps)
        assert (chunk.first_ms, chunk.last_ms) == (min(timestamps), max(timestamps))
        assert chunk.last_ms - chunk.first_ms <= CHUNK_SPAN_MS
        assert chunk.ingested_ms == 7


def test_chunks_are_bounded_in_events_and_size() -> None:
    many = [(0, "x")] * (CHUNK_MAX_EVENTS + 1)
    assert [chunk.count for chunk in make_chunks(many, 0)] == [CHUNK_MAX_EVENTS, 1]
    long = [(0, "x" * (CHUNK_MAX_CHARS // 2))] * 5
    assert [chunk.count for chunk in make_chunks(long, 0)] == [2, 2, 1]


def test_text_that_repeats_is_compressed() -> None:
    events = [(0, f"REPORT RequestId: {n}\tDuration: 1.00 ms\n") for n in range(200)]
    (chunk,) = make_chunks(events, 0)
    assert len(chunk.body) < sum(len(text) for _, text in events) / 3
    assert unpack(chunk.body) == events


def test_half_a_surrogate_pair_costs_only_itself() -> None:
    assert all_events([(1, "fine"), (2, "a\ud800b")]) == [(1, "fine"), (2, "a?b")]


@given(st.text(alphabet="aé€😀", min_size=1, max_size=10))
def test_a_long_message_is_split_between_characters(unit: str) -> None:
    message = unit * (EVENT_MAX_BYTES // 5)
    pieces = split_message(message)
    assert "".join(pieces) == message
    assert all(len(piece.encode()) <= EVENT_MAX_BYTES for piece in pieces)


def test_a_short_message_is_one_piece() -> None:
    assert split_message("x") == ["x"]
    assert split_message("x" * EVENT_MAX_BYTES) == ["x" * EVENT_MAX_BYTES]
