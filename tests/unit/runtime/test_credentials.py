"""The credentials endpoint of environments with SnapStart, and their calls of the Runtime API."""

from __future__ import annotations

import asyncio
import json

import pytest

from firelet.runtime.api import CREDENTIALS_PATH, RuntimeApi
from firelet.runtime.credentials import CredentialsEndpoint, SessionCredentials
from firelet.runtime.exchange import Exchange
from firelet.runtime.phases import Phase
from firelet.wire.http1 import Request, Response

CREDENTIALS = SessionCredentials("ASIAEXAMPLE", "secret", "token", 1_795_417_200.0)


class Client:
    """A runtime with SnapStart, without a socket."""

    def __init__(self, *, has_snap_start: bool = True) -> None:
        self.endpoint = CredentialsEndpoint(lambda: CREDENTIALS)
        self.exchange = Exchange(lambda: None)
        self.api = RuntimeApi(self.exchange, self.endpoint if has_snap_start else None)

    def ask(self, method: bytes, path: str, body: bytes = b"", **headers: str) -> Response:
        named = {name.encode(): value.encode() for name, value in headers.items()}
        answer = self.api(Request(method, path.encode(), named, body, ""))
        assert isinstance(answer, Response)
        return answer


def test_who_knows_the_token_gets_the_credentials() -> None:
    client = Client()
    answer = client.ask(b"GET", CREDENTIALS_PATH, authorization=client.endpoint.token)
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "AccessKeyId": "ASIAEXAMPLE",
        "SecretAccessKey": "secret",
        "Token": "token",
        "Expiration": "2026-11-23T07:00:00Z",
    }


def test_a_clone_answers_who_knows_the_token_of_its_snapshot() -> None:
    snapshot = CredentialsEndpoint(lambda: CREDENTIALS)
    clone = CredentialsEndpoint(lambda: CREDENTIALS, snapshot.token)
    headers = {b"authorization": snapshot.token.encode()}
    request = Request(b"GET", CREDENTIALS_PATH.encode(), headers, b"", "")
    assert clone.answer(request).status == 200
    assert CredentialsEndpoint(lambda: CREDENTIALS).answer(request).status == 403


@pytest.mark.parametrize("given", [{}, {"authorization": ""}, {"authorization": "guess"}])
def test_others_are_refused(given: dict[str, str]) -> None:
    answer = Client().ask(b"GET", CREDENTIALS_PATH, **given)
    assert (answer.status, answer.body) == (403, b"")


async def test_the_restore_point_ends_init() -> None:
    client = Client()
    initialised = client.exchange.start()
    assert client.ask(b"GET", "/2018-06-01/runtime/restore/next").status == 200
    assert client.exchange.phase is Phase.SNAPSHOT
    assert await initialised is None
    assert client.ask(b"GET", "/2018-06-01/runtime/restore/next").status == 403


async def test_a_snapshot_that_is_cloned_whole_waits_for_its_answer_in_its_clones() -> None:
    snapshot, clone = Exchange(lambda: None), Exchange(lambda: None)
    request = Request(b"GET", b"/2018-06-01/runtime/restore/next", {}, b"", "")
    endpoint = CredentialsEndpoint(lambda: CREDENTIALS)
    initialised = snapshot.start()
    waiting = RuntimeApi(snapshot, endpoint, is_cloned_whole=True)(request)
    assert isinstance(waiting, asyncio.Future)
    assert await initialised is None
    restored = clone.start(is_clone=True)
    answer = RuntimeApi(clone, endpoint, is_cloned_whole=True)(request)
    assert isinstance(answer, Response)
    assert answer.status == 200
    assert not restored.done()  # that comes with its hooks
    assert not waiting.done()


async def test_a_failed_restore_is_reported_like_a_failed_init() -> None:
    client = Client()
    restored = client.exchange.start()
    body = b'{"errorType": "ValueError"}'
    assert client.ask(b"POST", "/2018-06-01/runtime/restore/error", body).status == 202
    answer = await restored
    assert answer is not None
    assert (answer.error_type, answer.payload) == ("ValueError", body)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (b"GET", "/2018-06-01/runtime/restore/next"),
        (b"POST", "/2018-06-01/runtime/restore/error"),
        (b"GET", CREDENTIALS_PATH),
    ],
)
def test_without_snap_start_there_are_no_such_calls(method: bytes, path: str) -> None:
    assert Client(has_snap_start=False).ask(method, path).status == 404
