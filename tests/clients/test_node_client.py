"""firelet's Node.js client on every Node.js of this machine, against the fake Runtime API."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from clients.conftest import GUEST, Outcome, Run
from clients.fake_runtime_api import ARN, REQUEST_ID, TRACE_ID, Event, Faults

ENTRY = str(GUEST / "node_runtime.cjs")
# The environment decides, so that both generations are tested on any Node.js.
LEGACY = {"AWS_EXECUTION_ENV": "AWS_Lambda_nodejs22.x"}
MODERN = {"AWS_EXECUTION_ENV": "AWS_Lambda_nodejs24.x"}
BOTH = pytest.mark.parametrize("env", [LEGACY, MODERN], ids=["nodejs22", "nodejs24"])

ECHO = "exports.handler = async (event) => event;\n"


def run(
    run_client: Run, node: str, code: str, env: Mapping[str, str] = LEGACY, **options: Any
) -> Outcome:
    return run_client([node, ENTRY], {"index.js": code}, "index.handler", env=env, **options)


def bodies(outcome: Outcome) -> list[bytes]:
    return [answer.body for answer in outcome.api.answers()]


@BOTH
def test_events_are_answered_one_after_the_other(
    node: str, run_client: Run, env: Mapping[str, str]
) -> None:
    events = [Event(b'{"n":1}'), Event('"é"'.encode()), Event(b"null")]
    outcome = run(run_client, node, ECHO, env, events=events)
    assert bodies(outcome) == [b'{"n":1}', '"é"'.encode(), b"null"]
    assert outcome.api.paths() == [
        "invocation/next",
        *["invocation/{id}/response", "invocation/next"] * 3,
    ]
    assert (outcome.stdout, outcome.stderr, outcome.returncode) == ("", "", None)
    assert {request.connection for request in outcome.api.requests} == {0}


LAYOUTS = {
    "CommonJS": ({"index.js": "exports.handler = async () => 1"}, "index.handler"),
    "folder": ({"src/app.js": "exports.handler = async () => 1"}, "src/app.handler"),
    "nested export": ({"a.js": "exports.b = { c: { d: async () => 1 } }"}, "a.b.c.d"),
    "mjs": ({"index.mjs": "export const handler = async () => 1"}, "index.handler"),
    "cjs": ({"index.cjs": "exports.handler = async () => 1"}, "index.handler"),
    "type module": (
        {
            "package.json": '{"type": "module"}',
            "src/index.js": "export const handler = await (async () => async () => 1)()",
        },
        "src/index.handler",
    ),
    "type module above a CommonJS package": (
        {
            "package.json": '{"type": "module"}',
            "src/package.json": "{}",
            "src/index.js": "exports.handler = async () => 1",
        },
        "src/index.handler",
    ),
    "package with dependency": (
        {
            "index.js": "exports.handler = require('dep').make()",
            "node_modules/dep/index.js": "exports.make = () => async () => 1",
        },
        "index.handler",
    ),
    "package as module": (
        {"node_modules/dep/index.js": "exports.handler = async () => 1"},
        "dep.handler",
    ),
    "folder with index": ({"app/index.js": "exports.handler = async () => 1"}, "app.handler"),
    "no extension": ({"index": "exports.handler = async () => 1"}, "index.handler"),
}


@BOTH
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_handler_is_found(
    node: str, run_client: Run, layout: str, env: Mapping[str, str]
) -> None:
    files, handler = LAYOUTS[layout]
    outcome = run_client([node, ENTRY], files, handler, env=env)
    assert (bodies(outcome), outcome.stdout, outcome.stderr) == ([b"1"], "", "")


def test_the_newer_client_looks_into_the_default_export(node: str, run_client: Run) -> None:
    files = {"index.mjs": "export default { handler: async () => 1 }"}
    assert bodies(run_client([node, ENTRY], files, "index.handler", env=MODERN)) == [b"1"]
    older = run_client([node, ENTRY], files, "index.handler", env=LEGACY)
    assert older.api.answers()[0].json()["errorType"] == "Runtime.HandlerNotFound"


INIT_ERRORS = {
    "missing module": (
        {},
        "index.handler",
        "Runtime.ImportModuleError",
        "Error: Cannot find module 'index'\nRequire stack:\n- /var/runtime/index.mjs",
    ),
    "missing dependency": (
        {"index.js": "require('not-there')"},
        "index.handler",
        "Runtime.ImportModuleError",
        "Error: Cannot find module 'not-there'\nRequire stack:\n- {task}/index.js\n"
        "- /var/runtime/index.mjs",
    ),
    "missing export": (
        {"index.js": "exports.other = 1"},
        "index.handler",
        "Runtime.HandlerNotFound",
        "index.handler is undefined or not exported",
    ),
    "not a function": (
        {"index.js": "exports.handler = 7"},
        "index.handler",
        "Runtime.HandlerNotFound",
        "index.handler is not a function",
    ),
    "syntax": (
        {"index.js": "exports.handler = async () => {"},
        "index.handler",
        "Runtime.UserCodeSyntaxError",
        "SyntaxError: Unexpected end of input",
    ),
    "no dot": ({}, "index", "Runtime.MalformedHandlerName", "Bad handler"),
    "dots": (
        {},
        "../index.handler",
        "Runtime.MalformedHandlerName",
        "'../index.handler' is not a valid handler name. Use absolute paths when specifying root "
        "directories in handler names.",
    ),
    "throws": ({"index.js": "throw new TypeError('no')"}, "index.handler", "TypeError", "no"),
}


@BOTH
@pytest.mark.parametrize("case", INIT_ERRORS)
def test_a_failed_init_is_reported_and_ends_the_process(
    node: str, run_client: Run, case: str, env: Mapping[str, str]
) -> None:
    files, handler, error_type, message = INIT_ERRORS[case]
    outcome = run_client([node, ENTRY], files, handler, env=env)
    assert outcome.api.paths() == ["init/error"]
    [report] = outcome.api.answers()
    assert report.headers["lambda-runtime-function-error-type"] == error_type
    document = report.json()
    assert document["errorType"] == error_type
    assert document["errorMessage"] == message.replace("{task}", str(outcome.task))
    assert isinstance(document["trace"], list)
    is_modern = env is MODERN
    assert outcome.returncode == (1 if is_modern else 129)
    title = "-\tERROR\tInit Error \t{" if is_modern else "undefined\tERROR\tUncaught Exception \t{"
    assert title in outcome.stdout
    logged = json.loads(outcome.stdout.split("\t")[-1])
    assert list(logged)[:2] == ["errorType", "errorMessage"]
    assert "name" not in logged


@BOTH
def test_a_rejected_promise_is_the_invocations_error(
    node: str, run_client: Run, env: Mapping[str, str]
) -> None:
    code = "exports.handler = async () => { throw new RangeError('too ü far') }\n"
    outcome = run(run_client, node, code, env)
    [answer] = outcome.api.answers()
    assert answer.path.endswith("/error")
    assert answer.headers["lambda-runtime-function-error-type"] == "RangeError"
    document = answer.json()
    assert (document["errorType"], document["errorMessage"]) == ("RangeError", "too ü far")
    assert document["trace"][0] == "RangeError: too ü far"
    cause = json.loads(answer.headers["lambda-runtime-function-xray-error-cause"])
    frame = cause["exceptions"][0]["stack"][0]
    path = str(outcome.task / "index.js")
    assert (frame["path"], frame["line"]) == (path, 1)
    assert cause["paths"][0] == path
    logged = re.fullmatch(
        rf"\S+Z\t{REQUEST_ID}\tERROR\tInvoke Error \t(\{{.*\}})\n", outcome.stdout
    )
    assert logged is not None
    assert json.loads(logged[1])["stack"] == document["trace"]


@pytest.mark.parametrize(
    ("thrown", "document"),
    [
        ("'text'", {"errorType": "string", "errorMessage": "text", "trace": []}),
        ("7", {"errorType": "number", "errorMessage": "7", "trace": []}),
        (
            "Object.create(null)",
            {
                "errorType": "handled",
                "errorMessage": "callback called with Error argument, but there was a problem "
                "while retrieving one or more of its message, name, and stack",
                "trace": [],
            },
        ),
    ],
)
def test_what_is_no_error_may_be_thrown_too(
    node: str, run_client: Run, thrown: str, document: object
) -> None:
    outcome = run(run_client, node, f"exports.handler = async () => {{ throw {thrown} }}")
    assert outcome.api.answers()[0].json() == document


CALLBACKS = {
    "callback": ("(e, c, callback) => { callback(null, 'done') }", [b'"done"']),
    "callback error": ("(e, c, callback) => { callback('bad') }", "bad"),
    "done": ("(e, c) => { c.done(null, 'done') }", [b'"done"']),
    "done error": ("(e, c) => { c.done(new Error('bad')) }", "bad"),
    "succeed": ("(e, c) => { setTimeout(() => c.succeed('done'), 5) }", [b'"done"']),
    "fail": ("(e, c) => { c.fail('bad') }", "bad"),
    "fail with nothing": ("(e, c) => { c.fail() }", "handled"),
    "nothing": ("() => {}", [b"null"]),
    "nothing, later": ("() => { setTimeout(() => {}, 5) }", [b"null"]),
    "a value is no answer": ("() => 'ignored'", [b"null"]),
    "first call counts": (
        "(e, c, callback) => { callback(null, 1); callback(null, 2); c.fail('no') }",
        [b"1"],
    ),
    "throws": ("() => { throw new Error('bad') }", "bad"),
    "never settles": ("() => new Promise(() => {})", [b"null"]),
    "thenable": ("() => ({ then(resolve) { resolve('done') } })", [b'"done"']),
    "circular": (
        "async () => { const a = []; a.push(a); return a }",
        "Unable to stringify response body",
    ),
    "undefined": ("async () => {}", [b"null"]),
}


@pytest.mark.parametrize("case", CALLBACKS)
def test_older_runtimes_take_every_way_to_answer(node: str, run_client: Run, case: str) -> None:
    code, expected = CALLBACKS[case]
    outcome = run(run_client, node, f"exports.handler = {code}")
    if isinstance(expected, str):
        [answer] = outcome.api.answers()
        assert answer.path.endswith("/error")
        assert answer.json()["errorMessage"] == expected
    else:
        assert bodies(outcome) == expected
    assert outcome.returncode is None


def test_a_callback_waits_for_the_event_loop_to_run_empty(node: str, run_client: Run) -> None:
    code = (
        "exports.handler = (event, context, callback) => {\n"
        "  context.callbackWaitsForEmptyEventLoop = event.waits;\n"
        "  setTimeout(() => console.log('timer'), 30);\n"
        "  callback(null, event.waits);\n};\n"
    )
    outcome = run(run_client, node, code, events=[Event(b'{"waits":true}')])
    assert (bodies(outcome), outcome.stdout.count("timer")) == ([b"true"], 1)
    outcome = run(run_client, node, code, events=[Event(b'{"waits":false}')])
    assert (bodies(outcome), outcome.stdout) == ([b"false"], "")


def test_a_late_callback_is_only_complained_about(node: str, run_client: Run) -> None:
    code = (
        "let late;\nexports.handler = (event, context, callback) => {\n"
        "  if (late) { late(null, 'late'); callback(null, 'second') } else { late = callback }\n"
        "};\n"
    )
    outcome = run(run_client, node, code, events=[Event(), Event()])
    assert bodies(outcome) == [b"null", b'"second"']


def test_newer_runtimes_refuse_callback_handlers(node: str, run_client: Run) -> None:
    outcome = run(run_client, node, "exports.handler = (e, c, callback) => {}", MODERN)
    assert outcome.api.answers()[0].json()["errorType"] == "Runtime.CallbackHandlerDeprecated"


def test_newer_runtimes_end_when_nothing_is_left_to_do(node: str, run_client: Run) -> None:
    outcome = run(run_client, node, "exports.handler = () => new Promise(() => {})", MODERN)
    assert (outcome.returncode, bodies(outcome)) == (0, [])


def test_newer_runtimes_take_what_a_plain_function_returns(node: str, run_client: Run) -> None:
    assert bodies(run(run_client, node, "exports.handler = () => 5", MODERN)) == [b"5"]


FATAL = {
    "exception": ("setTimeout(() => { throw new Error('late') }, 1)", "Error", "late", 129),
    "rejection": (
        "Promise.reject(new Error('late'))",
        "Runtime.UnhandledPromiseRejection",
        "Error: late",
        128,
    ),
    "bare rejection": (
        "Promise.reject(Object.create(null))",
        "Runtime.UnhandledPromiseRejection",
        "an object that has no text",
        128,
    ),
}


@pytest.mark.parametrize("phase", ["invoke", "init"])
@pytest.mark.parametrize("case", FATAL)
def test_what_nobody_catches_is_reported_and_ends_the_process(
    node: str, run_client: Run, case: str, phase: str
) -> None:
    statement, error_type, message, code = FATAL[case]
    wait = "new Promise((done) => setTimeout(done, 5000))"
    if phase == "invoke":
        text, path = f"exports.handler = () => {{ {statement}; return {wait} }}", "error"
        files = {"index.js": text}
    else:
        files = {"index.mjs": f"{statement}; await {wait}"}
        path = "runtime/init/error"
    outcome = run_client([node, ENTRY], files, "index.handler", env=LEGACY)
    [answer] = outcome.api.answers()
    assert answer.path.endswith(path)
    document = answer.json()
    assert (document["errorType"], document["errorMessage"]) == (error_type, message)
    assert outcome.returncode == code


def test_newer_runtimes_leave_what_nobody_catches_to_node(node: str, run_client: Run) -> None:
    code = (
        "exports.handler = () => { Promise.reject(new Error('late')); "
        "return new Promise(() => {}) }"
    )
    outcome = run(run_client, node, code, MODERN)
    assert (outcome.returncode, bodies(outcome)) == (1, [])
    assert "Error: late" in outcome.stderr


def test_the_context_has_what_aws_gives(node: str, run_client: Run) -> None:
    code = (
        "exports.handler = async (event, context) => ({ ...context, "
        "left: context.getRemainingTimeInMillis() > 50000, trace: process.env._X_AMZN_TRACE_ID })"
    )
    headers = {
        "Lambda-Runtime-Client-Context": '{"custom":{"a":"é"}}',
        "Lambda-Runtime-Cognito-Identity": '{"cognitoIdentityId":"id"}',
        "Lambda-Runtime-Aws-Tenant-Id": "blue",
    }
    outcome = run(run_client, node, code, MODERN, events=[Event(headers=headers)])
    assert outcome.api.answers()[0].json() == {
        "functionVersion": "$LATEST",
        "functionName": "hello",
        "memoryLimitInMB": "128",
        "logGroupName": "/aws/lambda/hello",
        "logStreamName": "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef",
        "clientContext": {"custom": {"a": "é"}},
        "identity": {"cognitoIdentityId": "id"},
        "invokedFunctionArn": ARN,
        "awsRequestId": REQUEST_ID,
        "tenantId": "blue",
        "left": True,
        "trace": TRACE_ID,
    }


LOGGING = (
    "console.log('early');\nexports.handler = async () => {\n"
    "  console.trace('t'); console.debug('d'); console.info('i %s', 1); console.warn('a\\nb');\n"
    "  console.error(new TypeError('e')); console.fatal({ f: 1 });\n};\n"
)


def test_text_lines_carry_time_request_and_level(node: str, run_client: Run) -> None:
    outcome = run(run_client, node, LOGGING)
    lines = [line.split("\t") for line in outcome.stdout.split("\n")[:-1]]
    assert [(line[1], line[2], line[3].split("\r")[0]) for line in lines] == [
        ("undefined", "INFO", "early"),
        (REQUEST_ID, "TRACE", "t"),
        (REQUEST_ID, "DEBUG", "d"),
        (REQUEST_ID, "INFO", "i 1"),
        (REQUEST_ID, "WARN", "a"),
        (REQUEST_ID, "ERROR", "TypeError: e"),
        (REQUEST_ID, "FATAL", "{ f: 1 }"),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line[0]) for line in lines)


def test_json_lines_obey_the_level(node: str, run_client: Run) -> None:
    env = {**LEGACY, "AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "warn"}
    event = Event(headers={"Lambda-Runtime-Aws-Tenant-Id": "blue"})
    outcome = run(run_client, node, LOGGING, env, events=[event])
    lines = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert [(line["level"], line["requestId"], line["tenantId"]) for line in lines] == [
        (level, REQUEST_ID, "blue") for level in ("WARN", "ERROR", "FATAL")
    ]
    assert lines[0]["message"] == "a\nb"
    assert lines[1]["message"]["errorType"] == "TypeError"
    assert lines[1]["message"]["stackTrace"][0] == "TypeError: e"
    assert lines[2]["message"] == {"f": 1}


@pytest.mark.parametrize(
    ("env", "kinds"),
    [
        (LEGACY, [0x0F, 0x07, 0x0B, 0x0F, 0x13, 0x17, 0x1B]),
        ({**LEGACY, "AWS_LAMBDA_LOG_FORMAT": "JSON"}, [0x0E, 0x06, 0x0A, 0x0E, 0x12, 0x16, 0x1A]),
    ],
)
def test_the_telemetry_pipe_carries_a_frame_per_message(
    node: str, run_client: Run, env: Mapping[str, str], kinds: list[int]
) -> None:
    code = LOGGING + "console.log(process.env._LAMBDA_TELEMETRY_LOG_FD === undefined);"
    outcome = run(run_client, node, code, env, telemetry=True)
    assert [kind - 0xA55A0000 for kind, _ in outcome.frames if "true" not in _] == kinds
    assert outcome.stdout == ""
    assert "true" in outcome.frames[1][1]


@pytest.mark.parametrize(
    "faults",
    [Faults(closes_politely=True), Faults(closes_abruptly=True), Faults(dribbles=True)],
    ids=["Connection: close", "closes without a word", "dribbles"],
)
def test_a_difficult_server_is_served_all_the_same(
    node: str, run_client: Run, faults: Faults
) -> None:
    outcome = run(run_client, node, ECHO, events=[Event(b"1"), Event(b"2")], faults=faults)
    assert outcome.stderr == ""
    assert list(dict.fromkeys(bodies(outcome))) == [b"1", b"2"]


@BOTH
def test_a_refused_response_does_not_end_the_runtime(
    node: str, run_client: Run, env: Mapping[str, str]
) -> None:
    faults = Faults(answer_status="413 Request Entity Too Large")
    code = "exports.handler = async () => 'x'.repeat(7e6)"
    outcome = run(run_client, node, code, env, events=[Event(), Event()], faults=faults)
    assert len(outcome.api.answers()) == 2
    assert "Failed to post handler success response. Http response code: 413." in outcome.stderr
    assert outcome.returncode is None


def test_the_attempt_is_echoed(node: str, run_client: Run) -> None:
    event = Event(headers={"Lambda-Runtime-Invocation-Id": "attempt-1"})
    outcome = run(run_client, node, ECHO, events=[event])
    assert outcome.api.answers()[0].headers["lambda-runtime-invocation-id"] == "attempt-1"


def test_a_large_event_arrives_whole(node: str, run_client: Run) -> None:
    body = json.dumps("é" * 2_000_000).encode()
    code = "exports.handler = async (event) => event.length"
    assert bodies(run(run_client, node, code, events=[Event(body)])) == [b"2000000"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    ],
    ids=["forbidden", "chunked", "no request id", "not HTTP"],
)
def test_a_runtime_api_that_breaks_the_contract_ends_the_runtime(
    node: str, run_client: Run, answer: bytes
) -> None:
    outcome = run(run_client, node, ECHO, faults=Faults(raw_next=answer))
    assert outcome.returncode == 1
    assert "Error: " in outcome.stderr


def test_layers_are_found_through_node_path(node: str, run_client: Run) -> None:
    files = {
        "index.js": "exports.handler = async () => require('layered')",
        "layer/node_modules/layered/index.js": "module.exports = 'from layer'",
    }
    env = {**LEGACY, "NODE_PATH": "layer/node_modules"}
    outcome = run_client([node, ENTRY], files, "index.handler", env=env)
    assert bodies(outcome) == [b'"from layer"']
