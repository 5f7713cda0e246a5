"""The Runtime API by calling the application itself: every path, every refusal, and garbage."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firelet.model import limits
from firelet.runtime.api import RuntimeApi
from firelet.runtime.exchange import Exchange, RuntimeAnswer, RuntimeEvent
from firelet.runtime.phases import Phase
from firelet.wire.http1 import Rejection, RejectionReason, Request, Response
from unit.versions import OTHER_ID, REQUEST_ID

BASE = "/2018-06-01/runtime"
NEXT = f"{BASE}/invocation/next"
TOO_LARGE = RejectionReason.BODY_TOO_LARGE
EVENT = RuntimeEvent(
    REQUEST_ID,
    (
        (b"content-type", b"application/json"),
        (b"lambda-runtime-aws-request-id", REQUEST_ID.encode()),
    ),
    b'{"key": 1}',
)


class Client:
    """A runtime that talks to the application without a socket."""

    def __init__(self) -> None:
        self.exchange = Exchange(lambda: None)
        self.api = RuntimeApi(self.exchange)

    def send(
        self, method: str, target: str, body: bytes = b"", **headers: str
    ) -> Response | asyncio.Future[Response]:
        named = {
            name.replace("_", "-").encode(): value.encode("latin-1")
            for name, value in headers.items()
        }
        return self.api(Request(method.encode(), target.encode("latin-1"), named, body, ""))

    def answer(self, method: str, target: str, body: bytes = b"", **headers: str) -> Response:
        """Sends what is answered at once."""
        answer = self.send(method, target, body, **headers)
        assert isinstance(answer, Response)
        return answer

    def ask(self) -> asyncio.Future[Response]:
        answer = self.send("GET", NEXT)
        assert isinstance(answer, asyncio.Future)
        return answer

    def post(
        self, what: str, body: bytes = b"", request_id: str = REQUEST_ID, **headers: str
    ) -> Response:
        return self.answer("POST", f"{BASE}/invocation/{request_id}/{what}", body, **headers)

    def post_init_error(self, body: bytes = b"{}", **headers: str) -> Response:
        return self.answer("POST", f"{BASE}/init/error", body, **headers)


def error_of(response: Response) -> tuple[int, str]:
    """Status and error type of a refusal, whose form is checked on the way."""
    assert (b"content-type", b"application/json") in tuple(response.headers)
    document = json.loads(response.body)
    assert list(document) == ["errorMessage", "errorType"]
    return response.status, document["errorType"]


def is_accepted(response: Response) -> bool:
    return (response.status, json.loads(response.body)) == (202, {"status": "OK"})


@pytest.fixture
async def client() -> Client:
    """A runtime before its first call."""
    return Client()


@pytest.fixture
async def started(client: Client) -> tuple[Client, asyncio.Future[RuntimeAnswer | None]]:
    """A runtime in INIT."""
    return client, client.exchange.start()


@pytest.fixture
async def running(client: Client) -> tuple[Client, asyncio.Future[RuntimeAnswer]]:
    """A runtime that has an event and owes an answer."""
    client.exchange.start()
    asked = client.ask()
    answer = client.exchange.dispatch(EVENT)
    assert (await asked).body == EVENT.payload
    return client, answer


Running = tuple[Client, asyncio.Future[RuntimeAnswer]]
Started = tuple[Client, asyncio.Future[RuntimeAnswer | None]]


class TestNext:
    async def test_it_waits_for_the_event_and_hands_over_payload_and_headers(
        self, started: Started
    ) -> None:
        client, initialised = started
        asked = client.ask()
        assert await initialised is None
        await asyncio.sleep(0)
        assert not asked.done()
        client.exchange.dispatch(EVENT)
        response = await asked
        assert (response.status, response.body) == (200, EVENT.payload)
        assert tuple(response.headers) == EVENT.headers

    async def test_it_is_refused_while_an_answer_is_owed(self, running: Running) -> None:
        client, _ = running
        assert error_of(client.answer("GET", NEXT)) == (403, "InvalidStateTransition")

    async def test_it_is_refused_when_no_process_was_started(self, client: Client) -> None:
        assert error_of(client.answer("GET", NEXT)) == (403, "InvalidStateTransition")

    async def test_it_may_have_a_query(self, started: Started) -> None:
        client, initialised = started
        client.send("GET", NEXT + "?x=1")
        assert await initialised is None

    async def test_a_connection_that_was_given_up_costs_nothing(self, started: Started) -> None:
        client, _ = started
        lost = client.ask()
        lost.cancel()
        asked = client.ask()
        client.exchange.dispatch(EVENT)
        assert (await asked).status == 200

    async def test_a_runtime_that_asks_again_gets_one_answer(self, started: Started) -> None:
        client, _ = started
        first, second = client.ask(), client.ask()
        client.exchange.dispatch(EVENT)
        assert (await second).body == EVENT.payload
        with pytest.raises(asyncio.CancelledError):
            await first

    async def test_it_ends_with_the_process(self, started: Started) -> None:
        client, _ = started
        asked = client.ask()
        client.exchange.end()
        with pytest.raises(asyncio.CancelledError):
            await asked


class TestResponse:
    @pytest.mark.parametrize("body", [b"42", b"", b"\xff\x00 not JSON", b"null"])
    async def test_the_result_passes_untouched(self, running: Running, body: bytes) -> None:
        client, answer = running
        assert is_accepted(client.post("response", body))
        assert await answer == RuntimeAnswer(body)

    async def test_a_second_one_is_refused(self, running: Running) -> None:
        client, answer = running
        client.post("response", b"1")
        assert error_of(client.post("response", b"2")) == (403, "InvalidStateTransition")
        assert (await answer).payload == b"1"

    async def test_an_error_after_it_is_refused(self, running: Running) -> None:
        client, answer = running
        client.post("response", b"1")
        assert error_of(client.post("error", b"{}")) == (403, "InvalidStateTransition")
        assert not (await answer).is_error

    @pytest.mark.parametrize("request_id", [OTHER_ID, "", "%00", "next", REQUEST_ID.upper(), "é"])
    @pytest.mark.parametrize("what", ["response", "error"])
    async def test_an_id_that_is_not_current_is_refused(
        self, running: Running, request_id: str, what: str
    ) -> None:
        client, answer = running
        assert error_of(client.post(what, b"{}", request_id)) == (400, "InvalidRequestID")
        assert not answer.done()

    async def test_an_id_is_current_no_more_after_the_next_event_was_asked_for(
        self, running: Running
    ) -> None:
        client, _ = running
        client.post("response", b"1")
        client.ask()
        assert error_of(client.post("response", b"2")) == (400, "InvalidRequestID")

    async def test_an_id_is_refused_before_there_was_any(self, started: Started) -> None:
        client, _ = started
        assert error_of(client.post("response")) == (400, "InvalidRequestID")

    async def test_a_streamed_response_to_a_buffered_invocation_is_collected(
        self, running: Running
    ) -> None:
        client, answer = running
        client.post("response", b"1", lambda_runtime_function_response_mode="streaming")
        assert (await answer).payload == b"1"

    async def test_an_unknown_response_mode_is_refused(self, running: Running) -> None:
        client, answer = running
        refused = client.post("response", b"1", lambda_runtime_function_response_mode="backwards")
        assert error_of(refused) == (400, "InvalidFunctionResponseMode")
        assert not answer.done()


class TestError:
    async def test_the_document_passes_untouched(self, running: Running) -> None:
        client, answer = running
        body = b'{"errorMessage": "no",  "errorType":"ValueError"}'
        assert is_accepted(client.post("error", body))
        assert await answer == RuntimeAnswer(body, True, "ValueError")

    @pytest.mark.parametrize(
        ("header", "body", "expected"),
        [
            ("Runtime.ImportModuleError", b'{"errorType":"Other"}', "Runtime.ImportModuleError"),
            ("Function.Panic", b"", "Function.Panic"),
            ("ValueError", b'{"errorType":"Other"}', "Other"),
            ("Runtime.", b'{"errorType":"Other"}', "Other"),
            ("Runtime.Bad\nLine", b"{}", "Function.Unknown"),
            ("runtime.lower", b"not json", "Function.Unknown"),
            ("\xff", b"[1]", "Function.Unknown"),
            ("", b'{"errorType":5}', "Function.Unknown"),
            ("", b'{"errorType":null}', "Function.Unknown"),
            ("", b"\xff\xfe", "Function.Unknown"),
        ],
    )
    async def test_the_type_comes_from_the_header_else_from_the_document(
        self, running: Running, header: str, body: bytes, expected: str
    ) -> None:
        client, answer = running
        client.post("error", body, lambda_runtime_function_error_type=header)
        assert await answer == RuntimeAnswer(body, True, expected)


class TestInitError:
    async def test_it_ends_init(self, started: Started) -> None:
        client, initialised = started
        body = b'{"errorMessage":"x","errorType":"Runtime.ImportModuleError"}'
        assert is_accepted(client.post_init_error(body))
        assert await initialised == RuntimeAnswer(body, True, "Runtime.ImportModuleError")

    async def test_it_is_refused_after_init(self, running: Running) -> None:
        client, _ = running
        assert error_of(client.post_init_error()) == (403, "InvalidStateTransition")

    async def test_a_second_one_and_anything_after_it_is_refused(self, started: Started) -> None:
        client, _ = started
        client.post_init_error()
        assert error_of(client.post_init_error()) == (403, "InvalidStateTransition")
        assert error_of(client.answer("GET", NEXT)) == (403, "InvalidStateTransition")


class TestOtherPaths:
    async def test_ping_is_pong(self, client: Client) -> None:
        response = client.answer("GET", "/2018-06-01/ping")
        assert (response.status, response.body) == (200, b"pong")

    @pytest.mark.parametrize(
        ("method", "target"),
        [
            ("GET", "/"),
            ("GET", ""),
            ("GET", f"{BASE}/init/error"),
            ("POST", NEXT),
            ("POST", f"{BASE}/invocation/{REQUEST_ID}"),
            ("POST", f"{BASE}/invocation/{REQUEST_ID}/"),
            ("POST", f"{BASE}/invocation/{REQUEST_ID}/response/"),
            ("POST", f"{BASE}/invocation/{REQUEST_ID}/other"),
            ("DELETE", f"{BASE}/invocation/{REQUEST_ID}/response"),
            ("GET", f"{BASE}/restore/next"),
            ("GET", "/2018-06-01/runtime/invocation/next/"),
            ("HEAD", NEXT),
        ],
    )
    async def test_what_is_no_part_of_the_api_is_404(
        self, running: Running, method: str, target: str
    ) -> None:
        client, answer = running
        assert error_of(client.answer(method, target)) == (404, "InvalidPath")
        assert not answer.done()

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        calls=st.lists(
            st.tuples(
                st.sampled_from(["GET", "POST", "PUT", "\x00"]),
                st.sampled_from(
                    [NEXT, f"{BASE}/init/error", "/2018-06-01/ping"]
                    + [
                        f"{BASE}/invocation/{i}/{w}"
                        for i in (REQUEST_ID, "x")
                        for w in ("response", "error")
                    ]
                )
                | st.text(st.characters(max_codepoint=255), max_size=20),
                st.binary(max_size=20),
            ),
            max_size=12,
        )
    )
    async def test_no_sequence_of_calls_breaks_it(self, calls: list[tuple[Any, ...]]) -> None:
        client = Client()
        client.exchange.start()
        for method, target, body in calls:
            response = client.send(method, target, body)
            if isinstance(response, Response):
                assert response.status in (200, 202, 400, 403, 404)
            if client.exchange.phase is Phase.READY:
                client.exchange.dispatch(EVENT)


class TestReject:
    def rejection(self, target: str) -> Rejection:
        return Rejection(TOO_LARGE, b"POST", target.encode(), limits.RESPONSE_MAX_BYTES)

    async def test_a_result_over_the_limit_is_the_function_s_error(self, running: Running) -> None:
        client, answer = running
        target = f"{BASE}/invocation/{REQUEST_ID}/response"
        refused = client.api.reject(self.rejection(target))
        assert error_of(refused) == (413, "RequestEntityTooLarge")
        assert json.loads(refused.body)["errorMessage"] == (
            "Exceeded maximum allowed payload size (6291556 bytes)."
        )
        assert await answer == RuntimeAnswer(
            b'{"errorMessage":"Response payload size exceeded maximum allowed payload size'
            b' (6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}',
            True,
            "Function.ResponseSizeTooLarge",
        )

    @pytest.mark.parametrize("target", [f"{BASE}/init/error", f"{BASE}/invocation/x/response", "/"])
    async def test_any_other_body_over_the_limit_is_only_refused(
        self, running: Running, target: str
    ) -> None:
        client, answer = running
        refused = client.api.reject(self.rejection(target))
        assert error_of(refused) == (413, "RequestEntityTooLarge")
        assert not answer.done()

    async def test_a_second_result_over_the_limit_is_only_refused(self, running: Running) -> None:
        client, answer = running
        client.post("response", b"1")
        refused = client.api.reject(self.rejection(f"{BASE}/invocation/{REQUEST_ID}/response"))
        assert refused.status in (403, 413)
        assert (await answer).payload == b"1"

    @pytest.mark.parametrize(
        "reason", [reason for reason in RejectionReason if reason is not TOO_LARGE]
    )
    async def test_what_cannot_be_read_is_refused(
        self, running: Running, reason: RejectionReason
    ) -> None:
        client, answer = running
        refused = client.api.reject(Rejection(reason))
        assert error_of(refused) == (reason.value, "TruncatedHTTPRequest")
        assert not answer.done()
