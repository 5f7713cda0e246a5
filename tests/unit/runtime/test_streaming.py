"""Responses that a runtime streams, from the bytes on its connection to the invocation's sink."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firelet.model import limits
from firelet.model.streaming import HTTP_INTEGRATION, StreamHead, StreamSource
from firelet.runtime.api import HTTP_LIMITS, RuntimeApi
from firelet.runtime.exchange import (
    DeadlinePassed,
    Exchange,
    RuntimeAnswer,
    RuntimeEnded,
    RuntimeEvent,
    StreamFacts,
)
from firelet.runtime.phases import Phase
from firelet.wire.http1_connection import Connection
from firelet.wire.http1_live import Connections
from protocol.fake_transport import FakeTransport
from unit.versions import OTHER_ID, REQUEST_ID

NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: a\r\n\r\n"
EVENT = RuntimeEvent(REQUEST_ID, (), b"{}")
ERROR = b'{"errorType":"Oops","errorMessage":"half way"}'
END = b"0\r\n\r\n"


class Sink:
    """Keeps what a response says, and may refuse to take more."""

    def __init__(self) -> None:
        self.head: StreamHead | None = None
        self.pieces: list[bytes] = []
        self.source: StreamSource

    def begin(self, head: StreamHead, source: StreamSource) -> None:
        assert self.head is None
        self.head = head
        self.source = source

    def write(self, piece: bytes) -> None:
        assert self.head is not None
        self.pieces.append(piece)


class Runtime:
    """A runtime that has an event, on a connection without a socket."""

    def __init__(self, sink: Sink | None) -> None:
        self.exchange = Exchange(lambda: None)
        self.api = RuntimeApi(self.exchange)
        self.shared = Connections(self.api, HTTP_LIMITS, self.api.reject, None, self.api.open_body)
        self.exchange.start()
        self.connect()
        self.send(NEXT)
        self.answer = self.exchange.dispatch(EVENT, sink)
        self.transport.written.clear()

    def connect(self) -> None:
        self.connection = Connection(self.shared)
        self.transport = FakeTransport(self.connection)

    def send(self, data: bytes) -> None:
        self.connection.data_received(data)

    def open(self, headers: bytes = b"", request_id: str = REQUEST_ID) -> None:
        self.send(
            b"POST /2018-06-01/runtime/invocation/%b/response HTTP/1.1\r\nHost: a\r\n"
            b"Lambda-Runtime-Function-Response-Mode: streaming\r\n%b"
            b"Transfer-Encoding: chunked\r\n\r\n" % (request_id.encode(), headers)
        )

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def finish(self, trailers: bytes = b"") -> None:
        self.send(b"0\r\n" + trailers + b"\r\n")

    @property
    def statuses(self) -> list[int]:
        parts = bytes(self.transport.written).split(b"HTTP/1.1 ")[1:]
        return [int(part[:3]) for part in parts]

    def result(self) -> RuntimeAnswer:
        return self.answer.result()

    def facts(self) -> StreamFacts:
        """What is known of the stream that has ended."""
        facts = self.result().stream
        assert facts is not None
        return facts


@pytest.fixture
async def sink() -> Sink:
    return Sink()


@pytest.fixture
async def runtime(sink: Sink) -> Runtime:
    return Runtime(sink)


@pytest.fixture
async def collecting() -> Runtime:
    """Its invocation has no sink."""
    return Runtime(None)


def trailers(error_type: bytes | None, body: bytes | None) -> bytes:
    lines = b""
    if error_type is not None:
        lines += b"Lambda-Runtime-Function-Error-Type: " + error_type + b"\r\n"
    if body is not None:
        lines += b"Lambda-Runtime-Function-Error-Body: " + body + b"\r\n"
    return lines


async def test_each_piece_goes_on_as_it_arrives(runtime: Runtime, sink: Sink) -> None:
    runtime.open(b"Content-Type: text/plain\r\n")
    assert sink.head is None
    assert runtime.exchange.phase is Phase.RESPONDING
    runtime.send(b"5\r\nhe")
    assert sink.head == StreamHead("text/plain")
    assert sink.pieces == [b"he"]
    runtime.send(b"llo\r\n")
    runtime.chunk(b"!")
    assert sink.pieces == [b"he", b"llo", b"!"]
    assert not runtime.answer.done()
    runtime.finish()
    answer = runtime.result()
    assert (answer.payload, answer.is_error) == (b"", False)
    facts = runtime.facts()
    assert facts.produced_bytes == 6
    assert facts.first_byte_at <= facts.last_byte_at
    assert runtime.statuses == [202]
    assert runtime.exchange.phase is Phase.RESPONDED


async def test_the_next_event_may_be_asked_for_in_the_same_segment(
    runtime: Runtime, sink: Sink
) -> None:
    runtime.open()
    runtime.send(b"1\r\nx\r\n" + END + NEXT)
    assert runtime.exchange.phase is Phase.READY
    assert sink.pieces == [b"x"]


async def test_an_empty_stream_is_a_response_all_the_same(runtime: Runtime, sink: Sink) -> None:
    runtime.open()
    runtime.finish()
    assert sink.head == StreamHead()
    assert sink.pieces == []
    assert not runtime.result().is_error


async def test_the_content_type_of_http_integrations_reaches_the_sink(
    runtime: Runtime, sink: Sink
) -> None:
    runtime.open(b"Content-Type: %b\r\n" % HTTP_INTEGRATION.encode())
    runtime.chunk(b'{"statusCode":201}' + b"\0" * 8)
    assert sink.head is not None
    assert sink.head.content_type == HTTP_INTEGRATION
    assert sink.head.is_streamed


async def test_a_body_of_announced_length_is_streamed_too(runtime: Runtime, sink: Sink) -> None:
    runtime.send(
        b"POST /2018-06-01/runtime/invocation/%b/response HTTP/1.1\r\nHost: a\r\n"
        b"Lambda-Runtime-Function-Response-Mode: streaming\r\nContent-Length: 2\r\n\r\nab"
        % REQUEST_ID.encode()
    )
    assert sink.pieces == [b"ab"]
    assert runtime.facts().produced_bytes == 2


async def test_trailers_end_the_stream_with_the_handler_s_error(
    runtime: Runtime, sink: Sink
) -> None:
    runtime.open(b"Trailer: Lambda-Runtime-Function-Error-Type\r\n")
    runtime.chunk(b"half")
    runtime.finish(trailers(b"Function.Oops", base64.b64encode(ERROR)))
    answer = runtime.result()
    assert (answer.payload, answer.error_type) == (ERROR, "Function.Oops")
    assert answer.is_error
    assert sink.pieces == [b"half"]
    assert runtime.statuses == [202]


async def test_an_error_before_the_first_byte_begins_no_response(
    runtime: Runtime, sink: Sink
) -> None:
    runtime.open()
    runtime.finish(trailers(None, base64.b64encode(ERROR)))
    assert sink.head is None
    assert runtime.result().error_type == "Oops"


@pytest.mark.parametrize(
    ("error_type", "body", "expected"),
    [
        (b"Runtime.Known", None, "Runtime.Known"),
        (b"two words", base64.b64encode(ERROR), "Oops"),
        (b"two words", b"no base64!", "Function.Unknown"),
        (None, b"====", "Function.Unknown"),
        (None, base64.b64encode(b"[1]"), "Function.Unknown"),
        (b"", b"", "Function.Unknown"),
    ],
)
async def test_wrong_trailers_are_an_error_with_a_sound_document(
    runtime: Runtime, error_type: bytes | None, body: bytes | None, expected: str
) -> None:
    runtime.open()
    runtime.chunk(b"x")
    runtime.finish(trailers(error_type, body))
    answer = runtime.result()
    assert answer.error_type == expected
    json.loads(answer.payload)


async def test_other_trailers_are_nothing(runtime: Runtime) -> None:
    runtime.open()
    runtime.chunk(b"x")
    runtime.finish(b"X-Checksum: 1\r\n")
    assert not runtime.result().is_error


async def test_a_stream_for_an_invocation_without_sink_is_collected(collecting: Runtime) -> None:
    collecting.open()
    collecting.chunk(b'"one ')
    collecting.chunk(b'two"')
    collecting.finish()
    answer = collecting.result()
    assert answer.payload == b'"one two"'
    assert answer.stream is None


async def test_a_collected_stream_that_fails_is_the_error(collecting: Runtime) -> None:
    collecting.open()
    collecting.chunk(b"half")
    collecting.finish(trailers(b"Function.Oops", base64.b64encode(ERROR)))
    answer = collecting.result()
    assert (answer.payload, answer.is_error, answer.stream) == (ERROR, True, None)


async def test_a_collected_stream_has_the_limit_of_a_whole_response(collecting: Runtime) -> None:
    collecting.open()
    collecting.chunk(b"x" * limits.RESPONSE_MAX_BYTES)
    assert not collecting.answer.done()
    collecting.chunk(b"x")
    answer = collecting.result()
    assert answer.error_type == "Function.ResponseSizeTooLarge"
    assert json.loads(answer.payload)["errorMessage"] == (
        "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
    )
    assert collecting.statuses == [413]


async def test_a_stream_ends_with_the_first_byte_over_its_limit(
    runtime: Runtime, sink: Sink
) -> None:
    runtime.open()
    piece = b"x" * limits.MIB
    for _ in range(200):
        runtime.chunk(piece)
    assert not runtime.answer.done()
    runtime.chunk(b"x")
    answer = runtime.result()
    assert runtime.facts().produced_bytes == 200 * limits.MIB
    assert answer.error_type == "Function.ResponseSizeTooLarge"
    assert b"(209715200 bytes)" in answer.payload
    assert sum(map(len, sink.pieces)) == 200 * limits.MIB
    assert runtime.statuses == [413]
    runtime.chunk(b"more")  # is read and goes nowhere
    assert sum(map(len, sink.pieces)) == 200 * limits.MIB


async def test_a_length_over_the_limit_is_refused_before_the_first_byte(
    runtime: Runtime, sink: Sink
) -> None:
    runtime.send(
        b"POST /2018-06-01/runtime/invocation/%b/response HTTP/1.1\r\nHost: a\r\n"
        b"Lambda-Runtime-Function-Response-Mode: streaming\r\nContent-Length: %d\r\n\r\n"
        % (REQUEST_ID.encode(), limits.STREAM_MAX_BYTES + 1)
    )
    assert sink.head is None
    assert runtime.result().error_type == "Function.ResponseSizeTooLarge"
    assert runtime.statuses == [413]


async def test_the_invocation_after_one_that_was_too_large_may_be_too_large_again(
    collecting: Runtime,
) -> None:
    collecting.open()
    collecting.chunk(b"x" * (limits.RESPONSE_MAX_BYTES + 1))
    collecting.connect()
    collecting.send(NEXT)
    answer = collecting.exchange.dispatch(EVENT)
    collecting.send(
        b"POST /2018-06-01/runtime/invocation/%b/response HTTP/1.1\r\nHost: a\r\n"
        b"Content-Length: %d\r\n\r\n" % (REQUEST_ID.encode(), limits.RESPONSE_MAX_BYTES + 1)
    )
    assert answer.result().error_type == "Function.ResponseSizeTooLarge"


async def test_the_sink_pauses_the_runtime_s_connection(runtime: Runtime, sink: Sink) -> None:
    runtime.open()
    runtime.chunk(b"x")
    sink.source.pause()
    assert runtime.transport.is_reading_paused
    sink.source.resume()
    assert not runtime.transport.is_reading_paused


async def test_a_client_that_is_slow_at_the_end_does_not_hold_up_the_next_event(
    runtime: Runtime, sink: Sink
) -> None:
    """The runtime's next request may have come with the end of its response."""
    runtime.open()
    runtime.chunk(b"x")
    sink.source.pause()
    runtime.finish()
    assert not runtime.transport.is_reading_paused
    sink.source.pause()
    assert not runtime.transport.is_reading_paused
    runtime.send(NEXT)
    assert runtime.exchange.phase is Phase.READY

    runtime.answer = runtime.exchange.dispatch(RuntimeEvent(OTHER_ID, (), b"{}"), other := Sink())
    runtime.open(request_id=OTHER_ID)
    runtime.chunk(b"y")
    other.source.pause()
    sink.source.resume()
    assert runtime.transport.is_reading_paused
    assert other.pieces == [b"y"]


async def test_the_deadline_ends_a_stream_that_nobody_reads(runtime: Runtime, sink: Sink) -> None:
    runtime.open()
    runtime.chunk(b"x")
    sink.source.pause()
    runtime.exchange.expire()
    with pytest.raises(DeadlinePassed):
        runtime.result()
    # The connection is read again, or its end would not be noticed.
    assert not runtime.transport.is_reading_paused
    runtime.chunk(b"late")
    runtime.finish()
    assert sink.pieces == [b"x"]
    assert runtime.statuses == [403]


async def test_the_end_of_the_process_ends_its_stream(runtime: Runtime, sink: Sink) -> None:
    runtime.open()
    runtime.chunk(b"x")
    runtime.exchange.end()
    runtime.connection.connection_lost(None)
    with pytest.raises(RuntimeEnded):
        runtime.result()
    assert sink.pieces == [b"x"]


@pytest.mark.parametrize("broken", [b"", b"zz\r\n", b"1\r\nxyz", b"5\r\nab"])
async def test_a_stream_that_breaks_off_is_truncated(runtime: Runtime, broken: bytes) -> None:
    runtime.open()
    runtime.chunk(b"x")
    if broken:
        runtime.send(broken)
    runtime.connection.connection_lost(None)
    answer = runtime.result()
    # What is no chunk was refused; it is the runtime that says so, and it lives.
    assert runtime.facts().was_lost == (broken in (b"", b"5\r\nab"))
    assert answer.error_type == "Runtime.TruncatedResponse"
    assert runtime.exchange.phase is Phase.RESPONDED


async def test_half_a_head_opens_nothing(runtime: Runtime, sink: Sink) -> None:
    runtime.send(
        b"POST /2018-06-01/runtime/invocation/%b/response HTTP/1.1\r\nHost: a\r\n"
        b"Lambda-Runtime-Function-Response-Mode: stre" % REQUEST_ID.encode()
    )
    runtime.connection.connection_lost(None)
    assert runtime.exchange.phase is Phase.RUNNING
    assert not runtime.answer.done()


async def test_a_stream_to_another_invocation_is_refused_before_its_body(
    runtime: Runtime, sink: Sink
) -> None:
    runtime.open(request_id=OTHER_ID)
    assert runtime.statuses == [400]
    assert b"InvalidRequestID" in runtime.transport.written
    runtime.chunk(b"x")
    assert sink.head is None
    assert runtime.exchange.phase is Phase.RUNNING


async def test_a_second_response_is_refused_while_one_is_streamed(
    runtime: Runtime, sink: Sink
) -> None:
    runtime.open()
    runtime.chunk(b"x")
    first = runtime.connection
    runtime.connect()
    runtime.open()
    assert runtime.statuses == [403]
    runtime.connect()
    for what in (b"response", b"error"):
        runtime.send(
            b"POST /2018-06-01/runtime/invocation/%b/%b HTTP/1.1\r\nHost: a\r\n"
            b"Content-Length: 2\r\n\r\n{}" % (REQUEST_ID.encode(), what)
        )
        assert runtime.statuses == [403]
        runtime.connect()
    runtime.send(NEXT)
    assert runtime.statuses == [403]
    runtime.connection = first
    runtime.chunk(b"y")
    runtime.finish()
    assert sink.pieces == [b"x", b"y"]
    assert not runtime.result().is_error


async def test_a_response_after_a_streamed_one_is_refused(runtime: Runtime) -> None:
    runtime.open()
    runtime.chunk(b"x")
    runtime.finish()
    runtime.open()
    assert runtime.statuses == [202, 403]


async def test_an_unknown_mode_is_refused(runtime: Runtime) -> None:
    runtime.send(
        b"POST /2018-06-01/runtime/invocation/%b/response HTTP/1.1\r\nHost: a\r\n"
        b"Lambda-Runtime-Function-Response-Mode: buffered\r\nContent-Length: 2\r\n\r\n{}"
        % REQUEST_ID.encode()
    )
    assert runtime.statuses == [400]
    assert runtime.exchange.phase is Phase.RUNNING


async def test_chunk_extensions_are_nothing(runtime: Runtime, sink: Sink) -> None:
    runtime.open()
    runtime.send(b'2;name="value"\r\nab\r\n0;last\r\n\r\n')
    assert sink.pieces == [b"ab"]
    assert not runtime.result().is_error


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    cuts=st.lists(st.integers(min_value=1, max_value=30), max_size=30),
)
def test_what_is_sent_in_any_segments_arrives_whole(pieces: list[bytes], cuts: list[int]) -> None:
    async def stream() -> None:
        sink = Sink()
        runtime = Runtime(sink)
        runtime.open()
        data = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + END
        for cut in cuts:
            part, data = data[:cut], data[cut:]
            if part:
                runtime.send(part)
        if data:
            runtime.send(data)
        assert b"".join(sink.pieces) == b"".join(pieces)
        assert runtime.facts().produced_bytes == sum(map(len, pieces))
        await runtime.shared.close(0, 0)

    asyncio.run(stream())
