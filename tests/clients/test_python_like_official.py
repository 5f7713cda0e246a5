"""Runs the same functions under AWS's own client and under firelet's: the answers are the same."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping

import pytest

from clients.conftest import GUEST, Outcome, Run
from clients.fake_runtime_api import Event, Recorded

if importlib.util.find_spec("awslambdaric") is None:
    pytest.skip("awslambdaric is not installed", allow_module_level=True)

OURS = [sys.executable, str(GUEST / "python_bootstrap.py")]
UTF8 = {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.12"}
JSON_LOGS = {"AWS_LAMBDA_LOG_FORMAT": "JSON"}

FUNCTIONS = {
    "echo": "def handler(event, context):\n    return event\n",
    "nothing": "def handler(event, context):\n    pass\n",
    "bytes": "def handler(event, context):\n    return b'<html/>'\n",
    "nested bytes": "def handler(event, context):\n    return {'a': b'x', b'k': [b'y']}\n",
    "text": "def handler(event, context):\n    return {'é': '\\u2028 \\U0001f600 \\x7f'}\n",
    "tuple": "def handler(event, context):\n    return (1, 2.5, None, True)\n",
    "named tuple": (
        "import collections\nPoint = collections.namedtuple('Point', 'x y')\n"
        "def handler(event, context):\n    return [Point(1, Point(2, 3))]\n"
    ),
    "decimal": (
        "from decimal import Decimal\n"
        "def handler(event, context):\n"
        "    return [Decimal('1.10'), Decimal('NaN'), Decimal('1E+3'), Decimal('-Infinity')]\n"
    ),
    "enum": (
        "import enum\n"
        "class Colour(str, enum.Enum):\n    RED = 'red'\n"
        "class Level(enum.IntEnum):\n    LOW = 1\n"
        "def handler(event, context):\n    return {Colour.RED: Level.LOW, 'c': Colour.RED}\n"
    ),
    "odd keys": "def handler(event, context):\n    return {1: 1, 1.5: 2, True: 3, None: 4}\n",
    "not a number": "def handler(event, context):\n    return [float('nan'), float('-inf')]\n",
    "unserialisable": "import datetime\ndef handler(event, context):\n    return datetime.date\n",
    "set": "def handler(event, context):\n    return {1, 2}\n",
    "tuple key": "def handler(event, context):\n    return {(1, 2): 3}\n",
    "circular": "def handler(event, context):\n    a = []\n    a.append(a)\n    return a\n",
    "async": "async def handler(event, context):\n    return 1\n",
    "raise": (
        "class Broken(Exception):\n    pass\n"
        "def inner():\n    raise Broken('it\\n  broke')\n"
        "def handler(event, context):\n    inner()\n"
    ),
    "raise nothing": "def handler(event, context):\n    raise ValueError\n",
    "recursion": "def handler(event, context):\n    return handler(event, context)\n",
    "key error": "def handler(event, context):\n    return {}['missing']\n",
    "chained": (
        "def handler(event, context):\n"
        "    try:\n        1 / 0\n    except ZeroDivisionError as e:\n"
        "        raise RuntimeError('later') from e\n"
    ),
    "exit": (
        "import sys\ndef handler(event, context):\n    print('bye', end='')\n    sys.exit(3)\n"
    ),
    "exit plainly": "import sys\ndef handler(event, context):\n    sys.exit()\n",
    "os exit": (
        "import os\ndef handler(event, context):\n    print('bye', end='')\n    os._exit(7)\n"
    ),
    "exit at import": "import sys\nsys.exit(2)\n",
    "context": (
        "def handler(event, context):\n    print(context)\n"
        "    print(context.get_remaining_time_in_millis() > 50000, context.w3c())\n"
        "    context.log('one line\\n')\n"
        "    c = context.client_context\n"
        "    identity = context.identity.cognito_identity_id\n"
        "    return [identity, c and [c.custom, c.env, repr(c.client)]]\n"
    ),
    "environment": (
        "import os\ndef handler(event, context):\n    return os.environ.get('_X_AMZN_TRACE_ID')\n"
    ),
    "print": (
        "import sys\nprint('at import')\n"
        "def handler(event, context):\n"
        "    print('a', 'b', sep='\\t')\n    sys.stderr.write('err')\n"
    ),
    "logging": (
        "import logging\nlogger = logging.getLogger('mine')\n"
        "logging.warning('early')\n"
        "def handler(event, context):\n"
        "    logger.info('hidden')\n    logger.error('shown %s', 1, extra={'order': 7})\n"
        "    logger.critical({'a': 1})\n"
        "    logging.log(35, 'between')\n"
        "    try:\n        1 / 0\n"
        "    except ZeroDivisionError:\n        logger.exception('caught')\n"
    ),
    "debug logging": (
        "import logging\nlogging.getLogger().setLevel('DEBUG')\n"
        "def handler(event, context):\n    logging.debug('deep')\n    logging.info('info')\n"
    ),
    "import error": "import not_there\n",
    "import from": "from os import not_there\n",
    "import raises": "def handler(event, context):\n    pass\nraise KeyError('x')\n",
    "syntax": "def handler(event, context):\n    return (\n",
    "missing": "def other(event, context):\n    pass\n",
    "one argument": "def handler(event):\n    pass\n",
}

HANDLERS = {
    "no dot": "handler",
    "no module": "nowhere.handler",
    "built-in": "sys.exit",
    "built-in package": "time.x.handler",
    "slash": "pkg/deep.handler",
    "dots": "pkg.deep.handler",
    "empty": "",
}


def observe(outcome: Outcome) -> object:
    """What a user or the platform can see, without what differs by nature: times, own frames."""
    return {
        "code": outcome.returncode,
        "stdout": normalise(outcome.stdout),
        # A crash of the interpreter prints the client's own frames: only its last line counts.
        "stderr": outcome.stderr.splitlines()[-1:],
        "frames": [(kind, normalise(text)) for kind, text in outcome.frames],
        "answers": [observe_answer(request) for request in outcome.api.answers()],
    }


def observe_answer(request: Recorded) -> object:
    kind = request.headers.get("content-type")
    cause = normalise(request.headers.get("lambda-runtime-function-xray-error-cause", ""))
    return (
        request.path,
        # The official client declares no type there; the body is JSON all the same.
        None if request.path.endswith("/init/error") else kind,
        normalise(request.body.decode()),
        # The official client sends longer causes too; AWS's limit is 64 KB.
        "" if len(cause) > 65536 or "<client>" in cause else cause,
    )


def normalise(text: str) -> str:
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", "<time>", text)
    text = re.sub(r"repeated \d+ more", "repeated <n> more", text)
    # Frames of the two clients (only seen where no frame of the function exists).
    text = re.sub(r'[^ "]*/(awslambdaric/bootstrap|guest/python_\w+)\.py', "<client>", text)
    return re.sub(r'(<client>\\?", line) \d+, in \w+(\\n|[\r\n])[^\r\n"\\]*', r"\1", text)


def compare(
    run_client: Run,
    files: Mapping[str, str],
    handler: str,
    env: Mapping[str, str],
    events: list[Event] | None = None,
    telemetry: bool = False,
) -> None:
    official = [sys.executable, "-m", "awslambdaric", handler]
    sent = events if events is not None else [Event(b'{"key": "v\xc3\xa4lue"}'), Event(b"[1]")]
    env = {"PYTHONDONTWRITEBYTECODE": "1", **env}
    outcomes = [
        observe(run_client(command, files, handler, events=sent, env=env, telemetry=telemetry))
        for command in (official, OURS)
    ]
    assert outcomes[1] == outcomes[0]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_function_is_answered_for_and_logged_as_by_aws(run_client: Run, name: str) -> None:
    compare(run_client, {"main.py": FUNCTIONS[name]}, "main.handler", {})


@pytest.mark.parametrize("name", ["text", "decimal", "named tuple", "raise", "set", "nested bytes"])
def test_newer_runtimes_answer_in_utf8_as_aws_does(run_client: Run, name: str) -> None:
    compare(run_client, {"main.py": FUNCTIONS[name]}, "main.handler", UTF8)


@pytest.mark.parametrize("level", [None, "INFO", "TRACE", "error"])
@pytest.mark.parametrize("name", ["logging", "debug logging", "raise", "import error", "context"])
def test_json_logs_have_the_fields_and_levels_of_aws(
    run_client: Run, name: str, level: str | None
) -> None:
    env = {**JSON_LOGS, **({} if level is None else {"AWS_LAMBDA_LOG_LEVEL": level})}
    compare(run_client, {"main.py": FUNCTIONS[name]}, "main.handler", env)


@pytest.mark.parametrize("env", [{}, JSON_LOGS, {"AWS_LAMBDA_LOG_LEVEL": "INFO"}])
@pytest.mark.parametrize("name", ["logging", "raise", "import error", "context", "print"])
def test_the_telemetry_pipe_gets_the_frames_of_aws(
    run_client: Run, name: str, env: Mapping[str, str]
) -> None:
    compare(run_client, {"main.py": FUNCTIONS[name]}, "main.handler", env, telemetry=True)


@pytest.mark.parametrize("name", HANDLERS)
def test_the_handler_is_looked_up_as_by_aws(run_client: Run, name: str) -> None:
    files = {"pkg/__init__.py": "", "pkg/deep.py": FUNCTIONS["echo"]}
    compare(run_client, files, HANDLERS[name], {})


@pytest.mark.parametrize(
    "event",
    [
        Event(b"not json"),
        Event(b""),
        Event(b"\xff"),
        Event(b"\x00\xff", {"Content-Type": "application/octet-stream"}),
        Event(headers={"Lambda-Runtime-Trace-Id": None}),
        Event(headers={"Lambda-Runtime-Client-Context": "{broken"}),
        Event(headers={"Lambda-Runtime-Aws-Tenant-Id": "blue"}),
        Event(
            headers={
                "Lambda-Runtime-Client-Context": '{"custom": {"a": "\u00e9"}, "env": {}, "client": '
                '{"app_title": "t"}, "w3c": {"traceparent": "00-1", "x": "y", "tracestate": 3}}',
                "Lambda-Runtime-Cognito-Identity": '{"cognitoIdentityId": "id"}',
            }
        ),
    ],
    ids=["text", "empty", "invalid", "binary", "untraced", "bad context", "tenant", "mobile"],
)
@pytest.mark.parametrize("name", ["context", "environment"])
def test_the_event_is_read_as_by_aws(run_client: Run, name: str, event: Event) -> None:
    compare(run_client, {"main.py": FUNCTIONS[name]}, "main.handler", {}, [event, Event()])
