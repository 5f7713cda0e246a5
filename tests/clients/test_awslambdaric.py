"""AWS's own runtime interface client for Python, unmodified, as the bootstrap of a function."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from distributions import distribution_files
from running_platform import Deployer, Platform

pytest_plugins = ("platform_fixtures",)

# The bootstrap runs inside the sandbox, which sees the host's /usr and nothing of a pyenv.
INTERPRETER = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
BOOTSTRAP = f"""#!/bin/sh
export PYTHONPATH=/var/task
exec {INTERPRETER} -m awslambdaric "$_HANDLER"
"""
CODE = """
n = 0
def handler(event, context):
    global n
    n += 1
    if event == 'raise':
        raise LookupError('as told')
    if event == 'big':
        return 'x' * 7_000_000
    print('from the client of aws')
    return [n, event, context.function_name, context.aws_request_id,
            context.get_remaining_time_in_millis() > 0]
"""


@pytest.fixture(scope="module")
def package() -> dict[str, str | bytes]:
    """awslambdaric, its native module and what it needs, around a handler."""
    if not INTERPRETER.exists():
        pytest.skip(f"there is no {INTERPRETER} for the native module of awslambdaric")
    files: dict[str, str | bytes] = {"lambda_function.py": CODE, "bootstrap": BOOTSTRAP}
    for name in ("awslambdaric", "snapshot-restore-py", "simplejson"):
        files.update(distribution_files(name))
    return files


@pytest.fixture
def function(deploy: Deployer, package: dict[str, str | bytes]) -> str:
    return deploy(
        package,
        executable=("bootstrap",),
        Runtime="provided.al2023",
        Handler="lambda_function.handler",
        MemorySize=512,
        Timeout=20,
    )


def test_the_official_client_serves_one_invocation_after_another(
    function: str, platform: Platform
) -> None:
    for number in (1, 2, 3):
        answer = platform.invoke(function, {"n": number}, LogType="Tail")
        assert answer.error is None, answer.log + answer.body.decode()
        assert answer.json == [number, {"n": number}, function, answer.request_id, True]
        assert "from the client of aws\n" in answer.log


def test_an_exception_is_reported_by_the_official_client(function: str, platform: Platform) -> None:
    answer = platform.invoke(function, "raise", LogType="Tail")

    assert answer.error == "Unhandled"
    assert answer.json["errorType"] == "LookupError"
    assert answer.json["errorMessage"] == "as told"
    assert answer.json["requestId"] == answer.request_id
    assert "LookupError: as told" in answer.log
    assert platform.invoke(function, 1).json[0] == 2


def test_a_result_over_the_limit_does_not_end_the_official_client(
    function: str, platform: Platform
) -> None:
    answer = platform.invoke(function, "big")

    assert answer.json["errorType"] == "Function.ResponseSizeTooLarge"
    assert platform.invoke(function, 1).error is None


def test_an_init_error_is_reported_by_the_official_client(
    deploy: Deployer, platform: Platform, package: dict[str, str | bytes]
) -> None:
    name = deploy(
        {**package, "lambda_function.py": "import not_there\n"},
        executable=("bootstrap",),
        Runtime="provided.al2023",
        Handler="lambda_function.handler",
        MemorySize=512,
        Timeout=20,
    )

    answer = platform.invoke(name)

    assert answer.error == "Unhandled"
    assert answer.json["errorType"] == "Runtime.ImportModuleError"
    assert "No module named 'not_there'" in answer.json["errorMessage"]


def test_the_official_client_answers_in_one_piece_to_who_asked_for_a_stream(
    function: str, platform: Platform
) -> None:
    """It does not stream (version 4.2)."""
    response = platform.client("lambda").invoke_with_response_stream(
        FunctionName=function, Payload=b'{"n":1}'
    )
    chunk, last = response["EventStream"]
    assert json.loads(chunk["PayloadChunk"]["Payload"])[:2] == [1, {"n": 1}]
    assert last == {"InvokeComplete": {}}
