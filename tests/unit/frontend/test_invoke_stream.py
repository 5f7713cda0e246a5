"""InvokeWithResponseStream in front of the control plane: events, refusals, clients that go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from firelet.control.targets import Resolved
from firelet.frontend.callers import Callers
from firelet.frontend.invoke_stream import StreamEndpoint
from firelet.iam.accounts import Accounts
from firelet.model.arn import FunctionRef
from firelet.model.errors import PlatformError, ResourceNotFound, TooManyRequests
from firelet.model.invocation import Invocation, Outcome
from firelet.model.streaming import ResponseSink, StreamHead
from firelet.wire.eventstream import EventMessage, EventReader
from firelet.wire.http1 import HttpLimits, Request, Response, plain_rejection
from firelet.wire.http1_connection import Connection
from firelet.wire.http1_live import Connections
from protocol.fake_transport import FakeTransport
from unit.versions import make_version

ARN = "arn:aws:lambda:us-east-1:000000000000:function:hello"
DONE = Outcome(payload=b"", executed_version="7", is_streamed=True)
Script = Callable[[ResponseSink], Awaitable[Outcome]]


class Source:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")


class Platform:
    """Registry and invoker in one, and the endpoint behind a server's connection."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.invocations: list[Invocation] = []
        self.endpoint = StreamEndpoint(self, self, Callers(Accounts()))  # type: ignore[arg-type]
        self.shared = Connections(self._serve, HttpLimits(), plain_rejection, None)
        self.connection = Connection(self.shared)
        self.transport = FakeTransport(self.connection)

    def _serve(self, request: Request) -> Awaitable[Response]:
        answer = self.endpoint.match(request)
        assert answer is not None
        return answer

    def resolve(self, account: str, region: str, ref: FunctionRef) -> Resolved:
        if ref.name == "missing":
            raise ResourceNotFound(f"Function not found: {ARN}")
        version = make_version(version="7")
        return Resolved(version, ARN, None, (version.account, version.region, version.name))

    async def stream(
        self, invocation: Invocation, key: Any, reserved: int | None, sink: ResponseSink
    ) -> Outcome:
        self.invocations.append(invocation)
        return await self.script(sink)

    def send(self, name: str = "hello", body: bytes = b"{}", **headers: str) -> None:
        lines = [f"POST /2021-11-15/functions/{name}/response-streaming-invocations HTTP/1.1"]
        lines += ["Host: a", f"Content-Length: {len(body)}"]
        lines += [f"{header.replace('_', '-')}: {value}" for header, value in headers.items()]
        self.connection.data_received("\r\n".join([*lines, "", ""]).encode() + body)

    async def ask(self, **headers: str) -> None:
        self.send(**headers)
        await settle()

    @property
    def head(self) -> bytes:
        return bytes(self.transport.written).partition(b"\r\n\r\n")[0]

    @property
    def events(self) -> list[EventMessage]:
        """What has arrived, out of its chunks."""
        rest = bytes(self.transport.written).partition(b"\r\n\r\n")[2]
        data = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            data += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
        reader = EventReader()
        return list(reader.feed(data))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def two_pieces(sink: ResponseSink) -> Outcome:
    sink.begin(StreamHead(), Source())
    sink.write(b"one")
    sink.write(b"two")
    return DONE


def complete_of(platform: Platform) -> dict[str, Any]:
    last = platform.events[-1]
    assert last.headers[":event-type"] == "InvokeComplete"
    parsed: dict[str, Any] = json.loads(last.payload)
    return parsed


async def test_each_piece_is_an_event_and_the_last_one_says_how_it_ended() -> None:
    platform = Platform(two_pieces)
    await platform.ask()
    assert platform.head.startswith(b"HTTP/1.1 200 ")
    assert b"content-type: application/vnd.amazon.eventstream" in platform.head
    assert b"x-amz-executed-version: 7" in platform.head
    first, second, last = platform.events
    assert first == EventMessage(
        {
            ":event-type": "PayloadChunk",
            ":content-type": "application/octet-stream",
            ":message-type": "event",
        },
        b"one",
    )
    assert second.payload == b"two"
    assert last == EventMessage(
        {
            ":event-type": "InvokeComplete",
            ":content-type": "application/json",
            ":message-type": "event",
        },
        b"{}",
    )
    assert platform.transport.written.endswith(b"0\r\n\r\n")


async def test_a_piece_leaves_before_the_next_one_is_there() -> None:
    gate = asyncio.Event()

    async def script(sink: ResponseSink) -> Outcome:
        sink.begin(StreamHead(), Source())
        sink.write(b"one")
        await gate.wait()
        return DONE

    platform = Platform(script)
    await platform.ask()
    assert [event.payload for event in platform.events] == [b"one"]
    gate.set()
    await settle()
    assert complete_of(platform) == {}


@pytest.mark.parametrize(
    ("error_type", "code"),
    [
        ("Sandbox.Timedout", "Sandbox.Timedout"),
        ("Runtime.ExitError", "Runtime.ExitError"),
        ("Function.ResponseSizeTooLarge", "Function.ResponseSizeTooLarge"),
        ("Function.Unknown", "Unhandled"),
        ("ValueError", "Unhandled"),
        (None, "Unhandled"),
    ],
)
@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_function_s_error_is_in_the_last_event(
    error_type: str | None, code: str, has_begun: bool
) -> None:
    async def script(sink: ResponseSink) -> Outcome:
        if has_begun:
            sink.begin(StreamHead(), Source())
        return Outcome(
            payload=b'{"errorMessage":"x"}',
            executed_version="7",
            function_error="Unhandled",
            error_type=error_type,
            log_tail=b"log",
        )

    platform = Platform(script)
    await platform.ask(x_amz_log_type="Tail")
    assert platform.invocations[0].wants_tail
    assert complete_of(platform) == {
        "ErrorCode": code,
        "ErrorDetails": '{"errorMessage":"x"}',
        "LogResult": "bG9n",
    }


async def test_a_platform_that_fails_in_mid_stream_says_so_in_the_last_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors = [PlatformError("A worker process has ended."), ZeroDivisionError("a fault of ours")]

    async def script(sink: ResponseSink) -> Outcome:
        sink.begin(StreamHead(), Source())
        sink.write(b"half")
        raise errors.pop(0)

    told = Platform(script)
    await told.ask()
    assert complete_of(told) == {
        "ErrorCode": "ServiceException",
        "ErrorDetails": "A worker process has ended.",
    }
    hidden = Platform(script)
    await hidden.ask()
    assert "fault of ours" not in complete_of(hidden)["ErrorDetails"]
    assert "a fault of ours" in caplog.text


async def test_errors_before_the_first_byte_are_ordinary_answers() -> None:
    async def throttled(_: ResponseSink) -> Outcome:
        raise TooManyRequests("ConcurrentInvocationLimitExceeded")

    platform = Platform(throttled)
    await platform.ask()
    assert platform.head.startswith(b"HTTP/1.1 429 ")
    assert b"TooManyRequestsException" in platform.head


@pytest.mark.parametrize(
    ("name", "headers", "status"),
    [
        ("missing", {}, 404),
        ("hello", {"x_amz_invocation_type": "Event"}, 400),
        ("hello", {"x_amz_log_type": "All"}, 400),
        ("hello", {"x_amz_client_context": "!"}, 400),
        ("no%20name", {}, 400),
    ],
)
async def test_bad_requests_run_nothing(name: str, headers: dict[str, str], status: int) -> None:
    platform = Platform(two_pieces)
    platform.send(name, **headers)
    await settle()
    assert platform.head.startswith(b"HTTP/1.1 %d " % status)
    assert platform.invocations == []


async def test_a_dry_run_runs_nothing() -> None:
    platform = Platform(two_pieces)
    await platform.ask(x_amz_invocation_type="DryRun")
    assert platform.head.startswith(b"HTTP/1.1 204 ")
    assert platform.invocations == []


@pytest.mark.parametrize("goes_before", [True, False])
async def test_a_client_that_goes_away_does_not_hold_the_function_up(goes_before: bool) -> None:
    gate, source = asyncio.Event(), Source()
    ended = []

    async def script(sink: ResponseSink) -> Outcome:
        if goes_before:
            await gate.wait()
        sink.begin(StreamHead(), source)
        sink.write(b"x")
        await gate.wait()
        sink.write(b"y")
        ended.append(True)
        return DONE

    platform = Platform(script)
    await platform.ask()
    platform.connection.connection_lost(None)
    gate.set()
    await settle()
    assert ended == [True]
    assert source.calls[-1:] == ["resume"]
    assert not platform.shared.live


def test_other_paths_are_not_its() -> None:
    endpoint = StreamEndpoint(None, None, None)  # type: ignore[arg-type]
    for method, target in (
        (b"GET", b"/2021-11-15/functions/f/response-streaming-invocations"),
        (b"POST", b"/2021-11-15/functions/a/b/response-streaming-invocations"),
        (b"POST", b"/2015-03-31/functions/f/invocations"),
    ):
        assert endpoint.match(Request(method, target, {}, b"", "")) is None


async def test_what_runs_is_waited_for_and_then_given_up() -> None:
    async def script(_: ResponseSink) -> Outcome:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    platform = Platform(script)
    await platform.ask()
    await platform.endpoint.drain(0.0)
    assert platform.transport.written == b""
