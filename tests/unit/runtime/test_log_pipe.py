"""From bytes to log events: however a write is cut up, the events are the same."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.model import limits
from firelet.runtime.log_pipe import FrameSplitter, LineSplitter, LogPipe

EVENT_MAX = 256 * limits.KIB
READ = 64 * limits.KIB
TEXT = 0xA55A0003

Splitter = LineSplitter | FrameSplitter
Feed = Callable[[bytes], None]


class Sink:
    """Collects events."""

    def __init__(self) -> None:
        self.events: list[tuple[int, str]] = []

    def __call__(self, timestamp_ms: int, message: str) -> None:
        self.events.append((timestamp_ms, message))

    @property
    def messages(self) -> list[str]:
        return [message for _, message in self.events]


def frame(payload: bytes, kind: int = TEXT, micros: int | None = None) -> bytes:
    micros = int(time.time() * 1e6) if micros is None else micros
    return struct.pack(">IIQ", kind, len(payload), micros) + payload


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    """``data`` in pieces, cut at the given places (taken modulo its length)."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    for start, end in pairwise(edges):
        yield data[start:end]


def split_lines(pieces: Iterator[bytes] | list[bytes]) -> list[str]:
    sink = Sink()
    splitter = LineSplitter(sink)
    for piece in pieces:
        splitter.feed(piece)
    splitter.flush()
    return sink.messages


def split_frames(pieces: Iterator[bytes] | list[bytes]) -> list[str]:
    sink = Sink()
    splitter = FrameSplitter(sink)
    for piece in pieces:
        splitter.feed(piece)
    splitter.flush()
    return sink.messages


CUTS = st.lists(st.integers(min_value=0, max_value=1 << 20), max_size=8)


class TestLines:
    @given(data=st.binary(max_size=400), cuts=CUTS)
    def test_lines_do_not_depend_on_how_they_are_cut(self, data: bytes, cuts: list[int]) -> None:
        assert split_lines(cut(data, cuts)) == split_lines([data])

    @given(lines=st.lists(st.text(st.characters(exclude_characters="\n", codec="utf-8"))))
    def test_each_line_is_one_event(self, lines: list[str]) -> None:
        data = "".join(line + "\n" for line in lines).encode()
        assert split_lines([data]) == [line + "\n" for line in lines]

    def test_an_unfinished_line_waits_for_its_end(self) -> None:
        sink = Sink()
        splitter = LineSplitter(sink)
        splitter.feed(b"one\ntw")
        assert sink.messages == ["one\n"]
        splitter.feed(b"o\n")
        assert sink.messages == ["one\n", "two\n"]

    def test_a_flush_ends_an_unfinished_line_once(self) -> None:
        sink = Sink()
        splitter = LineSplitter(sink)
        splitter.feed(b"no end")
        splitter.flush()
        splitter.flush()
        assert sink.messages == ["no end\n"]

    def test_bytes_that_are_not_utf_8_are_replaced(self) -> None:
        assert split_lines([b"caf\xe9\n"]) == ["caf�\n"]

    def test_a_line_that_never_ends_is_cut_at_the_size_of_an_event(self) -> None:
        sink = Sink()
        splitter = LineSplitter(sink)
        for _ in range(20):
            splitter.feed(b"x" * READ)
        splitter.flush()
        assert all(len(message) <= EVENT_MAX + 1 for message in sink.messages)
        assert sum(len(message) - 1 for message in sink.messages) == 20 * READ

    def test_a_line_that_ends_late_is_cut_like_one_that_never_ends(self) -> None:
        just_below = EVENT_MAX // READ * READ
        pieces = [b"x" * READ] * (just_below // READ) + [b"x" * (READ - 1) + b"\n"]
        messages = split_lines(pieces)
        assert all(len(message) <= EVENT_MAX + 1 for message in messages)
        assert sum(len(message) - 1 for message in messages) == just_below + READ - 1


class TestFrames:
    @given(
        records=st.lists(st.text(max_size=60).filter(lambda text: not text.endswith("\n"))),
        cuts=CUTS,
    )
    def test_records_do_not_depend_on_how_they_are_cut(
        self, records: list[str], cuts: list[int]
    ) -> None:
        data = b"".join(frame(record.encode()) for record in records)
        assert split_frames(cut(data, cuts)) == [record + "\n" for record in records]

    @given(data=st.binary(max_size=300), cuts=CUTS)
    def test_garbage_does_not_depend_on_how_it_is_cut(self, data: bytes, cuts: list[int]) -> None:
        data = frame(b"good") + data
        assert split_frames(cut(data, cuts)) == split_frames([data])

    def test_a_record_of_several_lines_is_one_event(self) -> None:
        assert split_frames([frame(b"Traceback:\n  line 1\n")]) == ["Traceback:\n  line 1\n"]

    @pytest.mark.parametrize("kind", [0xA55A0002, 0xA55A000A, 0xA55A000E, 0xA55A001A])
    def test_every_kind_of_record_of_the_clients_is_known(self, kind: int) -> None:
        assert split_frames([frame(b"{}", kind)]) == ["{}\n"]

    def test_an_empty_record_is_an_event(self) -> None:
        assert split_frames([frame(b"")]) == ["\n"]

    def test_the_time_of_a_record_is_its_own(self) -> None:
        sink = Sink()
        micros = int(time.time() * 1e6) - 5_000_000
        FrameSplitter(sink).feed(frame(b"x", micros=micros))
        assert sink.events == [(micros // 1000, "x\n")]

    @pytest.mark.parametrize("micros", [0, 2**64 - 1, 1])
    def test_a_time_that_the_function_invented_is_replaced(self, micros: int) -> None:
        sink = Sink()
        before = int(time.time() * 1000)
        FrameSplitter(sink).feed(frame(b"x", micros=micros))
        assert before <= sink.events[0][0] <= int(time.time() * 1000)

    def test_after_a_frame_that_makes_no_sense_all_is_read_as_lines(self) -> None:
        data = frame(b"good") + b"plain text, no frame\n" + frame(b"lost")
        messages = split_frames([data])
        assert messages[:2] == ["good\n", "plain text, no frame\n"]
        assert messages[2].endswith("lost\n")

    def test_a_length_that_no_record_has_is_not_waited_for(self) -> None:
        sink = Sink()
        FrameSplitter(sink).feed(struct.pack(">IIQ", TEXT, 2**32 - 1, 0) + b"text\n")
        assert sink.messages[0].endswith("text\n")

    def test_a_record_that_is_too_large_becomes_several_events(self) -> None:
        messages = split_frames([frame(b"x" * (EVENT_MAX + 10))])
        assert [len(message) - 1 for message in messages] == [EVENT_MAX, 10]


class TestPipe:
    @pytest.fixture
    def ends(self) -> Iterator[tuple[int, int]]:
        """Read and write end of a pipe; the read end does not block."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        yield read, write
        for fd in (read, write):
            try:
                os.close(fd)
            except OSError:
                continue

    def test_a_drain_takes_what_is_there_and_returns(self, ends: tuple[int, int]) -> None:
        sink = Sink()
        pipe = LogPipe(ends[0], LineSplitter(sink))
        assert pipe.drain() is True
        os.write(ends[1], b"a\nb\n")
        assert pipe.drain() is True
        assert sink.messages == ["a\n", "b\n"]

    def test_the_end_of_the_pipe_is_told(self, ends: tuple[int, int]) -> None:
        sink = Sink()
        pipe = LogPipe(ends[0], LineSplitter(sink))
        os.write(ends[1], b"last words")
        os.close(ends[1])
        assert pipe.drain() is True
        assert pipe.drain() is False
        pipe.flush()
        assert sink.messages == ["last words\n"]

    def test_a_full_pipe_is_drained_in_one_go(self, ends: tuple[int, int]) -> None:
        sink = Sink()
        written = 0
        try:
            while True:
                written += os.write(ends[1], b"x" * 1023 + b"\n")
        except BlockingIOError:
            LogPipe(ends[0], LineSplitter(sink)).drain()
        assert sum(map(len, sink.messages)) == written // 1024 * 1024
