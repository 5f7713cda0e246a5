"""Telemetry to subscribers on real sockets: batches, bounds, and what is dropped."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.model import limits
from firelet.runtime.extensions import Refused
from firelet.runtime.telemetry import Telemetry
from firelet.runtime.telemetry_events import TelemetryEvent, encode
from firelet.runtime.telemetry_subscription import (
    Api,
    InvalidSubscription,
    Subscription,
    parse_subscription,
)

NOW_S = 1_795_417_200.123


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=5,
)
URIS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["http://", "https://", "http:", "//", ""]),
    st.sampled_from(["sandbox", "sandbox.localdomain", "SANDBOX", "127.0.0.1", "a@sandbox", "[::"]),
    st.sampled_from(["", ":80", ":9001", ":0", ":x", ":99999", ":-1", ":8080"]),
    st.text(max_size=8) | st.sampled_from(["/a?b#c", "/\r\nX: y", "?"]),
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "schemaVersion": st.sampled_from(["2022-12-13", "2020-08-15", "2021-03-18"]) | JSON,
        "types": st.lists(st.sampled_from(["platform", "function"])) | JSON,
        "buffering": st.fixed_dictionaries(
            {}, optional={n: JSON | st.integers(0, 400_000) for n in ("maxItems", "maxBytes")}
        )
        | JSON,
        "destination": st.fixed_dictionaries(
            {"protocol": st.sampled_from(["HTTP", "TCP"]) | JSON},
            optional={
                "URI": URIS | JSON,
                "port": st.integers(-1, 70_000) | JSON,
                "method": st.sampled_from(["POST", "PUT"]) | JSON,
                "encoding": JSON,
            },
        )
        | JSON,
    },
)


class Receiver:
    """A subscriber that behaves as ``answer`` says for each of its connections."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.heads: list[str] = []
        self.connections = 0
        self.status = 200
        self.takes = True

    async def open(self) -> Receiver:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def close(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.takes:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().partition("content-length: ")[2].split()[0])
                body = await reader.readexactly(length)
                self.heads.append(head)
                if self.status == 200:
                    self.batches.append(json.loads(body))
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % self.status)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


def body_for(port: int, **changes: Any) -> bytes:
    document = {
        "schemaVersion": "2022-12-13",
        "types": ["platform", "function", "extension"],
        "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25},
        "destination": {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{port}/here?x=1"},
        **changes,
    }
    return json.dumps(document).encode()


def subscription(port: int, **changes: Any) -> Subscription:
    return parse_subscription("ext", Api.TELEMETRY, body_for(port, **changes))


def line(text: str, kind: str = "function", **options: Any) -> TelemetryEvent:
    return TelemetryEvent(NOW_S, kind, text, **options)


async def connect(port: int) -> socket.socket:
    sock = socket.socket()
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = await Receiver().open()
    yield receiver
    await receiver.close()


@pytest.fixture
async def telemetry() -> AsyncIterator[Telemetry]:
    telemetry = Telemetry(connect, lambda _: None)
    telemetry.begin()
    yield telemetry
    await telemetry.close()


class TestDelivery:
    async def test_events_come_as_one_array_over_one_connection(
        self, telemetry: Telemetry, receiver: Receiver
    ) -> None:
        telemetry.subscribe(subscription(receiver.port))
        for number in range(3):
            telemetry.emit(line(str(number)))
        await until(lambda: receiver.batches)
        telemetry.emit(line("later"))
        await until(lambda: len(receiver.batches) == 2)
        assert receiver.connections == 1
        assert receiver.heads[0].startswith("POST /here?x=1 HTTP/1.1\r\nHost: sandbox.localdomain:")
        assert receiver.batches[0] == [
            {"time": "2026-11-23T07:00:00.123Z", "type": "function", "record": str(number)}
            for number in range(3)
        ]

    async def test_what_was_before_the_subscription_comes_too(
        self, telemetry: Telemetry, receiver: Receiver
    ) -> None:
        telemetry.emit(line("early"))
        telemetry.subscribe(subscription(receiver.port))
        await until(lambda: receiver.batches)
        assert receiver.batches[0][0]["record"] == "early"

    async def test_a_full_batch_does_not_wait(
        self, telemetry: Telemetry, receiver: Receiver
    ) -> None:
        slow = {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 30000}
        telemetry.subscribe(subscription(receiver.port, buffering=slow))
        for number in range(1000):
            telemetry.emit(line(str(number)))
        await until(lambda: receiver.batches)
        telemetry.emit(line("x" * 262_144))
        await until(lambda: len(receiver.batches) == 2)
        telemetry.emit(line("flushed"))
        await telemetry.drain(5.0)
        assert receiver.batches[2][0]["record"] == "flushed"
        assert not telemetry.is_pending

    async def test_a_connection_that_was_closed_is_made_again(
        self, telemetry: Telemetry, receiver: Receiver
    ) -> None:
        telemetry.subscribe(subscription(receiver.port))
        telemetry.emit(line("a"))
        await until(lambda: receiver.batches)
        receiver.takes = False
        telemetry.emit(line("b"))
        await until(lambda: len(receiver.batches) == 2)
        receiver.takes = True
        telemetry.emit(line("c"))
        await until(lambda: len(receiver.batches) == 3)

    async def test_a_subscriber_that_refuses_loses_it_and_is_told(
        self, telemetry: Telemetry, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "TELEMETRY_RETRY_S", 0.0)
        receiver.status = 500
        telemetry.subscribe(subscription(receiver.port))
        telemetry.emit(line("lost"))
        await until(lambda: len(receiver.heads) == limits.TELEMETRY_ATTEMPTS)
        await until(lambda: not telemetry.is_pending)
        receiver.status = 200
        telemetry.emit(line("found"))
        await until(lambda: len(receiver.batches) == 2)
        (dropped,) = receiver.batches[1]
        assert dropped["type"] == "platform.logsDropped"
        assert dropped["record"]["droppedRecords"] == 1
        assert dropped["record"]["droppedBytes"] > 0
        assert dropped["record"]["reason"].startswith("Consumer seems to have fallen behind")

    async def test_one_that_does_not_read_costs_bounded_memory(self, telemetry: Telemetry) -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            telemetry.subscribe(subscription(mute.getsockname()[1]))
            for _ in range(200):
                telemetry.emit(line("x" * 100_000))
                await asyncio.sleep(0)
            (subscriber,) = telemetry._subscribers
            most = limits.TELEMETRY_PENDING_BATCHES * subscriber.subscription.max_bytes
            assert 0 < subscriber._buffered_bytes <= most
            assert sum(map(len, subscriber._buffer)) == subscriber._buffered_bytes
            assert subscriber._dropped_items > 100

    async def test_while_paused_nothing_is_sent(
        self, telemetry: Telemetry, receiver: Receiver
    ) -> None:
        telemetry.subscribe(subscription(receiver.port))
        telemetry.pause()
        telemetry.emit(line("a"))
        await telemetry.drain(0.1)
        assert receiver.connections == 0
        telemetry.resume()
        await until(lambda: receiver.batches)


class TestHostileAnswers:
    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1_000_000,
            b"\0" * 1_000_000,
            b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n" + b"x" * 1_000_000,
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100_000,
            b"HTTP/1.1 200",
            b"",
        ],
    )
    async def test_each_delivery_ends(self, telemetry: Telemetry, answer: bytes) -> None:
        asked = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            await reader.readuntil(b"\r\n\r\n")
            asked += 1
            writer.write(answer)
            try:
                await writer.drain()
            except ConnectionError:
                return
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            telemetry.subscribe(subscription(server.sockets[0].getsockname()[1]))
            telemetry.emit(line("a"))
            await until(lambda: asked and not telemetry.is_pending)
        finally:
            server.close()


class TestSubscribe:
    async def test_it_is_for_init_only_and_once_for_each(self, telemetry: Telemetry) -> None:
        telemetry.subscribe(subscription(8080))
        with pytest.raises(InvalidSubscription):
            telemetry.subscribe(subscription(8080))
        telemetry.end_of_init()
        with pytest.raises(Refused) as caught:
            telemetry.subscribe(subscription(8080))
        assert caught.value.error_type == "Telemetry.SubscriptionClosed"

    def test_defaults(self) -> None:
        document = {
            "schemaVersion": "2025-01-29",
            "types": ["platform"],
            "destination": {"protocol": "TCP", "port": 8080},
        }
        found = parse_subscription("ext", Api.TELEMETRY, json.dumps(document).encode())
        assert (found.max_items, found.max_bytes, found.timeout_s) == (10_000, 262_144, 1.0)
        assert (found.destination.port, found.destination.path) == (8080, None)

    @given(st.binary(max_size=60) | st.from_regex(r'\{"[a-z]+":[0-9\[\]{}"a-z]+\}').map(str.encode))
    def test_no_body_breaks_it(self, body: bytes) -> None:
        with pytest.raises(InvalidSubscription):
            parse_subscription("ext", Api.TELEMETRY, body)

    @given(changes=DOCUMENTS, api=st.sampled_from(Api))
    def test_any_document_is_a_subscription_within_bounds_or_refused(
        self, changes: dict[str, Any], api: Api
    ) -> None:
        try:
            body = orjson.dumps(json.loads(body_for(8080)) | changes)
        except orjson.JSONEncodeError:
            return  # halves of characters, numbers above 64 bits: no extension can send them either
        try:
            found = parse_subscription("ext", api, body)
        except InvalidSubscription:
            return
        assert found.types
        assert 1_000 <= found.max_items <= 10_000
        assert 262_144 <= found.max_bytes <= 1_048_576
        assert 0.025 <= found.timeout_s <= 30
        assert 1 <= found.destination.port <= 65_535
        assert found.destination.port != limits.RUNTIME_API_PORT
        path = found.destination.path
        assert path is None or (path.isascii() and path.isprintable() and " " not in path)

    @pytest.mark.parametrize(
        "changes",
        [
            {"schemaVersion": None},
            {"types": []},
            {"types": "platform"},
            {"types": [["platform"]]},
            {"buffering": []},
            {"buffering": {"maxItems": True}},
            {"buffering": {"timeoutMs": 25.5}},
            {"destination": None},
            {"destination": {"protocol": "UDP", "port": 1}},
            {"destination": {"protocol": "TCP", "port": 9001}},
            {"destination": {"protocol": "TCP", "port": "80"}},
            {"destination": {"protocol": "HTTP", "URI": "https://sandbox.localdomain:1/"}},
            {"destination": {"protocol": "HTTP", "URI": "http://127.0.0.1:1/"}},
            {"destination": {"protocol": "HTTP", "URI": "http://sandbox:99999/"}},
            {"destination": {"protocol": "HTTP", "URI": "http://sandbox:1/a b"}},
            {"destination": {"protocol": "HTTP", "URI": "http://sandbox:1/\r\nX: y"}},
            {"destination": {"protocol": "HTTP", "URI": "http://sandbox:1/" + "x" * 2000}},
        ],
    )
    def test_what_is_out_of_bounds_is_refused(self, changes: dict[str, Any]) -> None:
        with pytest.raises(InvalidSubscription):
            subscription(8080, **changes)


class TestEncode:
    def test_json_logs_are_objects_from_the_second_schema_on(self) -> None:
        event = line('{"level":"INFO"}', is_json=True)
        newer = subscription(1)
        older = subscription(1, schemaVersion="2022-07-01")
        assert json.loads(encode(event, newer)[0])["record"] == {"level": "INFO"}
        assert json.loads(encode(event, older)[0])["record"] == '{"level":"INFO"}'
        assert json.loads(encode(line("{no", is_json=True), newer)[0])["record"] == "{no"

    def test_only_what_was_asked_for_is_told(self) -> None:
        wanted = subscription(1, types=["extension"])
        assert encode(line("a"), wanted) == []
        assert len(encode(line("a", "extension"), wanted)) == 1

    def test_the_first_logs_schema_has_no_runtime_done(self) -> None:
        event = TelemetryEvent(NOW_S, "platform.runtimeDone", {"requestId": "a", "status": "x"})
        for schema, count in (("2020-08-15", 0), ("2021-03-18", 1)):
            wanted = parse_subscription("e", Api.LOGS, body_for(1, schemaVersion=schema))
            assert len(encode(event, wanted)) == count
