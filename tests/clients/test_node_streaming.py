"""``awslambda.streamifyResponse`` in firelet's Node.js client, against the fake Runtime API."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from clients.conftest import Outcome, Run
from clients.fake_runtime_api import Event, Faults, Recorded
from clients.test_node_client import BOTH, ENTRY, LEGACY, MODERN


def run(
    run_client: Run, node: str, body: str, env: Mapping[str, str] = MODERN, **options: Any
) -> Outcome:
    """``body`` is that of a streaming handler (event, stream, context)."""
    code = f"""
const {{ pipeline }} = require("node:stream/promises");
const {{ Readable }} = require("node:stream");
exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {{ {body} }});
"""
    return run_client([node, ENTRY], {"index.js": code}, "index.handler", env=env, **options)


def error_of(answer: Recorded) -> dict[str, Any]:
    document = base64.b64decode(answer.trailers["lambda-runtime-function-error-body"])
    parsed: dict[str, Any] = json.loads(document)
    return parsed


@BOTH
def test_what_is_written_is_sent(node: str, run_client: Run, env: Mapping[str, str]) -> None:
    body = """
stream.write("one ");
await new Promise((resolve) => stream.write(Buffer.from("two "), resolve));
stream.end(new Uint8Array([33]));
"""
    event = Event(headers={"Lambda-Runtime-Invocation-Id": "attempt-1"})
    outcome = run(run_client, node, body, env, events=[event, Event()])
    first, second = outcome.api.answers()
    assert first.body == second.body == b"one two !"
    assert first.headers["lambda-runtime-function-response-mode"] == "streaming"
    assert first.headers["content-type"] == "application/octet-stream"
    assert first.headers["lambda-runtime-invocation-id"] == "attempt-1"
    assert first.trailers == {}
    assert (outcome.stdout, outcome.stderr, outcome.returncode) == ("", "", None)
    assert {request.connection for request in outcome.api.requests} == {0}


@BOTH
def test_a_pipeline_sends_all_of_its_source(
    node: str, run_client: Run, env: Mapping[str, str]
) -> None:
    body = """
const pieces = function* () { for (let n = 0; n < 200; n += 1) yield Buffer.alloc(50_000, n); };
await pipeline(Readable.from(pieces()), stream);
"""
    (answer,) = run(run_client, node, body, env).api.answers()
    assert answer.body == b"".join(bytes([number]) * 50_000 for number in range(200))


@BOTH
def test_a_prelude_comes_before_the_body(
    node: str, run_client: Run, env: Mapping[str, str]
) -> None:
    body = """
const http = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { a: "b" } });
http.write("body");
http.end();
"""
    (answer,) = run(run_client, node, body, env).api.answers()
    assert answer.headers["content-type"] == "application/vnd.awslambda.http-integration-response"
    prelude, rest = answer.body.split(bytes(8))
    assert json.loads(prelude) == {"statusCode": 201, "headers": {"a": "b"}}
    assert rest == b"body"


@pytest.mark.parametrize("ending", ["http.end()", "http.end('')", "http.end(() => {})"])
def test_a_prelude_is_sent_without_a_body_too(node: str, run_client: Run, ending: str) -> None:
    body = f"const http = awslambda.HttpResponseStream.from(stream, {{ a: 1 }}); {ending};"
    (answer,) = run(run_client, node, body).api.answers()
    assert answer.body == b'{"a":1}' + bytes(8)


def test_the_content_type_may_be_chosen_until_the_first_write(node: str, run_client: Run) -> None:
    body = """
stream.setContentType("text/event-stream");
stream.write("data: 1");
stream.setContentType("text/plain");
"""
    (answer,) = run(run_client, node, body).api.answers()
    assert answer.headers["content-type"] == "text/event-stream"
    assert error_of(answer)["errorType"] == "Runtime.InvalidStreamingOperation"
    assert error_of(answer)["errorMessage"] == "Cannot set content-type, too late."


def test_objects_are_sent_as_json(node: str, run_client: Run) -> None:
    (answer,) = run(run_client, node, "stream.write({ a: 1 }); stream.end([2]);").api.answers()
    assert answer.body == b'{"a":1}[2]'


@BOTH
def test_an_error_before_the_first_write_is_an_ordinary_error(
    node: str, run_client: Run, env: Mapping[str, str]
) -> None:
    outcome = run(run_client, node, "throw new RangeError('no')", env, events=[Event(), Event()])
    assert outcome.api.paths().count("invocation/{id}/error") == 2
    assert outcome.api.answers()[0].json()["errorType"] == "RangeError"


@BOTH
def test_an_error_in_mid_stream_is_told_in_trailers(
    node: str, run_client: Run, env: Mapping[str, str]
) -> None:
    body = "stream.write('half'); await null; throw new RangeError('no');"
    outcome = run(run_client, node, body, env, events=[Event(), Event()])
    for answer in outcome.api.answers():
        assert answer.body == b"half"
        assert answer.trailers["lambda-runtime-function-error-type"] == "RangeError"
        assert error_of(answer)["errorMessage"] == "no"
        assert set(answer.trailers) <= set(answer.headers["trailer"].lower().split(", "))
    assert len(outcome.api.answers()) == 2
    assert "RangeError" in outcome.stdout + outcome.stderr


def test_what_was_written_before_an_error_is_sent_before_it(node: str, run_client: Run) -> None:
    body = """
for (let n = 0; n < 400; n += 1) stream.write(Buffer.alloc(50_000));
throw new RangeError("no");
"""
    outcome = run(run_client, node, body, events=[Event(), Event()])
    for answer in outcome.api.answers():
        assert len(answer.body) == 20_000_000
        assert error_of(answer)["errorType"] == "RangeError"
    assert len(outcome.api.answers()) == 2


@BOTH
def test_a_pipeline_whose_source_fails_fails_the_stream(
    node: str, run_client: Run, env: Mapping[str, str]
) -> None:
    body = """
const pieces = async function* () {
  yield "half";
  await new Promise((resolve) => setTimeout(resolve, 20));
  throw new RangeError("no");
};
await pipeline(Readable.from(pieces()), stream);
"""
    outcome = run(run_client, node, body, env, events=[Event(), Event()])
    for answer in outcome.api.answers():
        assert answer.body == b"half"
        assert error_of(answer)["errorType"] == "RangeError"
    assert len(outcome.api.answers()) == 2


def test_what_ends_the_process_is_told_before(node: str, run_client: Run) -> None:
    body = """
stream.write("half");
setTimeout(() => { throw new RangeError("later"); }, 20);
await new Promise(() => {});
"""
    outcome = run(run_client, node, body, LEGACY)
    (answer,) = outcome.api.answers()
    assert answer.body == b"half"
    assert error_of(answer)["errorType"] == "RangeError"
    assert outcome.returncode == 129


@BOTH
def test_a_stream_that_is_never_begun_is_an_error(
    node: str, run_client: Run, env: Mapping[str, str]
) -> None:
    (answer,) = run(run_client, node, "", env).api.answers()
    assert answer.json()["errorMessage"] == "Response stream is not finished."


@BOTH
def test_a_stream_that_is_destroyed_is_an_error(
    node: str, run_client: Run, env: Mapping[str, str]
) -> None:
    body = """
await new Promise((resolve) => stream.write("half", resolve));
stream.destroy();
"""
    outcome = run(run_client, node, body, env, events=[Event(), Event()])
    first, _ = outcome.api.answers()
    assert first.body == b"half"
    assert error_of(first)["errorMessage"] == "Response stream is not finished."


@BOTH
def test_the_stream_may_be_ended_after_the_handler(
    node: str, run_client: Run, env: Mapping[str, str]
) -> None:
    body = "stream.write('x'); setTimeout(() => stream.end('y'), 20);"
    (answer,) = run(run_client, node, body, env).api.answers()
    assert (answer.body, answer.trailers) == (b"xy", {})


def test_a_value_is_ignored_with_a_warning(node: str, run_client: Run) -> None:
    outcome = run(run_client, node, "stream.end('x'); return 1;")
    assert outcome.api.answers()[0].body == b"x"
    assert "Streaming handlers ignore return values." in outcome.stdout + outcome.stderr


def test_a_handler_that_is_not_async_is_an_error(node: str, run_client: Run) -> None:
    code = "exports.handler = awslambda.streamifyResponse((event, stream) => { stream.write('x') })"
    outcome = run_client([node, ENTRY], {"index.js": code}, "index.handler", env=MODERN)
    (answer,) = outcome.api.answers()
    assert error_of(answer)["errorMessage"] == "Streaming does not support non-async handlers."


def test_only_responses_can_be_streamed(node: str, run_client: Run) -> None:
    code = """
exports.handler = async () => {};
exports.handler[Symbol.for("aws.lambda.runtime.handler.streaming")] = "request";
"""
    outcome = run_client([node, ENTRY], {"index.js": code}, "index.handler", env=MODERN)
    assert outcome.api.paths() == ["init/error"]
    assert outcome.api.answers()[0].json()["errorType"] == "Runtime.MalformedStreamingHandler"


def test_the_global_may_be_unwanted(node: str, run_client: Run) -> None:
    code = "exports.handler = async () => typeof awslambda"
    for value, expected in (("1", b'"undefined"'), ("0", b'"object"')):
        env = {**MODERN, "AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA": value}
        outcome = run_client([node, ENTRY], {"index.js": code}, "index.handler", env=env)
        assert outcome.api.answers()[0].body == expected


def test_the_loop_is_waited_for_unless_told_otherwise(node: str, run_client: Run) -> None:
    body = """
setTimeout(() => console.log("later"), 30);
context.callbackWaitsForEmptyEventLoop = event;
stream.end("x");
"""
    waits = run(run_client, node, body, LEGACY, events=[Event(b"true")])
    assert "later" in waits.stdout
    hurries = run(run_client, node, body, LEGACY, events=[Event(b"false")])
    assert "later" not in hurries.stdout


@pytest.mark.parametrize(
    "faults",
    [Faults(closes_politely=True), Faults(dribbles=True)],
    ids=["Connection: close", "dribbles"],
)
def test_a_difficult_server_is_served_all_the_same(
    node: str, run_client: Run, faults: Faults
) -> None:
    events = [Event(), Event()]
    outcome = run(run_client, node, "stream.end('x')", events=events, faults=faults)
    assert [answer.body for answer in outcome.api.answers()] == [b"x", b"x"]
    assert outcome.stderr == ""


def test_a_refused_stream_does_not_end_the_runtime(node: str, run_client: Run) -> None:
    faults = Faults(answer_status="413 Request Entity Too Large")
    events = [Event(), Event()]
    outcome = run(run_client, node, "stream.end('x')", events=events, faults=faults)
    assert len(outcome.api.answers()) == 2
    assert "Http response code: 413." in outcome.stderr
    assert outcome.returncode is None


def test_a_slow_reader_holds_the_handler_up(node: str, run_client: Run) -> None:
    """``write`` says false when enough waits, with the mark that the handler chose."""
    code = """
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  const isWanted = stream.write(Buffer.alloc(2000));
  stream.end(JSON.stringify([isWanted, stream.writableHighWaterMark]));
}, { highWaterMark: 1000 });
"""
    outcome = run_client([node, ENTRY], {"index.js": code}, "index.handler", env=MODERN)
    assert outcome.api.answers()[0].body.endswith(b"[false,1000]")
