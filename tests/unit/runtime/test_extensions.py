"""The extensions of one environment: phases, refusals, and what each call is answered."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.model import limits
from firelet.runtime.extension_api import ExtensionApi
from firelet.runtime.extension_phases import (
    ExtensionEvent,
    ExtensionPhase,
    TransitionRefused,
    advance,
)
from firelet.runtime.extensions import ExtensionFault, Extensions
from firelet.runtime.telemetry_subscription import Subscription
from firelet.wire.http1 import Request, Response
from unit.versions import make_version

BASE = "/2020-01-01/extension/"


class Caller:
    """Calls the API as extensions do, without a socket."""

    def __init__(self, *external: str) -> None:
        self.faults: list[ExtensionFault] = []
        self.changes = 0
        self.subscriptions: list[Subscription] = []
        self.extensions = Extensions(self._on_change, self.faults.append)
        self.extensions.begin(external)
        self.api = ExtensionApi(make_version(), self.extensions, self.subscriptions.append)

    def _on_change(self) -> None:
        self.changes += 1

    def send(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> Response | asyncio.Future[Response]:
        named = {
            f"lambda-extension-{name.replace('_', '-')}".encode(): value.encode()
            for name, value in headers.items()
        }
        return self.api(Request(method.encode(), path.encode(), named, body, "127.0.0.1"))

    def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        answer = self.send(method, path, body, **headers)
        assert isinstance(answer, Response)
        return answer

    def register(self, name: str, *events: str) -> str:
        body = json.dumps({"events": events}).encode()
        answer = self.call("POST", BASE + "register", body, name=name)
        assert answer.status == 200, answer.body
        return dict(answer.headers)[b"lambda-extension-identifier"].decode()

    def ask(self, identifier: str) -> asyncio.Future[Response]:
        answer = self.send("GET", BASE + "event/next", identifier=identifier)
        assert isinstance(answer, asyncio.Future), answer
        return answer

    def refusal(self, *args: Any, **headers: str) -> tuple[int, str, str]:
        answer = self.call(*args, **headers)
        document = json.loads(answer.body)
        assert list(document) == ["errorMessage", "errorType"]
        return answer.status, document["errorType"], document["errorMessage"]


class TestRegister:
    async def test_an_external_one_is_known_by_its_file(self) -> None:
        caller = Caller("mine")
        assert not caller.extensions.have_registered
        uuid.UUID(caller.register("mine", "INVOKE", "SHUTDOWN"))
        assert caller.extensions.have_registered
        assert not caller.extensions.are_ready

    async def test_the_account_is_told_to_whoever_accepts_it(self) -> None:
        caller = Caller("a", "b")
        body = b'{"events":[]}'
        plain = caller.call("POST", BASE + "register", body, name="a")
        assert set(json.loads(plain.body)) == {"functionName", "functionVersion", "handler"}
        accepting = caller.call(
            "POST", BASE + "register", body, name="b", accept_feature="other, accountId"
        )
        assert json.loads(accepting.body)["accountId"] == make_version().account

    @pytest.mark.parametrize(
        ("headers", "body", "expected"),
        [
            ({}, b"{}", ("Extension.InvalidExtensionName", "Empty extension name")),
            ({"name": "a\tb"}, b"{}", ("Extension.InvalidExtensionName", "Invalid extension name")),
            (
                {"name": "x" * 129},
                b"{}",
                ("Extension.InvalidExtensionName", "Invalid extension name"),
            ),
            ({"name": "a"}, b"[]", ("InvalidRequestFormat", "The body is not a JSON object")),
            (
                {"name": "a"},
                b'{"events":[1]}',
                ("InvalidRequestFormat", "events is not a list of strings"),
            ),
            (
                {"name": "a"},
                b'{"configurationKeys":["k"]}',
                (
                    "InvalidRequestFormat",
                    "configurationKeys are deprecated; use environment variables instead",
                ),
            ),
            (
                {"name": "ext"},
                b'{"events":["NO"]}',
                ("Extension.InvalidEventType", "NO: invalid event type"),
            ),
            (
                {"name": "a"},
                b'{"events":["NO"]}',
                ("Extension.InvalidEventType", "NO: invalid event type"),
            ),
            (
                {"name": "a"},
                b'{"events":["SHUTDOWN"]}',
                (
                    "Extension.InvalidEventType",
                    "SHUTDOWN: event not supported for internal extensions",
                ),
            ),
        ],
    )
    async def test_what_is_wrong_is_refused(
        self, headers: dict[str, str], body: bytes, expected: tuple[str, str]
    ) -> None:
        caller = Caller("ext")
        assert caller.refusal("POST", BASE + "register", body, **headers) == (403, *expected)

    async def test_a_body_that_is_no_json_is_refused(self) -> None:
        status, error_type, _ = Caller().refusal("POST", BASE + "register", b"{", name="a")
        assert (status, error_type) == (403, "InvalidRequestFormat")

    async def test_a_second_time_is_refused(self) -> None:
        caller = Caller("ext")
        caller.register("ext")
        caller.register("inner")
        assert caller.refusal("POST", BASE + "register", b"{}", name="ext") == (
            403,
            "Extension.InvalidExtensionState",
            "State transition from Registered to Registered failed for extension ext."
            " Error: State transition is not allowed",
        )
        assert caller.refusal("POST", BASE + "register", b"{}", name="inner") == (
            403,
            "Extension.InvalidExtensionState",
            "Extension with this name already registered",
        )

    async def test_there_are_ten_at_most(self) -> None:
        caller = Caller("ext")
        for number in range(limits.EXTENSIONS_MAX - 1):
            caller.register(f"inner{number}")
        assert caller.refusal("POST", BASE + "register", b"{}", name="more") == (
            403,
            "Extension.TooManyExtensions",
            "Extension limit (10) reached",
        )

    async def test_after_init_it_is_closed(self) -> None:
        caller = Caller()
        caller.extensions.close_registration()
        assert caller.refusal("POST", BASE + "register", b"{}", name="late") == (
            403,
            "Extension.RegistrationClosed",
            "Extension registration closed already",
        )


class TestIdentifier:
    @pytest.mark.parametrize("path", ["event/next", "init/error", "exit/error"])
    async def test_it_is_needed_and_checked(self, path: str) -> None:
        caller = Caller("silent")
        method = "GET" if path == "event/next" else "POST"
        unknown = str(uuid.uuid4())
        # The identifier of one that has not registered is nobody's yet.
        hidden = next(iter(caller.extensions.all)).identifier
        expected = [
            ({}, "Extension.MissingExtensionIdentifier"),
            ({"identifier": "x"}, "Extension.InvalidExtensionIdentifier"),
            ({"identifier": unknown}, "Extension.UnknownExtensionIdentifier"),
            ({"identifier": hidden}, "Extension.UnknownExtensionIdentifier"),
        ]
        for headers, error_type in expected:
            given = {**headers, "function_error_type": "Extension.Any"}
            status, found, _ = caller.refusal(method, BASE + path, b"", **given)
            assert (status, found) == (403, error_type)

    async def test_another_path_is_unknown(self) -> None:
        assert Caller().refusal("GET", BASE + "event/other")[:2] == (404, "InvalidPath")
        assert Caller().refusal("POST", BASE + "event/next")[:2] == (404, "InvalidPath")


class TestNext:
    async def test_it_waits_for_an_event_and_gives_it_an_identifier(self) -> None:
        caller = Caller("ext")
        asked = caller.ask(caller.register("ext", "INVOKE"))
        assert caller.extensions.are_ready
        assert not asked.done()
        caller.extensions.dispatch("INVOKE", b'{"a":1}')
        answer = await asked
        assert answer.body == b'{"a":1}'
        uuid.UUID(dict(answer.headers)[b"lambda-extension-event-identifier"].decode())
        assert not caller.extensions.are_ready

    async def test_asking_twice_at_a_time_is_refused_and_harms_nothing(self) -> None:
        caller = Caller("ext")
        identifier = caller.register("ext", "INVOKE")
        asked = caller.ask(identifier)
        status, error_type, message = caller.refusal(
            "GET", BASE + "event/next", b"", identifier=identifier
        )
        assert (status, error_type) == (403, "Extension.InvalidExtensionState")
        assert message.startswith("State transition from Ready to Ready failed for extension")
        caller.extensions.dispatch("INVOKE", b"{}")
        assert (await asked).status == 200

    async def test_an_event_waits_for_one_whose_connection_is_gone(self) -> None:
        caller = Caller("ext")
        identifier = caller.register("ext", "INVOKE")
        caller.ask(identifier).cancel()
        caller.extensions.dispatch("INVOKE", b'{"kept":1}')
        assert (await caller.ask(identifier)).body == b'{"kept":1}'


class TestErrors:
    async def test_the_type_is_needed(self) -> None:
        caller = Caller("ext")
        identifier = caller.register("ext")
        assert caller.refusal("POST", BASE + "init/error", b"", identifier=identifier) == (
            403,
            "Extension.MissingHeader",
            "Lambda-Extension-Function-Error-Type not found",
        )

    @pytest.mark.parametrize(
        ("path", "error_type"),
        [("init/error", "Extension.InitError"), ("exit/error", "Extension.ExitError")],
    )
    async def test_it_counts_when_the_process_ends(self, path: str, error_type: str) -> None:
        caller = Caller("ext")
        headers = {"identifier": caller.register("ext"), "function_error_type": "Extension.Mine"}
        for _ in range(2):
            answer = caller.call("POST", BASE + path, b"{}", **headers)
            assert (answer.status, answer.body) == (202, b'{"status":"OK"}\n')
        assert caller.faults == []
        caller.extensions.exited("ext", "exit status 1")
        assert caller.faults == [ExtensionFault(error_type, "exit status 1")]

    async def test_init_is_over_once_it_has_asked_for_an_event(self) -> None:
        caller = Caller("ext")
        identifier = caller.register("ext")
        asked = caller.ask(identifier)
        status, error_type, _ = caller.refusal(
            "POST",
            BASE + "init/error",
            b"",
            identifier=identifier,
            function_error_type="Extension.Mine",
        )
        assert (status, error_type) == (403, "Extension.InvalidExtensionState")
        assert not asked.done()

    async def test_the_first_fault_counts(self) -> None:
        caller = Caller("a", "b")
        caller.extensions.exited("a", "exit status 1")
        caller.extensions.exited("b", "exit status 2")
        assert caller.faults == [ExtensionFault("Extension.Crash", "exit status 1")]

    async def test_an_end_during_the_shutdown_is_none(self) -> None:
        caller = Caller("ext")
        caller.register("ext", "SHUTDOWN")
        caller.extensions.begin_shutdown()
        assert not caller.extensions.have_exited
        caller.extensions.exited("ext", "exit status 1")
        assert caller.extensions.have_exited
        assert caller.faults == []


class TestPhases:
    @given(st.lists(st.sampled_from(ExtensionEvent), max_size=20))
    def test_no_order_of_calls_leads_out_of_the_table(self, events: list[ExtensionEvent]) -> None:
        phase = ExtensionPhase.STARTED
        for event in events:
            before = phase
            try:
                phase = advance(phase, event)
            except TransitionRefused:
                assert phase is before
        if ExtensionEvent.REGISTER not in events:
            assert phase not in (ExtensionPhase.READY, ExtensionPhase.RUNNING)


BODIES = st.binary(max_size=40) | st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=8) | st.just("INVOKE"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["events", "configurationKeys", "errorMessage", "errorType"]), inner
        )
    ),
    max_leaves=6,
).map(lambda value: json.dumps(value).encode())
CALLS = st.tuples(
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    st.sampled_from(
        [
            *(
                BASE + end
                for end in ("register", "event/next", "init/error", "exit/error", "", "x")
            ),
            "/2022-07-01/telemetry",
            "/2020-08-15/logs",
            "/2022-07-01/telemetry/../x",
        ]
    ),
    BODIES,
    st.sampled_from(["", "mine", "other", "x" * 200, "a b", "\x7f"]),  # Name
    st.sampled_from(["", "own", str(uuid.UUID(int=7)), "no uuid", "x" * 300]),  # Identifier
)


class TestAnyCalls:
    @given(calls=st.lists(CALLS, max_size=12))
    def test_they_are_answered_or_refused_and_what_is_kept_is_bounded(
        self, calls: list[tuple[str, str, bytes, str, str]]
    ) -> None:
        async def run() -> None:
            caller = Caller("mine")
            own = caller.register("mine", "INVOKE")
            for method, path, body, name, identifier in calls:
                answer = caller.send(
                    method,
                    path,
                    body,
                    name=name,
                    identifier=own if identifier == "own" else identifier,
                    function_error_type=name,
                )
                if isinstance(answer, Response):
                    assert answer.status in (200, 202, 400, 403, 404, 405), answer
                    if answer.status >= 400:
                        assert {"errorMessage", "errorType"} <= json.loads(answer.body).keys()
            assert len(caller.extensions._by_id) <= limits.EXTENSIONS_MAX

        asyncio.run(run())
