"""Log events on their way from a worker process: in order, in pieces, none lost silently."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from firelet.app import worker_logs
from firelet.app.worker_logs import LogForwarder
from firelet.app.workers import LogIntake
from firelet.observe.log_records import StreamKey
from firelet.wire.rpc_frames import BODY_MAX_BYTES
from firelet.wire.worker_messages import Logged, StreamEvents
from unit.worker.loop_clock import LoopClock

KEY = StreamKey("123456789012", "us-east-1", "/aws/lambda/f", "stream")


class Control:
    """What arrives at the control process."""

    def __init__(self) -> None:
        self.notes: list[Logged] = []
        self.is_congested = False
        self.logs = LogForwarder(self.notes.append, lambda: self.is_congested)

    @property
    def messages(self) -> list[str]:
        return [
            message
            for note in self.notes
            for stream in note.streams
            for _, message in stream.events
        ]


@pytest.fixture
async def control() -> Control:
    return Control()


async def test_events_go_together_when_asked_for(control: Control) -> None:
    stream = control.logs.open_stream(KEY)
    for number in range(3):
        stream.write(number, f"line {number}\n")
    assert control.notes == []
    control.logs.send()
    events = [(0, "line 0\n"), (1, "line 1\n"), (2, "line 2\n")]
    assert control.notes == [
        Logged([StreamEvents("123456789012", "us-east-1", "/aws/lambda/f", "stream", events)])
    ]
    control.logs.send()
    assert len(control.notes) == 1


async def test_events_go_by_themselves_a_moment_later(control: Control) -> None:
    clock = LoopClock(asyncio.get_running_loop())
    control.logs.open_stream(KEY).write(1, "line\n")
    await clock.advance(worker_logs._SEND_AFTER_S + 0.01)
    clock.restore()
    assert control.messages == ["line\n"]


async def test_many_go_by_themselves_in_notes_that_are_small(control: Control) -> None:
    stream = control.logs.open_stream(KEY)
    lines = [f"{number:06d} " + "é" * 50_000 for number in range(100)]
    for number, line in enumerate(lines):
        stream.write(number, line)
    assert control.notes, "it did not wait to be asked"
    control.logs.send()
    for _ in lines:
        await asyncio.sleep(0)
    assert control.messages == lines
    largest = max(len(msgspec.msgpack.encode(note)) for note in control.notes)
    assert largest < 4 * worker_logs._NOTE_BYTES < BODY_MAX_BYTES


async def test_a_flood_holds_up_no_other_stream(control: Control) -> None:
    flood = control.logs.open_stream(KEY)
    quiet = control.logs.open_stream(StreamKey("1", "us-east-1", "/aws/lambda/quiet", "s"))
    control.is_congested = True
    for number in range(100_000):
        flood.write(number, "line\n")
    quiet.write(1, "quiet\n")
    control.is_congested = False
    control.logs.send()
    assert "quiet\n" in control.messages
    assert len(control.messages) < 10_000, "the rest has its turns later"
    control.logs.send_all()
    assert len(control.messages) == 100_001


async def test_events_of_a_stream_keep_their_order_over_many_notes(control: Control) -> None:
    stream = control.logs.open_stream(KEY)
    lines = [f"{number}\n" for number in range(20_000)]
    for number, line in enumerate(lines):
        stream.write(number, line)
        if number % 7_000 == 0:
            control.logs.send()
    control.logs.send_all()
    assert control.messages == lines


async def test_what_is_sent_makes_room(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_logs, "_MEMORY_MAX_BYTES", 10_000)
    control = Control()
    stream = control.logs.open_stream(KEY)
    for number in range(1_000):
        stream.write(number, f"{number:04d} " + "x" * 95)
        control.logs.send()
    assert len(control.messages) == 1_000
    assert control.logs._backlog.size == 0


async def test_a_control_process_that_does_not_keep_up_is_waited_for(control: Control) -> None:
    clock = LoopClock(asyncio.get_running_loop())
    control.is_congested = True
    control.logs.open_stream(KEY).write(1, "line\n")
    control.logs.send()
    assert control.notes == []
    control.is_congested = False
    await clock.advance(worker_logs._SEND_AFTER_S + 0.01)
    clock.restore()
    assert control.messages == ["line\n"]


async def test_what_memory_has_no_room_for_is_told_of(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_logs, "_MEMORY_MAX_BYTES", 1_000)
    control = Control()
    control.is_congested = True
    stream = control.logs.open_stream(KEY)
    for number in range(100):
        stream.write(number, f"{number:03d} " + "x" * 96)
    control.is_congested = False
    control.logs.send()
    assert "platform.logsDropped" in control.messages[0]
    assert control.messages[-1].startswith("099")
    assert len(control.messages) < 15


async def test_half_a_character_does_not_cost_the_others(control: Control) -> None:
    stream = control.logs.open_stream(KEY)
    stream.write(1, "good\n")
    stream.write(2, "\ud800 half\n")
    control.logs.send()
    assert control.messages == ["good\n", "? half\n"]
    assert msgspec.msgpack.encode(control.notes[0])


class Store:
    """A log store that keeps the events of each stream."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str, str, str]] = []
        self.events: list[tuple[int, str]] = []

    def open_stream(self, account: str, region: str, group: str, stream: str) -> Store:
        self.opened.append((account, region, group, stream))
        return self

    def write(self, timestamp_ms: int, message: str) -> None:
        self.events.append((timestamp_ms, message))


def test_the_control_process_opens_each_stream_once() -> None:
    store = Store()
    intake = LogIntake(store.open_stream)
    for number in range(3):
        intake.take(StreamEvents("1", "r", "g", "s", [(number, "line")]))
    assert store.opened == [("1", "r", "g", "s")]
    assert store.events == [(0, "line"), (1, "line"), (2, "line")]
