"""Messages over a byte stream."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.linux import stream_messages

MESSAGES = st.lists(st.dictionaries(st.text(max_size=10), st.integers() | st.text(max_size=50)))


@given(messages=MESSAGES, size=st.integers(1, 20))
def test_messages_arrive_whole_however_the_bytes_are_cut(
    messages: list[dict[str, object]], size: int
) -> None:
    data = b"".join(map(stream_messages.encode, messages))
    decoder = stream_messages.Decoder()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert [message for piece in pieces for message in decoder.feed(piece)] == messages


def test_a_message_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(ValueError, match="longer than"):
        stream_messages.encode({"data": "x" * stream_messages.MESSAGE_MAX_BYTES})


def test_a_length_beyond_the_limit_is_refused_before_its_bytes_have_come() -> None:
    header = struct.pack(">I", stream_messages.MESSAGE_MAX_BYTES + 1)
    with pytest.raises(ValueError, match="longer than"):
        list(stream_messages.Decoder().feed(header))


@pytest.mark.parametrize("text", [b"[]", b"1", b"{", b"\xff"])
def test_what_is_no_object_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of json, or ours
        list(stream_messages.Decoder().feed(struct.pack(">I", len(text)) + text))
