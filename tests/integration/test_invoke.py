"""Invocations through boto3: what goes in, what comes out, what is refused."""

from __future__ import annotations

import base64
import json
import re
import select
import socket
import time
from typing import Any

import boto3
import pytest

from running_platform import ACCOUNT, PYTHON, REGION, Deployer, Platform, wait_until

pytest_plugins = ("platform_fixtures",)

ECHO = "def handler(event, context):\n    return event\n"
COUNT = "n = 0\ndef handler(event, context):\n    global n\n    n += 1\n    return n\n"
SYNC_LIMIT = 6_291_456
ASYNC_LIMIT = 1_048_576


def test_a_warm_invocation_meets_the_globals_of_the_one_before(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy(COUNT)

    assert [platform.invoke(name).json for _ in range(4)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "event",
    [None, True, 0, -1.5e300, "", "zwölf 🦆", [], [1, [2]], {}, {"a": {"b": [None]}}],
    ids=repr,
)
def test_every_json_value_comes_back_as_it_went_in(
    deploy: Deployer, platform: Platform, event: object
) -> None:
    name = deploy(ECHO)

    answer = platform.invoke(name, event)

    assert answer.json == event
    assert (answer.status, answer.error, answer.version) == (200, None, "$LATEST")


def test_a_handler_that_returns_nothing_answers_null(deploy: Deployer, platform: Platform) -> None:
    assert platform.invoke(deploy("def handler(event, context):\n    pass\n")).body == b"null"


def test_no_payload_at_all_arrives_as_an_empty_object(deploy: Deployer, platform: Platform) -> None:
    assert platform.invoke(deploy(ECHO), b"").json == {}


def test_the_context_tells_about_the_invocation(deploy: Deployer, platform: Platform) -> None:
    name = deploy(
        "def handler(event, context):\n"
        "    fields = ('function_name', 'function_version', 'invoked_function_arn',\n"
        "              'memory_limit_in_mb', 'aws_request_id', 'log_group_name',\n"
        "              'log_stream_name', 'identity', 'client_context')\n"
        "    told = {name: getattr(context, name) for name in fields}\n"
        "    told['identity'] = told['identity'] and told['identity'].cognito_identity_id\n"
        "    return [told, context.get_remaining_time_in_millis()]\n",
        Timeout=7,
    )

    answer = platform.invoke(name)

    told, remaining_ms = answer.json
    stream = told.pop("log_stream_name")
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", stream)
    assert told == {
        "function_name": name,
        "function_version": "$LATEST",
        "invoked_function_arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}",
        "memory_limit_in_mb": "128",
        "aws_request_id": answer.request_id,
        "log_group_name": f"/aws/lambda/{name}",
        "identity": None,
        "client_context": None,
    }
    assert 6_000 < remaining_ms <= 7_000


def test_the_client_context_arrives_decoded(deploy: Deployer, platform: Platform) -> None:
    name = deploy(
        "def handler(event, context):\n"
        "    c = context.client_context\n"
        "    return [c.client.installation_id, c.custom, c.env]\n"
    )
    sent = {"client": {"installation_id": "i-1"}, "custom": {"k": "ü"}, "env": {"e": "1"}}
    header = base64.b64encode(json.dumps(sent).encode()).decode()

    assert platform.invoke(name, ClientContext=header).json == ["i-1", {"k": "ü"}, {"e": "1"}]


def test_the_environment_is_that_of_aws_and_nothing_of_the_host(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy(
        "import os\ndef handler(event, context):\n    return dict(os.environ)\n",
        Environment={"Variables": {"MINE": "yes", "LANG": "C"}},
    )

    variables = platform.invoke(name).json

    for secret in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        assert variables.pop(secret)
    assert variables.pop("_X_AMZN_TRACE_ID").startswith("Root=1-")
    assert re.fullmatch(r".*\[\$LATEST\][0-9a-f]{32}", variables.pop("AWS_LAMBDA_LOG_STREAM_NAME"))
    api = variables.pop("AWS_LAMBDA_RUNTIME_API")
    assert api.endswith(":9001")
    for name_with_address in list(variables):
        if "XRAY" in name_with_address:
            del variables[name_with_address]
    variables.pop("_LAMBDA_TELEMETRY_LOG_FD", None)
    assert variables == {
        "_HANDLER": "app.handler",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{PYTHON}",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "LANG": "C",
        "TZ": ":UTC",
        "PWD": "/var/task",
        "SHLVL": "0",
        "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "LD_LIBRARY_PATH": (
            "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task"
            ":/var/task/lib:/opt/lib"
        ),
        "PYTHONPATH": "/var/runtime",
        "LC_CTYPE": "C.UTF-8",
        "MINE": "yes",
    }


def test_the_function_calls_the_platform_with_the_credentials_of_its_role(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy("import os\ndef handler(event, context):\n    return dict(os.environ)\n")
    variables = platform.invoke(name).json
    # From outside, as a sandbox has no network: what counts is that the keys are known.
    sts = boto3.session.Session().client(
        "sts",
        endpoint_url=platform.url,
        region_name=REGION,
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=variables["AWS_SESSION_TOKEN"],
    )

    arn = sts.get_caller_identity()["Arn"]

    assert arn == f"arn:aws:sts::{ACCOUNT}:assumed-role/lambda-role/{name}"


def test_the_log_tail_is_that_of_this_invocation(deploy: Deployer, platform: Platform) -> None:
    name = deploy("def handler(event, context):\n    print('seen', event)\n")
    platform.invoke(name, "before")

    answer = platform.invoke(name, "now", LogType="Tail")

    start, seen, end, report = answer.log.splitlines()
    assert start == f"START RequestId: {answer.request_id} Version: $LATEST"
    assert seen == "seen now"
    assert end == f"END RequestId: {answer.request_id}"
    assert re.fullmatch(
        rf"REPORT RequestId: {answer.request_id}\tDuration: \d+\.\d\d ms\t"
        r"Billed Duration: \d+ ms\tMemory Size: 128 MB\tMax Memory Used: \d+ MB\t",
        report,
    )


def test_only_the_first_report_tells_the_init_duration(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy(ECHO)

    logs = [platform.invoke(name, LogType="Tail").log for _ in range(2)]

    assert ["Init Duration: " in log for log in logs] == [True, False]


def test_a_long_log_is_cut_to_its_last_4_kib(deploy: Deployer, platform: Platform) -> None:
    name = deploy("def handler(event, context):\n    print('x' * 10_000)\n")

    answer = platform.invoke(name, LogType="Tail")

    assert len(answer.log) == 4_096
    assert answer.log.endswith("\n")
    assert f"REPORT RequestId: {answer.request_id}" in answer.log


def test_a_dry_run_answers_204_and_runs_nothing(deploy: Deployer, platform: Platform) -> None:
    name = deploy(COUNT)

    answer = platform.invoke(name, InvocationType="DryRun")

    assert (answer.status, answer.body) == (204, b"")
    assert platform.invoke(name).json == 1


def test_an_event_invocation_answers_202_and_runs_soon_after(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy("def handler(event, context):\n    print('took', event['n'])\n")

    answer = platform.invoke(name, {"n": 41}, InvocationType="Event")

    assert (answer.status, answer.body, answer.version) == (202, b"", None)
    group = f"/aws/lambda/{name}"
    wait_until(lambda: "took 41\n" in platform.log_lines(group), "the event's line is in the log")
    assert f"START RequestId: {answer.request_id} Version: $LATEST\n" in platform.log_lines(group)


@pytest.mark.parametrize("kind", ["RequestResponse", "Event"])
@pytest.mark.parametrize("payload", [b"{", b"hello", b"[1,]", b"\xff\xfe", b"{} {}", b"NaN"])
def test_a_payload_that_is_no_json_is_refused_in_the_words_of_aws(
    deploy: Deployer, lambda_client: Any, payload: bytes, kind: str
) -> None:
    name = deploy(ECHO)

    with pytest.raises(lambda_client.exceptions.InvalidRequestContentException) as caught:
        lambda_client.invoke(FunctionName=name, Payload=payload, InvocationType=kind)

    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert response["Error"]["Message"].startswith(
        "Could not parse request body into json: Could not parse payload into json: "
    )
    assert response["Type"] == "User"


def test_a_payload_of_6_mib_goes_in_and_comes_out(deploy: Deployer, platform: Platform) -> None:
    name = deploy(ECHO, MemorySize=512, Timeout=30)
    payload = b'"' + b"x" * (SYNC_LIMIT - 2) + b'"'

    assert platform.invoke(name, payload).body == payload


@pytest.mark.parametrize(
    ("kind", "limit"), [("RequestResponse", SYNC_LIMIT), ("Event", ASYNC_LIMIT)]
)
def test_a_payload_over_the_limit_is_413(
    deploy: Deployer, lambda_client: Any, kind: str, limit: int
) -> None:
    name = deploy(ECHO)
    payload = b'"' + b"x" * (limit - 1) + b'"'

    with pytest.raises(lambda_client.exceptions.RequestTooLargeException) as caught:
        lambda_client.invoke(FunctionName=name, Payload=payload, InvocationType=kind)

    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert (
        f"must be smaller than {limit} bytes for the InvokeFunction operation"
        in (response["Error"]["Message"])
    )


def test_an_event_of_exactly_1_mib_is_accepted(deploy: Deployer, platform: Platform) -> None:
    name = deploy("def handler(event, context):\n    print(len(event))\n")
    payload = b'"' + b"x" * (ASYNC_LIMIT - 2) + b'"'

    assert platform.invoke(name, payload, InvocationType="Event").status == 202

    expected = f"{ASYNC_LIMIT - 2}\n"
    wait_until(
        lambda: expected in platform.log_lines(f"/aws/lambda/{name}"), "the event has been handled"
    )


def test_an_invocation_type_that_does_not_exist_is_refused(
    deploy: Deployer, platform: Platform
) -> None:
    client = platform.client("lambda", is_strict=False)

    with pytest.raises(client.exceptions.ClientError) as caught:
        client.invoke(FunctionName=deploy(ECHO), InvocationType="Sometimes")

    assert caught.value.response["Error"]["Message"] == (
        "1 validation error detected: Value 'Sometimes' at 'invocationType' failed to satisfy"
        " constraint: Member must satisfy enum value set: [RequestResponse, Event, DryRun]"
    )


def test_a_client_that_leaves_does_not_stop_its_function(
    deploy: Deployer, platform: Platform, lambda_client: Any
) -> None:
    name = deploy(
        "import time\nn = 0\ndef handler(event, context):\n"
        "    global n\n    time.sleep(event)\n    n += 1\n    return n\n",
        Timeout=20,
    )
    assert platform.invoke(name, 0).json == 1
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)

    def count() -> Any:
        """None while the one environment that may run is taken. A reservation of 1 also allows no
        more than ten requests a second."""
        while True:
            try:
                return platform.invoke(name, 0).json
            except lambda_client.exceptions.TooManyRequestsException as error:
                if error.response["Reason"].endswith("ConcurrentInvocationLimitExceeded"):
                    return None
            time.sleep(0.1)

    with socket.create_connection(("127.0.0.1", platform.port)) as connection:
        request = (
            f"POST /2015-03-31/functions/{name}/invocations HTTP/1.1\r\nHost: x\r\n"
            "Content-Length: 3\r\n\r\n3.0".encode()
        )
        connection.sendall(request)
        seen = [1]

        def is_served() -> bool:
            if select.select([connection], [], [], 0)[0]:
                # Refused: the count before had been read first, and took the one environment.
                assert b" 429 " in connection.recv(65_536)
                connection.sendall(request)
            seen.append(count())
            return seen[-1] is None

        wait_until(is_served, "the request is served")

    assert count() is None, "it still runs"
    assert wait_until(count, "it is over") == seen[-2] + 2, "it has run to its end"
