"""How failed invocations look to their caller: the bodies of AWS, key for key."""

from __future__ import annotations

import os
from typing import Any

import pytest

from running_platform import PYTHON, Deployer, Platform

pytest_plugins = ("platform_fixtures",)


def test_an_exception_has_its_type_message_and_trace(deploy: Deployer, platform: Platform) -> None:
    name = deploy(
        "class Odd(Exception):\n    pass\n"
        "def inner():\n    raise Odd('so odd')\n"
        "def handler(event, context):\n    inner()\n"
    )

    answer = platform.invoke(name, LogType="Tail")

    assert (answer.status, answer.error, answer.version) == (200, "Unhandled", "$LATEST")
    assert answer.json == {
        "errorMessage": "so odd",
        "errorType": "Odd",
        "requestId": answer.request_id,
        "stackTrace": [
            '  File "/var/task/app.py", line 6, in handler\n    inner()\n',
            "  File \"/var/task/app.py\", line 4, in inner\n    raise Odd('so odd')\n",
        ],
    }
    assert "[ERROR] Odd: so odd\nTraceback (most recent call last):\n" in answer.log


def test_an_environment_serves_on_after_an_exception(deploy: Deployer, platform: Platform) -> None:
    name = deploy(
        "n = 0\ndef handler(event, context):\n    global n\n    n += 1\n"
        "    if event:\n        raise ValueError\n    return n\n"
    )

    platform.invoke(name, True)

    assert platform.invoke(name, False).json == 2


@pytest.mark.parametrize(
    ("how", "ending"),
    [
        ("os._exit(0)", "Runtime exited without providing a reason"),
        ("os._exit(7)", "Runtime exited with error: exit status 7"),
        ("sys.exit(0)", "Runtime exited without providing a reason"),
        ("sys.exit(3)", "Runtime exited with error: exit status 3"),
        ("os.kill(os.getpid(), 9)", "Runtime exited with error: signal: killed"),
        ("os.abort()", "Runtime exited with error: signal: aborted"),
    ],
)
def test_a_runtime_that_ends_is_reported_by_how_it_ended(
    deploy: Deployer, platform: Platform, how: str, ending: str
) -> None:
    name = deploy(
        "import os, sys\ndef handler(event, context):\n"
        f"    if event:\n        {how}\n    return 1\n"
    )

    answer = platform.invoke(name, True, LogType="Tail")

    assert answer.error == "Unhandled"
    assert answer.json["errorType"] in ("Runtime.ExitError", "Runtime.Unknown")
    assert answer.json["errorMessage"] == f"RequestId: {answer.request_id} Error: {ending}"
    assert list(answer.json) == ["errorType", "errorMessage"]
    assert "Status: error\tError Type: Runtime.ExitError" in answer.log
    assert platform.invoke(name, False).json == 1, "the next invocation starts afresh"


def test_a_timeout_ends_the_invocation_and_keeps_tmp_but_not_the_globals(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy(
        "import os, time\nn = 0\ndef handler(event, context):\n"
        "    global n\n    n += 1\n"
        "    if event:\n        open('/tmp/kept', 'w').write('here')\n        time.sleep(60)\n"
        "    return [n, open('/tmp/kept').read()]\n",
        Timeout=2,
        MemorySize=1769,
    )

    answer = platform.invoke(name, True, LogType="Tail")

    assert answer.body == (
        b'{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: '
        + answer.request_id.encode()
        + b' Error: Task timed out after 2.00 seconds"}'
    )
    assert answer.error == "Unhandled"
    assert f" {answer.request_id} Task timed out after 2.00 seconds" in answer.log
    assert "Status: timeout" in answer.log
    after = platform.invoke(name, False, LogType="Tail")
    assert after.json == [1, "here"]
    assert "Init Duration" not in after.log, "INIT was part of the invocation"


def test_running_out_of_memory_is_an_exit_by_signal(deploy: Deployer, platform: Platform) -> None:
    name = deploy(
        "def handler(event, context):\n    return len(bytearray(400 << 20)) if event else 'fine'\n",
        Timeout=10,
    )

    answer = platform.invoke(name, True)

    assert answer.error == "Unhandled"
    assert answer.json["errorType"] == "Runtime.ExitError"
    assert answer.json["errorMessage"].endswith("Runtime exited with error: signal: killed")
    assert platform.invoke(name, False).json == "fine"


def test_a_response_over_the_limit_is_the_functions_error(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy(
        "def handler(event, context):\n    return 'x' * event\n", MemorySize=512, Timeout=20
    )

    answer = platform.invoke(name, 6_291_556)

    assert answer.error == "Unhandled"
    assert answer.json == {
        "errorMessage": (
            "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
        ),
        "errorType": "Function.ResponseSizeTooLarge",
    }
    assert len(platform.invoke(name, 6_291_554).body) == 6_291_556


def test_a_result_that_is_no_json_is_a_marshal_error(deploy: Deployer, platform: Platform) -> None:
    name = deploy("def handler(event, context):\n    return {1, 2}\n")

    answer = platform.invoke(name)

    assert answer.json["errorType"] == "Runtime.MarshalError"
    assert answer.json["errorMessage"] == (
        "Unable to marshal response: Object of type set is not JSON serializable"
    )


@pytest.mark.parametrize(
    ("files", "handler", "error_type", "message"),
    [
        (
            {"app.py": "x = 1\n"},
            "app.handler",
            "Runtime.HandlerNotFound",
            "Handler 'handler' missing on module 'app'",
        ),
        (
            {"app.py": "x = 1\n"},
            "other.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'other': No module named 'other'",
        ),
        (
            {"app.py": "import not_there\n"},
            "app.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'app': No module named 'not_there'",
        ),
        (
            {"app.py": "def handler(event, context)\n    pass\n"},
            "app.handler",
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module 'app': ",
        ),
        (
            {"app.py": "x = 1\n"},
            "nodot",
            "Runtime.MalformedHandlerName",
            "Bad handler 'nodot': not enough values to unpack (expected 2, got 1)",
        ),
        ({"app.py": "raise KeyError('why')\n"}, "app.handler", "KeyError", "'why'"),
    ],
    ids=["no handler", "no module", "import error", "syntax error", "no dot", "raises"],
)
def test_code_that_cannot_be_loaded_says_why_on_every_invocation(
    deploy: Deployer,
    platform: Platform,
    files: dict[str, str],
    handler: str,
    error_type: str,
    message: str,
) -> None:
    name = deploy(files, Handler=handler)

    for _ in range(2):
        answer = platform.invoke(name)
        assert answer.error == "Unhandled"
        assert answer.json["errorType"] == error_type
        assert answer.json["errorMessage"].startswith(message)
        assert answer.json["requestId"] == ""


@pytest.mark.parametrize(
    ("how", "ending"),
    [
        ("sys.exit(4)", "Runtime exited with error: exit status 4"),
        ("os._exit(0)", "Runtime exited without providing a reason"),
    ],
)
def test_code_that_exits_while_it_is_loaded_says_how(
    deploy: Deployer, platform: Platform, how: str, ending: str
) -> None:
    name = deploy(f"import os, sys\n{how}\n")

    answer = platform.invoke(name)

    assert answer.json == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {answer.request_id} Error: {ending}",
    }


def test_a_package_without_bootstrap_says_where_it_was_looked_for(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy({"readme": ""}, Runtime="provided.al2023", Handler="x")

    answer = platform.invoke(name)

    assert answer.json == {
        "errorType": "Runtime.InvalidEntrypoint",
        "errorMessage": (
            f"RequestId: {answer.request_id} Error: Couldn't find valid bootstrap(s): "
            "[/var/task/bootstrap /opt/bootstrap]"
        ),
    }


def test_a_missing_exec_wrapper_is_exit_status_127(deploy: Deployer, platform: Platform) -> None:
    name = deploy(
        "def handler(event, context):\n    return 1\n",
        Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/none"}},
    )

    answer = platform.invoke(name)

    assert answer.json["errorType"] == "Runtime.ExitError"
    assert answer.json["errorMessage"].endswith("Runtime exited with error: exit status 127")


def test_a_function_whose_runtime_is_missing_is_told_apart_from_one_that_fails(
    deploy: Deployer, lambda_client: Any
) -> None:
    name = deploy("", Runtime="dotnet8", Handler="A::B::C")

    with pytest.raises(lambda_client.exceptions.ClientError) as caught:
        lambda_client.invoke(FunctionName=name)

    error = caught.value.response["Error"]
    assert error["Code"] == "InvalidRuntimeException"
    assert "dotnet8" in error["Message"]


@pytest.mark.skipif("FIRELET_TEST_SLOW" not in os.environ, reason="10 s; FIRELET_TEST_SLOW=1")
def test_an_init_of_more_than_10_s_is_repeated_in_the_first_invocation(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy(
        "import os, time\nif not os.path.exists('/tmp/once'):\n"
        "    open('/tmp/once', 'w').close()\n    time.sleep(60)\n"
        f"def handler(event, context):\n    return '{PYTHON}'\n",
        Timeout=5,
    )

    answer = platform.invoke(name, LogType="Tail")

    assert answer.json == PYTHON
    assert "Init Duration" not in answer.log
