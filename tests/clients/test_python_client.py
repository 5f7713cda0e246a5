"""firelet's Python client on every interpreter of this machine, against the fake Runtime API."""

from __future__ import annotations

import json

import pytest

from clients.conftest import GUEST, Run
from clients.fake_runtime_api import REQUEST_ID, TRACE_ID, Event, Faults

BOOTSTRAP = str(GUEST / "python_bootstrap.py")
PACKAGE_ROOT = str(GUEST.parents[1])

# What the zygote does: import and preload, fork, environment, run in the child.
FORKED = f"""
import os, sys
sys.path.insert(0, {PACKAGE_ROOT!r})
from firelet.guest import python_runtime
environment = dict(os.environ)
os.environ.clear()
python_runtime.preload()
pid = os.fork()
if pid == 0:
    os.environ.update(environment)
    python_runtime.run()
os._exit(os.waitpid(pid, 0)[1] >> 8)
"""

ECHO = "def handler(event, context):\n    return event\n"

IMPORTS_WITHOUT_EFFECT = f"""
import os, sys, threading
before = set(os.listdir("/proc/self/fd"))
environ = dict(os.environ)
sys.path.insert(0, {PACKAGE_ROOT!r})
from firelet.guest import python_runtime
python_runtime.preload()
assert threading.active_count() == 1, threading.enumerate()
assert len(os.listdir("/proc/self/task")) == 1
assert set(os.listdir("/proc/self/fd")) == before
assert dict(os.environ) == environ
import logging
assert not logging.getLogger().handlers
import signal
assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
"""


def test_events_are_answered_one_after_the_other(python: str, run_client: Run) -> None:
    events = [Event(b'{"n": 1}'), Event(b'"\xc3\xa9"'), Event(b"null")]
    outcome = run_client([python, BOOTSTRAP], {"m.py": ECHO}, "m.handler", events=events)
    assert [answer.json() for answer in outcome.api.answers()] == [{"n": 1}, "é", None]
    assert outcome.api.paths() == [
        "invocation/next",
        *["invocation/{id}/response", "invocation/next"] * 3,
    ]
    assert (outcome.stdout, outcome.stderr, outcome.returncode) == ("", "", None)
    assert {request.connection for request in outcome.api.requests} == {0}


def test_a_child_of_a_zygote_serves_like_a_fresh_interpreter(python: str, run_client: Run) -> None:
    code = (
        "import os, sys\nprint('init', flush=True)\n"
        "def handler(event, context):\n"
        "    return [sys.path[0] == os.getcwd(), os.environ['_X_AMZN_TRACE_ID'], event]\n"
    )
    outcome = run_client([python, "-c", FORKED], {"m.py": code}, "m.handler")
    assert [answer.json() for answer in outcome.api.answers()] == [[True, TRACE_ID, {}]]
    assert outcome.stdout == "init\n"


def test_importing_and_preloading_have_no_side_effect(python: str, run_client: Run) -> None:
    outcome = run_client([python, "-c", IMPORTS_WITHOUT_EFFECT], {}, "m.handler")
    assert (outcome.stderr, outcome.returncode) == ("", 0)


def test_an_exception_is_answered_with_its_trace(python: str, run_client: Run) -> None:
    code = "def handler(event, context):\n    raise ValueError('bad ü')\n"
    outcome = run_client([python, BOOTSTRAP], {"m.py": code}, "m.handler")
    [answer] = outcome.api.answers()
    path = str(outcome.task / "m.py")
    line = f"  File \"{path}\", line 2, in handler\n    raise ValueError('bad ü')\n"
    assert answer.path.endswith(f"/invocation/{REQUEST_ID}/error")
    assert answer.json() == {
        "errorMessage": "bad ü",
        "errorType": "ValueError",
        "requestId": REQUEST_ID,
        "stackTrace": [line],
    }
    assert answer.headers["lambda-runtime-function-error-type"] == "ValueError"
    cause = json.loads(answer.headers["lambda-runtime-function-xray-error-cause"])
    assert cause["exceptions"][0]["stack"] == [{"label": "handler", "path": path, "line": 2}]
    assert outcome.stdout == (
        "[ERROR] ValueError: bad ü\rTraceback (most recent call last):\r"
        f'\u00a0\u00a0File "{path}", line 2, in handler\r'
        "\u00a0\u00a0\u00a0\u00a0raise ValueError('bad ü')\n"
    )


def test_the_telemetry_pipe_carries_frames_and_is_hidden(python: str, run_client: Run) -> None:
    code = (
        "import logging, os\nlogging.getLogger().setLevel('INFO')\n"
        "def handler(event, context):\n"
        "    logging.info('one\\ntwo')\n    return sorted(k for k in os.environ if 'TELEM' in k)\n"
    )
    outcome = run_client([python, BOOTSTRAP], {"m.py": code}, "m.handler", telemetry=True)
    [(kind, text)] = outcome.frames
    assert kind == 0xA55A0003
    assert text.startswith("[INFO]\t20")
    assert text.endswith(f"Z\t{REQUEST_ID}\tone\ntwo\n")
    assert outcome.api.answers()[0].json() == []


def test_output_before_a_crash_is_not_lost(python: str, run_client: Run) -> None:
    code = (
        "import os, sys\ndef handler(event, context):\n    print('a' * 70000, end='')\n"
        "    sys.stderr.write('b')\n    os.kill(os.getpid(), 9)\n"
    )
    outcome = run_client([python, BOOTSTRAP], {"m.py": code}, "m.handler")
    assert (outcome.stdout, outcome.stderr) == ("a" * 70000, "b")
    assert outcome.returncode == -9


def test_the_attempt_is_echoed(python: str, run_client: Run) -> None:
    event = Event(headers={"Lambda-Runtime-Invocation-Id": "attempt-1"})
    outcome = run_client([python, BOOTSTRAP], {"m.py": ECHO}, "m.handler", events=[event])
    assert outcome.api.answers()[0].headers["lambda-runtime-invocation-id"] == "attempt-1"


@pytest.mark.parametrize(
    "faults",
    [Faults(closes_politely=True), Faults(closes_abruptly=True), Faults(dribbles=True)],
    ids=["Connection: close", "closes without a word", "dribbles"],
)
def test_a_difficult_server_is_served_all_the_same(
    python: str, run_client: Run, faults: Faults
) -> None:
    events = [Event(b"1"), Event(b"2")]
    outcome = run_client(
        [python, BOOTSTRAP], {"m.py": ECHO}, "m.handler", events=events, faults=faults
    )
    assert outcome.stderr == ""
    assert list(dict.fromkeys(answer.body for answer in outcome.api.answers())) == [b"1", b"2"]


def test_a_refused_large_response_does_not_end_the_runtime(python: str, run_client: Run) -> None:
    faults = Faults(answer_status="413 Request Entity Too Large")
    code = "def handler(event, context):\n    return 'x' * 7_000_000\n"
    outcome = run_client(
        [python, BOOTSTRAP], {"m.py": code}, "m.handler", events=[Event(), Event()], faults=faults
    )
    assert len(outcome.api.answers()) == 2
    # The second refusal arrives together with the end of the test.
    assert "Failed to post handler success response. Http response code: 413." in outcome.stderr
    assert outcome.returncode is None


def test_a_large_event_arrives_whole(python: str, run_client: Run) -> None:
    body = json.dumps("é" * 2_000_000).encode()
    code = "def handler(event, context):\n    return len(event)\n"
    outcome = run_client([python, BOOTSTRAP], {"m.py": code}, "m.handler", events=[Event(body)])
    assert outcome.api.answers()[0].body == b"2000000"


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
    python: str, run_client: Run, answer: bytes
) -> None:
    faults = Faults(raw_next=answer)
    outcome = run_client([python, BOOTSTRAP], {"m.py": ECHO}, "m.handler", faults=faults)
    assert outcome.returncode == 1
    assert "RuntimeApiError" in outcome.stderr
