"""The backlog: bounded, in order, and honest about what it lost."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from firelet.observe.log_backlog import Backlog, Batch, BufferedStream, Dropped, format_dropped
from firelet.observe.log_chunks import EVENT_MAX_BYTES, EVENT_OVERHEAD_BYTES
from firelet.observe.log_records import StreamKey


class Signals:
    def __init__(self, max_size: int = 1_000_000, flush_size: int = 500_000) -> None:
        self.woken = self.full = 0
        self.backlog = Backlog(max_size, flush_size, self.on_wake, self.on_full)

    def on_wake(self) -> None:
        self.woken += 1

    def on_full(self) -> None:
        self.full += 1

    def stream(self, name: str = "s") -> BufferedStream:
        return BufferedStream(StreamKey("1", "r", "g", name), self.backlog)


def test_taken_events_are_those_written_in_order() -> None:
    signals = Signals()
    stream = signals.stream()
    stream.write(1, "a")
    stream.write(2, "b")
    (batch,) = signals.backlog.take()
    assert batch.events == [(1, "a"), (2, "b")]
    assert batch.dropped is None
    assert signals.backlog.take() == []


def test_the_first_event_wakes_and_a_full_backlog_says_so_once() -> None:
    signals = Signals(flush_size=200)
    stream = signals.stream()
    for _ in range(10):
        stream.write(1, "x" * 10)
    assert (signals.woken, signals.full) == (1, 1)
    signals.backlog.written(signals.backlog.take())
    stream.write(1, "x")
    assert (signals.woken, signals.full) == (2, 1)


def test_an_empty_message_is_no_event() -> None:
    signals = Signals()
    signals.stream().write(1, "")
    assert signals.backlog.is_empty


def test_a_message_over_the_limit_becomes_several_events() -> None:
    signals = Signals()
    signals.stream().write(1, "x" * (EVENT_MAX_BYTES + 1))
    (batch,) = signals.backlog.take()
    assert [len(text) for _, text in batch.events] == [EVENT_MAX_BYTES, 1]


def test_events_put_back_come_before_those_written_since() -> None:
    signals = Signals()
    first, second = signals.stream("1"), signals.stream("2")
    first.write(1, "a")
    taken = signals.backlog.take()
    second.write(2, "b")
    first.write(3, "c")
    signals.backlog.put_back(taken)
    batches = signals.backlog.take()
    assert [batch.events for batch in batches] == [[(1, "a"), (3, "c")], [(2, "b")]]


def test_the_oldest_events_go_when_there_is_no_room() -> None:
    signals = Signals(max_size=1_000)
    stream = signals.stream()
    for n in range(100):
        stream.write(n, "x" * 74)
    (batch,) = signals.backlog.take()
    assert batch.events[-1][0] == 99
    assert len(batch.events) <= 10
    assert batch.dropped == Dropped(100 - len(batch.events), 74 * (100 - len(batch.events)))
    assert signals.backlog.dropped.records == 100 - len(batch.events)


def test_a_stream_that_lost_all_its_events_still_says_so() -> None:
    signals = Signals(max_size=1_000)
    signals.stream("quiet").write(1, "x" * 100)
    loud = signals.stream("loud")
    for _ in range(20):
        loud.write(2, "y" * 100)
    quiet, _ = signals.backlog.take()
    assert (quiet.events, quiet.dropped) == ([], Dropped(1, 100))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(0, 3), st.integers(1, 300)),
            st.sampled_from(["take", "written", "put_back"]),
        ),
        max_size=60,
    )
)
def test_memory_stays_bounded_and_accounted_for(steps: list[tuple[int, int] | str]) -> None:
    signals = Signals(max_size=1_000)
    backlog, streams = signals.backlog, [signals.stream(str(n)) for n in range(4)]
    written = landed = 0
    taken: list[Batch] = []
    for step in steps:
        if isinstance(step, tuple):
            streams[step[0]].write(0, "x" * step[1])
            written += 1
            held = sum(len(b.events) for b in taken) + sum(len(s.events) for s in streams)
            assert landed + held + backlog.dropped.records == written
        elif step == "take" and not taken:
            taken = backlog.take()
        elif step == "written":
            backlog.written(taken)
            landed += sum(len(batch.events) for batch in taken)
            taken = []
        elif step == "put_back":
            backlog.put_back(taken)
            taken = []
        waiting = sum(len(text) + EVENT_OVERHEAD_BYTES for s in streams for _, text in s.events)
        assert backlog.size == waiting + sum(batch.size for batch in taken)
        assert waiting <= 1_000
        assert backlog.is_empty or waiting or sum(s.dropped.records for s in streams)


def test_the_event_about_a_loss_has_the_words_of_the_telemetry_api() -> None:
    event = orjson.loads(format_dropped(Dropped(3, 120), "2026-11-24T07:00:00.000Z"))
    assert event["type"] == "platform.logsDropped"
    assert event["record"]["droppedRecords"] == 3
    assert event["record"]["droppedBytes"] == 120
