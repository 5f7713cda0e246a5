"""Messages with descriptors over one socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firelet.linux import messages

JSON = st.dictionaries(st.text(max_size=10), st.integers() | st.text(max_size=50) | st.booleans())


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield one, other


Pair = tuple[socket.socket, socket.socket]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=JSON)
def test_a_message_arrives_as_it_was_sent(pair: Pair, message: dict[str, object]) -> None:
    messages.send(pair[0], message)
    assert messages.receive(pair[1]) == (message, [])


def test_descriptors_arrive_in_order_and_stand_for_the_same_files(pair: Pair) -> None:
    read, write = os.pipe()
    messages.send(pair[0], {}, [read, write])
    _, fds = messages.receive(pair[1])
    assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(fd).st_ino for fd in (read, write)]
    assert not any(os.get_inheritable(fd) for fd in fds)
    for fd in (read, write, *fds):
        os.close(fd)


def test_the_end_of_the_peer_is_an_eof(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(EOFError):
        messages.receive(pair[1])


def test_a_message_that_is_too_long_is_refused_and_not_cut(pair: Pair) -> None:
    with pytest.raises(OSError, match="too long"):
        messages.send(pair[0], {"text": "x" * 1_000_000})


def test_a_message_longer_than_the_reader_takes_is_an_error(pair: Pair) -> None:
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    pair[0].send(b'"' + b"x" * messages.MESSAGE_MAX_BYTES + b'"')
    with pytest.raises(OSError, match="cut short"):
        messages.receive(pair[1])
