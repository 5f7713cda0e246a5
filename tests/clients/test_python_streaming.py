"""Generators as handlers: what firelet's Python client streams, on every interpreter."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest

from clients.conftest import Outcome, Run
from clients.fake_runtime_api import Event, Faults
from clients.test_python_client import BOOTSTRAP


def run(run_client: Run, python: str, code: str, **options: Any) -> Outcome:
    return run_client([python, BOOTSTRAP], {"m.py": code}, "m.handler", **options)


def error_of(trailers: Any) -> dict[str, Any]:
    document = base64.b64decode(trailers["lambda-runtime-function-error-body"])
    parsed: dict[str, Any] = json.loads(document)
    return parsed


def test_what_is_yielded_is_sent_piece_by_piece(python: str, run_client: Run) -> None:
    code = """
def handler(event, context):
    yield b"one "
    yield ""
    yield "two é"
    yield bytearray(b"!")
"""
    event = Event(headers={"Lambda-Runtime-Invocation-Id": "attempt-1"})
    outcome = run(run_client, python, code, events=[event, Event()])
    first, second = outcome.api.answers()
    assert list(first.chunks) == [b"one ", "two é".encode(), b"!"]
    assert second.body == first.body
    assert first.headers["lambda-runtime-function-response-mode"] == "streaming"
    assert first.headers["content-type"] == "application/octet-stream"
    assert first.headers["lambda-runtime-invocation-id"] == "attempt-1"
    assert first.trailers == {}
    assert outcome.api.paths() == [
        "invocation/next",
        *["invocation/{id}/response", "invocation/next"] * 2,
    ]
    assert {request.connection for request in outcome.api.requests} == {0}
    assert (outcome.stderr, outcome.returncode) == ("", None)


def test_a_dict_that_comes_first_is_the_prelude_of_an_http_answer(
    python: str, run_client: Run
) -> None:
    code = """
def handler(event, context):
    yield {"statusCode": 201, "headers": {"x": "y"}}
    yield b"body"
"""
    (answer,) = run(run_client, python, code).api.answers()
    assert answer.headers["content-type"] == "application/vnd.awslambda.http-integration-response"
    prelude, body = answer.body.split(bytes(8))
    assert json.loads(prelude) == {"statusCode": 201, "headers": {"x": "y"}}
    assert body == b"body"


def test_a_generator_may_yield_nothing(python: str, run_client: Run) -> None:
    code = "def handler(event, context):\n    return\n    yield\n"
    (answer,) = run(run_client, python, code).api.answers()
    assert (answer.body, answer.trailers) == (b"", {})
    assert answer.headers["transfer-encoding"] == "chunked"


def test_a_large_piece_is_one_chunk(python: str, run_client: Run) -> None:
    code = "def handler(event, context):\n    yield 'x' * 3_000_000\n    yield 'y'\n"
    (answer,) = run(run_client, python, code).api.answers()
    assert list(map(len, answer.chunks)) == [3_000_000, 1]


def test_an_error_before_the_first_piece_is_an_ordinary_error(python: str, run_client: Run) -> None:
    code = "def handler(event, context):\n    raise KeyError('gone')\n    yield\n"
    outcome = run(run_client, python, code)
    assert outcome.api.paths()[1] == "invocation/{id}/error"
    assert outcome.api.answers()[0].json()["errorType"] == "KeyError"


def test_an_error_in_mid_stream_is_told_in_trailers(python: str, run_client: Run) -> None:
    code = """
def handler(event, context):
    yield b"half"
    raise KeyError("gone")
"""
    outcome = run(run_client, python, code, events=[Event(), Event()])
    for answer in outcome.api.answers():
        assert answer.body == b"half"
        assert answer.trailers["lambda-runtime-function-error-type"] == "KeyError"
        assert error_of(answer.trailers)["errorMessage"] == "'gone'"
        declared = answer.headers["trailer"].lower().split(", ")
        assert set(answer.trailers) <= set(declared)
    assert "KeyError" in outcome.stdout


@pytest.mark.parametrize("piece", ["1", "None", "[b'x']", "{'statusCode': 200}"])
def test_other_pieces_cannot_be_sent(python: str, run_client: Run, piece: str) -> None:
    code = f"def handler(event, context):\n    yield b'x'\n    yield {piece}\n"
    (answer,) = run(run_client, python, code).api.answers()
    assert answer.trailers["lambda-runtime-function-error-type"] == "Runtime.MarshalError"
    assert "is not bytes or str" in error_of(answer.trailers)["errorMessage"]


@pytest.mark.parametrize(
    ("faults", "bodies"),
    [
        (Faults(closes_politely=True), [b"ab", b"ab"]),
        (Faults(dribbles=True), [b"ab", b"ab"]),
    ],
    ids=["Connection: close", "dribbles"],
)
def test_a_difficult_server_is_served_all_the_same(
    python: str, run_client: Run, faults: Faults, bodies: Sequence[bytes]
) -> None:
    code = "def handler(event, context):\n    yield b'a'\n    yield b'b'\n"
    outcome = run(run_client, python, code, events=[Event(), Event()], faults=faults)
    assert [answer.body for answer in outcome.api.answers()] == bodies
    assert outcome.stderr == ""


def test_a_refused_stream_does_not_end_the_runtime(python: str, run_client: Run) -> None:
    code = "def handler(event, context):\n    yield b'a'\n"
    faults = Faults(answer_status="413 Request Entity Too Large")
    outcome = run(run_client, python, code, events=[Event(), Event()], faults=faults)
    assert len(outcome.api.answers()) == 2
    assert "Http response code: 413." in outcome.stderr
    assert outcome.returncode is None


def test_iterators_that_are_no_generators_are_values_as_on_aws(
    python: str, run_client: Run
) -> None:
    code = "def handler(event, context):\n    return iter([b'a'])\n"
    (answer,) = run(run_client, python, code).api.answers()
    assert answer.json()["errorType"] == "Runtime.MarshalError"


@pytest.mark.parametrize("body", ["yield b'a'", "return 1"], ids=["generator", "coroutine"])
def test_asynchronous_handlers_are_values_as_on_aws(
    python: str, run_client: Run, body: str
) -> None:
    code = f"async def handler(event, context):\n    {body}\n"
    (answer,) = run(run_client, python, code).api.answers()
    assert answer.json()["errorType"] == "Runtime.MarshalError"
    assert "is not JSON serializable" in answer.json()["errorMessage"]


def test_what_a_generator_cleans_up_is_done_before_the_next_event(
    python: str, run_client: Run
) -> None:
    code = """
done = []
def handler(event, context):
    try:
        yield str(done)
        yield 1
    finally:
        done.append(1)
"""
    first, second = run(run_client, python, code, events=[Event(), Event()]).api.answers()
    assert (first.body, second.body) == (b"[]", b"[1]")
