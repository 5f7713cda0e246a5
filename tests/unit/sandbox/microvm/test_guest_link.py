"""The platform's end of the link to a guest, and what carries streams to its descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firelet.linux import multiplex
from firelet.linux.multiplex import WINDOW_BYTES
from firelet.model.errors import PlatformError, SandboxEnded
from firelet.sandbox.microvm import guest_link
from firelet.sandbox.microvm.guest_link import (
    Carrier,
    GuestFault,
    GuestLink,
    PipeCarrier,
    SocketCarrier,
)
from guest_ends import PATIENCE_S, GuestEnd, frame

pytestmark = pytest.mark.usefixtures("nothing_leaks")


class Platform:
    """A link, with what it told. ``carriers`` gives those of streams that the guest opens."""

    def __init__(self, sock: socket.socket) -> None:
        self.messages: list[dict[str, Any]] = []
        self.endings: list[PlatformError] = []
        self.carriers: Callable[[int, dict[str, Any]], Carrier | None] = lambda *_: None
        self.link = GuestLink(
            sock,
            self.messages.append,
            lambda stream, purpose: self.carriers(stream, purpose),
            self.endings.append,
        )
        self._owned: list[socket.socket | int] = []

    def pipe(self, stream: int) -> tuple[PipeCarrier, int]:
        """A carrier into a pipe, and the pipe's other end."""
        ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._owned.append(ours)
        return PipeCarrier(self.link, stream, theirs), ours

    def connection(self, stream: int) -> tuple[SocketCarrier, socket.socket]:
        """A carrier of a connection, and that one's other end."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._owned.append(ours)
        return SocketCarrier(self.link, stream, theirs), ours

    def close(self) -> None:
        self.link.close()
        for owned in self._owned:
            if isinstance(owned, int):
                with contextlib.suppress(OSError):
                    os.close(owned)
            else:
                owned.close()


Ends = tuple[Platform, GuestEnd]


@contextlib.asynccontextmanager
async def linked() -> AsyncIterator[Ends]:
    one, other = socket.socketpair()
    platform, guest = Platform(one), GuestEnd(other)
    try:
        yield platform, guest
    finally:
        platform.close()
        guest.close()


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    async with linked() as both:
        yield both


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.001)


async def read_pipe(fd: int, count: int) -> bytes:
    data = b""
    async with asyncio.timeout(PATIENCE_S):
        while len(data) < count:
            try:
                data += os.read(fd, count - len(data))
            except BlockingIOError:
                await asyncio.sleep(0.001)
    return data


async def receive(sock: socket.socket, count: int) -> bytes:
    data = b""
    async with asyncio.timeout(PATIENCE_S):
        while len(data) < count:
            data += await asyncio.get_running_loop().sock_recv(sock, count - len(data))
    return data


async def open_pipe(ends: Ends) -> tuple[int, int]:
    """A stream of the guest that is carried into a pipe, and that pipe's read end."""
    platform, guest = ends
    fds: list[int] = []

    def carry(stream: int, _purpose: dict[str, Any]) -> Carrier:
        carrier, fd = platform.pipe(stream)
        fds.append(fd)
        return carrier

    platform.carriers = carry
    stream = await guest.open()
    await eventually(lambda: bool(fds))
    return stream, fds[0]


async def open_connection(ends: Ends) -> tuple[int, socket.socket]:
    """A stream of the guest that is carried to a connection, and that one's other end."""
    platform, guest = ends
    socks: list[socket.socket] = []

    def carry(stream: int, _purpose: dict[str, Any]) -> Carrier:
        carrier, sock = platform.connection(stream)
        socks.append(sock)
        return carrier

    platform.carriers = carry
    stream = await guest.open()
    await eventually(lambda: bool(socks))
    return stream, socks[0]


async def test_messages_go_both_ways_in_order(ends: Ends) -> None:
    platform, guest = ends
    for number in range(3):
        platform.link.tell({"number": number})
        await guest.say(number=number)
    await guest.until(lambda: len(guest.messages) == 3)
    await eventually(lambda: len(platform.messages) == 3)
    assert guest.messages == platform.messages == [{"number": n} for n in range(3)]


async def test_what_a_guest_writes_to_a_stream_is_in_the_pipe(ends: Ends) -> None:
    _platform, guest = ends
    stream, fd = await open_pipe(ends)
    await guest.carry(stream, b"one ")
    await guest.carry(stream, b"two")
    assert await read_pipe(fd, 7) == b"one two"
    await guest.until(lambda: stream in guest.ended)  # nothing comes the other way


async def test_a_pipe_ends_with_its_stream_and_after_all_that_came(ends: Ends) -> None:
    _platform, guest = ends
    stream, fd = await open_pipe(ends)
    data = os.urandom(200_000)  # more than a pipe holds
    await guest.carry(stream, data)
    guest.mux.end(stream)
    await guest.send()
    assert await read_pipe(fd, len(data)) == data
    await eventually(lambda: _has_ended(fd))


def _has_ended(fd: int) -> bool:
    try:
        return os.read(fd, 1) == b""
    except BlockingIOError:
        return False


async def test_credit_is_given_for_what_was_passed_on_only(ends: Ends) -> None:
    _platform, guest = ends
    stream, fd = await open_pipe(ends)
    guest.mux.send(stream, bytes(WINDOW_BYTES))
    await guest.send()
    await guest.say(event="after it")
    await eventually(lambda: len(ends[0].messages) == 1)
    await asyncio.sleep(0)
    ends[0].link.tell({"event": "before credit"})
    await guest.until(lambda: bool(guest.messages))
    assert guest.mux.credit(stream) == 0
    await read_pipe(fd, WINDOW_BYTES)
    await guest.until(lambda: guest.mux.credit(stream) >= WINDOW_BYTES // 2)


async def test_a_stream_that_nobody_reads_holds_up_no_other(ends: Ends) -> None:
    _platform, guest = ends
    full, _unread = await open_pipe(ends)
    guest.mux.send(full, bytes(WINDOW_BYTES))
    other, sock = await open_connection(ends)
    data = os.urandom(1_000_000)
    async with asyncio.TaskGroup() as group:
        group.create_task(guest.carry(other, data))
        received = group.create_task(receive(sock, len(data)))
    assert received.result() == data


async def test_what_nobody_reads_any_more_is_dropped_and_the_guest_may_go_on(ends: Ends) -> None:
    _platform, guest = ends
    stream, fd = await open_pipe(ends)
    guest.mux.send(stream, bytes(WINDOW_BYTES))
    await guest.send()
    await read_pipe(fd, 1_000)
    os.close(fd)
    await guest.carry(stream, bytes(3 * WINDOW_BYTES))
    guest.mux.end(stream)
    await guest.send()
    await eventually(lambda: not ends[0].link._all_carriers)


async def test_a_connection_is_carried_both_ways(ends: Ends) -> None:
    _platform, guest = ends
    stream, sock = await open_connection(ends)
    await guest.carry(stream, b"GET")
    assert await receive(sock, 3) == b"GET"
    sock.send(b"200")
    await guest.until(lambda: guest.received[stream] == b"200")


async def test_a_connection_is_closed_one_way_at_a_time(ends: Ends) -> None:
    platform, guest = ends
    stream, sock = await open_connection(ends)
    guest.mux.end(stream)
    await guest.send()
    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.get_running_loop().sock_recv(sock, 1) == b""
    sock.send(b"late")
    await guest.until(lambda: guest.received[stream] == b"late")
    assert stream not in guest.ended
    sock.shutdown(socket.SHUT_WR)
    await guest.until(lambda: stream in guest.ended)
    await eventually(lambda: not platform.link._all_carriers)


async def test_a_stream_that_is_reset_closes_its_connection(ends: Ends) -> None:
    _platform, guest = ends
    stream, sock = await open_connection(ends)
    guest.mux.reset(stream)
    await guest.send()
    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.get_running_loop().sock_recv(sock, 1) == b""
    assert not ends[0].link._all_carriers


async def test_a_connection_that_is_closed_resets_its_stream(ends: Ends) -> None:
    _platform, guest = ends
    stream, sock = await open_connection(ends)
    sock.close()
    await guest.until(lambda: stream in guest.ended)
    guest.mux.send(stream, b"nobody takes it")
    await guest.send()
    await guest.until(lambda: stream in guest.reset)


async def test_a_stream_that_nobody_wants_is_reset(ends: Ends) -> None:
    _platform, guest = ends
    stream = await guest.open()
    await guest.until(lambda: stream in guest.reset)


async def test_the_platform_opens_streams_of_its_own(ends: Ends) -> None:
    platform, guest = ends
    socks = []

    def carry(number: int) -> Carrier:
        carrier, sock = platform.connection(number)
        socks.append(sock)
        return carrier

    stream = platform.link.open_stream({"for": "connect"}, carry)
    await guest.until(lambda: guest.opened == [(stream, {"for": "connect"})])
    socks[0].send(b"asked")
    await guest.until(lambda: guest.received[stream] == b"asked")


async def test_data_waits_for_a_guest_that_gives_no_credit(ends: Ends) -> None:
    _platform, guest = ends
    stream, sock = await open_connection(ends)
    data = os.urandom(WINDOW_BYTES * 2)
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(sock, data))
    await guest.until(lambda: len(guest.received[stream]) == WINDOW_BYTES)
    await guest.say(event="still there")
    await eventually(lambda: bool(ends[0].messages))
    assert len(guest.received[stream]) == WINDOW_BYTES
    taken = guest.take(stream, WINDOW_BYTES)
    await guest.send()
    await guest.until(lambda: len(guest.received[stream]) == WINDOW_BYTES)
    assert taken + guest.received[stream] == data
    await sending


async def test_more_than_a_socket_takes_at_once_arrives_whole(ends: Ends) -> None:
    platform, guest = ends
    texts = [str(number) * 100_000 for number in range(30)]
    for text in texts:
        platform.link.tell({"text": text})
    await guest.until(lambda: len(guest.messages) == len(texts))
    assert [message["text"] for message in guest.messages] == texts


async def test_a_guest_that_reads_nothing_is_cut_off(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest_link, "UNSENT_MAX_BYTES", 1_000_000)
    platform, _guest = ends
    for _ in range(100):
        if platform.endings:
            break
        platform.link.tell({"text": "x" * 100_000})
        await asyncio.sleep(0)
    assert [error.message for error in platform.endings] == [
        "The guest does not read what it is sent."
    ]
    with pytest.raises(SandboxEnded):
        platform.link.tell({})


async def test_whoever_tells_the_guest_something_is_not_called_back_meanwhile(ends: Ends) -> None:
    platform, guest = ends
    guest.close()
    platform.link.tell({"text": "nobody hears it"})
    assert platform.endings == []
    await eventually(lambda: bool(platform.endings))


@pytest.mark.parametrize(
    "data",
    [
        frame(multiplex.MESSAGE, 0, b"nonsense"),
        frame(multiplex.MESSAGE, 0, b"[1]"),
        frame(multiplex.MESSAGE, 0, b"[" * 100_000),
        frame(multiplex.MESSAGE, 0, b"\xff\xff"),
        frame(multiplex.OPEN, 2, b"{}"),
        frame(multiplex.OPEN, 0, b"{}"),
        frame(multiplex.OPEN, 1, b"{"),
        frame(multiplex.DATA, 1, b"on none"),
        frame(multiplex.END, 1),
        frame(multiplex.OPEN, 1, b"{}") * 2,
        frame(multiplex.OPEN, 1, b"{}") + frame(multiplex.CREDIT, 1, b"12345"),
        frame(multiplex.OPEN, 1, b"{}") + frame(multiplex.CREDIT, 1, b"\xff\xff\xff\xff"),
        frame(multiplex.OPEN, 1, b"{}") + frame(99, 1),
        frame(99, 0),
        b"\xff" * 7,
        b"".join(frame(multiplex.OPEN, 2 * number + 1, b"{}") for number in range(5_000)),
    ],
    ids=lambda data: repr(data[:24]),
)
async def test_a_guest_that_breaks_the_protocol_is_cut_off(ends: Ends, data: bytes) -> None:
    platform, guest = ends
    kept, sock = await open_connection(ends)
    guest.mux.reset(kept)
    await guest.send()  # its number is free again
    with contextlib.suppress(ConnectionError):
        await guest.send_raw(data)
    await guest.until_cut_off()
    (error,) = platform.endings
    assert isinstance(error, GuestFault)
    assert len(error.message) < 1_000
    sock.close()


@pytest.mark.parametrize(
    "error", [KeyError("x"), IndexError(), TypeError(), OverflowError(), AttributeError()]
)
async def test_what_a_message_makes_go_wrong_is_the_guests_fault(
    ends: Ends, error: Exception
) -> None:
    platform, guest = ends

    def fail(*_: object) -> None:
        raise error

    platform.carriers = fail
    await guest.open()
    await guest.until_cut_off()
    assert isinstance(platform.endings[0], GuestFault)


async def test_with_the_guest_all_connections_end_and_it_is_told_once(ends: Ends) -> None:
    platform, guest = ends
    _stream, sock = await open_connection(ends)
    _other, fd = await open_pipe(ends)
    guest.close()
    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.get_running_loop().sock_recv(sock, 1) == b""
    await eventually(lambda: _has_ended(fd))
    assert [type(error) for error in platform.endings] == [SandboxEnded]
    with pytest.raises(SandboxEnded):
        platform.link.tell({})
    with pytest.raises(SandboxEnded):
        platform.link.open_stream({}, lambda number: platform.pipe(number)[0])


async def test_a_link_that_is_closed_in_the_midst_leaves_nothing_and_tells_nothing(
    ends: Ends,
) -> None:
    platform, guest = ends
    stream, sock = await open_connection(ends)
    full, _fd = await open_pipe(ends)
    guest.mux.send(full, bytes(WINDOW_BYTES))
    guest.mux.send(stream, bytes(WINDOW_BYTES))
    await guest.send()
    with contextlib.suppress(BlockingIOError):
        sock.send(bytes(WINDOW_BYTES))
    platform.link.tell({"text": "x" * 900_000})
    platform.link.close()
    platform.link.close()
    await guest.until_cut_off()
    assert platform.endings == []


async def test_a_number_that_is_used_again_belongs_to_the_new_stream(ends: Ends) -> None:
    platform, guest = ends
    stream, unread = await open_pipe(ends)
    guest.mux.send(stream, bytes(WINDOW_BYTES))
    await guest.send()
    guest.mux.end(stream)
    await guest.send()
    await guest.until(lambda: stream in guest.ended)
    guest.mux = multiplex.Multiplexer(1)
    again, fd = await open_pipe(ends)
    assert again == stream
    assert await read_pipe(unread, WINDOW_BYTES) == bytes(WINDOW_BYTES)
    await eventually(lambda: _has_ended(unread))
    data = os.urandom(2 * WINDOW_BYTES)
    async with asyncio.TaskGroup() as group:
        group.create_task(guest.carry(again, data))
        received = group.create_task(read_pipe(fd, len(data)))
    assert received.result() == data
    assert len(platform.link._all_carriers) == 1


async def test_a_guest_cannot_hide_carriers_by_using_their_numbers_again(ends: Ends) -> None:
    platform, guest = ends
    _stream, unread = await open_pipe(ends)
    for _ in range(3):
        guest.mux.send(_stream, bytes(WINDOW_BYTES))
        guest.mux.reset(_stream)
        await guest.send()
        guest.mux = multiplex.Multiplexer(1)
        _stream, _fd = await open_pipe(ends)
    platform.link.close()
    await read_pipe(unread, 1)  # and the fixture sees that all is closed


async def test_a_guest_at_rest_is_told_nothing_and_its_end_is_no_news(ends: Ends) -> None:
    platform, guest = ends
    _stream, sock = await open_connection(ends)
    platform.link.fall_silent()
    guest.close()
    sock.send(b"an answer that comes late")
    for _ in range(10):
        await asyncio.sleep(0)
    sock.close()
    await asyncio.sleep(0.01)
    platform.link.tell({"event": "unheard"})
    await asyncio.sleep(0.01)
    assert platform.endings == []


chunks = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 120_000)), min_size=1, max_size=25)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chunks=chunks)
def test_however_streams_are_interleaved_their_bytes_arrive_unchanged(
    chunks: list[tuple[int, int]],
) -> None:
    asyncio.run(_interleave(chunks))


async def _interleave(chunks: list[tuple[int, int]]) -> None:
    """Four connections; the guest sends the chunks, and each connection sends the same back."""
    async with linked() as ends:
        _platform, guest = ends
        opened = [await open_connection(ends) for _ in range(4)]
        sent = [bytearray() for _ in opened]

        async def echo(sock: socket.socket) -> None:
            loop = asyncio.get_running_loop()
            while data := await loop.sock_recv(sock, 50_000):
                await loop.sock_sendall(sock, data)
            sock.shutdown(socket.SHUT_WR)

        back = [bytearray() for _ in opened]

        def take_all() -> bool:
            for number, (stream, _) in enumerate(opened):
                back[number] += guest.take(stream, 1 << 30)
            return True

        async with asyncio.TaskGroup() as group:
            for _stream, sock in opened:
                group.create_task(echo(sock))
            for number, size in chunks:
                stream = opened[number][0]
                data = os.urandom(size)
                sent[number] += data
                view = memoryview(data)
                while view:
                    await guest.until(lambda s=stream: take_all() and guest.mux.credit(s) > 0)
                    count = min(guest.mux.credit(stream), len(view))
                    guest.mux.send(stream, bytes(view[:count]))
                    view = view[count:]
                    await guest.send()
            for stream, _ in opened:
                guest.mux.end(stream)
            await guest.send()
            await guest.until(
                lambda: take_all() and all(stream in guest.ended for stream, _ in opened)
            )
        take_all()
        assert back == sent
