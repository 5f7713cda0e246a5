"""Calls and notes between two ends of a socket pair, in one event loop."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from firelet.model.errors import (
    FireletError,
    FunctionError,
    InvalidParameterValue,
    InvalidRuntime,
    PlatformError,
    Unavailable,
)
from firelet.wire.rpc import CONGESTED_BYTES, Codec, Message, Peer, PeerLost, Undelivered, make_pair
from firelet.wire.rpc_frames import INLINE_MAX_BYTES


class Ask(Message, frozen=True):
    text: str


class Told(Message, frozen=True):
    text: str


class Other(Message, frozen=True):
    pass


CODEC = Codec(Ask | Told | Other)


class Echo:
    """Answers with what it was asked; what it does instead is up to the test."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None
        self.cancelled = asyncio.Event()
        self.asked = asyncio.Event()
        self.noted = asyncio.Event()

    async def answer(self, message: Message, payload: bytes) -> tuple[Message, bytes]:
        assert isinstance(message, Ask)
        self.heard.append(message.text)
        self.asked.set()
        try:
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.error is not None:
            raise self.error
        return Told(message.text), payload

    def note(self, message: Message) -> None:
        assert isinstance(message, Told)
        self.heard.append(message.text)
        self.noted.set()


class Ends:
    """Both ends of a conversation."""

    def __init__(self) -> None:
        near, far = make_pair()
        self.sockets = (near, far)
        self.near, self.far = Peer(near, CODEC), Peer(far, CODEC)
        self.near_service, self.service = Echo(), Echo()
        self.losses: list[str] = []
        self.lost = asyncio.Event()
        self.near.open(self.near_service, self._on_lost("near"))
        self.far.open(self.service, self._on_lost("far"))

    def _on_lost(self, end: str) -> Callable[[], None]:
        def on_lost() -> None:
            self.losses.append(end)
            self.lost.set()

        return on_lost


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    descriptors = set(os.listdir("/proc/self/fd"))
    ends = Ends()
    yield ends
    ends.near.close()
    ends.far.close()
    assert set(os.listdir("/proc/self/fd")) == descriptors


async def test_a_call_is_answered(ends: Ends) -> None:
    answer, payload = await ends.near.call_for_payload(Ask("who"), Told, b"event")
    assert (answer, payload) == (Told("who"), b"event")


async def test_either_side_may_call(ends: Ends) -> None:
    answers = await asyncio.gather(
        ends.near.call(Ask("far"), Told), ends.far.call(Ask("near"), Told)
    )
    assert answers == [Told("far"), Told("near")]


@pytest.mark.parametrize("size", [0, 1, INLINE_MAX_BYTES, INLINE_MAX_BYTES + 1, 6 * 1024 * 1024])
async def test_payloads_of_any_size_come_back_as_they_were(ends: Ends, size: int) -> None:
    sent = os.urandom(size)
    _, payload = await ends.near.call_for_payload(Ask(""), Told, sent)
    assert payload == sent


async def test_calls_are_answered_in_any_order(ends: Ends) -> None:
    ends.service.gate = asyncio.Event()
    slow = asyncio.create_task(ends.near.call(Ask("slow"), Told))
    await ends.service.asked.wait()
    ends.service.gate, gate = None, ends.service.gate
    assert await ends.near.call(Ask("quick"), Told) == Told("quick")
    assert not slow.done()
    gate.set()
    assert await slow == Told("slow")


async def test_many_calls_at_once(ends: Ends) -> None:
    sizes = [0, 100_000, INLINE_MAX_BYTES + 1] * 40
    answers = await asyncio.gather(
        *(
            ends.near.call_for_payload(Ask(str(number)), Told, b"x" * size)
            for number, size in enumerate(sizes)
        )
    )
    assert [(answer.text, len(payload)) for answer, payload in answers] == [
        (str(number), size) for number, size in enumerate(sizes)
    ]


async def test_what_was_told_before_a_call_is_heard_before_it(ends: Ends) -> None:
    for number in range(3):
        ends.near.tell(Told(str(number)))
    await ends.near.call(Ask("call"), Told)
    assert ends.service.heard == ["0", "1", "2", "call"]


@pytest.mark.parametrize(
    "error",
    [
        InvalidRuntime("there is none", fields={"Reason": "why"}),
        InvalidParameterValue("bad"),
        Unavailable("later", headers={"Retry-After": "1"}),
        PlatformError("broken", code="Special", status=599),
    ],
)
async def test_an_error_arrives_as_what_it_was(ends: Ends, error: FireletError) -> None:
    ends.service.error = error
    with pytest.raises(FireletError) as caught:
        await ends.near.call(Ask(""), Told)
    got = caught.value
    assert type(got) is type(error)
    assert (got.message, got.code, got.status) == (error.message, error.code, error.status)
    assert (got.fields, got.headers) == (error.fields, error.headers)


async def test_a_function_error_brings_its_payload(ends: Ends) -> None:
    ends.service.error = FunctionError("Runtime.ExitError", b'{"errorType":"x"}')
    with pytest.raises(FunctionError) as caught:
        await ends.near.call(Ask(""), Told)
    assert (caught.value.error_type, caught.value.payload) == (
        "Runtime.ExitError",
        b'{"errorType":"x"}',
    )


async def test_an_unforeseen_error_stays_over_there(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    ends.service.error = ZeroDivisionError("secret")
    with pytest.raises(PlatformError, match="A worker process failed") as caught:
        await ends.near.call(Ask(""), Told)
    assert "secret" not in caught.value.message
    assert "ZeroDivisionError" in caplog.text


async def test_an_answer_of_another_kind_is_an_error(ends: Ends) -> None:
    with pytest.raises(PlatformError, match="answered with Told"):
        await ends.near.call(Ask(""), Other)


async def test_a_cancelled_call_is_cancelled_over_there(ends: Ends) -> None:
    ends.service.gate = asyncio.Event()
    calling = asyncio.create_task(ends.near.call(Ask("long"), Told))
    await ends.service.asked.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await ends.service.cancelled.wait()
    ends.service.gate = None
    assert await ends.near.call(Ask("next"), Told) == Told("next")


async def test_calls_fail_when_the_peer_ends(ends: Ends) -> None:
    ends.service.gate = asyncio.Event()
    calling = asyncio.create_task(ends.near.call(Ask("long"), Told))
    await ends.service.asked.wait()
    ends.far.close()
    with pytest.raises(PeerLost) as caught:
        await calling
    assert not isinstance(caught.value, Undelivered)
    await ends.lost.wait()
    assert ends.losses == ["near"]
    with pytest.raises(Undelivered):
        await ends.near.call(Ask("late"), Told)
    ends.near.tell(Told("late"))


@pytest.mark.parametrize("size", [0, INLINE_MAX_BYTES + 1])
async def test_a_call_to_a_peer_that_has_ended_unseen_was_not_delivered(
    ends: Ends, size: int
) -> None:
    ends.sockets[1].shutdown(socket.SHUT_RDWR)
    with pytest.raises(Undelivered):
        await ends.near.call_for_payload(Ask("late"), Told, b"x" * size)
    assert ends.service.heard == []


async def test_what_is_being_answered_is_cancelled_when_the_caller_ends(ends: Ends) -> None:
    ends.service.gate = asyncio.Event()
    calling = asyncio.create_task(ends.near.call(Ask("long"), Told))
    await ends.service.asked.wait()
    ends.near.close()
    with pytest.raises(PeerLost):
        await calling
    await ends.service.cancelled.wait()
    await ends.lost.wait()
    assert ends.losses == ["far"]


async def test_a_peer_that_breaks_the_protocol_is_lost(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    ends.sockets[0].send(b"GET / HTTP/1.1\r\n\r\n--------------------")
    await ends.lost.wait()
    assert "far" in ends.losses
    assert "broken off" in caplog.text


async def test_calls_wait_while_the_peer_does_not_read() -> None:
    near, far = make_pair()
    peer = Peer(near, CODEC)
    peer.open(Echo(), lambda: None)
    text = "x" * 100_000
    while not peer.is_congested:
        peer.tell(Told(text))
        await asyncio.sleep(0)
    calling = asyncio.create_task(peer.call(Ask("last"), Told))
    await asyncio.sleep(0)
    far.setblocking(False)
    received = await _read_until_quiet(far)
    assert received > CONGESTED_BYTES
    assert not peer.is_congested
    calling.cancel()
    peer.close()
    far.close()


@pytest.mark.parametrize("is_read", [True, False])
async def test_room_is_there_when_the_peer_has_read_or_is_gone(is_read: bool) -> None:
    near, far = make_pair()
    peer = Peer(near, CODEC)
    peer.open(Echo(), lambda: None)
    assert peer.room().done()
    while not peer.is_congested:
        peer.tell(Told("x" * 60_000))
        await asyncio.sleep(0)
    room = peer.room()
    await asyncio.sleep(0)
    assert not room.done()
    if is_read:
        far.setblocking(False)
        await _read_until_quiet(far)
    else:
        peer.close()
    assert room.done()
    peer.close()
    far.close()


async def _read_until_quiet(sock: socket.socket) -> int:
    """Takes what comes until the sender has had its turns and there is no more."""
    received = idle = 0
    while idle < 20:
        try:
            received += len(sock.recv(1 << 20))
            idle = 0
        except BlockingIOError:
            idle += 1
        await asyncio.sleep(0)
    return received


async def test_flush_returns_when_all_is_sent(ends: Ends) -> None:
    for _ in range(30):
        ends.near.tell(Told("x" * 100_000))
    await ends.near.flush()
    ends.near.close()
    await ends.lost.wait()
    assert len(ends.service.heard) == 30
