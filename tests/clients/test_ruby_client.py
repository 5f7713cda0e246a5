"""firelet's Ruby client on the Ruby of this machine, against the fake Runtime API."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from clients.conftest import GUEST, Outcome, Run
from clients.fake_runtime_api import ARN, REQUEST_ID, TRACE_ID, Event, Faults

ENTRY = str(GUEST / "ruby_runtime.rb")
HANDLER = "lambda_function.lambda_handler"


@pytest.fixture(scope="module")
def ruby() -> str:
    found = shutil.which("ruby")
    if found is None:
        pytest.skip("ruby is not installed (PATH)")
    return found


def run(run_client: Run, ruby: str, code: str, handler: str = HANDLER, **options: Any) -> Outcome:
    # A function's own folder is on RUBYLIB, as firelet sets it; here it is the working directory.
    return run_client([ruby, "-I.", ENTRY], {"lambda_function.rb": code}, handler, **options)


def bodies(outcome: Outcome) -> list[Any]:
    return [answer.json() for answer in outcome.api.answers()]


def test_events_are_answered_one_after_the_other(ruby: str, run_client: Run) -> None:
    events = [Event(b'{"n":1}'), Event('"é"'.encode()), Event(b"null")]
    code = "def lambda_handler(event:, context:)\n  event\nend\n"
    outcome = run(run_client, ruby, code, events=events)
    assert bodies(outcome) == [{"n": 1}, "é", None]
    assert outcome.api.paths() == [
        "invocation/next",
        *["invocation/{id}/response", "invocation/next"] * 3,
    ]
    assert (outcome.stdout, outcome.stderr, outcome.returncode) == ("", "", None)
    assert {request.connection for request in outcome.api.requests} == {0}


def test_a_method_of_a_class_or_module_serves(ruby: str, run_client: Run) -> None:
    code = (
        "module Shop\n  class Handler\n    def self.process(event:, context:)\n"
        "      'from a class'\n    end\n  end\nend\n"
    )
    outcome = run(run_client, ruby, code, "lambda_function.Shop::Handler.process")
    assert bodies(outcome) == ["from a class"]


def test_the_context_and_the_trace_of_the_invocation(ruby: str, run_client: Run) -> None:
    code = (
        "def lambda_handler(event:, context:)\n"
        "  { id: context.aws_request_id, arn: context.invoked_function_arn,\n"
        "    name: context.function_name, version: context.function_version,\n"
        "    memory: context.memory_limit_in_mb, group: context.log_group_name,\n"
        "    left: context.get_remaining_time_in_millis, trace: ENV['_X_AMZN_TRACE_ID'],\n"
        "    client: context.client_context, identity: context.identity }\nend\n"
    )
    headers = {
        "Lambda-Runtime-Client-Context": '{"custom":{"a":"b"}}',
        "Lambda-Runtime-Cognito-Identity": '{"cognitoIdentityId":"x"}',
    }
    (got,) = bodies(run(run_client, ruby, code, events=[Event(headers=headers)]))
    assert 0 < got.pop("left") <= 60_000
    assert got == {
        "id": REQUEST_ID,
        "arn": ARN,
        "name": "hello",
        "version": "$LATEST",
        "memory": "128",
        "group": "/aws/lambda/hello",
        "trace": TRACE_ID,
        "client": {"custom": {"a": "b"}},
        "identity": {"cognitoIdentityId": "x"},
    }


def test_an_error_is_told_with_its_own_frames_and_the_next_event_is_served(
    ruby: str, run_client: Run
) -> None:
    code = (
        "def lambda_handler(event:, context:)\n"
        "  raise ArgumentError, 'no good' if event['bad']\n  'good'\nend\n"
    )
    outcome = run(run_client, ruby, code, events=[Event(b'{"bad":true}'), Event()])
    error, good = bodies(outcome)
    assert (error["errorMessage"], error["errorType"]) == ("no good", "Function<ArgumentError>")
    assert "lambda_function.rb:2:in" in error["stackTrace"][0]
    assert not [frame for frame in error["stackTrace"] if "ruby_runtime" in frame]
    header = outcome.api.answers()[0].headers["lambda-runtime-function-error-type"]
    assert header == "Function<ArgumentError>"
    assert good == "good"
    assert "no good" in outcome.stderr


@pytest.mark.parametrize(
    ("code", "handler", "kind", "message"),
    [
        ("def nothing; end\n", HANDLER, "Init<NameError>", "undefined method `lambda_handler'"),
        ("def broken(\n", HANDLER, "Init<SyntaxError>", "syntax error"),
        ("raise 'at load'\n", HANDLER, "Init<RuntimeError>", "at load"),
        ("", "missing.handler", "Init<LoadError>", "cannot load such file -- missing"),
        ("", "lambda_function.No.way", "Init<NameError>", "uninitialized constant No"),
        ("", "nodots", "Init<ArgumentError>", "Invalid handler nodots, must be of form"),
    ],
)
def test_what_cannot_be_loaded_is_an_init_error(
    ruby: str, run_client: Run, code: str, handler: str, kind: str, message: str
) -> None:
    outcome = run(run_client, ruby, code, handler)
    assert outcome.api.paths() == ["init/error"]
    (error,) = bodies(outcome)
    assert error["errorType"] == kind
    assert message in error["errorMessage"]
    assert outcome.returncode == 1


def test_an_io_error_of_the_function_is_its_own(ruby: str, run_client: Run) -> None:
    code = "def lambda_handler(event:, context:)\n  raise IOError, 'mine'\nend\n"
    outcome = run(run_client, ruby, code, events=[Event(), Event()])
    assert [error["errorMessage"] for error in bodies(outcome)] == ["mine", "mine"]


def test_exit_in_a_handler_is_reported_and_ends_the_process(ruby: str, run_client: Run) -> None:
    outcome = run(run_client, ruby, "def lambda_handler(event:, context:)\n  exit 3\nend\n")
    (error,) = bodies(outcome)
    assert error["errorType"] == "Function<SystemExit>"
    assert outcome.returncode == 1


def test_what_has_no_json_is_an_error_of_the_function(ruby: str, run_client: Run) -> None:
    code = "def lambda_handler(event:, context:)\n  Float::NAN\nend\n"
    (error,) = bodies(run(run_client, ruby, code))
    assert error["errorType"] == "Function<JSON::GeneratorError>"


def test_an_io_object_is_sent_as_it_is(ruby: str, run_client: Run) -> None:
    code = 'def lambda_handler(event:, context:)\n  StringIO.new("\\x00raw".b)\nend\n'
    (answer,) = run(run_client, ruby, code).api.answers()
    assert answer.body == b"\x00raw"
    assert answer.headers["content-type"] == "application/unknown"


def test_answers_that_dribble_are_put_together(ruby: str, run_client: Run) -> None:
    code = "def lambda_handler(event:, context:)\n  event\nend\n"
    body = json.dumps({"text": "é" * 5_000}).encode()
    outcome = run(run_client, ruby, code, events=[Event(body)], faults=Faults(dribbles=True))
    assert bodies(outcome) == [json.loads(body)]


def test_a_refused_answer_is_noted_and_the_next_event_served(ruby: str, run_client: Run) -> None:
    code = "def lambda_handler(event:, context:)\n  1\nend\n"
    faults = Faults(answer_status="413 Payload Too Large")
    outcome = run(run_client, ruby, code, events=[Event(), Event()], faults=faults)
    assert len(outcome.api.answers()) == 2
    assert "The Runtime API refused an answer: 413" in outcome.stderr


def test_a_broken_runtime_api_ends_the_process(ruby: str, run_client: Run) -> None:
    code = "def lambda_handler(event:, context:)\n  1\nend\n"
    outcome = run(run_client, ruby, code, faults=Faults(raw_next=b"garbage\r\n\r\n"))
    assert outcome.returncode == 2
    assert "answered no HTTP" in outcome.stderr
