"""Frames: whatever the pieces in which they arrive, they come out as they went in."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.wire.rpc_frames import (
    BODY_MAX_BYTES,
    HEADER_BYTES,
    INLINE_MAX_BYTES,
    Frame,
    FrameError,
    FrameKind,
    FrameReader,
    format_frame,
)

LARGE = b"x" * (INLINE_MAX_BYTES + 1)

frames = st.builds(
    Frame,
    kind=st.sampled_from(FrameKind),
    number=st.integers(0, 2**64 - 1),
    body=st.binary(max_size=60),
    payload=st.one_of(st.binary(max_size=200), st.just(LARGE)),
)


def feed_in_pieces(reader: FrameReader, sent: Sequence[Frame], cuts: Sequence[int]) -> list[Frame]:
    """A descriptor arrives with the first byte of its frame, as the kernel has it."""
    received: list[Frame] = []
    sizes = iter(cuts)
    for frame in sent:
        data, fd = format_frame(frame)
        fds = [] if fd is None else [fd]
        while data:
            size = next(sizes, len(data))
            received += reader.feed(data[:size], fds)
            data, fds = data[size:], []
    return received


@given(st.lists(frames, max_size=6), st.lists(st.integers(1, 50), max_size=60))
def test_frames_survive_any_pieces(sent: list[Frame], cuts: list[int]) -> None:
    reader = FrameReader()
    assert feed_in_pieces(reader, sent, cuts) == sent


@given(st.lists(frames, min_size=2, max_size=6))
def test_many_frames_in_one_piece(sent: list[Frame]) -> None:
    formatted = [format_frame(frame) for frame in sent]
    data = b"".join(data for data, _ in formatted)
    fds = [fd for _, fd in formatted if fd is not None]
    assert FrameReader().feed(data, fds) == sent


def test_a_large_payload_is_not_in_the_stream() -> None:
    data, fd = format_frame(Frame(FrameKind.CALL, 1, b"body", LARGE))
    assert fd is not None
    os.close(fd)
    assert len(data) == HEADER_BYTES + len(b"body")


@pytest.mark.parametrize("kind", [0, 6, 255])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    data, _ = format_frame(Frame(FrameKind.NOTE, 0, b""))
    with pytest.raises(FrameError, match="no frame of kind"):
        FrameReader().feed(bytes([kind]) + data[1:])


def test_a_frame_that_is_too_large_is_refused_before_it_has_come() -> None:
    data, _ = format_frame(Frame(FrameKind.NOTE, 0, b""))
    huge = data[:2] + (BODY_MAX_BYTES + 1).to_bytes(4, "little") + data[6:]
    with pytest.raises(FrameError, match="too large"):
        FrameReader().feed(huge)


def test_a_frame_without_its_descriptor_is_refused() -> None:
    data, fd = format_frame(Frame(FrameKind.CALL, 1, b"", LARGE))
    assert fd is not None
    os.close(fd)
    with pytest.raises(FrameError, match="without its descriptor"):
        FrameReader().feed(data)


def test_a_payload_that_is_not_sealed_is_refused_and_closed() -> None:
    data, fd = format_frame(Frame(FrameKind.CALL, 1, b"", LARGE))
    assert fd is not None
    os.close(fd)
    fd = os.memfd_create("open", os.MFD_ALLOW_SEALING)
    os.write(fd, LARGE)
    with pytest.raises(FrameError, match="not sealed"):
        FrameReader().feed(data, [fd])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_closing_closes_what_never_came_to_its_frame() -> None:
    data, fd = format_frame(Frame(FrameKind.CALL, 1, b"body", LARGE))
    assert fd is not None
    reader = FrameReader()
    reader.feed(data[:5], [fd])
    reader.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
