"""What is kept of a console."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from firelet.sandbox.microvm.console import Console


@given(st.lists(st.binary(max_size=40)), st.integers(1, 50))
def test_the_last_bytes_are_kept_and_the_others_are_counted(
    pieces: list[bytes], kept_bytes: int
) -> None:
    console = Console(kept_bytes)
    for piece in pieces:
        console.write(piece)
    whole = b"".join(pieces)
    assert console.text() == whole[-kept_bytes:].decode(errors="replace")
    assert console.dropped_bytes == max(0, len(whole) - kept_bytes)
