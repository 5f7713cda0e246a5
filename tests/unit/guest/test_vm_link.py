"""The guest's end of the link against the platform's, over a socket pair in the port's place."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import select
import socket
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any, TypeVar, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firelet.guest.vm_link import Link, Loop, Relay
from firelet.guest.vm_port import SerialPort
from firelet.guest.vm_sandbox import Sandbox
from firelet.linux.multiplex import WINDOW_BYTES
from firelet.model.errors import PlatformError
from firelet.sandbox.microvm.guest_link import Carrier, GuestLink, PipeCarrier, SocketCarrier
from guest_ends import PATIENCE_S

pytestmark = pytest.mark.usefixtures("nothing_leaks")

T = TypeVar("T")


class Guest(threading.Thread):
    """Runs the loop of a guest that rests, awakens and reopens when it is told to, and keeps the
    relays of what the platform opens. Other things are done in it by ``call``."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(daemon=True)
        self.opened: list[int] = []
        self.relays: list[Relay] = []
        self._socket = sock
        self.fd = sock.fileno()
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._woken, self._wake = os.pipe()
        self.loop = Loop()
        self.link = Link(self.loop, cast(SerialPort, self), self._obey, self._open)
        self.loop.watch(self._woken, select.EPOLLIN, self._carry_out)

    def renew(self) -> None:
        raise EOFError

    async def call(self, work: Callable[[Guest], T]) -> T:
        future: Future[T] = Future()

        def do() -> None:
            try:
                future.set_result(work(self))
            except Exception as error:
                future.set_exception(error)

        self._calls.put(do)
        os.write(self._wake, b"x")
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.wrap_future(future)

    def run(self) -> None:
        with contextlib.suppress(ConnectionError, EOFError):
            while not self.link.is_over:
                self.loop.turn()
        for relay in self.relays:
            with contextlib.suppress(OSError):
                relay.close()
        self.loop._poll.close()
        for fd in (self._woken, self._wake):
            os.close(fd)
        self._socket.close()

    def relay(self, relay: Relay, stream: int | None = None) -> Relay:
        self.relays.append(relay)
        self.link.relay(relay, stream)
        return relay

    def _carry_out(self, _events: int) -> None:
        os.read(self._woken, 1)
        self._calls.get()()

    def _obey(self, message: dict[str, Any]) -> None:
        if message["do"] == "rest":
            self.link.rest()
        elif message["do"] == "awaken":
            self.link.tell(event="awake")
        elif message["do"] == "reopen":
            self.link.reopen()

    def _open(self, stream: int, _purpose: dict[str, Any]) -> None:
        self.opened.append(stream)


class Platform:
    """The other end, which may be made anew: what carries streams, and what they are carried to."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.news: list[str] = []
        self.messages: list[dict[str, Any]] = []
        self.endings: list[PlatformError] = []
        self.pipes: dict[str, int] = {}
        self.connections: list[socket.socket] = []
        self.begin()

    def begin(self) -> None:
        self.link = GuestLink(
            self._socket.dup(), self._on_message, self._on_open, self.endings.append
        )

    def begin_anew(self) -> None:
        """As for a clone: all that was connected before is gone."""
        self.close()
        self.begin()
        self.link.tell({"do": "awaken"})

    def connection(self, stream: int) -> SocketCarrier:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.connections.append(ours)
        return SocketCarrier(self.link, stream, theirs)

    def close(self) -> None:
        self.link.close()
        for fd in self.pipes.values():
            os.close(fd)
        for sock in self.connections:
            sock.close()
        self.pipes.clear()
        self.connections.clear()

    def _on_message(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        self.news.append(message["event"])

    def _on_open(self, stream: int, purpose: dict[str, Any]) -> Carrier | None:
        self.news.append(purpose["for"])
        if purpose["for"] == "api":
            return self.connection(stream)
        ours, theirs = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.pipes[purpose["for"]] = ours
        return PipeCarrier(self.link, stream, theirs)


Ends = tuple[Platform, Guest]


@contextlib.asynccontextmanager
async def linked() -> AsyncIterator[Ends]:
    one, other = socket.socketpair()
    guest = Guest(other)
    platform = Platform(one)
    guest.start()
    try:
        yield platform, guest
    finally:
        platform.close()
        one.shutdown(socket.SHUT_RDWR)
        one.close()
        guest.join(PATIENCE_S)
        assert not guest.is_alive()


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
                piece = os.read(fd, count - len(data))
            except BlockingIOError:
                await asyncio.sleep(0.001)
                continue
            if not piece:
                break
            data += piece
    return data


async def receive(sock: socket.socket, count: int) -> bytes:
    """So many bytes, or what there is until the end."""
    data = b""
    async with asyncio.timeout(PATIENCE_S):
        while len(data) < count:
            piece = await asyncio.get_running_loop().sock_recv(sock, count - len(data))
            if not piece:
                break
            data += piece
    return data


async def send(sock: socket.socket, data: bytes) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.get_running_loop().sock_sendall(sock, data)


async def make_pipe(ends: Ends, kind: str = "output", *, is_kept: bool = True) -> tuple[int, Relay]:
    """The write end of a pipe of the guest that is carried, and what carries it."""
    platform, guest = ends
    ours, theirs = os.pipe()
    relay = await guest.call(lambda g: g.relay(Relay(ours, {"for": kind}, is_kept=is_kept)))
    await eventually(lambda: kind in platform.pipes)
    return theirs, relay


async def make_connection(ends: Ends) -> tuple[socket.socket, socket.socket]:
    """A connection to the Runtime API: a function's end of it, and the platform's."""
    platform, guest = ends
    count = len(platform.connections)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    await guest.call(lambda g: g.relay(Relay(ours.detach(), {"for": "api"}, is_kept=True)))
    await eventually(lambda: len(platform.connections) > count)
    return theirs, platform.connections[-1]


async def rest(ends: Ends) -> None:
    ends[0].link.tell({"do": "rest"})
    ends[0].link.say_no_more()
    await eventually(lambda: {"event": "resting"} in ends[0].messages)


async def test_what_is_written_to_a_pipe_arrives_and_so_does_its_end(ends: Ends) -> None:
    platform, _guest = ends
    fd, _relay = await make_pipe(ends)
    os.write(fd, b"printed")
    assert await read_pipe(platform.pipes["output"], 7) == b"printed"
    os.close(fd)
    assert await read_pipe(platform.pipes["output"], 1) == b""


async def test_a_pipe_that_nobody_reads_stops_its_writer_and_nothing_else(ends: Ends) -> None:
    platform, _guest = ends
    fd, _relay = await make_pipe(ends)
    os.set_blocking(fd, False)
    written = 0
    unchanged = 0
    while unchanged < 20:
        try:
            written += os.write(fd, bytes(65_536))
            unchanged = 0
        except BlockingIOError:
            unchanged += 1
            await asyncio.sleep(0.005)
    assert written <= 2 * WINDOW_BYTES + 4 * 65_536
    theirs, api = await make_connection(ends)
    with theirs:
        data = os.urandom(1_000_000)
        _, received = await asyncio.gather(send(theirs, data), receive(api, len(data)))
        assert received == data
    assert len(await read_pipe(platform.pipes["output"], written)) == written
    os.close(fd)


async def test_a_connection_is_relayed_both_ways_whatever_its_size(ends: Ends) -> None:
    theirs, api = await make_connection(ends)
    data = os.urandom(3_000_000)
    with theirs:
        async with asyncio.TaskGroup() as group:
            for source in (theirs, api):
                group.create_task(send(source, data))
            received = [group.create_task(receive(sock, len(data))) for sock in (theirs, api)]
        assert [task.result() for task in received] == [data, data]


async def test_a_connection_ends_one_way_at_a_time(ends: Ends) -> None:
    theirs, api = await make_connection(ends)
    with theirs:
        await send(theirs, b"GET")
        theirs.shutdown(socket.SHUT_WR)
        assert await receive(api, 10) == b"GET"
        await send(api, b"200")
        api.shutdown(socket.SHUT_WR)
        assert await receive(theirs, 10) == b"200"
    await eventually(lambda: not ends[1].link._relays)


async def test_a_connection_that_the_platform_drops_is_closed(ends: Ends) -> None:
    platform, guest = ends
    theirs, api = await make_connection(ends)
    with theirs:
        api.close()
        assert await receive(theirs, 1) == b""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await send(theirs, b"nobody reads it")
        await eventually(lambda: not guest.link._relays)
    assert platform.endings == []


async def test_a_connection_that_the_function_drops_is_closed(ends: Ends) -> None:
    platform, guest = ends
    theirs, api = await make_connection(ends)
    theirs.close()
    assert await receive(api, 1) == b""
    await send(api, b"nobody reads it")
    await eventually(lambda: not guest.link._relays)
    assert platform.endings == []


async def test_the_platform_connects_to_what_listens_in_the_guest(ends: Ends) -> None:
    platform, guest = ends
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = platform.link.open_stream({"for": "connect"}, platform.connection)
        await eventually(lambda: guest.opened == [stream])
        inner = socket.create_connection(server.getsockname())
        await guest.call(lambda g: g.relay(Relay(inner.detach(), {"for": "connect"}), stream))
        accepted, _ = server.accept()
    accepted.setblocking(False)
    with accepted:
        await send(platform.connections[0], b"there")
        assert await receive(accepted, 5) == b"there"
        await send(accepted, b"back")
        assert await receive(platform.connections[0], 4) == b"back"


async def test_what_was_written_before_a_message_is_told_before_it(ends: Ends) -> None:
    platform, guest = ends
    fd, relay = await make_pipe(ends)
    read: list[int] = []
    tell = platform._on_message

    def look_first(message: dict[str, Any]) -> None:
        read.append(len(os.read(platform.pipes["output"], 1 << 20)))
        tell(message)

    platform.link._on_message = look_first

    def write_and_tell(guest: Guest) -> None:
        os.write(fd, bytes(60_000))
        relay.drain()
        guest.link.tell(event="ended")

    await guest.call(write_and_tell)
    await eventually(lambda: bool(platform.messages))
    assert read == [60_000]
    os.close(fd)


async def test_what_is_to_be_told_before_data_is(ends: Ends) -> None:
    platform, guest = ends
    ours, theirs = socket.socketpair()

    def make(guest: Guest) -> None:
        relay = Relay(
            ours.detach(),
            {"for": "api"},
            before_data=lambda: guest.link.mux.message({"event": "first"}),
        )
        guest.relay(relay)

    await guest.call(make)
    with theirs:
        theirs.send(b"GET")
        await eventually(lambda: bool(platform.connections))
        await receive(platform.connections[0], 3)
        assert platform.news == ["api", "first"]


# Rest.


async def test_a_request_that_waits_for_its_answer_is_sent_once_more_after_a_rest(
    ends: Ends,
) -> None:
    platform, _guest = ends
    theirs, api = await make_connection(ends)
    with theirs:
        await send(theirs, b"GET /next")
        assert await receive(api, 9) == b"GET /next"
        await rest(ends)
        platform.begin_anew()
        await eventually(lambda: platform.news[-1] == "awake")
        assert platform.connections == []  # not before the platform is ready for it
        platform.link.tell({"do": "reopen"})
        await eventually(lambda: len(platform.connections) == 1)
        assert await receive(platform.connections[0], 9) == b"GET /next"
        await send(platform.connections[0], b"200 an event")
        assert await receive(theirs, 12) == b"200 an event"
        await send(theirs, b"POST")
        assert await receive(platform.connections[0], 4) == b"POST"


async def test_a_request_that_was_answered_is_not_sent_again(ends: Ends) -> None:
    platform, _guest = ends
    theirs, api = await make_connection(ends)
    with theirs:
        await send(theirs, b"POST /response")
        await receive(api, 14)
        await send(api, b"202")
        assert await receive(theirs, 3) == b"202"
        await rest(ends)
        platform.begin_anew()
        platform.link.tell({"do": "reopen"})
        await eventually(lambda: len(platform.connections) == 1)
        await send(theirs, b"GET /next")
        assert await receive(platform.connections[0], 9) == b"GET /next"


async def test_a_request_that_is_too_long_to_be_kept_is_lost_and_its_maker_sees_it(
    ends: Ends,
) -> None:
    """What was noted of it was sent again, which made no request."""
    platform, _guest = ends
    theirs, api = await make_connection(ends)
    with theirs:
        await send(theirs, bytes(100_000))
        await receive(api, 100_000)
        await send(api, b"202")
        assert await receive(theirs, 3) == b"202"
        await send(theirs, bytes(100_000))
        await receive(api, 100_000)
        await rest(ends)
        platform.begin_anew()
        platform.link.tell({"do": "reopen"})
        with contextlib.suppress(ConnectionResetError):
            assert await receive(theirs, 1) == b""
        assert platform.connections == []


async def test_a_long_request_that_was_answered_costs_no_connection(ends: Ends) -> None:
    platform, _guest = ends
    theirs, api = await make_connection(ends)
    with theirs:
        await send(theirs, bytes(100_000))
        await receive(api, 100_000)
        await send(api, b"202")
        assert await receive(theirs, 3) == b"202"
        await send(theirs, b"GET /next")
        await receive(api, 9)
        await rest(ends)
        platform.begin_anew()
        platform.link.tell({"do": "reopen"})
        await eventually(lambda: len(platform.connections) == 1)
        assert await receive(platform.connections[0], 9) == b"GET /next"


async def test_each_clone_of_one_rest_sends_it(ends: Ends) -> None:
    platform, _guest = ends
    theirs, _api = await make_connection(ends)
    with theirs:
        await send(theirs, b"GET /next")
        for _ in range(3):
            platform.messages.clear()
            await rest(ends)
            platform.begin_anew()
            platform.link.tell({"do": "reopen"})
            await eventually(lambda: len(platform.connections) == 1)
            assert await receive(platform.connections[0], 9) == b"GET /next"


async def test_pipes_go_on_after_a_rest_and_what_is_not_kept_is_closed(ends: Ends) -> None:
    platform, guest = ends
    output, _relay = await make_pipe(ends)
    log, _relay = await make_pipe(ends, "log")
    extension, _relay = await make_pipe(ends, "extension", is_kept=False)
    os.write(output, b"before")
    await read_pipe(platform.pipes["output"], 6)
    await rest(ends)
    os.write(output, b"meanwhile")
    platform.begin_anew()
    await eventually(lambda: set(platform.pipes) == {"output", "log"})
    assert await read_pipe(platform.pipes["output"], 9) == b"meanwhile"
    os.write(log, b"record")
    assert await read_pipe(platform.pipes["log"], 6) == b"record"
    with pytest.raises(BrokenPipeError):
        os.write(extension, b"x")
    for fd in (output, log, extension):
        os.close(fd)
    await eventually(lambda: not guest.link._relays)


async def test_what_waits_to_be_sent_again_has_no_part_in_streams_of_the_meantime(
    ends: Ends,
) -> None:
    """A connection that was held kept its number, which the next one was given: what it read went
    there."""
    platform, _guest = ends
    held, api = await make_connection(ends)
    with held:
        await send(held, b"GET /next")
        await receive(api, 9)
        await rest(ends)
        platform.begin_anew()
        await eventually(lambda: platform.news[-1] == "awake")
        other, other_api = await make_connection(ends)
        with other:
            await send(held, b" and more")
            await send(other, b"POST /error")
            assert await receive(other_api, 11) == b"POST /error"
            platform.link.tell({"do": "reopen"})
            await eventually(lambda: len(platform.connections) == 2)
            assert await receive(platform.connections[1], 18) == b"GET /next and more"
            await send(other_api, b"202")
            assert await receive(other, 3) == b"202"


async def test_a_function_that_closes_its_connection_meanwhile_is_heard_of(ends: Ends) -> None:
    platform, guest = ends
    theirs, api = await make_connection(ends)
    await send(theirs, b"GET /next")
    await receive(api, 9)
    await rest(ends)
    theirs.close()
    platform.begin_anew()
    platform.link.tell({"do": "reopen"})
    await eventually(lambda: len(platform.connections) == 1)
    assert await receive(platform.connections[0], 100) == b"GET /next"
    platform.connections[0].close()
    await eventually(lambda: not guest.link._relays)


async def test_a_connection_that_breaks_while_it_is_held_is_not_opened_again(ends: Ends) -> None:
    platform, guest = ends
    theirs, api = await make_connection(ends)
    os.set_blocking(theirs.fileno(), False)
    await send(theirs, b"GET /next")
    await receive(api, 9)
    await send(api, bytes(WINDOW_BYTES))  # more than the connection takes: some of it waits
    while not await guest.call(lambda g: bool(g.relays[0]._waiting)):
        continue
    await rest(ends)
    platform.begin_anew()
    await eventually(lambda: platform.news[-1] == "awake")
    theirs.close()
    await eventually(lambda: not guest.link._held)
    platform.link.tell({"do": "reopen"})
    theirs, api = await make_connection(ends)
    assert len(platform.connections) == 1
    theirs.close()


async def test_the_end_of_the_port_is_the_end(ends: Ends) -> None:
    _platform, guest = ends
    await guest.call(lambda g: g._socket.shutdown(socket.SHUT_RDWR))
    guest.join(PATIENCE_S)
    assert not guest.is_alive()


async def test_a_stream_that_was_given_up_is_connected_to_nothing(ends: Ends) -> None:
    """What ``vm_sandbox`` does when it gets its socket too late."""
    platform, guest = ends
    sandbox = Sandbox.__new__(Sandbox)
    sandbox._link = guest.link
    sandbox._connecting = {}
    sandbox._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stream = platform.link.open_stream({"for": "connect"}, platform.connection)
    await eventually(lambda: guest.opened == [stream])
    await guest.call(lambda _guest: sandbox.connect(stream, 1))
    platform.link.give_up(stream)
    await eventually(lambda: not guest.link.mux.credit(stream))
    fresh = socket.socket()
    fd = fresh.detach()
    await guest.call(lambda _guest: sandbox._connecting.pop(stream)([fd]))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert platform.messages == []
    sandbox._channel.close()
    theirs.close()


chunks = st.lists(
    st.tuples(st.integers(0, 2), st.booleans(), st.integers(1, 100_000)), min_size=1, max_size=20
)


@settings(max_examples=10, deadline=None)
@given(chunks=chunks)
def test_however_connections_are_interleaved_their_bytes_arrive_unchanged(
    chunks: list[tuple[int, bool, int]],
) -> None:
    asyncio.run(_interleave(chunks))


async def _interleave(chunks: list[tuple[int, bool, int]]) -> None:
    """Each chunk is sent on one of three connections, by the function or by the platform."""
    async with linked() as ends:
        pairs = [await make_connection(ends) for _ in range(3)]
        sent = {(number, end): bytearray() for number in range(3) for end in (False, True)}
        plan: dict[tuple[int, bool], list[bytes]] = {key: [] for key in sent}
        for number, end, size in chunks:
            data = os.urandom(size)
            sent[number, end] += data
            plan[number, end].append(data)

        async def send_all(key: tuple[int, bool]) -> None:
            sock = pairs[key[0]][key[1]]
            for data in plan[key]:
                await send(sock, data)
            sock.shutdown(socket.SHUT_WR)

        async with asyncio.TaskGroup() as group:
            for key in sent:
                group.create_task(send_all(key))
            received = {
                (number, end): group.create_task(receive(pairs[number][not end], 1 << 30))
                for number, end in sent
            }
        assert {key: task.result() for key, task in received.items()} == sent
        for theirs, _api in pairs:
            theirs.close()
